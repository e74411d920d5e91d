"""Solver: the exact trade-off between an additive time and an additive error, for every budget at once.

A knapsack by dynamic programming (SPDY, Frantar and Alistarh, ICML 2022) over time in equal steps, with two changes: only
the excess over each choice's minimum is rounded, and it is rounded up, so that a budget is never exceeded; and a block of
members may have branches, alternatives that bind all its members (the channel share of a Group).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Branch:
    """One alternative of a Block: a fixed cost, and for each member the options it then has.

    Attributes:
        times, errors: per member one array over its options; same lengths, at least one option each.
        time, error: cost of the branch itself; the time may be negative (what other Layers save).
    """

    times: tuple[Floats, ...]
    errors: tuple[Floats, ...]
    time: float = 0.0
    error: float = 0.0

    @cached_property
    def fastest(self) -> float:
        return self.time + sum(float(times.min()) for times in self.times)


@dataclass(frozen=True)
class Block:
    """Members that are chosen together: one branch, then one option of it for each member."""

    branches: tuple[Branch, ...]

    @cached_property
    def fastest(self) -> float:
        return min(branch.fastest for branch in self.branches)


@dataclass(frozen=True)
class Choice:
    """What was chosen in one Block: a branch, and an option index for each member."""

    branch: int
    options: tuple[int, ...]


@dataclass(frozen=True)
class Solution:
    """One choice per Block, with the exact sums of its times and errors."""

    choices: tuple[Choice, ...]
    time: float
    error: float


@dataclass(frozen=True)
class _Fold:
    """How a member changed the best errors: for each number of steps, the option that was taken, and its steps."""

    taken: npt.NDArray[np.int32]
    steps: npt.NDArray[np.int64]


class Front:
    """All solutions up to a budget, from one pass.

    Args:
        blocks: what is to be chosen.
        budget: the largest sum of times of interest.
        steps: resolution; the excess over the fastest solution is rounded up to `(budget - fastest) / steps` per member.

    Raises:
        ValueError: the fastest solution exceeds the budget.
    """

    def __init__(self, blocks: Sequence[Block], budget: float, steps: int = 10_000) -> None:
        self.blocks = tuple(blocks)
        self.fastest = sum(block.fastest for block in blocks)
        if self.fastest > budget:
            raise ValueError(f"fastest solution takes {self.fastest}, budget is {budget}")
        self._steps = steps
        # With nothing to spend any positive unit will do: only zero-excess choices then fit.
        self._unit = (budget - self.fastest) / steps or 1.0
        best = np.full(steps + 1, np.inf)
        best[0] = 0.0
        self._branch_of: list[npt.NDArray[np.int32]] = []
        self._folds: list[list[tuple[int, list[_Fold]]]] = []
        for block in self.blocks:
            best, branch_of, folds = self._add(best, block)
            self._branch_of.append(branch_of)
            self._folds.append(folds)
        #: Smallest error for each exact number of steps.
        self._best = best
        #: The number of steps at which the smallest error within a budget is reached.
        improved = np.minimum.accumulate(best)
        self._points = np.flatnonzero(np.isfinite(best) & (np.r_[np.inf, improved[:-1]] > best))

    def _excess(self, time: float) -> int:
        # The tolerance keeps a sum that is a whole number of steps from being pushed up by rounding errors.
        return int(np.ceil(time / self._unit - 1e-9))

    def _add(self, best: Floats, block: Block) -> tuple[Floats, npt.NDArray[np.int32], list[tuple[int, list[_Fold]]]]:
        result = np.full_like(best, np.inf)
        branch_of = np.zeros(best.shape, np.int32)
        folds: list[tuple[int, list[_Fold]]] = []
        for index, branch in enumerate(block.branches):
            shift = self._excess(branch.fastest - block.fastest)
            value, members = _shifted(best, shift) + branch.error, []
            for times, errors in zip(branch.times, branch.errors, strict=True):
                value, fold = self._fold(value, times, errors)
                members.append(fold)
            folds.append((shift, members))
            better = value < result
            result[better] = value[better]
            branch_of[better] = index
        return result, branch_of, folds

    def _fold(self, best: Floats, times: Floats, errors: Floats) -> tuple[Floats, _Fold]:
        steps = np.ceil((times - times.min()) / self._unit - 1e-9).astype(np.int64)
        result = np.full_like(best, np.inf)
        taken = np.zeros(best.shape, np.int32)
        for option in _useful(steps, errors):
            step = int(steps[option])
            if step > self._steps:
                continue
            value = best[: len(best) - step] + errors[option]
            better = value < result[step:]
            result[step:][better] = value[better]
            taken[step:][better] = option
        return result, _Fold(taken, steps)

    def solve(self, budget: float) -> Solution:
        """The solution of smallest error whose time is within `budget`.

        Raises:
            ValueError: the budget is below the fastest solution.
        """
        allowed = min(self._steps, int((budget - self.fastest) / self._unit + 1e-9))
        reachable = self._points[self._points <= allowed]
        if budget < self.fastest or not len(reachable):
            raise ValueError(f"fastest solution takes {self.fastest}, budget is {budget}")
        return self._trace(int(reachable[-1]))

    def solutions(self) -> list[Solution]:
        """All solutions that are the best within some budget, by time."""
        return [self._trace(int(point)) for point in self._points]

    def curve(self) -> tuple[Floats, Floats]:
        """Times (rounded up as in the search) and errors of all solutions, without tracing them."""
        times = np.asarray(self.fastest + self._points * self._unit, np.float64)
        errors: Floats = self._best[self._points]
        return times, errors

    def _trace(self, point: int) -> Solution:
        choices: list[Choice] = []
        for branch_of, folds in zip(reversed(self._branch_of), reversed(self._folds), strict=True):
            branch = int(branch_of[point])
            shift, members = folds[branch]
            options = []
            for fold in reversed(members):
                option = int(fold.taken[point])
                options.append(option)
                point -= int(fold.steps[option])
            point -= shift
            choices.append(Choice(branch, tuple(reversed(options))))
        choices.reverse()
        return evaluate(self.blocks, choices)


def evaluate(blocks: Sequence[Block], choices: Sequence[Choice]) -> Solution:
    """The Solution with the exact sums of what was chosen."""
    time = error = 0.0
    for block, choice in zip(blocks, choices, strict=True):
        branch = block.branches[choice.branch]
        time += branch.time + sum(float(t[o]) for t, o in zip(branch.times, choice.options, strict=True))
        error += branch.error + sum(float(e[o]) for e, o in zip(branch.errors, choice.options, strict=True))
    return Solution(tuple(choices), time, error)


def _shifted(values: Floats, steps: int) -> Floats:
    if steps == 0:
        return values
    result = np.full_like(values, np.inf)
    if steps < len(values):
        result[steps:] = values[:-steps]
    return result


def _useful(steps: npt.NDArray[np.int64], errors: Floats) -> list[int]:
    """Options that no other one beats or equals in both steps and error, fastest first."""
    useful: list[int] = []
    for option in np.lexsort((errors, steps)):
        if not useful or errors[option] < errors[useful[-1]]:
            useful.append(int(option))
    return useful
