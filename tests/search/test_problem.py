from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from autocompress.errors import UserError
from autocompress.search.problem import Problem
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan


def test_nothing_is_faster_than_the_fastest(tiny_problem: Problem, random_plan: Callable[[int], Plan]) -> None:
    fastest, space = tiny_problem.fastest(), tiny_problem.space
    assert tiny_problem.latency(fastest.plan).ms == fastest.ms
    assert space.consistent(dict(fastest.plan)) == fastest.plan
    rivals = [random_plan(seed) for seed in range(300)]
    rivals += [
        space.consistent(dict(space.uniform(Option("channel", share, bits)))) for share in (0.5, 0.75) for bits in (32, 16, 8)
    ]
    assert fastest.ms <= min(tiny_problem.latency(plan).ms for plan in rivals)


def test_every_possible_budget_is_met(tiny_problem: Problem) -> None:
    fastest, dense = tiny_problem.fastest().ms, tiny_problem.latency(tiny_problem.base).ms
    for budget in np.linspace(fastest, dense, 12):
        found = tiny_problem.solve(float(budget))
        assert found is not None and found.ms <= budget
        assert tiny_problem.latency(found.plan).ms == found.ms
        assert tiny_problem.expected(found.plan) == pytest.approx(found.expected)
        assert tiny_problem.space.consistent(dict(found.plan)) == found.plan
        tiny_problem.check_budget(float(budget), "pixel7")
    assert tiny_problem.solve(0.99 * fastest) is None


def test_an_impossible_budget_is_refused_with_one_that_works(tiny_problem: Problem) -> None:
    with pytest.raises(UserError, match=r"fastest possible on pixel7 is .* \(modelled\), held by .*; asked for 0\.01 ms") as told:
        tiny_problem.check_budget(0.01, "pixel7")
    suggested = float(str(told.value).rpartition("--budget ")[2].removesuffix("ms."))
    tiny_problem.check_budget(suggested, "pixel7")


def test_near_a_budget_is_about_what_it_allows(tiny_problem: Problem) -> None:
    fastest, dense = tiny_problem.fastest().ms, tiny_problem.latency(tiny_problem.base).ms
    coefficients = {layer.name: 1.0 for layer in tiny_problem.space.layers}
    for budget in np.linspace(1.1 * fastest, 0.95 * dense, 8):
        plan = tiny_problem.near(float(budget), coefficients, tiny_problem.base)
        assert tiny_problem.space.consistent(dict(plan)) == plan
        # Prices leave, or exceed a budget by, what no choice of a tiny network is worth.
        assert tiny_problem.latency.ms(plan) == pytest.approx(float(budget), rel=0.1)
        # It is as good as the solution from the same Plan for a budget that is less by as much.
        less = tiny_problem.solve(0.9 * float(budget), start=tiny_problem.base)
        assert less is None or tiny_problem.expected(plan) <= 1.01 * less.expected
