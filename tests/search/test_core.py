from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.search.core import solve_core
from autocompress.search.relaxation import Flat
from autocompress.search.solver import Block, Front, evaluate, least_error

from .blocks import BLOCKS, budgets_of, everything, random_layers


@given(BLOCKS, st.floats(-0.1, 1.2), st.integers(1, 2000))
@settings(max_examples=300, deadline=None)
def test_keeps_the_budget_and_is_optimal_up_to_rounding(blocks: list[Block], share: float, steps: int) -> None:
    known = everything(blocks)
    fastest, slowest = min(s.time for s in known), max(s.time for s in known)
    budget = fastest + share * (slowest - fastest) + 1e-9
    found = solve_core(Flat.of(blocks), budget, steps)
    if found is None:
        assert budget < fastest + 1e-6
        return
    again = evaluate(blocks, found.choices)
    assert found.time == pytest.approx(again.time) and found.error == pytest.approx(again.error)
    assert again.time <= budget + 1e-9
    assert again.error >= min(s.error for s in known if s.time <= budget + 1e-6) - 1e-9
    # Every member's time may be rounded up by one step, of the whole excess at most.
    members = sum(max(len(branch.times) for branch in block.branches) + 1 for block in blocks)
    surely = budget - members * (budget - fastest) / steps
    assert again.error <= min((s.error for s in known if s.time <= surely), default=math.inf) + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_many_layers_are_no_worse_than_with_all_choices(seed: int) -> None:
    blocks = random_layers(seed)
    for time in budgets_of(blocks):
        every = Front(blocks, time, 10_000).solve(time)
        found = solve_core(Flat.of(blocks), time, 10_000)
        assert found is not None and found.time <= time
        assert found.error <= 1.0001 * every.error


@pytest.mark.parametrize("seed", range(20))
def test_a_budget_of_exactly_the_fastest_is_met(seed: int) -> None:
    flat = Flat.of(random_layers(seed))
    budget = flat.fastest().time
    found = solve_core(flat, budget, 2000)
    assert found is not None and found.time == pytest.approx(budget)


def test_of_equal_errors_the_fastest_is_taken() -> None:
    blocks = random_layers(0, 5, 6)
    flat = Flat.of(blocks)
    flat.costs[0] = 1.0
    found = solve_core(flat, 1e6, 2000)
    assert found is not None and found.time == pytest.approx(sum(block.fastest for block in blocks))


def test_without_a_budget_each_chooses_the_least_error() -> None:
    blocks = random_layers(0, 5, 6)
    assert solve_core(Flat.of(blocks), math.inf, 2000) == least_error(blocks)
