"""A latency budget and a largest size at once: against all Plans that there are, and through every sampler."""

from __future__ import annotations

import functools
import itertools
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autocompress.api import Prepared
from autocompress.errors import UserError
from autocompress.evaluators.error_table import ErrorTable
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.evaluators.size import size_bytes
from autocompress.kernels.table import LatencyTable
from autocompress.kernels.targets import load_target
from autocompress.search.baselines import baselines
from autocompress.search.journal import open_journal
from autocompress.search.parameters import Parameters
from autocompress.search.problem import Objective, Problem
from autocompress.search.sampler import PlanSampler
from autocompress.search.study import (
    CONSTRAINT,
    RIVALS,
    SAMPLERS,
    SIZE_CONSTRAINT,
    eligible,
    enqueue_baselines,
    evaluated,
    front,
    open_study,
    run_trials,
)
from autocompress.settings import parse_size
from autocompress.spaces.capture import capture
from autocompress.spaces.groups import find_groups
from autocompress.spaces.layers import find_layers
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.space import Space, build_space, removable

from .scoring import at_once, grown


@functools.cache
def chain() -> tuple[Space, LatencyEvaluator]:
    """Three convolutions and a linear, two Groups whose channels may be removed."""
    parts = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 8, 1)]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    network = capture(model.eval(), torch.zeros(1, 3, 16, 16))
    groups = removable(find_groups(network))
    assert len(groups) >= 2
    latency = LatencyEvaluator(network, groups, LatencyTable.for_target(load_target("pixel7"), None, 0.5))
    return build_space(find_layers(network), groups, latency.supports, latency.alone_microseconds), latency


@dataclass(frozen=True)
class Small:
    """A random Problem and all its Plans, with milliseconds and bytes."""

    space: Space
    errors: ErrorTable
    plans: tuple[tuple[Plan, float, int], ...]

    def problem(self, max_bytes: int | None) -> Problem:
        return Problem(self.space, chain()[1], self.errors, max_bytes)


@functools.lru_cache(maxsize=64)
def small(seed: int) -> Small:
    whole, latency = chain()
    chooser = random.Random(seed)
    options: dict[str, tuple[Option, ...]] = {}
    for layer in whole.layers:
        offered = list(whole.options[layer.name])
        dense = next(option for option in offered if option == Option("dense", 0.0, 8))
        options[layer.name] = (
            dense,
            *chooser.sample([o for o in offered if o != dense], min(len(offered) - 1, chooser.randint(1, 4))),
        )
    space = Space(whole.layers, whole.groups, options)
    errors = {
        name: {option: 0.0 if option.structure == "dense" else chooser.random() for option in own}
        for name, own in options.items()
    }
    problem = Problem(space, latency, ErrorTable(0.0, errors))
    choices = itertools.product(*(options[layer.name] for layer in space.layers))
    names = [layer.name for layer in space.layers]
    plans = {space.consistent(dict(zip(names, chosen, strict=True))) for chosen in choices}
    listed = tuple((plan, latency.ms(plan), problem.sizes.bytes(plan)) for plan in sorted(plans, key=lambda plan: plan.key))
    return Small(space, problem.errors, listed)


def between(values: list[float], share: float) -> float:
    return min(values) + share * (max(values) - min(values))


@given(st.integers(0, 40), st.floats(-0.1, 1.1), st.floats(-0.1, 1.1))
@settings(max_examples=40, deadline=None)
def test_small_problems_against_all_their_plans(seed: int, time_share: float, size_share: float) -> None:
    case = small(seed)
    budget = between([ms for _, ms, _ in case.plans], time_share)
    largest = int(between([size for _, _, size in case.plans], size_share))
    within = [plan for plan, ms, size in case.plans if ms <= budget and size <= largest]
    problem = case.problem(largest)
    try:
        problem.check_budget(budget, "pixel7")
    except UserError as error:
        assert not within, error
        if min(ms for _, ms, _ in case.plans) > budget:
            assert str(error).startswith("fastest possible on pixel7 is")
        elif min(size for _, _, size in case.plans) > largest:
            assert str(error).startswith("the smallest possible size is")
        else:
            assert (
                str(error).startswith("no plan is within") and "the smallest is" in str(error) and "the fastest on" in str(error)
            )
        return
    assert within, "it allows what no Plan meets"
    found = problem.solve(budget)
    assert found is not None and found.plan in within
    assert found.expected == pytest.approx(problem.expected(found.plan))
    assert found.expected >= min(problem.expected(plan) for plan in within) - 1e-9


