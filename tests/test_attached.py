"""Searches with a device attached: the budget is tightened by what the device takes too long, until it is met there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from autocompress import attached
from autocompress.api import Begun, Prepared, Search, search_begun
from autocompress.attached import EXTRA_TRIALS, device_timer, tighten
from autocompress.kernels.toolchain import kernels_hash
from autocompress.outcome import choose_best
from autocompress.progress import Phases, Silent
from autocompress.reports.verified import Verified, load_verified
from autocompress.search.problem import Problem
from autocompress.search.study import Evaluated, evaluated
from autocompress.settings import Budget, SearchSettings

TRIALS = 16


def no_update(done: int, total: int, what: str) -> None:
    pass


def searched(tiny: Prepared, problem: Problem, folder: Path, budget_ms: float) -> Search:
    settings = SearchSettings(budget=Budget(ms=budget_ms), trials=TRIALS, device="local")
    begun = Begun(settings, {}, budget_ms, folder, optuna.create_study(direction="minimize"), {})
    return search_begun(begun, tiny, problem, Phases(Silent()))


def slower(factor: float, asked: list[int]) -> attached.Timer:
    """A device on which everything takes `factor` times as long as predicted."""

    def timed(trial: Evaluated) -> Verified:
        asked.append(trial.number)
        ms = trial.ms * factor
        return Verified(trial.plan.key, "device", "", "", "modelled", trial.ms, ms, ms, ms, "2026-11-22")

    return timed


def test_a_slower_device_tightens_the_budget(tiny: Prepared, tiny_problem: Problem, tmp_path: Path) -> None:
    budget = tiny_problem.latency.ms(tiny_problem.base)
    search = searched(tiny, tiny_problem, tmp_path, budget)
    asked: list[int] = []
    found = tighten(search, "local", budget, slower(1.1, asked), no_update)
    assert found.bias == pytest.approx(1.1) and found.limit_ms == pytest.approx(budget / 1.1)
    assert len(asked) == len(set(asked)) == len(found.measured_ms)
    trials = evaluated(search.study, search.problem)
    assert len(trials) == TRIALS + EXTRA_TRIALS
    assert all(trial.ms <= found.limit_ms for trial in trials[TRIALS:])
    assert max(found.measured_ms.values()) > budget, "it was not met at first"
    done = replace(search, attached=found)
    best = choose_best(done, trials, no_update)
    chosen = next(trial for trial in trials if trial.number == best)
    assert found.measured_ms[chosen.plan] <= budget and done.fits(chosen)
    over = next(trial for trial in trials if found.measured_ms.get(trial.plan, 0.0) > budget)
    assert not done.fits(over) and not done.fits(replace(over, ms=0.0))


def test_a_device_that_keeps_its_promise_changes_nothing(tiny: Prepared, tiny_problem: Problem, tmp_path: Path) -> None:
    budget = tiny_problem.latency.ms(tiny_problem.base)
    search = searched(tiny, tiny_problem, tmp_path, budget)
    found = tighten(search, "local", budget, slower(0.9, []), no_update)
    assert (found.limit_ms, found.bias) == (budget, 1.0)
    assert len(search.study.trials) == TRIALS


def test_no_plan_is_recommended_that_the_device_never_ran_in_time(
    tiny: Prepared, tiny_problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = tiny_problem.latency.ms(tiny_problem.base)
    search = searched(tiny, tiny_problem, tmp_path, budget)
    monkeypatch.setattr(attached, "MOST_ROUNDS", 0)
    found = tighten(search, "local", budget, slower(100.0, []), no_update)
    trials = evaluated(search.study, search.problem)
    assert choose_best(replace(search, attached=found), trials, no_update) is None


def test_times_are_kept_with_the_study(
    tiny: Prepared, tiny_problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searched(tiny, tiny_problem, tmp_path, tiny_problem.latency.ms(tiny_problem.base))
    trial = evaluated(search.study, search.problem)[0]
    again = Verified(trial.plan.key, "phone", "", kernels_hash(), "modelled", trial.ms, 2.0, 1.9, 2.1, "2026-11-22")
    ran = []

    def run_plan(search: Search, plan: object, device: str) -> Verified:
        ran.append(plan)
        return again

    monkeypatch.setattr(attached, "run_plan", run_plan)
    assert device_timer(search, "adb://")(trial) == again
    assert load_verified(tmp_path) == (again,)
    assert device_timer(search, "adb://")(trial) == again
    assert ran == [trial.plan]
