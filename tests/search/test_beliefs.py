from __future__ import annotations

import numpy as np
import pytest

from autocompress.search.beliefs import LEAST, MOST, SPREADS, Comparisons, believe
from autocompress.search.problem import Problem
from autocompress.spaces.plan import Plan


@pytest.fixture(scope="module")
def factors(tiny_problem: Problem) -> dict[str, float]:
    """What the coefficients really are."""
    rng = np.random.default_rng(0)
    return {layer.name: float(rng.uniform(0.3, 3.0)) for layer in tiny_problem.space.layers}


def swaps(problem: Problem, factors: dict[str, float], count: int) -> list[tuple[Plan, float]]:
    """Plans that differ from an earlier one in one Layer, with losses that are additive."""
    rng = np.random.default_rng(1)
    plans = [problem.base]
    names = [layer.name for layer in problem.space.layers]
    while len(plans) < count:
        name = names[int(rng.integers(len(names)))]
        options = [option for option in problem.space.options[name] if option.structure != "channel"]
        plans.append(plans[int(rng.integers(len(plans)))].replace({name: options[int(rng.integers(len(options)))]}))
    return [(plan, 1e-6 + problem.expected(plan, factors)) for plan in plans]


def test_without_losses_every_coefficient_is_one(tiny_problem: Problem) -> None:
    beliefs = believe(tiny_problem, [])
    assert set(beliefs.expected().values()) == {1.0} and beliefs.common == 1.0
    drawn = np.array([list(beliefs.draw(np.random.default_rng(seed)).values()) for seed in range(200)])
    assert drawn.std() == pytest.approx(SPREADS[0], rel=0.2)


def test_coefficients_are_learned_from_plans_that_differ_little(tiny_problem: Problem, factors: dict[str, float]) -> None:
    beliefs = believe(tiny_problem, swaps(tiny_problem, factors, 150))
    learned = np.array([beliefs.expected()[name] * beliefs.common for name in factors])
    real = np.array(list(factors.values()))
    assert np.abs(np.log(learned / real)).mean() < 0.5 * np.abs(np.log(real)).mean()


def test_losses_narrow_what_is_drawn(tiny_problem: Problem, factors: dict[str, float]) -> None:
    few, many = (believe(tiny_problem, swaps(tiny_problem, factors, count)) for count in (5, 150))
    spread = [np.sqrt(np.square(beliefs.spread).sum(1)).mean() for beliefs in (few, many)]
    assert spread[1] < 0.8 * spread[0]


def test_drawn_coefficients_are_bounded(tiny_problem: Problem) -> None:
    drawn = believe(tiny_problem, []).draw(np.random.default_rng(0), 1e3)
    assert set(drawn.values()) == {LEAST, MOST}


def test_equal_plans_and_losses_are_no_trouble(tiny_problem: Problem) -> None:
    beliefs = believe(tiny_problem, [(tiny_problem.base, 0.1)] * 3)
    assert np.isfinite(list(beliefs.expected().values())).all()
    assert np.isfinite(beliefs.spread).all()


def test_what_was_compared_before_changes_nothing(tiny_problem: Problem, factors: dict[str, float]) -> None:
    """Of a history that goes on, that is cut off, and in which a trial appears later than others that began after it."""
    history = swaps(tiny_problem, factors, 60)
    compared = Comparisons(tiny_problem)
    for seen in (history[:1], history[:20], history[:45], history[:30], [*history[:10], *history[12:40], history[10]], history):
        remembered, anew = believe(tiny_problem, seen, compared), believe(tiny_problem, seen)
        assert np.array_equal(remembered.mean, anew.mean) and np.array_equal(remembered.spread, anew.spread)


def test_a_table_that_tells_the_losses_is_trusted(tiny_problem: Problem, factors: dict[str, float]) -> None:
    right = dict.fromkeys(factors, 1.0)
    trusted, doubted = (believe(tiny_problem, swaps(tiny_problem, each, 60)) for each in (right, factors))
    spreads = [np.sqrt(np.square(beliefs.spread).sum(1)).max() for beliefs in (trusted, doubted)]
    assert spreads[0] <= min(SPREADS) + 1e-9 < spreads[1]
