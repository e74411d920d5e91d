"""Settling: a Plan that is near a budget, brought within it and then up to it, by changes of few Layers.

The channels that Groups keep are left alone, so that all else but conversions is additive over Layers. Conversions count as if
one Layer alone changed its type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..spaces.option import ACTIVATIONS, Option
from ..spaces.plan import Plan
from .problem import TYPES, Limits, Problem
from .relaxation import ERROR, SIZE, TIME, Flat, Layout, relaxed
from .solver import Floats

#: Layers, drawn at random, of which some are made faster, or one slower.
TRIED = 16
#: Rounds of making Layers faster, and of making one slower.
ROUNDS, FILLS = 4, 3
#: Choices of channels whose useful Options are kept.
REMEMBERED = 1000

_Mask = npt.NDArray[np.bool_]


class Costs(NamedTuple):
    """What an Option of a Layer costs: its error, microseconds, and bytes where they matter."""

    error: float
    us: float
    size: float

    def beats(self, other: Costs) -> bool:
        """Whether nothing of the other one is less."""
        return self.error <= other.error and self.us <= other.us and self.size <= other.size


@dataclass(frozen=True)
class _Moves:
    """The useful Options of all Layers, Layer by Layer.

    Attributes:
        layers, options: number of the Layer, and Option.
        types: number of the type in which it computes.
        costs: shape (3, options): errors, microseconds without conversions, bytes.
    """

    layers: npt.NDArray[np.int64]
    options: tuple[Option, ...]
    types: npt.NDArray[np.int64]
    costs: Floats


class Settling:
    """Changes of single Layers in Plans of one Problem.

    Args:
        sized: whether bytes matter.
    """

    def __init__(self, problem: Problem, sized: bool) -> None:
        self._problem = problem
        self._sized = sized
        self._costs: dict[Plan, Limits] = {}
        self._useful: dict[tuple[object, ...], list[tuple[Option, Costs]]] = {}
        self._moves: dict[tuple[float, ...], _Moves] = {}

    def fits(self, plan: Plan, budget: Limits) -> bool:
        """Whether a Plan is within both limits."""
        cost = self._cost(plan)
        return cost.ms <= budget.ms and cost.size <= budget.size

    def _cost(self, plan: Plan) -> Limits:
        if plan not in self._costs:
            size = self._problem.sizes.bytes(plan) if self._sized else 0.0
            self._costs[plan] = Limits(self._problem.latency.ms(plan), size)
        return self._costs[plan]

    def costs(self, layer: str, option: Option, kept: Mapping[str, int]) -> Costs:
        """What an Option costs when Groups keep so many channels."""
        problem = self._problem
        size = problem.sizes.layer(layer, option, kept) if self._sized else 0.0
        return Costs(problem.errors.errors[layer][option], problem.latency.layers_microseconds(kept)[layer][option], size)

    def useful(self, layer: str, share: float, kept: Mapping[str, int]) -> list[tuple[Option, Costs]]:
        """A Layer's Options that remove a share of its channels and that no other one beats, fastest first, with their costs.

        Args:
            kept: channels that Groups keep.
        """
        key = (layer, share, *self._problem.latency.deciding(layer, kept))
        if key not in self._useful:
            options = [option for option in self._problem.space.options[layer] if _removed(option) == share]
            found: list[tuple[Option, Costs]] = []
            for option, costs in sorted(
                [(option, self.costs(layer, option, kept)) for option in options], key=lambda one: (one[1].us, one[1].error)
            ):
                if not any(better.beats(costs) for _, better in found):
                    found.append((option, costs))
            self._useful[key] = found
        return self._useful[key]

    def neighbour(self, plan: Plan, layer: str, reach: int, rng: np.random.Generator) -> Plan:
        """`plan` with one Layer moved to one of the useful Options next to its own, so many faster or slower ones."""
        kept, own = self._problem.latency.kept(plan), plan[layer]
        useful = self.useful(layer, _removed(own), kept)
        own_us = self.costs(layer, own, kept).us
        at = sum([costs.us < own_us for _, costs in useful])
        near = [option for option, _ in useful[max(0, at - reach) : at + reach + 1] if option != own]
        return plan.replace({layer: near[int(rng.integers(len(near)))]}) if near else plan

    def settle(
        self,
        plan: Plan,
        coefficients: Mapping[str, float],
        budget: Limits,
        rng: np.random.Generator,
        but: Collection[str] = (),
    ) -> Plan | None:
        """`plan` with some Layers made faster or smaller where it is above the budget, those that cost least expected loss, and
        then some made better with what is left; None where that does not lead within the budget.

        The Layers are drawn at random, so that equal starts lead to different Plans.

        Args:
            but: Layers that stay as they are.
        """
        free = np.array([layer not in but for layer in plan])
        moves = self._all_moves(plan)
        weights = np.array([coefficients[layer] for layer in plan])
        asked = budget
        for round_ in range(ROUNDS):
            if self.fits(plan, budget):
                return self._filled(plan, moves, weights, budget, free & _drawn(plan, rng))
            cost = self._cost(plan)
            if round_:
                # Changes of type together convert other tensors than each alone: what was then over is asked for beforehand.
                asked = Limits(asked.ms - max(0.0, cost.ms - budget.ms), asked.size - max(0.0, cost.size - budget.size))
            less = Limits(cost.ms - asked.ms, cost.size - asked.size)
            costs = self._priced(plan, moves, weights)
            moved = self._reduced(plan, moves, costs, less, free & _drawn(plan, rng))
            moved = moved or self._reduced(plan, moves, costs, less, free)
            if moved is None:
                return None
            plan = moved
        return plan if self.fits(plan, budget) else None

    def _priced(self, plan: Plan, moves: _Moves, weights: Floats) -> Floats:
        """Costs of all moves from a Plan: errors weighted by Layer, and times with the conversions that a move alone adds."""
        costs = moves.costs.copy()
        costs[ERROR] *= weights[moves.layers]
        costs[TIME] += self._problem.detours(plan)[moves.layers, moves.types]
        return costs

    def _reduced(self, plan: Plan, moves: _Moves, costs: Floats, less: Limits, movable: _Mask) -> Plan | None:
        """`plan` made faster and smaller by about so much, by changes of some Layers; None where they cannot."""
        own = self._own_costs(plan)
        possible = movable[moves.layers]
        if not self._sized:
            possible &= costs[TIME] <= own[TIME, moves.layers]
        at = np.flatnonzero(possible)
        present, counts = np.unique(moves.layers[at], return_counts=True)
        if not len(present):
            return None
        flat = Flat(Layout([[[count]] for count in counts.tolist()]), costs[:, at], np.zeros((3, len(present))))
        time, size = own[TIME, present].sum() - less.ms / self._problem.ms_per_us, own[SIZE, present].sum() - less.size
        found = relaxed(flat, float(time), float(size))
        if found is None:
            return None
        chosen = flat.layout.members[:-1] + np.array([choice.options[0] for choice in found.choices])
        return self._changed(plan, moves, at[chosen].tolist())

    def _filled(self, plan: Plan, moves: _Moves, weights: Floats, budget: Limits, movable: _Mask) -> Plan:
        """`plan` with Layers moved to better Options, those first that gain most, as long as it is within the budget."""
        possible = movable[moves.layers]
        for _ in range(FILLS):
            cost, own, costs = self._cost(plan), self._own_costs(plan), self._priced(plan, moves, weights)
            gain = (weights * own[ERROR])[moves.layers] - costs[ERROR]
            left = Limits((budget.ms - cost.ms) / self._problem.ms_per_us, budget.size - cost.size)
            slower, larger = costs[TIME:] - own[TIME:, moves.layers]
            gain = np.where(possible & (slower <= left.ms) & (larger <= left.size), gain, 0.0)
            best = int(np.argmax(gain))
            if gain[best] <= 0:
                break
            changed = self._changed(plan, moves, [best])
            if self.fits(changed, budget):
                plan = changed
            else:
                possible[best] = False
        return plan

    def _own_costs(self, plan: Plan) -> Floats:
        """Costs of a Plan's own Options, shape (3, Layers)."""
        kept = self._problem.latency.kept(plan)
        times = self._problem.latency.layers_microseconds(kept)
        own = np.zeros((3, len(plan)))
        own[ERROR] = self._problem.errors_of(plan)
        own[TIME] = [times[layer][option] for layer, option in plan.options]
        if self._sized:
            own[SIZE] = [self._problem.sizes.layer(layer, option, kept) for layer, option in plan.options]
        return own

    def _changed(self, plan: Plan, moves: _Moves, steps: Sequence[int]) -> Plan:
        options = list(plan.options)
        for step in steps:
            number = int(moves.layers[step])
            options[number] = (options[number][0], moves.options[step])
        return Plan(tuple(options))

    def _all_moves(self, plan: Plan) -> _Moves:
        shares = tuple([_removed(option) for _, option in plan.options])
        if shares not in self._moves:
            if len(self._moves) >= REMEMBERED:
                self._moves.clear()
            kept = self._problem.latency.kept(plan)
            useful = [self.useful(layer, share, kept) for layer, share in zip(plan, shares, strict=True)]
            rows = [(number, option, costs) for number, own in enumerate(useful) for option, costs in own]
            layers, options, all_costs = zip(*rows, strict=True)
            types = np.array([TYPES.index(ACTIVATIONS[option.bits]) for option in options])
            self._moves[shares] = _Moves(np.array(layers), options, types, np.array(all_costs, np.float64).T)
        return self._moves[shares]


def _removed(option: Option) -> float:
    """The share of channels that an Option removes."""
    return option.sparsity if option.structure == "channel" else 0.0


def _drawn(plan: Plan, rng: np.random.Generator) -> _Mask:
    """Some Layers."""
    drawn = np.zeros(len(plan), bool)
    drawn[rng.permutation(len(plan))[:TRIED]] = True
    return drawn
