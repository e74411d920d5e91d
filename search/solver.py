"""Solver: the exact trade-off between an additive time and an additive error, for every budget at once.

A knapsack by dynamic programming (SPDY, Frantar and Alistarh, ICML 2022) over time in equal steps, with two changes: only
the excess over each choice's minimum is rounded, and it is rounded up, so that a budget is never exceeded; and a block of
members may have branches, alternatives that bind all its members (the channel share of a Group).

A second budget, on size, is a Lagrange multiplier: the knapsack over time stays exact, and the best multiplier is found by
secants (LARAC, Juttner et al., INFOCOM 2001), finitely often. What they leave of both budgets is then spent step by step.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

#: A branch with more combinations of its members' options is not listed.
COMBINATIONS = 64

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Branch:
    """One alternative of a Block: a fixed cost, and for each member the options it then has.

    Attributes:
        times, errors: per member one array over its options; same lengths, at least one option each.
        time, error: cost of the branch itself; the time may be negative (what other Layers save).
        sizes, size: the same for what a second budget is about; no sizes where there is none.
    """

    times: tuple[Floats, ...]
    errors: tuple[Floats, ...]
    time: float = 0.0
    error: float = 0.0
    sizes: tuple[Floats, ...] = ()
    size: float = 0.0

    @cached_property
    def fastest(self) -> float:
        return self.time + sum(float(times.min()) for times in self.times)

    def penalised(self, multiplier: float) -> Branch:
        """With the size, times a multiplier, counted as error."""
        errors = tuple([own + multiplier * sizes for own, sizes in zip(self.errors, self.sizes, strict=True)])
        return replace(self, errors=errors, error=self.error + multiplier * self.size)

    def by_size(self) -> Branch:
        """With size in the place of time."""
        return Branch(self.sizes, self.errors, self.size, self.error, self.times, self.time)

    def ranked_by_size(self) -> Branch:
        """With size in the place of error."""
        return replace(self, errors=self.sizes, error=self.size)


@dataclass(frozen=True)
class Block:
    """Members that are chosen together: one branch, then one option of it for each member."""

    branches: tuple[Branch, ...]

    @cached_property
    def fastest(self) -> float:
        return min(branch.fastest for branch in self.branches)

    def each(self, change: Callable[[Branch], Branch]) -> Block:
        """With every branch changed."""
        return Block(tuple([change(branch) for branch in self.branches]))


@dataclass(frozen=True)
class Choice:
    """What was chosen in one Block: a branch, and an option index for each member."""

    branch: int
    options: tuple[int, ...]


@dataclass(frozen=True)
class Solution:
    """One choice per Block, with the exact sums of its times, errors and sizes."""

    choices: tuple[Choice, ...]
    time: float
    error: float
    size: float = 0.0


@dataclass(frozen=True)
class _Fold:
    """How a choice changed the best errors: for each number of steps, the alternative that was taken, and its steps."""

    taken: npt.NDArray[np.int32]
    steps: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Points:
    """Combinations of options that no other one beats: their times, errors, branches and option indices."""

    times: Floats
    errors: Floats
    choices: list[Choice]

    def fold(self, best: Floats, unit: float, fastest: float) -> tuple[Floats, _Fold]:
        return _folded(best, _rounded_up((self.times - fastest) / unit), self.errors)


@dataclass(frozen=True)
class _Members:
    """A branch with too many combinations to list: its members are chosen one after the other."""

    index: int
    branch: Branch


@dataclass(frozen=True)
class _Step:
    """How a Block changed the best errors: for each number of steps the way that was taken; and what each way did.

    A way is a list of combinations, with one fold, or a branch, with a shift and a fold for each member.
    """

    way: npt.NDArray[np.int32]
    points: _Points | None
    folds: list[tuple[int, int, list[_Fold]]]


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
        # With nothing to spend, but what sums of floats are off by, any positive unit will do: only zero-excess choices then fit.
        excess = budget - self.fastest
        self._unit = excess / steps if excess > 1e-14 * abs(budget) else 1.0
        best = np.full(steps + 1, np.inf)
        best[0] = 0.0
        self._history: list[_Step] = []
        for block in self.blocks:
            best, step = self._add(best, block)
            self._history.append(step)
        #: Smallest error for each exact number of steps.
        self._best = best
        #: The number of steps at which the smallest error within a budget is reached.
        improved = np.minimum.accumulate(best)
        self._points = np.flatnonzero(np.isfinite(best) & (np.r_[np.inf, improved[:-1]] > best))

    def _add(self, best: Floats, block: Block) -> tuple[Floats, _Step]:
        points, large = _combined(block)
        result = np.full_like(best, np.inf)
        way = np.zeros(best.shape, np.int32)
        folds: list[tuple[int, int, list[_Fold]]] = []
        if points is not None:
            result, fold = points.fold(best, self._unit, block.fastest)
            folds.append((-1, 0, [fold]))
        for members in large:
            branch = members.branch
            shift = int(_rounded_up((branch.fastest - block.fastest) / self._unit))
            value, own = _shifted(best, shift) + branch.error, []
            for times, errors in zip(branch.times, branch.errors, strict=True):
                value, fold = _folded(value, _rounded_up((times - times.min()) / self._unit), errors)
                own.append(fold)
            better = value < result
            result[better] = value[better]
            way[better] = len(folds)
            folds.append((members.index, shift, own))
        return result, _Step(way, points, folds)

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
        for step in reversed(self._history):
            branch, shift, folds = step.folds[int(step.way[point])]
            options = []
            for fold in reversed(folds):
                option = int(fold.taken[point])
                options.append(option)
                point -= int(fold.steps[option])
            point -= shift
            if branch < 0:
                assert step.points is not None
                choices.append(step.points.choices[options[0]])
            else:
                choices.append(Choice(branch, tuple(reversed(options))))
        choices.reverse()
        return evaluate(self.blocks, choices)


def evaluate(blocks: Sequence[Block], choices: Sequence[Choice]) -> Solution:
    """The Solution with the exact sums of what was chosen."""
    time = error = size = 0.0
    for block, choice in zip(blocks, choices, strict=True):
        branch = block.branches[choice.branch]
        time += branch.time + sum(float(t[o]) for t, o in zip(branch.times, choice.options, strict=True))
        error += branch.error + sum(float(e[o]) for e, o in zip(branch.errors, choice.options, strict=True))
        if branch.sizes:
            size += branch.size + sum(float(s[o]) for s, o in zip(branch.sizes, choice.options, strict=True))
    return Solution(tuple(choices), time, error, size)


@dataclass(frozen=True)
class Within:
    """A solution within two budgets.

    Attributes:
        bound: an error that no solution within both is below, but for the rounding of times.
        multiplier: the error that a unit of size was counted as; 0 where time alone, or size alone, decides.
    """

    solution: Solution
    bound: float
    multiplier: float = 0.0


def solve_within(
    blocks: Sequence[Block], time: float, size: float, steps: int = 10_000, hint: float = 0.0, enough: float = 0.0
) -> Within | None:
    """The solution of small error within a budget of time and one of size, or None where there is none.

    Args:
        time, size: of which not both are infinite; without one of them the other is a knapsack of its own, and exact.
        steps: resolution, as in `Front`.
        hint: the multiplier of a similar problem, which is tried first.
        enough: share of the error by which a solution may be above the bound.
    """
    if math.isinf(time):
        turned = [block.each(Branch.by_size) for block in blocks]
        if sum(block.fastest for block in turned) > size:
            return None
        return _checked(blocks, Front(turned, size, steps).solve(size), time, size, -math.inf)
    if sum(block.fastest for block in blocks) > time:
        return None
    inside, outside, bound = None, None, -math.inf
    multiplier = hint
    if hint and math.isfinite(size):
        found, bound = _penalised(blocks, hint, time, size, steps)
        inside, outside = (found, None) if found.size <= size else (None, found)
    if inside is None or inside.error - bound > enough * inside.error:
        if outside is None:
            outside = evaluate(blocks, Front(blocks, time, steps).solve(time).choices)
            if outside.size <= size:
                return _checked(blocks, outside, time, size, outside.error)
            bound = max(bound, outside.error)
        if inside is None:
            least = [block.each(Branch.ranked_by_size) for block in blocks]
            inside = evaluate(blocks, Front(least, time, steps).solve(time).choices)
            if inside.size > size:
                return None
        while inside.error > outside.error and inside.error - bound > enough * inside.error:
            multiplier = (inside.error - outside.error) / (outside.size - inside.size)
            found, value = _penalised(blocks, multiplier, time, size, steps)
            bound = max(bound, value)
            if value >= outside.error + multiplier * (outside.size - size) - 1e-9 * inside.error:
                break  # both ends solve this problem too: no other multiplier gives a higher bound
            if found.size <= size:
                inside = found
            else:
                outside = found
    return _checked(blocks, _spent(blocks, inside, time, size), time, size, bound, multiplier)


def _penalised(blocks: Sequence[Block], multiplier: float, time: float, size: float, steps: int) -> tuple[Solution, float]:
    """The solution when sizes count as error, and the bound that it gives for all within both budgets."""
    changed = [block.each(lambda branch: branch.penalised(multiplier)) for block in blocks]
    found = evaluate(blocks, Front(changed, time, steps).solve(time).choices)
    return found, found.error + multiplier * (found.size - size)


def _checked(blocks: Sequence[Block], found: Solution, time: float, size: float, bound: float, multiplier: float = 0.0) -> Within:
    """The sums added again from the tables, and held against both budgets."""
    solution = evaluate(blocks, found.choices)
    assert solution.time <= time + _tolerance(time) and solution.size <= size + _tolerance(size), (solution, time, size)
    return Within(solution, bound if math.isfinite(bound) else solution.error, multiplier)


def _tolerance(budget: float) -> float:
    """What sums of floats may be off by."""
    return 1e-9 * max(1.0, abs(budget)) if math.isfinite(budget) else 0.0


def _spent(blocks: Sequence[Block], solution: Solution, time: float, size: float) -> Solution:
    """`solution` with members moved to other options of their branch, best gain first, as long as both budgets allow one."""
    for _ in range(sum(len(choice.options) for choice in solution.choices)):
        best: tuple[float, int, int, int] | None = None
        for number, (block, choice) in enumerate(zip(blocks, solution.choices, strict=True)):
            branch = block.branches[choice.branch]
            for member, own in enumerate(choice.options):
                times, sizes, errors = branch.times[member], branch.sizes[member], branch.errors[member]
                fits = (times - times[own] <= time - solution.time) & (sizes - sizes[own] <= size - solution.size)
                option = int(np.argmin(np.where(fits, errors, np.inf))) if fits.any() else own
                gain = float(errors[own] - errors[option])
                if gain > 0.0 and (best is None or gain > best[0]):
                    best = gain, number, member, option
        if best is None:
            break
        _, number, member, option = best
        choice = solution.choices[number]
        moved = Choice(choice.branch, (*choice.options[:member], option, *choice.options[member + 1 :]))
        solution = evaluate(blocks, (*solution.choices[:number], moved, *solution.choices[number + 1 :]))
    return solution


def least_error(blocks: Sequence[Block]) -> Solution:
    """The solution of least error, whatever its time."""
    choices = []
    for block in blocks:
        errors = [branch.error + sum(float(own.min()) for own in branch.errors) for branch in block.branches]
        best = int(np.argmin(errors))
        choices.append(Choice(best, tuple([int(np.argmin(own)) for own in block.branches[best].errors])))
    return evaluate(blocks, choices)


def _combined(block: Block) -> tuple[_Points | None, list[_Members]]:
    """The combinations of all branches that have few of them, and the other branches."""
    listed: list[tuple[int, list[Sequence[int]]]] = []
    times: list[Floats] = []
    errors: list[Floats] = []
    large = []
    for index, branch in enumerate(block.branches):
        own_times, own_errors = branch.times, branch.errors
        options: list[Sequence[int]] = [range(len(own)) for own in own_times]
        if math.prod(map(len, own_times)) > COMBINATIONS:
            useful = [_useful(own, error) for own, error in zip(own_times, own_errors, strict=True)]
            if math.prod(map(len, useful)) > COMBINATIONS:
                large.append(_Members(index, branch))
                continue
            options = [*useful]
            own_times = tuple([own[some] for own, some in zip(own_times, useful, strict=True)])
            own_errors = tuple([own[some] for own, some in zip(own_errors, useful, strict=True)])
        listed.append((index, options))
        times.append(_sums(own_times) + branch.time)
        errors.append(_sums(own_errors) + branch.error)
    if not listed:
        return None, large
    all_times, all_errors = np.concatenate(times), np.concatenate(errors)
    kept = _useful(all_times, all_errors)
    starts = list(itertools.accumulate([0, *map(len, times)]))
    choices = []
    for point in kept:
        at = bisect.bisect_right(starts, point) - 1
        index, options = listed[at]
        chosen, left = [], point - starts[at]
        for own in reversed(options):
            left, position = divmod(left, len(own))
            chosen.append(own[position])
        choices.append(Choice(index, tuple(reversed(chosen))))
    return _Points(all_times[kept], all_errors[kept], choices), large


def _sums(members: Sequence[Floats]) -> Floats:
    """The sums of one entry of each member, for every combination, in the order of `itertools.product`."""
    sums = members[0]
    for values in members[1:]:
        sums = np.add.outer(sums, values).ravel()
    return sums


def _folded(best: Floats, steps: npt.NDArray[np.int64], errors: Floats) -> tuple[Floats, _Fold]:
    """The best errors after one more choice, of alternatives that take `steps` and add `errors`."""
    result = np.full_like(best, np.inf)
    taken = np.zeros(best.shape, np.int32)
    for option in _useful(steps, errors):
        step = int(steps[option])
        if step >= len(best):
            continue
        value = best[: len(best) - step] + errors[option]
        better = value < result[step:]
        np.copyto(result[step:], value, where=better)
        np.copyto(taken[step:], option, where=better)
    return result, _Fold(taken, steps)


def _rounded_up(steps: Floats | float) -> npt.NDArray[np.int64]:
    # The tolerance keeps a sum that is a whole number of steps from being pushed up by rounding errors.
    return np.ceil(np.asarray(steps) - 1e-9).astype(np.int64)


def _shifted(values: Floats, steps: int) -> Floats:
    if steps == 0:
        return values
    result = np.full_like(values, np.inf)
    if steps < len(values):
        result[steps:] = values[:-steps]
    return result


def _useful(times: npt.NDArray[Any], errors: Floats) -> list[int]:
    """Options that no other one beats or equals in both time and error, fastest first."""
    order = np.lexsort((errors, times))
    ordered = errors[order]
    better = np.ones(len(order), bool)
    better[1:] = ordered[1:] < np.minimum.accumulate(ordered)[:-1]
    useful: list[int] = order[better].tolist()
    return useful
