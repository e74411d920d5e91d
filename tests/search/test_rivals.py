"""SPDY's and EvoPress's searches: what holds for both, and what each is in particular."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase

from autocompress.errors import UserError
from autocompress.search.baselines import PLAIN_SOLVER, baselines
from autocompress.search.evopress import OFFSPRING, EvoPressSampler
from autocompress.search.parameters import Parameters
from autocompress.search.problem import Problem
from autocompress.search.proposing import Finished
from autocompress.search.spdy import ATTEMPTS, PATIENCE, RANDOM_DRAWS, RESAMPLED, SpdySampler
from autocompress.search.study import RIVALS, STATIC, check_sampler, enqueue_baselines, evaluated, run_trials
from autocompress.spaces.groups import Group
from autocompress.spaces.layers import Layer
from autocompress.spaces.plan import Plan

from .scoring import at_once, grown

NAMES = sorted(RIVALS)


@pytest.fixture(scope="module")
def budget(tiny_problem: Problem) -> float:
    return 0.3 * tiny_problem.latency(tiny_problem.base).ms + 0.7 * tiny_problem.fastest().ms


@pytest.fixture(scope="module")
def loss(tiny_problem: Problem) -> Callable[[Plan], float]:
    """A made-up loss: the expected one with a factor of its own for each Layer."""
    factors = {layer.name: random.Random(layer.name).uniform(0.2, 3.0) ** 3 for layer in tiny_problem.space.layers}
    return lambda plan: 1e-6 + tiny_problem.expected(plan, factors)


def begun(problem: Problem, budget: float, loss: Callable[[Plan], float]) -> list[Finished]:
    """The baselines within the budget."""
    plans = [(name, plan) for name, plan in baselines(problem, budget).items() if problem.latency.ms(plan) <= budget]
    return [Finished(number, plan, loss(plan), name, None) for number, (name, plan) in enumerate(plans)]


@pytest.mark.parametrize("name", NAMES)
def test_proposals_are_within_the_budget_consistent_and_new(
    tiny_problem: Problem, budget: float, loss: Callable[[Plan], float], name: str
) -> None:
    start = begun(tiny_problem, budget, loss)
    history = grown(RIVALS[name](tiny_problem, budget, 0), start, loss, 36)
    for one in history[len(start) :]:
        assert tiny_problem.latency.ms(one.plan) <= budget
        assert tiny_problem.space.consistent(dict(one.plan)) == one.plan
    assert len({one.plan for one in history[len(start) :]}) > 12
    assert min(one.loss for one in history) < min(one.loss for one in start), "it improves on the baselines"


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(tiny_problem: Problem, budget: float, loss: Callable[[Plan], float], name: str) -> None:
    start = begun(tiny_problem, budget, loss)
    once, again = ([one.plan for one in grown(RIVALS[name](tiny_problem, budget, 0), start, loss, 6)] for _ in range(2))
    other = [one.plan for one in grown(RIVALS[name](tiny_problem, budget, 1), start, loss, 6, seed=1)]
    assert once == again and once != other


@pytest.mark.parametrize("name", NAMES)
def test_a_study_in_pieces_goes_on_as_a_whole_one(
    tiny_problem: Problem, budget: float, loss: Callable[[Plan], float], name: str
) -> None:
    """Longer than the random draws and a generation; a trial that was killed stands between the pieces."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plans = {title: Parameters(tiny_problem.space).of(plan) for title, plan in baselines(tiny_problem, budget).items()}
    count = len(plans) + OFFSPRING + 4
    runs = []
    for pieces in ((count,), (5, len(plans) + 3, len(plans) + RANDOM_DRAWS + 1, count)):
        study = optuna.create_study()
        enqueue_baselines(study, plans)
        for trials in pieces:
            run_trials(study, tiny_problem, at_once(loss), name, budget, trials, None, 3, lambda done, total, what: None)
            if trials != count:
                study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
                enqueue_baselines(study, plans)
        runs.append([trial.plan for trial in evaluated(study, tiny_problem) if trial.baseline is None])
    assert runs[0] == runs[1] and len(runs[0]) == OFFSPRING + 4


@pytest.mark.parametrize("name", NAMES)
def test_without_a_budget_it_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"sampler {name} searches within a budget: add --budget, or .*; or use one of ours, tpe"):
        check_sampler(name, False)
    check_sampler(name, True)


def coefficients(one: Finished) -> list[float]:
    assert one.note is not None
    value: list[float] = json.loads(one.note)
    return value


def test_spdy_draws_all_coefficients_first_and_few_of_the_best_later(
    tiny_problem: Problem, budget: float, loss: Callable[[Plan], float]
) -> None:
    start = begun(tiny_problem, budget, loss)
    history = grown(SpdySampler(tiny_problem, budget, 0), start, loss, RANDOM_DRAWS + 12)
    draws = history[len(start) :]
    first = [coefficients(one) for one in draws[:RANDOM_DRAWS]]
    assert all(0 <= value <= 1 for draw in first for value in draw)
    assert len({value for draw in first for value in draw}) == RANDOM_DRAWS * len(tiny_problem.space.layers)
    count = max(1, round(RESAMPLED * len(tiny_problem.space.layers)))
    for number in range(RANDOM_DRAWS, len(draws)):
        before = history[: len(start) + number]
        solved = [one for one in before if one.note is not None or one.baseline == PLAIN_SOLVER]
        best = min(solved, key=lambda one: (one.loss, one.number))
        parent = [1.0] * len(tiny_problem.space.layers) if best.note is None else coefficients(best)
        changed = sum(ours != theirs for ours, theirs in zip(coefficients(draws[number]), parent, strict=True))
        assert 0 <= changed <= count + ATTEMPTS - 1


