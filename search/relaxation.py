"""Relaxation: nearly best choices of the solver's Blocks in no time, by a price on time and one on size.

With prices every member chooses for itself, so one solution is a few operations on arrays. The best price is found by secants
(LARAC, Juttner et al., INFOCOM 2001). What such a solution leaves of a budget is less than one choice's worth: the exact
knapsack of `solver.py` would spend it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from .solver import Block, Branch, Choice, Floats, Solution

#: What a solution costs, in this order.
ERROR, TIME, SIZE = range(3)
#: Weight of everything else where one cost is to be as small as possible, so that it decides between equals.
_TIE = 1e-9

_Integers = npt.NDArray[np.int64]


class Layout:
    """Where the options of some Blocks are, when they are written one after the other.

    Args:
        counts: by Block, by branch, the number of options of each member.
    """

    def __init__(self, counts: Sequence[Sequence[Sequence[int]]]) -> None:
        branches = [branch for block in counts for branch in block]
        members = [count for branch in branches for count in branch]
        #: The first option of every member, and the end; the first member of every branch, the first branch of every Block too.
        self.members = _starts(members)
        self.branches = _starts(map(len, branches))
        self.blocks = _starts(map(len, counts))
        self.member_of = np.repeat(np.arange(len(members)), members)
        self.block_of = np.repeat(np.arange(len(counts)), list(map(len, counts)))


@dataclass(frozen=True)
class Point:
    """The option that every member would choose in each branch, the branch that every Block chose, and what that costs in all."""

    options: _Integers
    branches: _Integers
    costs: Floats


#: The point of least weighted costs, if there is one.
_Solve = Callable[[Floats], Point | None]


@dataclass(frozen=True)
class Flat:
    """Blocks as arrays.

    Attributes:
        costs: shape (3, options): error, time and size of every option.
        fixed: shape (3, branches): what each branch costs by itself.
    """

    layout: Layout
    costs: Floats
    fixed: Floats

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Flat:
        """These Blocks, with sizes of zero where they have none."""
        branches = [branch for block in blocks for branch in block.branches]
        layout = Layout([[[len(own) for own in branch.times] for branch in block.branches] for block in blocks])
        costs = np.zeros((3, int(layout.members[-1])))
        costs[ERROR] = np.concatenate([own for branch in branches for own in branch.errors])
        costs[TIME] = np.concatenate([own for branch in branches for own in branch.times])
        if branches[0].sizes:
            costs[SIZE] = np.concatenate([own for branch in branches for own in branch.sizes])
        return cls(layout, costs, np.array([(branch.error, branch.time, branch.size) for branch in branches]).T)

    def blocks(self) -> list[Block]:
        """The same as Blocks."""
        spans = list(pairwise(self.layout.members.tolist()))
        errors, times, sizes = ([own[first:end] for first, end in spans] for own in self.costs)
        branches = []
        for number, (first, end) in enumerate(pairwise(self.layout.branches.tolist())):
            error, time, size = self.fixed[:, number].tolist()
            members = slice(first, end)
            branches.append(Branch(tuple(times[members]), tuple(errors[members]), time, error, tuple(sizes[members]), size))
        return [Block(tuple(branches[first:end])) for first, end in pairwise(self.layout.blocks.tolist())]

    def point(self, weights: Floats) -> Point:
        """The choices of least weighted costs."""
        layout = self.layout
        options = _first_least(weights @ self.costs, layout.members, layout.member_of)
        of_branches = np.add.reduceat(self.costs[:, options], layout.branches[:-1], axis=1) + self.fixed
        branches = _first_least(weights @ of_branches, layout.blocks, layout.block_of)
        return Point(options, branches, of_branches[:, branches].sum(1))

    def fastest(self) -> Solution:
        """The solution of least time."""
        return self.solution(self.point(_weights(TIME)))

    def solution(self, point: Point) -> Solution:
        """What a point stands for."""
        layout = self.layout
        options = (point.options - layout.members[:-1]).tolist()
        spans = list(pairwise(layout.branches.tolist()))
        choices = []
        for branch, first in zip(point.branches.tolist(), layout.blocks[:-1].tolist(), strict=True):
            begin, end = spans[branch]
            choices.append(Choice(branch - first, tuple(options[begin:end])))
        error, time, size = point.costs.tolist()
        return Solution(tuple(choices), time, error, size)


def relaxed(flat: Flat, time: float, size: float = math.inf) -> Solution | None:
    """A solution of small error within a budget of time and one of size, or None where none was found.

    Within one budget its error is no larger than that of any solution which some price makes better than all others.
    """

    def timed(weights: Floats) -> Point | None:
        return flat.point(weights) if math.isinf(time) else within(flat.point, weights, TIME, time)[0]

    weights = np.eye(3)[ERROR]
    point = timed(weights) if math.isinf(size) else within(timed, weights, SIZE, size)[0]
    return None if point is None else flat.solution(point)


def within(solve: _Solve, weights: Floats, axis: int, limit: float) -> tuple[Point | None, Floats]:
    """The point of small weighted costs whose cost along an axis is within a limit, by a price on that cost; and the weights with
    that price.
    """
    outside = solve(weights)
    priced = weights.copy()
    if outside is None or outside.costs[axis] <= limit:
        return outside, priced
    inside = solve(_weights(axis, weights))
    if inside is None or inside.costs[axis] > limit:
        return None, priced
    while (rise := float(weights @ (inside.costs - outside.costs))) > 0:
        priced[axis] = weights[axis] + rise / float(outside.costs[axis] - inside.costs[axis])
        found = solve(priced)
        if found is None or priced @ found.costs >= priced @ outside.costs - 1e-9 * rise:
            break  # nothing is below the line between both
        if found.costs[axis] <= limit:
            inside = found
        else:
            outside = found
    return inside, priced


def _weights(axis: int, others: Floats | None = None) -> Floats:
    """Those of the least cost along an axis, and of little else between equals."""
    weights = _TIE * (np.eye(3)[ERROR] if others is None else others)
    weights[axis] = 1.0
    return weights


def _starts(counts: Iterable[int]) -> _Integers:
    return np.array([0, *accumulate(counts)], np.int64)


def _first_least(values: Floats, starts: _Integers, part_of: _Integers) -> _Integers:
    """The position of the least value of every part."""
    first = starts[:-1]
    equal = np.flatnonzero(values == np.minimum.reduceat(values, first)[part_of])
    return equal[np.searchsorted(equal, first)]
