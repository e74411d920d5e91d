from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autocompress.search.solver import Block, Branch, Choice, Front, Solution, evaluate, least_error, solve_within

from .blocks import BLOCKS, SIZED, everything, random_layers


def decisions(blocks: list[Block]) -> int:
    """Most roundings in one solution: one for each member, and one for each branch."""
    return sum(1 + max(len(branch.times) for branch in block.branches) for block in blocks)


@given(BLOCKS, st.floats(0.0, 1.2), st.integers(5, 300))
@settings(max_examples=150, deadline=None)
def test_never_exceeds_the_budget_and_is_optimal_up_to_rounding(blocks: list[Block], share: float, steps: int) -> None:
    known = everything(blocks)
    fastest, slowest = min(s.time for s in known), max(s.time for s in known)
    budget = fastest + share * (slowest - fastest) + 1e-9
    front = Front(blocks, budget, steps)
    found = front.solve(budget)
    assert front.fastest == pytest.approx(fastest)
    assert found.time <= budget + 1e-9 * max(1.0, abs(budget))
    slack = decisions(blocks) * (budget - fastest) / steps
    reachable = [s.error for s in known if s.time <= budget - slack]
    assert found.error <= min(reachable, default=np.inf) + 1e-9
    assert found.error >= min(s.error for s in known if s.time <= budget + 1e-9) - 1e-9


@given(BLOCKS)
@settings(max_examples=60, deadline=None)
def test_sums_are_those_of_the_choices(blocks: list[Block]) -> None:
    budget = max(s.time for s in everything(blocks)) + 1.0
    for found in Front(blocks, budget, 50).solutions():
        time = error = 0.0
        for block, choice in zip(blocks, found.choices, strict=True):
            branch = block.branches[choice.branch]
            time, error = time + branch.time, error + branch.error
            for times, errors, option in zip(branch.times, branch.errors, choice.options, strict=True):
                time, error = time + times[option], error + errors[option]
        assert (found.time, found.error) == pytest.approx((time, error))


@given(BLOCKS, st.integers(20, 200))
@settings(max_examples=60, deadline=None)
def test_the_whole_front_trades_time_for_error(blocks: list[Block], steps: int) -> None:
    known = everything(blocks)
    # Room for the slowest solution with every decision's time rounded up.
    slowest, fastest = max(s.time for s in known), sum(block.fastest for block in blocks)
    budget = slowest + (slowest - fastest + 1.0) * decisions(blocks) / (steps - decisions(blocks))
    front = Front(blocks, budget, steps)
    solutions = front.solutions()
    times, errors = front.curve()
    assert len(solutions) == len(times) == len(errors) >= 1
    assert np.all(np.diff(times) > 0) and np.all(np.diff(errors) < 0)
    for solution, time, error in zip(solutions, times, errors, strict=True):
        assert solution.time <= time + 1e-9 * max(1.0, abs(time))
        assert solution.error == pytest.approx(error)
    assert solutions[-1].error == pytest.approx(min(s.error for s in known))
    # With room for the slack of rounding, nothing dominates a point by more than that.
    slack = decisions(blocks) * (budget - front.fastest) / steps
    for solution in solutions:
        assert not any(s.time <= solution.time - slack - 1e-9 and s.error < solution.error - 1e-9 for s in known)


@given(BLOCKS)
@settings(max_examples=60, deadline=None)
def test_a_budget_without_slack_gives_the_fastest(blocks: list[Block]) -> None:
    front = Front(blocks, sum(block.fastest for block in blocks), 100)
    found = front.solve(front.fastest)
    known = everything(blocks)
    assert found.time == pytest.approx(min(s.time for s in known), abs=1e-9)
    # Of equally fast solutions, the one of least error.
    assert found.error <= min(s.error for s in known if s.time <= found.time) + 1e-9


@given(BLOCKS, st.floats(0.001, 10.0))
@settings(max_examples=40, deadline=None)
def test_an_infeasible_budget_is_refused(blocks: list[Block], missing: float) -> None:
    fastest = sum(block.fastest for block in blocks)
    assume(fastest - missing < fastest)
    with pytest.raises(ValueError, match="fastest solution takes"):
        Front(blocks, fastest - missing)
    with pytest.raises(ValueError, match="fastest solution takes"):
        Front(blocks, fastest + 1.0).solve(fastest - missing)


