"""Core: the exact knapsack over time, of those choices alone that may be in its solution.

A price on time bounds the errors of all solutions from below (Lagrangian relaxation), and gives one that keeps the budget.
Choices that lift the bound above that one's error are in no better solution, so they are left out (multiple-choice knapsack
reduction: Dyer, Kayal and Walker, Mathematical Programming 29, 1984; Pisinger, European J. of Operational Research 83, 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .relaxation import ERROR, TIME, Flat, Layout, within
from .solver import Choice, Floats, Front, Solution


def solve_core(flat: Flat, time: float, steps: int) -> Solution | None:
    """The solution of least error within a budget of time, or None where there is none.

    Args:
        steps: resolution, as in `Front`; what is left out no longer takes part in it.
    """
    point, weights = within(flat.point, np.eye(3)[ERROR], TIME, time)
    if point is None:
        return None
    known = flat.solution(point)
    if math.isinf(time):
        return known
    least, priced = float(weights @ flat.point(weights).costs), float(weights[TIME]) * time
    core = _Core.of(flat, weights, known.error - (least - priced) + 1e-9 * (abs(least) + abs(priced)))
    found = core.whole(Front(core.flat.blocks(), time, steps).solve(time))
    assert found.time <= time + 1e-9 * max(1.0, abs(time)), (found, time)
    return min(found, known, key=lambda solution: solution.error)


@dataclass(frozen=True)
class _Core:
    """Some branches and options of a Flat, as a Flat of their own.

    Attributes:
        layout: of the whole.
        branches, options: the numbers that they have in the whole.
    """

    layout: Layout
    flat: Flat
    branches: npt.NDArray[np.int64]
    options: npt.NDArray[np.int64]

    @classmethod
    def of(cls, flat: Flat, weights: Floats, gap: float) -> _Core:
        """The choices with which the weighted costs can be within a gap, of zero or more, of the least ones."""
        layout = flat.layout
        values = weights @ flat.costs
        members = np.minimum.reduceat(values, layout.members[:-1])
        branches = np.add.reduceat(members, layout.branches[:-1]) + weights @ flat.fixed
        lifts = branches - np.minimum.reduceat(branches, layout.blocks[:-1])[layout.block_of]
        # A member's best option lifts the costs exactly as much as its branch does: no member is left without one.
        lifts_of_options = values - members[layout.member_of] + np.repeat(lifts, np.diff(layout.branches))[layout.member_of]
        kept, options = np.flatnonzero(lifts <= gap), np.flatnonzero(lifts_of_options <= gap)
        counts = np.bincount(layout.member_of[options], minlength=len(members)).tolist()
        starts = layout.branches.tolist()
        blocks: list[list[list[int]]] = [[] for _ in layout.blocks[:-1]]
        for branch, block in zip(kept.tolist(), layout.block_of[kept].tolist(), strict=True):
            blocks[block].append(counts[starts[branch] : starts[branch + 1]])
        return cls(layout, Flat(Layout(blocks), flat.costs[:, options], flat.fixed[:, kept]), kept, options)

    def whole(self, solution: Solution) -> Solution:
        """A solution of the core, in the numbers of the whole."""
        numbers = (self.options - self.layout.members[self.layout.member_of[self.options]]).tolist()
        branches = (self.branches - self.layout.blocks[self.layout.block_of[self.branches]]).tolist()
        own = self.flat.layout
        choices = []
        for first, choice in zip(own.blocks[:-1].tolist(), solution.choices, strict=True):
            branch = first + choice.branch
            members = own.members[own.branches[branch] : own.branches[branch + 1]].tolist()
            options = [numbers[start + option] for start, option in zip(members, choice.options, strict=True)]
            choices.append(Choice(branches[branch], tuple(options)))
        return replace(solution, choices=tuple(choices))
