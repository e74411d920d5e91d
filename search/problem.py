"""Problem: Plans, their latencies and their expected losses, as the solver sees them.

Removing channels of a Group changes the time of the Layers that read them, and a change of data type costs conversions:
neither is additive over Layers. Both are linearised around a reference Plan and the solution becomes the next reference; a
solution that equals its reference is exact. Whatever comes out is timed as a whole before it is called feasible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from ..errors import UserError
from ..evaluators.error_table import ErrorTable, base
from ..evaluators.latency import LatencyEvaluator
from ..spaces.datatypes import DataType
from ..spaces.groups import Group
from ..spaces.option import ACTIVATIONS, Option
from ..spaces.plan import Plan
from ..spaces.space import Space, kept_channels
from .solver import Block, Branch, Floats, Front, Solution

#: Rounds of linearisation around the last solution; most Plans are exact after two.
ROUNDS = 6
#: Steps of time in which the solver counts.
STEPS = 2000
#: Assignments of data types to Layers whose conversions are kept.
COSTS = 1000

_TYPES: tuple[DataType, ...] = get_args(DataType)


@dataclass(frozen=True)
class Proposal:
    """A Plan within a budget, with its latency in milliseconds and its expected loss."""

    plan: Plan
    ms: float
    expected: float


@dataclass(frozen=True)
class _Member:
    """One member of a Block's branch: a Layer, the Options it then has, and where they are among those of all members."""

    layer: str
    options: tuple[Option, ...]
    span: slice


