from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.search.relaxation import Flat, relaxed
from autocompress.search.solver import Block, Front, evaluate, least_error, solve_within

from .blocks import BLOCKS, SIZED, budgets_of, everything, random_layers


def hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners that some price makes better than all others, by time: the lower left of the convex hull."""
    corners: list[tuple[float, float]] = []
    for time, error in sorted(points):
        if corners and error >= corners[-1][1]:
            continue
        while len(corners) > 1:
            (t0, e0), (t1, e1) = corners[-2:]
            if (e1 - e0) * (time - t0) < (error - e0) * (t1 - t0) - 1e-6:
                break
            corners.pop()
        corners.append((time, error))
    return corners


@given(BLOCKS, st.floats(-0.1, 1.2))
@settings(max_examples=200, deadline=None)
def test_as_good_as_the_best_price(blocks: list[Block], share: float) -> None:
    known = everything(blocks)
    fastest, slowest = min(s.time for s in known), max(s.time for s in known)
    budget = fastest + share * (slowest - fastest)
    found = relaxed(Flat.of(blocks), budget + 1e-9)
    if found is None:
        assert budget < fastest + 1e-6
        return
    assert found.time <= budget + 1e-6 and found == evaluate(blocks, found.choices)
    reachable = [error for time, error in hull([(s.time, s.error) for s in known]) if time <= budget]
    assert found.error <= min(reachable, default=math.inf) + 1e-5
    assert found.error >= min(s.error for s in known if s.time <= budget + 1e-6) - 1e-9


@given(SIZED, st.floats(0.0, 1.2), st.floats(0.0, 1.2))
@settings(max_examples=100, deadline=None)
def test_keeps_to_both_budgets(blocks: list[Block], time_share: float, size_share: float) -> None:
    known = everything(blocks)
    times, sizes = sorted(s.time for s in known), sorted(s.size for s in known)
    time, size = times[0] + time_share * (times[-1] - times[0]) + 1e-6, sizes[0] + size_share * (sizes[-1] - sizes[0])
    within = [s.error for s in known if s.time <= time and s.size <= size]
    found = relaxed(Flat.of(blocks), time, size)
    if found is None:
        # Prices leave gaps, but not where the smallest solution is fast enough.
        assert min((s for s in known), key=lambda s: (s.size, s.time)).time > time - 2e-6
    else:
        assert found.time <= time + 1e-6 and found.size <= size + 1e-6
        assert found.error >= min(within) - 1e-9


def test_without_limits_each_chooses_the_least_error() -> None:
    blocks = random_layers(0, 5, 6)
    assert relaxed(Flat.of(blocks), math.inf) == least_error(blocks)


@pytest.mark.parametrize("seed", range(3))
def test_many_layers_come_near_the_exact_solution(seed: int) -> None:
    blocks = random_layers(seed)
    for time in budgets_of(blocks):
        exact = Front(blocks, time, 10_000).solve(time)
        found = relaxed(Flat.of(blocks), time)
        assert found is not None and found.time <= time
        assert found.error <= 1.1 * exact.error
        both = solve_within(blocks, time, 0.8 * exact.size)
        sized = relaxed(Flat.of(blocks), time, 0.8 * exact.size)
        assert (both is None) <= (sized is None)
        if sized is not None and both is not None:
            assert sized.size <= 0.8 * exact.size and sized.error <= 1.25 * both.solution.error
