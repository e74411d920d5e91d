from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from autocompress.api import Prepared
from autocompress.search.parameters import Parameters
from autocompress.search.problem import Problem
from autocompress.search.proposing import Finished
from autocompress.search.sampler import REDRAWN, SOLVES, PlanSampler
from autocompress.search.study import run_trials
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan

from .scoring import at_once, grown

#: A short history, before solutions repeat.
FIRST = 12


@pytest.fixture(scope="module")
def budget(tiny_problem: Problem) -> float:
    """Between the fastest Plan and the dense one."""
    return 0.6 * tiny_problem.latency(tiny_problem.base).ms + 0.4 * tiny_problem.fastest().ms


@pytest.fixture(scope="module")
def loss(tiny_problem: Problem) -> Callable[[Plan], float]:
    """A made-up loss: the expected one with a factor of its own for each Layer."""
    factors = {layer.name: random.Random(layer.name).uniform(0.5, 2.0) for layer in tiny_problem.space.layers}
    return lambda plan: 1e-6 + tiny_problem.expected(plan, factors)


def ask(problem: Problem, budget: float, seed: int, history: list[Finished]) -> Plan:
    return PlanSampler(problem, budget, seed).next_plan(history, np.random.default_rng([seed, len(history)]))[0]


@pytest.fixture(scope="module")
def history(tiny_problem: Problem, budget: float, loss: Callable[[Plan], float]) -> list[Finished]:
    """Its own proposals, so many that swaps are among them, which come where solutions repeat."""
    return grown(PlanSampler(tiny_problem, budget, 0), [], loss, FIRST + 40)


def test_proposals_are_within_the_budget_and_consistent(tiny_problem: Problem, budget: float, history: list[Finished]) -> None:
    for one in history:
        assert tiny_problem.latency(one.plan).ms <= budget
        assert tiny_problem.space.consistent(dict(one.plan)) == one.plan


def test_no_proposal_repeats(history: list[Finished]) -> None:
    assert len({one.plan for one in history}) == len(history)


def test_a_repeat_is_proposed_only_where_nothing_else_fits(tiny_problem: Problem, loss: Callable[[Plan], float]) -> None:
    fastest = tiny_problem.fastest()
    for one in grown(PlanSampler(tiny_problem, fastest.ms, 0), [], loss, 4):
        assert tiny_problem.latency(one.plan).ms <= fastest.ms


def test_later_trials_improve_on_the_first(history: list[Finished]) -> None:
    first = min(one.loss for one in history[:FIRST])
    assert min(one.loss for one in history) <= first


def test_about_half_of_the_solutions_keep_most_coefficients_of_the_best(
    tiny_problem: Problem, budget: float, history: list[Finished]
) -> None:
    names = [layer.name for layer in tiny_problem.space.layers]
    near, solutions, equal = 0, 0, 0
    for number, one in enumerate(history):
        before = [other for other in history[:number] if other.note is not None]
        if one.note is None or not before:
            continue
        best = min(before, key=lambda other: other.loss)
        solutions += 1
        own, others = (json.loads(note) for note in (one.note, best.note or ""))
        if sum([a == b for a, b in zip(own, others, strict=True)]) >= len(names) - REDRAWN * len(names) - SOLVES:
            near += 1
            solved = tiny_problem.solve(budget, dict(zip(names, own, strict=True)), start=best.plan)
            equal += solved is not None and solved.plan == one.plan
    assert 0.2 * solutions < near < 0.8 * solutions
    assert equal >= 0.8 * near, "the others are within a smaller budget"


def test_the_same_history_and_seed_give_the_same_proposal(tiny_problem: Problem, budget: float, history: list[Finished]) -> None:
    for length in (0, 7, FIRST, FIRST + 20):
        part = history[:length]
        again = ask(tiny_problem, budget, 0, part)
        assert again == ask(tiny_problem, budget, 0, part)
        assert again == history[length].plan, "a sampler made anew goes on as the old one did"
    proposals = {ask(tiny_problem, budget, seed, history[:7]) for seed in range(6)}
    assert len(proposals) > 1, "the seed changes nothing"