def test_a_branch_that_saves_time_elsewhere_pays_for_a_slower_option() -> None:
    whole = Branch((np.array([3.0, 9.0]),), (np.array([5.0, 0.0]),))
    fewer = Branch((np.array([2.0]),), (np.array([1.0]),), time=-4.0, error=0.5)
    blocks = [Block((whole, fewer)), Block((Branch((np.array([1.0, 6.0]),), (np.array([4.0, 0.0]),)),))]
    found = Front(blocks, 5.0, 1000).solve(5.0)
    assert found == Solution((Choice(1, (0,)), Choice(0, (1,))), 4.0, 1.5)


def test_one_pass_answers_every_smaller_budget() -> None:
    generator = np.random.default_rng(0)
    blocks = [Block((Branch((generator.uniform(1, 9, 6),), (generator.uniform(0, 1, 6),)),)) for _ in range(4)]
    known = everything(blocks)
    front = Front(blocks, max(s.time for s in known), 20_000)
    for budget in np.linspace(front.fastest, max(s.time for s in known), 15):
        best = min(s.error for s in known if s.time <= budget + 1e-9)
        assert front.solve(budget).time <= budget + 1e-9
        assert front.solve(budget).error == pytest.approx(best, abs=0.02)


@given(SIZED, st.floats(0.0, 1.2), st.floats(-0.1, 1.1), st.integers(20, 300))
@settings(max_examples=250, deadline=None)
def test_two_budgets_are_never_exceeded_and_refused_only_where_nothing_fits(
    blocks: list[Block], time_share: float, size_share: float, steps: int
) -> None:
    known = everything(blocks)
    fastest, slowest = min(s.time for s in known), max(s.time for s in known)
    smallest, largest = min(s.size for s in known), max(s.size for s in known)
    time, size = fastest + time_share * (slowest - fastest) + 1e-9, smallest + size_share * (largest - smallest)
    inside = [s.error for s in known if s.time <= time + 1e-9 and s.size <= size]
    surely = [s.error for s in known if s.time <= time - decisions(blocks) * (time - fastest) / steps and s.size <= size]
    found = solve_within(blocks, time, size, steps)
    if not inside:
        assert found is None
        return
    if found is None:
        assert not surely
        return
    solution = found.solution
    assert solution == evaluate(blocks, solution.choices)
    assert solution.time <= time + 1e-9 * max(1.0, abs(time)) and solution.size <= size
    assert solution.error >= min(inside) - 1e-9
    assert found.bound <= min(surely, default=np.inf) + 1e-9


@given(SIZED, st.just(0.0) | st.floats(1e-6, 1.0), st.integers(20, 300))
@settings(max_examples=100, deadline=None)
def test_a_size_alone_is_a_knapsack_of_its_own(blocks: list[Block], share: float, steps: int) -> None:
    known = everything(blocks)
    smallest, largest = min(s.size for s in known), max(s.size for s in known)
    size = smallest + share * (largest - smallest)
    found = solve_within(blocks, np.inf, size, steps)
    assert found is not None and found.solution.size <= size
    slack = decisions(blocks) * (size - smallest) / steps
    assert found.solution.error <= min((s.error for s in known if s.size <= size - slack), default=np.inf) + 1e-9
    assert solve_within(blocks, np.inf, smallest - 0.5, steps) is None
    assert least_error(blocks).error == pytest.approx(min(s.error for s in known))


@pytest.mark.parametrize("seed", range(3))
def test_many_layers_come_near_the_bound(seed: int) -> None:
    blocks = random_layers(seed)
    time = sum(block.fastest for block in blocks) + 1000.0
    free = evaluate(blocks, Front(blocks, time, 2000).solve(time).choices)
    last = free.error
    multiplier = 0.0
    for share in (0.9, 0.7, 0.5, 0.35):
        found = solve_within(blocks, time, share * free.size, 2000, hint=multiplier, enough=0.005)
        assert found is not None and found.solution.size <= share * free.size and found.solution.time <= time
        assert found.solution.error <= 1.1 * found.bound
        assert found.solution.error >= last, "a smaller network loses no less"
        last, multiplier = found.bound, found.multiplier
    assert multiplier > 0


def test_what_a_multiplier_leaves_is_spent() -> None:
    """No multiplier chooses the middle option, which is above the line between the others."""
    blocks = [Block((Branch((np.zeros(3),), (np.array([4.0, 3.0, 0.0]),), sizes=(np.array([0.0, 5.0, 10.0]),)),))]
    found = solve_within(blocks, 1.0, 6.0, 10)
    assert found is not None and found.solution == Solution((Choice(0, (1,)),), 0.0, 3.0, 5.0)
    assert found.bound == pytest.approx(1.6) and found.multiplier == pytest.approx(0.4)