class Problem:
    """The choice of a Plan for one Network, target and error table.

    Attributes:
        base: the dense Plan around which the error table was measured.
        ms_per_us: milliseconds that a microsecond of one op adds to a Plan.
    """

    def __init__(self, space: Space, latency: LatencyEvaluator, errors: ErrorTable) -> None:
        self.space = space
        self.latency = latency
        self.errors = errors
        self.base = base(space)
        zero = latency.table.total_ms(0.0)
        self._offset_ms, self.ms_per_us = zero, latency.table.total_ms(1.0) - zero
        self._listed: list[tuple[str, Option]] = []
        self._members = self._all_members()
        # Of every member's Options, one member after the other: number of the Layer, number of the type, error.
        numbers = {layer.name: number for number, layer in enumerate(space.layers)}
        self._owners = np.array([numbers[layer] for layer, _ in self._listed])
        self._types = np.array([_TYPES.index(ACTIVATIONS[option.bits]) for _, option in self._listed])
        self._all_errors = np.array([errors.errors[layer][option] for layer, option in self._listed])
        self._time_rows: dict[tuple[object, ...], Floats] = {}
        self._costs: dict[tuple[DataType, ...], Floats] = {}
        self._errors_of: dict[Plan, Floats] = {}
        self._fastest: Proposal | None = None

    def _all_members(self) -> list[tuple[Group | None, list[tuple[float, list[_Member]]]]]:
        """Blocks as (Group or None, branches), each branch as (channel share, members)."""
        blocks: list[tuple[Group | None, list[tuple[float, list[_Member]]]]] = []
        seen: set[str] = set()
        for layer in self.space.layers:
            group = self.space.group_of(layer.name)
            if group is None:
                blocks.append((None, [(0.0, [self._member(layer.name, 0.0)])]))
            elif group.name not in seen:
                seen.add(group.name)
                names = [span.op for span in group.producers]
                shares = sorted({o.sparsity for o in self.space.options[names[0]] if o.structure == "channel"})
                branches = []
                for share in (0.0, *shares):
                    members = [self._member(name, share) for name in names]
                    if all(member.options for member in members):
                        branches.append((share, members))
                blocks.append((group, branches))
        return blocks

    def _member(self, layer: str, share: float) -> _Member:
        """A Layer with the Options that it has when its Group loses a share of its channels."""
        options = [
            option for option in self.space.options[layer] if share == (option.sparsity if option.structure == "channel" else 0.0)
        ]
        start = len(self._listed)
        self._listed += [(layer, option) for option in options]
        return _Member(layer, tuple(options), slice(start, len(self._listed)))

    def errors_of(self, plan: Plan) -> Floats:
        """The error table's entries for a Plan, by Layer in the Space's order."""
        if plan not in self._errors_of:
            self._errors_of[plan] = np.array([self.errors.errors[layer.name][plan[layer.name]] for layer in self.space.layers])
        return self._errors_of[plan]

    def expected(self, plan: Plan, coefficients: Mapping[str, float] | None = None) -> float:
        """Expected loss of a Plan: the error table's sum, each Layer's row times its coefficient (1 by default)."""
        weights = coefficients or {}
        errors = self.errors.errors
        return sum([weights.get(layer, 1.0) * errors[layer][option] for layer, option in plan.options])

    def solve(
        self,
        budget_ms: float,
        coefficients: Mapping[str, float] | None = None,
        start: Plan | None = None,
        steps: int = STEPS,
    ) -> Proposal | None:
        """The Plan of least expected loss within a budget, or None when none was found.

        Args:
            coefficients: factors on the rows of the error table, by Layer.
            start: reference of the first linearisation; the dense base Plan by default.
            steps: resolution of the solver.
        """
        found = self._solve(budget_ms, coefficients, start or self.base, steps)
        if found is None and self.fastest().ms <= budget_ms:
            # Steps of conversions and couplings can hide a narrow way; from the fastest Plan it is seen, or is that Plan itself.
            plan, ms = self.fastest().plan, self.fastest().ms
            found = self._solve(budget_ms, coefficients, plan, steps) or Proposal(plan, ms, self.expected(plan, coefficients))
        return found

    def near(self, budget_ms: float, coefficients: Mapping[str, float], start: Plan, rounds: int, steps: int = STEPS) -> Plan:
        """A Plan of little expected loss whose latency is near a budget, above or below: `solve` without its last digits."""
        plan, target = start, budget_ms
        for round_ in range(rounds):
            if round_:
                target += budget_ms - self.latency.ms(plan)
            plan = self._linearised(plan, target, coefficients, steps)
        return plan

    def _solve(self, budget_ms: float, coefficients: Mapping[str, float] | None, start: Plan, steps: int) -> Proposal | None:
        """Rounds of linearisation from a reference Plan."""
        reference, target = start, budget_ms
        found: Proposal | None = None
        for _ in range(ROUNDS):
            plan = self._linearised(reference, target, coefficients, steps)
            ms = self.latency.ms(plan)
            if ms <= budget_ms:
                proposal = Proposal(plan, ms, self.expected(plan, coefficients))
                if found is not None and proposal.expected >= 0.99 * found.expected:
                    return min(found, proposal, key=lambda one: one.expected)
                found = proposal
                target = min(budget_ms, target + (budget_ms - ms) / 2)
            else:
                # Conversions or couplings keep it above the budget: ask for that much less.
                target -= max(ms - budget_ms, 0.0005 * budget_ms)
            reference = plan
        return found

    def _linearised(self, reference: Plan, budget_ms: float, coefficients: Mapping[str, float] | None, steps: int) -> Plan:
        """The Plan of least expected loss within a budget, if all times and couplings were as around the reference Plan; the
        fastest one around it where that is above the budget.
        """
        blocks, fixed = self._blocks(reference, coefficients)
        budget = (budget_ms - self._offset_ms) / self.ms_per_us - fixed
        fastest = sum(block.fastest for block in blocks)
        if fastest > budget:
            budget, steps = fastest, 1
        return self._plan(Front(blocks, budget, steps).solve(budget))

    def fastest(self) -> Proposal:
        """The fastest Plan that was found, whatever its loss."""
        if self._fastest is None:
            self._fastest = self._find_fastest()
        return self._fastest

    def _find_fastest(self) -> Proposal:
        found = min((self._fastest_around(start) for start in self._extremes()), key=self._milliseconds)
        return Proposal(found, self._milliseconds(found), self.expected(found))

    def _milliseconds(self, plan: Plan) -> float:
        return self.latency.ms(plan)

    def _extremes(self) -> list[Plan]:
        """Plans of one data type, whole and with as few channels as possible: where conversions do not hide what is fast."""
        space = self.space
        most = max((o.sparsity for options in space.options.values() for o in options if o.structure == "channel"), default=0.0)
        plans = [self.base]
        for bits in sorted({option.bits for options in space.options.values() for option in options if option.bits >= 8}):
            plans.append(space.uniform(Option("dense", 0.0, bits)))
            if most:
                plans.append(space.consistent(dict(space.uniform(Option("channel", most, bits)))))
        return list(dict.fromkeys(plans))

    def _fastest_around(self, reference: Plan) -> Plan:
        """The fastest Plan on the way of linearisations from a reference, itself included."""
        best = reference
        for _ in range(ROUNDS):
            plan = self._linearised(reference, -math.inf, None, 1)
            best = min(best, plan, key=self._milliseconds)
            if plan == reference:
                break
            reference = plan
        return best

    def check_budget(self, budget_ms: float, target: str) -> None:
        """Refuse a budget that no Plan can meet.

        Raises:
            UserError: with the fastest possible latency and the Layers that hold it.
        """
        if self.solve(budget_ms) is not None:
            return
        fastest = self.fastest()
        if fastest.ms <= budget_ms:
            return
        rows = sorted(self.latency(fastest.plan).ops, key=lambda row: -row.microseconds)[:3]
        holders = ", ".join(f"{row.name} ({row.microseconds / 1e3:.2g} ms)" for row in rows)
        raise UserError(
            f"fastest possible on {target} is {fastest.ms:.2f} ms ({self.latency.source}), held by {holders}; "
            f"asked for {budget_ms:g} ms. Try --budget {fastest.ms * 1.05:.2g}ms."
        )

    def _blocks(self, reference: Plan, coefficients: Mapping[str, float] | None) -> tuple[list[Block], float]:
        """The solver's Blocks around a reference Plan, and the microseconds of everything that is not in them."""
        kept = self.latency.kept(reference)
        detours = self._detours(reference)
        weights = coefficients or {}
        errors = self._all_errors * np.array([weights.get(layer.name, 1.0) for layer in self.space.layers])[self._owners]
        blocks = []
        for group, branches in self._members:
            built = []
            offsets: Sequence[float] = (0.0,)
            if group is not None:
                own_share = reference[group.producers[0].op]
                shares = (own_share.sparsity if own_share.structure == "channel" else 0.0, *[share for share, _ in branches])
                now, *others = self.latency.coupled_microseconds(group, shares, reference, kept)
                offsets = [microseconds - now for microseconds in others]
            for (share, members), offset in zip(branches, offsets, strict=True):
                around = kept
                if group is not None:
                    around = {name: count for name, count in kept.items() if name != group.name}
                    if share:
                        around[group.name] = kept_channels(group.channels, share)
                own = [self._times(member, around) + detours[member.span] for member in members]
                built.append(Branch(tuple(own), tuple([errors[member.span] for member in members]), offset))
            blocks.append(Block(tuple(built)))
        times = self.latency.layers_microseconds(kept)
        layers = sum([times[layer][option] for layer, option in reference.options])
        return blocks, (self.latency.ms(reference) - self._offset_ms) / self.ms_per_us - layers

    def _times(self, member: _Member, kept: Mapping[str, int]) -> Floats:
        """Microseconds of a member's Options, when Groups keep only so many channels."""
        key = (member.span.start, *self.latency.deciding(member.layer, kept))
        if key not in self._time_rows:
            times = self.latency.layers_microseconds(kept)[member.layer]
            self._time_rows[key] = np.array([times[option] for option in member.options])
        return self._time_rows[key]

    def _detours(self, reference: Plan) -> Floats:
        """Microseconds of conversions that each Option of every member adds to the reference Plan's."""
        key = tuple([ACTIVATIONS[option.bits] for _, option in reference.options])
        if key not in self._costs:
            if len(self._costs) >= COSTS:
                self._costs.clear()
            costs = self.latency.detours(reference, self.space.options)
            by_type = np.array([[costs[layer.name].get(type_, 0.0) for type_ in _TYPES] for layer in self.space.layers])
            self._costs[key] = by_type[self._owners, self._types]
        return self._costs[key]

    def _plan(self, solution: Solution) -> Plan:
        options: dict[str, Option] = {}
        for (_, branches), choice in zip(self._members, solution.choices, strict=True):
            _, members = branches[choice.branch]
            for member, index in zip(members, choice.options, strict=True):
                options[member.layer] = member.options[index]
        return Plan.of({layer.name: options[layer.name] for layer in self.space.layers})