@given(st.integers(0, 40), st.floats(0.0, 1.0))
@settings(max_examples=15, deadline=None)
def test_small_problems_with_a_size_alone(seed: int, share: float) -> None:
    case = small(seed)
    largest = math.ceil(between([float(size) for _, _, size in case.plans], share))
    within = [plan for plan, _, size in case.plans if size <= largest]
    problem = case.problem(largest)
    problem.check_budget(None, "pixel7")
    found = problem.solve(math.inf)
    assert found is not None and found.plan in within
    assert problem.sizes.bytes(problem.smallest()) == min(size for _, _, size in case.plans)


def test_solutions_are_near_the_best() -> None:
    """Over many small Problems: the gap of the multiplier is there, and small on average."""
    gaps = []
    for seed in range(30):
        case = small(seed)
        budget, largest = between([ms for _, ms, _ in case.plans], 0.5), between([s for _, _, s in case.plans], 0.4)
        problem = case.problem(int(largest))
        within = [problem.expected(plan) for plan, ms, size in case.plans if ms <= budget and size <= largest]
        found = problem.solve(budget)
        assert (found is None) == (not within)
        if found is not None:
            gaps.append(found.expected - min(within))
    assert len(gaps) > 20 and float(np.mean(gaps)) < 0.1, gaps


def refusal(problem: Problem, budget: float) -> str:
    """What the error says; empty without one."""
    try:
        problem.check_budget(budget, "pixel7")
    except UserError as error:
        return str(error)
    return ""


def test_suggestions_work() -> None:
    """What an error names can be asked for."""
    told, excluded = 0, 0
    for seed in range(8):
        case = small(seed)
        sizes, times = [float(size) for _, _, size in case.plans], [ms for _, ms, _ in case.plans]
        tight = between(times, 0.01), int(between(sizes, 0.005))
        for budget, largest in ((max(times), int(min(sizes)) - 1), tight):
            said = refusal(case.problem(largest), budget)
            if not said:
                continue
            told += 1
            size = re.search(r"--max-size (\S+?)(\.$| or)", said)
            assert size is not None and refusal(case.problem(parse_size(size.group(1))), budget) == ""
            excluded += said.startswith("no plan is within")
            faster = re.search(r"or --budget (\S+)ms\.$", said)
            assert faster is None or refusal(case.problem(largest), float(faster.group(1))) == ""
    assert told >= 8 and excluded >= 2


@pytest.fixture(scope="module")
def limits(tiny_problem: Problem) -> tuple[float, int]:
    """Milliseconds and bytes that both bind: the plain solution for the latency is larger."""
    budget = 0.5 * tiny_problem.latency.ms(tiny_problem.base) + 0.5 * tiny_problem.fastest().ms
    free = tiny_problem.solve(budget, start=tiny_problem.base)
    assert free is not None
    return budget, int(0.8 * tiny_problem.sizes.bytes(free.plan))


def sized(problem: Problem, max_bytes: int | None, *objectives: Objective) -> Problem:
    return Problem(problem.space, problem.latency, problem.errors, max_bytes, objectives or ("latency",))


def quiet(done: int, total: int, what: str) -> None:
    pass


CASES = [(sampler, "both") for sampler in SAMPLERS]
CASES += [(sampler, "size") for sampler in ("ours", "tpe", *RIVALS)]
CASES += [(sampler, "free") for sampler in ("ours", "nsga2", "tpe")]
CASES += [(sampler, "latency within a size") for sampler in ("ours", "random")]
CASES += [("ours", "size within a latency"), ("ours", "size, free"), ("ours", "both objectives within")]


