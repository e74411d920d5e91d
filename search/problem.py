"""Problem: Plans, their latencies and their expected losses, as the solver sees them.

Removing channels of a Group changes the time of the Layers that read them, and a change of data type costs conversions:
neither is additive over Layers. In a chain of ops both are counted as they are (`chain.py`). Elsewhere they are linearised around
a reference Plan and the solution becomes the next reference; a solution that equals its reference is exact. Whatever comes out is
timed, and its bytes counted, as a whole before it is called feasible. Sizes couple through Groups alone, and are linearised with
the times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from ..errors import UserError
from ..evaluators.error_table import ErrorTable, base
from ..evaluators.latency import LatencyEvaluator
from ..evaluators.size import SizeEvaluator
from ..spaces.datatypes import DataType
from ..spaces.groups import Group
from ..spaces.option import ACTIVATIONS, Option
from ..spaces.plan import Plan
from ..spaces.space import Space, kept_channels
from .chain import Chain, is_chain
from .core import solve_core
from .precisions import refinements
from .relaxation import ERROR, SIZE, TIME, Flat, Layout, relaxed
from .solver import Block, Branch, Floats, Front, Solution, least_error, solve_within

#: Rounds of linearisation around the last solution; most Plans are exact after two.
ROUNDS = 6
#: Rounds of linearisation that are to come near a budget.
ROUNDS_NEAR = 3
#: Steps of time in which the solver counts.
STEPS = 2000
#: How much slower than the budget, or than the base Plan, a dense Plan may be around which a solution is sought.
START_ABOVE = 1.1
#: Assignments of data types to Layers whose conversions are kept.
COSTS = 1000
#: Numbers of channels kept around a Block whose times and sizes are kept.
ROWS = 5000
#: With two budgets, how far above its bound a solution's expected loss may be.
ENOUGH = 0.005
#: The share of a size by which less is asked for after a solution that was too large.
SIZE_STEP = 0.05

#: What a Plan costs beside its loss: milliseconds, or bytes.
Objective = Literal["latency", "size"]

#: The best choices within a budget of microseconds and one of bytes, None where there are none.
_Solver = Callable[[Flat, float, float], Solution | None]

#: Types of activations, in the order of `Problem.detours`.
TYPES: tuple[DataType, ...] = get_args(DataType)


@dataclass(frozen=True)
class Proposal:
    """A Plan within a budget, with its latency in milliseconds and its expected loss."""

    plan: Plan
    ms: float
    expected: float


@dataclass(frozen=True)
class Limits:
    """Milliseconds and bytes, infinite where there is no limit."""

    ms: float = math.inf
    size: float = math.inf


@dataclass(frozen=True)
class _Member:
    """One member of a Block's branch: a Layer, the Options it then has, and where they are among those of all members."""

    layer: str
    options: tuple[Option, ...]
    span: slice


