from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.evaluators.score import Score
from autocompress.outcome import finalists
from autocompress.search.baselines import baselines
from autocompress.search.journal import open_journal
from autocompress.search.parameters import Parameters
from autocompress.search.problem import Problem
from autocompress.search.study import (
    CONSTRAINT,
    LOSS_CEILING,
    RIVALS,
    SAMPLERS,
    Evaluated,
    enqueue_baselines,
    evaluated,
    fail_stale_trials,
    front,
    make_sampler,
    open_storage,
    open_study,
    run_trials,
)
from autocompress.spaces.plan import Plan

from .scoring import at_once


@pytest.fixture(scope="module")
def budget(tiny_problem: Problem) -> float:
    return 0.8 * tiny_problem.latency(tiny_problem.base).ms


def quiet(done: int, total: int, what: str) -> None:
    pass


def study_of(budget: float | None, path: Path) -> optuna.Study:
    return open_study(open_journal(path), "s", {"task": "tiny"}, 1 if budget is None else 0)


@pytest.mark.parametrize(
    ("sampler", "bounded"),
    [*((name, True) for name in SAMPLERS), *((name, False) for name in SAMPLERS if name not in RIVALS)],
)
def test_every_sampler_runs(tiny_problem: Problem, budget: float, sampler: str, bounded: bool, tmp_path: Path) -> None:
    limit = budget if bounded else None
    study = study_of(limit, tmp_path / "study.journal")
    enqueue_baselines(
        study, {name: Parameters(tiny_problem.space).of(plan) for name, plan in list(baselines(tiny_problem, limit).items())[:3]}
    )
    run_trials(study, tiny_problem, at_once(lambda plan: 0.1 + tiny_problem.expected(plan)), sampler, limit, 6, None, 0, quiet)
    found = evaluated(study, tiny_problem)
    assert [trial.number for trial in found] == list(range(6))
    assert [trial.baseline is not None for trial in found] == [True] * 3 + [False] * 3
    for trial, kept in zip(found, study.get_trials(deepcopy=False), strict=True):
        assert trial.ms == tiny_problem.latency(trial.plan).ms
        if bounded:
            assert kept.constraints == {CONSTRAINT: pytest.approx(trial.ms - budget)}
            assert len(kept.values) == 1
        else:
            assert kept.values == [trial.loss, trial.ms]
    if sampler == "ours" and bounded:
        assert all(trial.ms <= budget for trial in found[3:])


def test_an_unknown_sampler_is_refused(tiny_problem: Problem) -> None:
    with pytest.raises(UserError, match="unknown sampler 'cmaes': use one of ours"):
        make_sampler("cmaes", tiny_problem, None, 0)


def test_losses_that_overflow_are_bad_trials(tiny_problem: Problem, budget: float, tmp_path: Path) -> None:
    study = study_of(budget, tmp_path / "study.journal")
    losses = iter([math.nan, math.inf, 1e30, 0.5])
    run_trials(study, tiny_problem, at_once(lambda plan: next(losses)), "random", budget, 4, None, 0, quiet)
    assert [trial.loss for trial in evaluated(study, tiny_problem)] == [LOSS_CEILING] * 3 + [0.5]


def test_timeout_ends_after_the_trial_that_runs(tiny_problem: Problem, budget: float, tmp_path: Path) -> None:
    study = study_of(budget, tmp_path / "study.journal")
    run_trials(study, tiny_problem, at_once(lambda plan: 0.5), "random", budget, 1000, 0.3, 0, quiet)
    assert 1 <= len(evaluated(study, tiny_problem)) < 1000


def test_another_fingerprint_is_refused_by_name(tmp_path: Path) -> None:
    storage = open_journal(tmp_path / "study.journal")
    open_study(storage, "s", {"task": "one", "table": "t"}, 0)
    assert open_study(storage, "s", {"task": "one", "table": "t"}, 0).study_name == "s"
    with pytest.raises(UserError, match=r"made with another table \(table: t then, u now\)\. Choose another name with --study"):
        open_study(storage, "s", {"task": "one", "table": "u"}, 0)


def test_a_study_of_another_program_is_refused(tmp_path: Path) -> None:
    storage = open_journal(tmp_path / "study.journal")
    other = optuna.create_study(storage=storage, study_name="s")
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(UserError, match="was not made by autocompress"):
        open_study(storage, "s", {"task": "one"}, 0)