def test_spdy_solves_the_knapsack_under_its_note(tiny_problem: Problem, budget: float, loss: Callable[[Plan], float]) -> None:
    layers = [layer.name for layer in tiny_problem.space.layers]
    for one in grown(SpdySampler(tiny_problem, budget, 0), [], loss, 3):
        solved = tiny_problem.solve(budget, dict(zip(layers, coefficients(one), strict=True)), steps=10_000)
        assert solved is not None
        told = tiny_problem.expected(one.plan, dict(zip(layers, coefficients(one), strict=True)))
        assert told == pytest.approx(solved.expected, rel=1e-3)


def test_spdy_draws_fewer_coefficients_when_it_misses(tiny_problem: Problem, budget: float) -> None:
    sampler = SpdySampler(tiny_problem, budget, 0)
    count = len(tiny_problem.space.layers)
    plan, note = tiny_problem.base, json.dumps([0.5] * count)
    hits = [Finished(0, plan, 1.0, None, note)]
    misses = [Finished(number, plan, 2.0, None, note) for number in range(1, RANDOM_DRAWS + PATIENCE)]
    first = max(1, round(RESAMPLED * count))
    assert sampler._state(hits).count is None
    assert sampler._state(hits + misses[: RANDOM_DRAWS - 1]).count == first
    assert sampler._state(hits + misses[:-1]).count == first
    assert sampler._state(hits + misses).count == (first - 1 or first)


def test_evopress_keeps_a_parent_for_a_generation(tiny_problem: Problem, budget: float, loss: Callable[[Plan], float]) -> None:
    sampler = EvoPressSampler(tiny_problem, budget, 0)
    start = begun(tiny_problem, budget, loss)
    best = min(start, key=lambda one: one.loss).plan
    history = grown(sampler, start, loss, OFFSPRING)
    for number in range(OFFSPRING):
        assert sampler._parent(history[: len(start) + number]) == best
    assert sampler._parent(history) == min(history, key=lambda one: (one.loss, one.number)).plan
    over = Finished(99, tiny_problem.base, 0.0, PLAIN_SOLVER, None)
    assert tiny_problem.latency.ms(over.plan) > budget
    assert sampler._parent([*start, over]) == best, "a plan beyond the budget has no offspring"


def test_evopress_steps_are_by_one_level_and_reach_all(tiny_problem: Problem, budget: float) -> None:
    """Down and up again from the dense network; Groups lose channels on the way."""
    sampler = EvoPressSampler(tiny_problem, budget, 0)
    for unit in sampler._units:
        plan = tiny_problem.base
        steps = 0
        while (faster := sampler._step(plan, unit, -1)) != plan:
            assert tiny_problem.space.consistent(dict(faster)) == faster
            plan, steps = faster, steps + 1
        while (slower := sampler._step(plan, unit, 1)) != plan:
            plan, steps = slower, steps - 1
        assert steps <= 0
    shares = {option.sparsity for unit in sampler._units for option in _down(sampler, unit, tiny_problem.base).values()}
    assert max(shares) >= 0.75 and len(sampler._units) == len(tiny_problem.space.layers) + len(tiny_problem.space.groups)


def _down(sampler: EvoPressSampler, unit: Layer | Group, plan: Plan) -> Plan:
    while (faster := sampler._step(plan, unit, -1)) != plan:
        plan = faster
    return plan


@pytest.mark.parametrize("name", STATIC)
def test_samplers_that_learn_from_common_parameters_have_all_of_them(
    tiny_problem: Problem, budget: float, loss: Callable[[Plan], float], name: str
) -> None:
    """Sparsity too: with `LAYER.sparsity` asked only where something is removed they would draw it at random."""
    study = optuna.create_study()
    run_trials(study, tiny_problem, at_once(loss), name, budget, 3, None, 0, lambda done, total, what: None)
    for trial in study.get_trials(deepcopy=False):
        assert set(trial.params) == set(Parameters(tiny_problem.space).distributions)


@pytest.fixture(params=NAMES)
def rival(request: pytest.FixtureRequest, tiny_problem: Problem, budget: float) -> Callable[[], BaseSampler]:
    return lambda: RIVALS[request.param](tiny_problem, budget, 0)


class Conformance:
    """Optuna's own conformance tests."""

    @pytest.fixture
    def sampler(self, rival: Callable[[], BaseSampler]) -> Callable[[], BaseSampler]:
        return rival


class TestBasic(Conformance, BasicSamplerTestCase):
    """Parameters that are none of the Space's are sampled at random."""


class TestRelative(Conformance):
    test_trial_relative_params = RelativeSamplerTestCase.test_trial_relative_params