class Problem:
    """The choice of a Plan for one Network, target and error table.

    Args:
        max_bytes: what no Plan may be larger than; None for no limit.
        objectives: what shall be small beside the loss: a front is about these. One that has a budget is kept within it, others
            are minimised.

    Attributes:
        base: the dense Plan around which the error table was measured.
        ms_per_us: milliseconds that a microsecond of one op adds to a Plan.
    """

    def __init__(
        self,
        space: Space,
        latency: LatencyEvaluator,
        errors: ErrorTable,
        max_bytes: int | None = None,
        objectives: Sequence[Objective] = ("latency",),
    ) -> None:
        self.space = space
        self.latency = latency
        self.errors = errors
        self.sizes = SizeEvaluator(latency, space.groups)
        self.max_bytes = max_bytes
        self.objectives = tuple(objectives)
        self.base = base(space)
        zero = latency.table.total_ms(0.0)
        self._offset_ms, self.ms_per_us = zero, latency.table.total_ms(1.0) - zero
        self._listed: list[tuple[str, Option]] = []
        self._members = self._all_members()
        # Of every member's Options, one member after the other: number of the Layer, number of the type, error.
        numbers = {layer.name: number for number, layer in enumerate(space.layers)}
        self._owners = np.array([numbers[layer] for layer, _ in self._listed])
        self._types = np.array([TYPES.index(ACTIVATIONS[option.bits]) for _, option in self._listed])
        self._all_errors = np.array([errors.errors[layer][option] for layer, option in self._listed])
        self._layout = Layout(
            [[[len(member.options) for member in members] for _, members in branches] for _, branches in self._members]
        )
        #: For every Block, the other Groups whose channels its members read or write.
        self._beside = [self._groups_beside(group, branches) for group, branches in self._members]
        self._rows: dict[tuple[object, ...], Floats] = {}
        self._costs: dict[tuple[DataType, ...], Floats] = {}
        self._errors_of: dict[Plan, Floats] = {}
        self._fastest: Proposal | None = None
        self._smallest_plans: dict[float, Plan] = {}

    def minimised(self, budget_ms: float | None) -> tuple[Objective, ...]:
        """The objectives beside the loss that have no budget."""
        free: dict[Objective, bool] = {"latency": budget_ms is None, "size": self.max_bytes is None}
        return tuple(objective for objective in self.objectives if free[objective])

    def fits(self, plan: Plan, budget_ms: float | None, max_bytes: float | None = None) -> bool:
        """Whether a Plan is within a latency budget and within the largest size.

        Args:
            budget_ms: None or infinity for none.
            max_bytes: a limit in the place of the problem's own.
        """
        limit = self._limit(max_bytes)
        within = budget_ms is None or self.latency.ms(plan) <= budget_ms
        return within and (math.isinf(limit) or self.sizes.bytes(plan) <= limit)

    def _limit(self, max_bytes: float | None) -> float:
        if max_bytes is not None:
            return max_bytes
        return math.inf if self.max_bytes is None else self.max_bytes

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

    def _groups_beside(self, group: Group | None, branches: Sequence[tuple[float, Sequence[_Member]]]) -> list[str]:
        layers = [member.layer for _, members in branches for member in members]
        tensors = {tensor for layer in layers for tensor in (layer, *self.latency.network.op(layer).inputs)}
        own = "" if group is None else group.name
        return [other.name for other in self.latency.groups_of(tensors) if other.name != own]

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
        max_bytes: float | None = None,
    ) -> Proposal | None:
        """The Plan of least expected loss within a budget that was found, or None when none was.

        Args:
            budget_ms: infinity where the size alone is limited.
            coefficients: factors on the rows of the error table, by Layer.
            start: reference of the first linearisation; by default each of `starts`.
            steps: resolution of the solver.
            max_bytes: a limit of size in the place of the problem's own; infinity for none.
        """
        limits = Limits(budget_ms, self._limit(max_bytes))
        starts = self.starts(budget_ms) if start is None else [start]
        solutions = [self._solve(limits, coefficients, one, steps) for one in starts]
        if start is None:
            solutions.append(self._solve_chain(limits, coefficients, steps))
        found = min((one for one in solutions if one is not None), key=lambda one: one.expected, default=None)
        if found is None:
            # Steps of conversions and couplings can hide a narrow way; from an extreme Plan it is seen, or is that Plan itself.
            plan = self.refuge(budget_ms) if max_bytes is None else self.fastest().plan
            if self.fits(plan, budget_ms, max_bytes):
                found = self._solve(limits, coefficients, plan, steps) or Proposal(
                    plan, self.latency.ms(plan), self.expected(plan, coefficients)
                )
        return found

    def starts(self, budget_ms: float) -> list[Plan]:
        """Dense Plans around which solutions for a budget are sought: the base Plan first, then those with more and more bits."""
        limit = START_ABOVE * max(budget_ms, self._refinements[0][1])
        return [plan for plan, ms in self._refinements if ms <= limit]

    @cached_property
    def _refinements(self) -> list[tuple[Plan, float]]:
        return refinements(self.space, self.base, self.errors, self.latency.ms)

    def near(
        self,
        budget_ms: float,
        coefficients: Mapping[str, float],
        start: Plan,
        max_bytes: float | None = None,
    ) -> Plan:
        """A Plan of little expected loss whose latency and size are near their limits, above or below: `solve` without its last
        digits, in a third of the time; arguments as there.
        """
        limits = Limits(budget_ms, self._limit(max_bytes))
        plan, asked = start, limits
        for round_ in range(ROUNDS_NEAR):
            if round_:
                asked = _corrected(asked, self.latency.ms(plan), self._bytes_within(plan, limits), limits)
            before, plan = plan, self._linearised(plan, asked, coefficients, relaxed)
            if plan == before:
                break
        return plan

    def _bytes_within(self, plan: Plan, limits: Limits) -> int:
        """The size of a Plan, 0 where none is asked for."""
        return 0 if math.isinf(limits.size) else self.sizes.bytes(plan)

    def _solve(self, limits: Limits, coefficients: Mapping[str, float] | None, start: Plan, steps: int) -> Proposal | None:
        """Rounds of linearisation from a reference Plan."""
        reference, target = start, limits
        found: Proposal | None = None
        exact = _Exact(steps)
        for _ in range(ROUNDS):
            plan = self._linearised(reference, target, coefficients, exact)
            ms, size = self.latency.ms(plan), self._bytes_within(plan, limits)
            if ms <= limits.ms and size <= limits.size:
                proposal = Proposal(plan, ms, self.expected(plan, coefficients))
                if found is not None and proposal.expected >= 0.99 * found.expected:
                    return min(found, proposal, key=lambda one: one.expected)
                found = proposal
            target = _adjusted(target, ms, size, limits)
            reference = plan
        return found

    @cached_property
    def _chain(self) -> Chain | None:
        return Chain(self.space, self.latency) if is_chain(self.latency.network) else None

    def _solve_chain(self, limits: Limits, coefficients: Mapping[str, float] | None, steps: int) -> Proposal | None:
        """With couplings and conversions as they are, where the network is a chain; for a limit of time, and one of size if the
        solution happens to keep it.
        """
        if self._chain is None or math.isinf(limits.ms):
            return None
        weights = coefficients or {}
        rows = [
            (layer.name, np.array([self.errors.errors[layer.name][o] for o in self.space.options[layer.name]]))
            for layer in self.space.layers
        ]
        # A sum in another order may differ in its last digit.
        budget = (1 - 1e-12) * (limits.ms - self._offset_ms) / self.ms_per_us
        found = self._chain.solve(budget, [weights.get(name, 1.0) * own for name, own in rows], steps)
        if found is None:
            return None
        plan, us = found
        ms = self.latency.ms(plan)
        assert abs(ms - self._offset_ms - self.ms_per_us * us) <= 1e-9 * ms, "a chain's time is not that of its table rows"
        within = ms <= limits.ms and self._bytes_within(plan, limits) <= limits.size
        return Proposal(plan, ms, self.expected(plan, coefficients)) if within else None

    def _linearised(self, reference: Plan, limits: Limits, coefficients: Mapping[str, float] | None, solver: _Solver) -> Plan:
        """The Plan of least expected loss within limits, if all couplings and conversions were as around the reference Plan; the
        fastest one around it where that is above the budget, or else the smallest one within it.
        """
        flat, fixed, fixed_bytes = self._around(reference, coefficients, not math.isinf(limits.size))
        budget = (limits.ms - self._offset_ms) / self.ms_per_us - fixed
        fastest = flat.fastest()
        if fastest.time > budget:
            return self._plan(fastest)
        found = solver(flat, budget, limits.size - fixed_bytes)
        return self._plan(found or _least([block.each(Branch.ranked_by_size) for block in flat.blocks()], budget, STEPS))

    def fastest(self) -> Proposal:
        """The fastest Plan within the largest size that was found, whatever its loss; the smallest where none is within it."""
        if self._fastest is None:
            self._fastest = self._find_fastest()
        return self._fastest

    def _find_fastest(self) -> Proposal:
        found = min((self._fastest_around(start) for start in self._extremes()), key=self._milliseconds)
        if not self.fits(found, None):
            limit = self._limit(None)
            found = self.smallest()
            for start in (found, *self._extremes()):
                plan = self._least_around(start, Limits(math.inf, limit), "latency")
                if plan is not None and self._milliseconds(plan) < self._milliseconds(found):
                    found = plan
        return Proposal(found, self._milliseconds(found), self.expected(found))

    def refuge(self, budget_ms: float) -> Plan:
        """A Plan within a latency budget and the largest size, whatever its loss; near them where none was found."""
        plan = self.fastest().plan
        return plan if self.max_bytes is None or self.fits(plan, budget_ms) else self.smallest(budget_ms)

    def smallest(self, budget_ms: float = math.inf) -> Plan:
        """The smallest Plan within a latency budget that was found, whatever its loss; the fastest one where there is none."""
        if budget_ms not in self._smallest_plans:
            starts = self._extremes()
            fastest = min((self._fastest_around(start) for start in starts), key=self._milliseconds)
            found = [fastest]
            if self._milliseconds(fastest) <= budget_ms:
                plans = [self._least_around(start, Limits(budget_ms, math.inf), "size") for start in (*starts, fastest)]
                found += [plan for plan in plans if plan is not None]
            self._smallest_plans[budget_ms] = min(found, key=self.sizes.bytes)
        return self._smallest_plans[budget_ms]

    def _least_around(self, reference: Plan, limits: Limits, objective: Objective) -> Plan | None:
        """The Plan of least latency within a size, or of least size within a latency, on the way of linearisations from a
        reference; None where none is within it.
        """
        best: Plan | None = None
        measure = self._milliseconds if objective == "latency" else self.sizes.bytes
        target = limits
        for _ in range(ROUNDS):
            flat, fixed, fixed_bytes = self._around(reference, None, True)
            turned = [block.each(Branch.ranked_by_size) for block in flat.blocks()]
            if objective == "latency":
                turned = [block.each(Branch.by_size).each(Branch.ranked_by_size) for block in flat.blocks()]
                budget = target.size - fixed_bytes
            else:
                budget = (target.ms - self._offset_ms) / self.ms_per_us - fixed
            plan = self._plan(_least(turned, budget))
            ms, size = self._milliseconds(plan), self.sizes.bytes(plan)
            if ms <= limits.ms and size <= limits.size and (best is None or measure(plan) < measure(best)):
                best = plan
            target = _adjusted(target, ms, size, limits)
            if plan == reference:
                break
            reference = plan
        return best

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
            plan = self._linearised(reference, Limits(-math.inf, math.inf), None, relaxed)
            best = min(best, plan, key=self._milliseconds)
            if plan == reference:
                break
            reference = plan
        return best

    def check_budget(self, budget_ms: float | None, target: str) -> None:
        """Refuse budgets that no Plan can meet.

        Raises:
            UserError: with the fastest possible latency, the smallest possible size, or what each budget leaves of the other,
                and the Layers that hold it.
        """
        limits = Limits(math.inf if budget_ms is None else budget_ms, self._limit(None))
        if (math.isinf(limits.ms) and math.isinf(limits.size)) or self.solve(limits.ms) is not None:
            return
        least = self.smallest(limits.ms)
        if self._milliseconds(least) > limits.ms:
            rows = sorted(self.latency(least).ops, key=lambda row: -row.microseconds)[:3]
            holders = ", ".join(f"{row.name} ({row.microseconds / 1e3:.2g} ms)" for row in rows)
            fastest_ms = self._milliseconds(least)
            raise UserError(
                f"fastest possible on {target} is {fastest_ms:.2f} ms ({self.latency.source}), held by {holders}; "
                f"asked for {limits.ms:g} ms. Try --budget {fastest_ms * 1.05:.2g}ms."
            )
        smallest = self.smallest()
        if self.sizes.bytes(smallest) > limits.size:
            raise UserError(
                f"the smallest possible size is {size_text(self.sizes.bytes(smallest))}, held by {self._holders(smallest)}; "
                f"asked for {size_text(limits.size)}. Try --max-size {_rounded_size(self.sizes.bytes(smallest))}."
            )
        fastest, largest, count = self.fastest(), size_text(limits.size), self.sizes.bytes(least)
        budget = f"{limits.ms:g} ms"
        raise UserError(
            f"no plan is within {budget} and within {largest}: within {budget} the smallest is {size_text(count)}, "
            f"held by {self._holders(least)}; within {largest} the fastest on {target} is {fastest.ms:.2f} ms "
            f"({self.latency.source}). Try --max-size {_rounded_size(count)} or --budget {fastest.ms * 1.05:.2g}ms."
        )

    def _holders(self, plan: Plan) -> str:
        """The Layers of most bytes, in words."""
        kept = self.latency.kept(plan)
        rows = sorted(((-self.sizes.layer(name, option, kept), name) for name, option in plan.options))[:3]
        return ", ".join(f"{name} ({size_text(-bytes_)})" for bytes_, name in rows)

    def _around(self, reference: Plan, coefficients: Mapping[str, float] | None, sized: bool) -> tuple[Flat, float, float]:
        """The choices around a reference Plan, and the microseconds and bytes of everything that is not in them.

        Args:
            sized: whether sizes are wanted.
        """
        kept = self.latency.kept(reference)
        weights = coefficients or {}
        costs, fixed = np.zeros((3, len(self._listed))), np.zeros((3, len(self._layout.branches) - 1))
        costs[ERROR] = self._all_errors * np.array([weights.get(layer.name, 1.0) for layer in self.space.layers])[self._owners]
        costs[TIME] = np.concatenate([self._row(TIME, number, kept) for number in range(len(self._members))])
        costs[TIME] += self.detours(reference)[self._owners, self._types]
        if sized:
            costs[SIZE] = np.concatenate([self._row(SIZE, number, kept) for number in range(len(self._members))])
        for (group, branches), first in zip(self._members, self._layout.blocks[:-1].tolist(), strict=True):
            if group is None:
                continue
            own = reference[group.producers[0].op]
            shares = (own.sparsity if own.structure == "channel" else 0.0, *[share for share, _ in branches])
            own_branches = slice(first, first + len(branches))
            now, *others = self.latency.coupled_microseconds(group, shares, reference, kept)
            fixed[TIME, own_branches] = others
            fixed[TIME, own_branches] -= now
            if sized:
                sizes = [self.sizes.others(group, reference, _with_share(kept, group, share)) for share, _ in branches]
                fixed[SIZE, own_branches] = sizes
                fixed[SIZE, own_branches] -= self.sizes.others(group, reference, kept)
        times = self.latency.layers_microseconds(kept)
        layers = sum([times[layer][option] for layer, option in reference.options])
        rest = (self.latency.ms(reference) - self._offset_ms) / self.ms_per_us - layers
        flat = Flat(self._layout, costs, fixed)
        if not sized:
            return flat, rest, 0.0
        own_bytes = sum([self.sizes.layer(layer, option, kept) for layer, option in reference.options])
        return flat, rest, self.sizes.bytes(reference) - own_bytes

    def _row(self, cost: int, number: int, kept: Mapping[str, int]) -> Floats:
        """Microseconds or bytes of all Options of a Block's members, when other Groups keep only so many channels."""
        key = (cost, number, *[kept.get(name) for name in self._beside[number]])
        if key not in self._rows:
            if len(self._rows) >= ROWS:
                self._rows.clear()
            group, branches = self._members[number]
            found: list[float] = []
            for share, members in branches:
                around = kept if group is None else _with_share(kept, group, share)
                times = self.latency.layers_microseconds(around)
                for layer, options in ((member.layer, member.options) for member in members):
                    if cost == TIME:
                        found += [times[layer][option] for option in options]
                    else:
                        found += [self.sizes.layer(layer, option, around) for option in options]
            self._rows[key] = np.array(found, np.float64)
        return self._rows[key]

    def detours(self, reference: Plan) -> Floats:
        """Microseconds of conversions that are added to a reference Plan's when one Layer alone computes in another type, shape
        (Layers, types).
        """
        key = tuple([ACTIVATIONS[option.bits] for _, option in reference.options])
        if key not in self._costs:
            if len(self._costs) >= COSTS:
                self._costs.clear()
            costs = self.latency.detours(reference, self.space.options)
            self._costs[key] = np.array([[costs[layer.name].get(type_, 0.0) for type_ in TYPES] for layer in self.space.layers])
        return self._costs[key]

    def _plan(self, solution: Solution) -> Plan:
        options: dict[str, Option] = {}
        for (_, branches), choice in zip(self._members, solution.choices, strict=True):
            _, members = branches[choice.branch]
            for member, index in zip(members, choice.options, strict=True):
                options[member.layer] = member.options[index]
        return Plan.of({layer.name: options[layer.name] for layer in self.space.layers})