def test_a_process_killed_before_it_described_the_study_is_made_up_for(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    open_study(open_journal(path), "s", {"task": "one"}, 0)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    path.write_bytes(lines[0])
    assert open_study(open_journal(path), "s", {"task": "one"}, 0).get_trials() == []
    with pytest.raises(UserError, match="made with another task"):
        open_study(open_journal(path), "s", {"task": "two"}, 0)


def test_a_killed_baseline_is_queued_again_and_a_finished_one_is_not(
    tiny_problem: Problem, budget: float, tmp_path: Path
) -> None:
    parameters = {name: Parameters(tiny_problem.space).of(plan) for name, plan in baselines(tiny_problem, budget).items()}
    study = study_of(budget, tmp_path / "study.journal")
    enqueue_baselines(study, parameters)
    run_trials(study, tiny_problem, at_once(lambda plan: 0.5), "ours", budget, 2, None, 0, quiet)
    study.ask()  # the third begins, and its process is killed

    again = study_of(budget, tmp_path / "study.journal")
    fail_stale_trials(again)
    enqueue_baselines(again, parameters)
    run_trials(again, tiny_problem, at_once(lambda plan: 0.5), "ours", budget, len(parameters), None, 0, quiet)
    names = [trial.baseline for trial in evaluated(again, tiny_problem)]
    assert sorted(map(str, names)) == sorted(parameters)


def test_a_failing_loss_ends_the_trial_and_the_run(tiny_problem: Problem, budget: float, tmp_path: Path) -> None:
    study = study_of(budget, tmp_path / "study.journal")

    def broken(plan: Plan) -> float:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_trials(study, tiny_problem, at_once(broken), "ours", budget, 3, None, 0, quiet)
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL"]


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////proc/none/study.db", "mystery://host/db"])
def test_a_storage_that_cannot_be_opened_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="cannot open storage"):
        open_storage(url)


def test_baselines_are_what_the_report_promises(tiny_problem: Problem, budget: float) -> None:
    within = baselines(tiny_problem, budget)
    assert {"fp32 dense", "int8 dense", "plain solver"} <= set(within)
    for name, plan in within.items():
        assert tiny_problem.space.consistent(dict(plan)) == plan
        if "dense" not in name:
            assert tiny_problem.latency(plan).ms <= budget, name
    assert any(name.startswith("uniform channel") for name in within)
    free = baselines(tiny_problem, None)
    assert len([name for name in free if name.startswith("plain solver")]) == 3
    assert any(name.startswith("uniform block") for name in free)


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


@given(POINTS)
def test_the_front_is_what_no_other_trial_beats(points: list[tuple[int, int]]) -> None:
    plan = Plan(())
    trials = [Evaluated(number, plan, float(loss), float(ms), 0.0, None, 0) for number, (loss, ms) in enumerate(points)]
    random.Random(0).shuffle(trials)
    numbers = front(trials)
    chosen = [points[number] for number in numbers]
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) == {p for p in points if not any(o != p and o[0] <= p[0] and o[1] <= p[1] for o in points)}


def test_equal_histories_make_equal_samplers(tiny_problem: Problem, budget: float, tmp_path: Path) -> None:
    """What makes a killed run of Optuna's own samplers go on as if nothing had happened."""
    runs: list[list[Plan]] = []
    for name, pieces in (("whole", (6,)), ("pieces", (2, 3, 6))):
        study = study_of(budget, tmp_path / name)
        loss: Callable[[Plan], float] = lambda plan: 0.1 + tiny_problem.expected(plan)  # noqa: E731
        for trials in pieces:
            run_trials(study, tiny_problem, at_once(loss), "tpe", budget, trials, None, 5, quiet)
        runs.append([trial.plan for trial in evaluated(study, tiny_problem)])
    assert runs[0] == runs[1]


def test_the_best_of_no_higher_costs_is_the_rival(tiny_problem: Problem, budget: float) -> None:
    """Baselines have none; what was stopped is none; a study that goes on knows those from before."""
    study = optuna.create_study()
    plans = baselines(tiny_problem, budget)
    parameters = Parameters(tiny_problem.space)
    enqueue_baselines(study, {name: parameters.of(plan) for name, plan in plans.items()})
    seen: list[tuple[Plan, Score | None, Score]] = []

    def scoring(plan: Plan, rival: Score | None) -> Score:
        first = 1e-6 + tiny_problem.expected(plan) ** 2
        partial = (first,)
        stopped = rival is not None and rival.beats(partial)
        assert rival is not None or len(seen) < len(plans)
        if rival is not None and stopped:
            found = Score(rival.projected(partial), partial, 2, 8)
        else:
            found = Score(2 * first, (first, 2 * first), 8, 8)
        seen.append((plan, rival, found))
        return found

    for count in (len(plans) + 6, len(plans) + 25):  # the second call is a process that goes on
        run_trials(study, tiny_problem, scoring, "random", budget, count, None, 0, quiet)
    for number, (plan, rival, _) in enumerate(seen):
        others = [(tiny_problem.latency.ms(other), score) for other, _, score in seen[:number] if score.whole]
        within = [score.loss for ms, score in others if ms <= tiny_problem.latency.ms(plan)]
        expected = min(within, default=None) if number >= len(plans) else None
        assert (rival.loss if rival is not None else None) == expected
    trials = evaluated(study, tiny_problem)
    assert [trial.score for trial in trials] == [score for _, _, score in seen]
    assert [trial.loss for trial in trials] == [score.loss for _, _, score in seen]
    stopped = [trial for trial in trials if not trial.whole]
    assert 3 < len(stopped) < len(trials) - len(plans)
    assert not {trial.number for trial in stopped} & front(trials)
    assert all(trial.whole for trial in finalists(trials))