@pytest.mark.parametrize(("sampler", "case"), CASES)
def test_what_a_study_calls_feasible_is_within_both_budgets(
    tiny: Prepared, tiny_problem: Problem, limits: tuple[float, int], tmp_path: Path, sampler: str, case: str
) -> None:
    ms, most = limits
    kinds: dict[str, tuple[float | None, int | None, tuple[Objective, ...], int]] = {
        "both": (ms, most, ("latency",), 0),
        "size": (None, most, ("size",), 0),
        "free": (None, None, ("latency", "size"), 2),
        "latency within a size": (None, most, ("latency",), 1),
        "size within a latency": (ms, None, ("size",), 1),
        "size, free": (None, None, ("size",), 1),
        "both objectives within": (ms, most, ("latency", "size"), 0),
    }
    budget, largest, objectives, minimised = kinds[case]
    problem = sized(tiny_problem, largest, *objectives)
    assert len(problem.minimised(budget)) == minimised
    study = open_study(open_journal(tmp_path / "study.journal"), "s", {"task": "tiny"}, minimised)
    plans = baselines(problem, budget)
    chosen = {name: plan for name, plan in plans.items() if name == "int8 dense" or name.startswith("plain solver")}
    assert len(chosen) >= 2
    enqueue_baselines(study, {name: Parameters(problem.space).of(plan) for name, plan in chosen.items()})
    count = len(chosen) + (16 if sampler == "ours" else 8 if sampler in RIVALS else 4)
    run_trials(study, problem, at_once(lambda plan: 0.1 + problem.expected(plan)), sampler, budget, count, None, 0, quiet)
    trials = evaluated(study, problem)
    assert len(trials) == count
    for trial, kept in zip(trials, study.get_trials(deepcopy=False), strict=True):
        size = size_bytes(tiny.evaluator.candidate(trial.plan).network, trial.plan)
        assert trial.size == size
        expected = {CONSTRAINT: trial.ms - budget} if budget is not None else {}
        expected |= {SIZE_CONSTRAINT: float(size - largest)} if largest is not None else {}
        assert kept.constraints == pytest.approx(expected)
        costs = {"latency": trial.ms, "size": size}
        assert kept.values == [trial.loss, *(costs[objective] for objective in problem.minimised(budget))]
        within = (budget is None or trial.ms <= budget) and (largest is None or size <= largest)
        assert within == trial.within(budget, largest) == all(value <= 0 for value in kept.constraints.values())
        if sampler in ("ours", *RIVALS) and (trial.baseline or "plain solver").startswith("plain solver"):
            assert within, (trial.baseline, trial.ms, size)
    proposed = {trial.plan for trial in trials if trial.baseline is None}
    if sampler in ("ours", *RIVALS):
        assert len(proposed) >= 6
    if sampler == "ours" and minimised:
        for objective in problem.minimised(budget):
            values = [problem.latency.ms(plan) if objective == "latency" else problem.sizes.bytes(plan) for plan in proposed]
            if case == "latency within a size":
                # Plans slower than that of least loss within the size are of no use.
                best = problem.solve(math.inf)
                assert best is not None and best.ms > problem.fastest().ms
                assert max(values) - min(values) > 0.5 * (best.ms - problem.fastest().ms), "proposals spread"
            else:
                assert max(values) > 1.2 * min(values), "proposals spread"
    on_front = front(eligible(trials, problem, budget), objectives)
    assert on_front
    for trial in trials:
        if trial.number in on_front:
            assert "size" in objectives or largest is None or trial.size <= largest


def test_proposals_use_both_budgets(tiny_problem: Problem, limits: tuple[float, int]) -> None:
    """The size costs loss, but no more than it must: the best of some proposals is near both limits."""
    ms, most = limits
    problem = sized(tiny_problem, most)
    loss: Callable[[Plan], float] = lambda plan: 1e-6 + problem.expected(plan)  # noqa: E731
    history = grown(PlanSampler(problem, ms, 0), [], loss, 24)
    assert len({one.plan for one in history}) == len(history)
    best = min(history, key=lambda one: one.loss).plan
    plain = problem.solve(ms, start=problem.base)
    assert plain is not None and problem.expected(best) <= 1.05 * plain.expected
    assert problem.sizes.bytes(best) > 0.85 * most


def test_latencies_spread_where_all_within_the_size_are_slower_than_the_dense_plan() -> None:
    case, largest = small(37), 1227
    within = [ms for _, ms, size in case.plans if size <= largest]
    problem = case.problem(largest)
    assert min(within) > problem.latency.ms(problem.base)
    history = grown(PlanSampler(problem, None, 0), [], lambda plan: 1e-6 + problem.expected(plan), 12)
    assert all(problem.fits(one.plan, None) for one in history)
    assert len({problem.latency.ms(one.plan) for one in history}) >= 4


def test_a_study_of_another_size_or_objective_is_refused(tmp_path: Path) -> None:
    storage = open_journal(tmp_path / "study.journal")
    open_study(storage, "s", {"task": "one", "max size": 4000, "objectives": "latency"}, 0)
    with pytest.raises(UserError, match=r"made with another max size \(max size: 4000 then, None now\)"):
        open_study(storage, "s", {"task": "one", "max size": None, "objectives": "latency"}, 0)
    with pytest.raises(UserError, match=r"made with another objectives \(objectives: latency then, latency,size now\)"):
        open_study(storage, "s", {"task": "one", "max size": 4000, "objectives": "latency,size"}, 1)


def test_a_study_from_before_sizes_goes_on(tmp_path: Path) -> None:
    storage = open_journal(tmp_path / "study.journal")
    open_study(storage, "s", {"task": "one"}, 0)
    now = {"task": "one", "max size": None, "objectives": "latency"}
    assert open_study(storage, "s", now, 0).study_name == "s"
    with pytest.raises(UserError, match="another max size"):
        open_study(storage, "s", {**now, "max size": 4000}, 0)