def _with_share(kept: Mapping[str, int], group: Group, share: float) -> dict[str, int]:
    """Numbers of channels kept, with a share of a Group's removed."""
    around = {name: count for name, count in kept.items() if name != group.name}
    if share:
        around[group.name] = kept_channels(group.channels, share)
    return around


class _Exact:
    """The knapsack, for problems that resemble each other: the multiplier of one is tried first in the next."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._multiplier = 0.0

    def __call__(self, flat: Flat, time: float, size: float) -> Solution | None:
        if math.isinf(size):
            return solve_core(flat, time, self._steps)
        within = solve_within(flat.blocks(), time, size, self._steps, self._multiplier, ENOUGH)
        if within is None:
            return None
        self._multiplier = within.multiplier
        return within.solution


def _adjusted(asked: Limits, ms: float, size: float, limits: Limits) -> Limits:
    """What to ask the linearised problem for, after it gave a Plan of so many milliseconds and bytes."""
    if ms <= limits.ms:
        asked_ms = min(limits.ms, asked.ms + (limits.ms - ms) / 2)
    else:
        # Conversions or couplings keep it above the budget: ask for that much less.
        asked_ms = asked.ms - max(ms - limits.ms, 0.0005 * limits.ms)
    if size <= limits.size:
        asked_size = min(limits.size, asked.size + (limits.size - size) / 2)
    else:
        # Most of a miss is gone when the next linearisation is around a Plan like the one that is sought.
        asked_size = max(asked.size - (size - limits.size), (1 - SIZE_STEP) * asked.size)
    return Limits(asked_ms, asked_size)


def _corrected(asked: Limits, ms: float, size: float, limits: Limits) -> Limits:
    """What to ask for, after that gave so many milliseconds and bytes, to come nearer to the limits from either side."""
    least, most = (1 - SIZE_STEP) * asked.size, (1 + SIZE_STEP) * asked.size
    return Limits(asked.ms + (limits.ms - ms), min(max(asked.size + (limits.size - size), least), most))


def _least(blocks: Sequence[Block], budget: float, steps: int = 10_000) -> Solution:
    """The solution of least error within a budget of time, that of least time where there is none; the budget may be infinite."""
    if math.isinf(budget):
        return least_error(blocks)
    budget = max(budget, sum(block.fastest for block in blocks))
    return Front(blocks, budget, steps).solve(budget)


def size_text(count: float) -> str:
    """Bytes in words, as `3.94 MB`; decimal units, as users write them."""
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.3g} kB" if count >= 1e3 else f"{count:.0f} B"


def _rounded_size(count: float) -> str:
    """A size with two significant digits that is no smaller, as `--max-size` reads it."""
    unit = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return size_text(math.ceil(count / unit) * unit).replace(" ", "")