def test_without_a_budget_latencies_spread(tiny_problem: Problem) -> None:
    plans = [one.plan for one in grown(PlanSampler(tiny_problem, None, 0), [], lambda plan: 0.1, 12)]
    times = [tiny_problem.latency(plan).ms for plan in plans]
    fastest, dense = tiny_problem.fastest().ms, tiny_problem.latency(tiny_problem.base).ms
    assert max(times) - min(times) > 0.4 * (dense - fastest)
    assert all(tiny_problem.space.consistent(dict(plan)) == plan for plan in plans)


def make_study(budget: float | None = 1.0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=["minimize"] * (1 if budget is not None else 2))


def search(
    study: optuna.Study, problem: Problem, loss: Callable[[Plan], float], budget: float, trials: int
) -> list[dict[str, Any]]:
    run_trials(study, problem, at_once(loss), "ours", budget, trials, None, 3, lambda done, total, what: None)
    return [trial.params for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def test_a_resumed_study_goes_on_as_an_uninterrupted_one(
    tiny_problem: Problem, budget: float, loss: Callable[[Plan], float]
) -> None:
    whole, parts = make_study(), make_study()
    expected = search(whole, tiny_problem, loss, budget, 12)
    search(parts, tiny_problem, loss, budget, 5)

    def killed(plan: Plan) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(parts, tiny_problem, killed, budget, 12)
    assert parts.get_trials(deepcopy=False)[-1].state.name == "FAIL"
    assert search(parts, tiny_problem, loss, budget, 12) == expected


def test_trials_of_another_program_are_ignored(tiny_problem: Problem, budget: float, loss: Callable[[Plan], float]) -> None:
    study = make_study()
    study.add_trial(
        optuna.create_trial(params={"lr": 0.1}, distributions={"lr": optuna.distributions.FloatDistribution(0, 1)}, value=-5.0)
    )
    ours = search(study, tiny_problem, loss, budget, 5)[1:]
    plans = [Parameters(tiny_problem.space).plan_of(parameters) for parameters in ours]
    assert len(plans) == 4 and None not in plans
    assert all(plan is not None and tiny_problem.latency(plan).ms <= budget for plan in plans)


def test_one_option_moves_its_whole_group(tiny_problem: Problem) -> None:
    """4 bit and 32 bit members among them, for which not every channel option is offered."""
    space = tiny_problem.space
    group = next(group for group in space.groups if len(group.producers) > 1)
    moved = 0
    for start in (space.uniform(Option("dense", 0.0, bits)) for bits in (32, 16, 8, 4)):
        for span in group.producers:
            for option in space.options[span.op]:
                plan = space.changed(start, span.op, option)
                assert space.consistent(dict(plan)) == plan
                if option.structure == "channel":
                    assert {plan[other.op].sparsity for other in group.producers} == {option.sparsity}
                    moved += 1
    assert moved > 20


class Conformance:
    """Optuna's own conformance tests, on a study with the tiny problem's sampler."""

    @pytest.fixture
    def sampler(self, tiny_problem: Problem, budget: float) -> Callable[[], BaseSampler]:
        return lambda: PlanSampler(tiny_problem, budget, 0)


class TestBasic(Conformance, BasicSamplerTestCase):
    """Parameters that are none of the Space's are sampled at random."""


class TestMultiObjective(Conformance, MultiObjectiveSamplerTestCase):
    """The same with several objectives."""


class TestRelative(Conformance):
    """The part of Optuna's relative tests that is not about numerical search spaces of its own."""

    test_trial_relative_params = RelativeSamplerTestCase.test_trial_relative_params

    def test_sample_relative_is_of_the_search_space(self, sampler: Callable[[], BaseSampler], tiny: Prepared) -> None:
        study = optuna.create_study(sampler=sampler())
        trial = study.ask()
        space = study.sampler.infer_relative_search_space(study, trial._trial if hasattr(trial, "_trial") else trial)
        assert space == Parameters(tiny.profile.space).distributions
        found = study.sampler.sample_relative(study, study.trials[0], space)
        assert set(found) <= set(space)
        assert all(space[name]._contains(space[name].to_internal_repr(value)) for name, value in found.items())
        plan = Parameters(tiny.profile.space).plan_of(found)
        assert plan is not None and Parameters(tiny.profile.space).of(plan) == found
