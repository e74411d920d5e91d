"""Runs that are killed, stopped or continued: nothing that was finished is lost, and nothing is computed twice."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from autocompress.api import _Stopwatch
from autocompress.evaluators.score import Score
from autocompress.search.journal import open_journal
from autocompress.spaces.plan import Plan

from .conftest import BUDGET, Done, Run, finished_in, points_of, spawn, wait_for

Outcome = list[tuple[float, float, bool, str | None]]


def outcome(front: dict[str, Any]) -> Outcome:
    """What a search found, whatever numbers its trials have."""
    return sorted((p["latency_ms"], p["search_loss"], p["on_front"], p.get("name")) for p in points_of(front))


def front_of(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "front.json").read_text())
    return value


def completed(folder: Path) -> dict[int, tuple[Any, ...]]:
    """Finished trials of a study, by number."""
    study = optuna.load_study(storage=open_journal(folder / "study.journal"), study_name=folder.name)
    trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return {trial.number: (trial.values, trial.params, trial.datetime_complete) for trial in trials}


def kill(process: Any, with_signal: signal.Signals = signal.SIGKILL) -> int:
    os.killpg(process.pid, with_signal)
    process.communicate(timeout=120)
    return int(process.returncode)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Plans whose score a trial asked for in this process."""
    plans: list[Plan] = []
    score = _Stopwatch.score

    def watched(clock: _Stopwatch, plan: Plan, rival: Score | None) -> Score:
        plans.append(plan)
        return score(clock, plan, rival)

    monkeypatch.setattr(_Stopwatch, "score", watched)
    return plans


def search(task_file: Path, results: Path, name: str, *more: object) -> tuple[object, ...]:
    return ("--task", f"{task_file}:task", "--results", results, "--study", name, *more)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_runs_end_as_an_uninterrupted_one(
    bounded: Run, task_file: Path, command: Callable[..., Done], counted: list[Plan], tmp_path: Path, seed: int
) -> None:
    arguments = search(task_file, tmp_path, "killed", "--budget", f"{BUDGET}ms", "--trials", 22)
    folder, chooser = tmp_path / "killed", random.Random(seed)
    process = spawn(*arguments)
    wait_for(process, folder / "study.journal", chooser.randint(0, 20))
    time.sleep(chooser.uniform(0, 0.05))
    kill(process)
    kept = completed(folder)
    done = command(*arguments)
    assert done.code == 0, done.err
    after = completed(folder)
    assert {number: after[number] for number in kept} == kept, "a finished trial was lost or changed"
    assert len(after) == 22
    assert outcome(front_of(folder)) == outcome(bounded.front)
    assert len(counted) == 22 - len(kept), "a finished trial was evaluated again"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_optunas_samplers_survive_a_kill_too(task_file: Path, command: Callable[..., Done], tmp_path: Path, sampler: str) -> None:
    options = ("--budget", f"{BUDGET}ms", "--trials", 16, "--sampler", sampler, "--seed", 5)
    whole = command(*search(task_file, tmp_path, "whole", *options))
    assert whole.code == 0, whole.err
    arguments, folder = search(task_file, tmp_path, "killed", *options), tmp_path / "killed"
    process = spawn(*arguments)
    wait_for(process, folder / "study.journal", random.Random(sampler).randint(9, 14))
    kill(process)
    kept = completed(folder)
    done = command(*arguments)
    assert done.code == 0, done.err
    after = completed(folder)
    assert {number: after[number] for number in kept} == kept and len(after) == 16
    assert outcome(front_of(folder)) == outcome(front_of(tmp_path / "whole"))


def test_a_run_killed_while_it_prepares_goes_on(task_file: Path, command: Callable[..., Done], tmp_path: Path) -> None:
    """Its own cache, so that it is killed in the layer database and in the error table."""
    os.environ["AUTOCOMPRESS_CACHE"], before = str(tmp_path / "cache"), os.environ["AUTOCOMPRESS_CACHE"]
    try:
        arguments = search(task_file, tmp_path, "killed", "--budget", f"{BUDGET}ms", "--trials", 9)
        for pattern, count in (("*.safetensors", 4), ("losses-*.json", 1)):
            process = spawn(*arguments)
            end = time.monotonic() + 240
            while len(list((tmp_path / "cache").rglob(pattern))) < count:
                assert process.poll() is None and time.monotonic() < end, process.communicate()
                time.sleep(0.005)
            kill(process)
        done = command(*arguments)
    finally:
        os.environ["AUTOCOMPRESS_CACHE"] = before
    assert done.code == 0, done.err
    assert len(completed(tmp_path / "killed")) == 9


def test_ctrl_c_stops_with_130_and_the_same_command_goes_on(
    bounded: Run, task_file: Path, command: Callable[..., Done], tmp_path: Path
) -> None:
    arguments = search(task_file, tmp_path, "stopped", "--budget", f"{BUDGET}ms", "--trials", 22)
    process = spawn(*arguments)
    wait_for(process, tmp_path / "stopped" / "study.journal", 8)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "finished trials are kept" in out and "Traceback" not in out + err
    assert command(*arguments).code == 0
    assert outcome(front_of(tmp_path / "stopped")) == outcome(bounded.front)


def test_the_same_command_with_more_trials_continues(
    bounded: Run, command: Callable[..., Done], counted: list[Plan], tmp_path: Path, task_file: Path
) -> None:
    arguments = search(task_file, tmp_path, "longer", "--budget", f"{BUDGET}ms")
    assert command(*arguments, "--trials", 15).code == 0
    first, evaluated = completed(tmp_path / "longer"), len(counted)
    assert len(first) == 15
    assert command(*arguments, "--trials", 15).code == 0
    assert completed(tmp_path / "longer") == first and len(counted) == evaluated
    done = command("resume", "longer", "--trials", 22, "--results", tmp_path)
    assert done.code == 0, done.err
    assert len(counted) == evaluated + 7
    assert outcome(front_of(tmp_path / "longer")) == outcome(bounded.front), "as if it had never stopped"
    refused = command(*arguments, "--trials", 30, "--no-resume")
    assert "study longer exists" in refused.message
    other = command(*search(task_file, tmp_path, "longer", "--budget", "0.07ms"))
    assert "made with another budget" in other.message
    assert len(completed(tmp_path / "longer")) == 22


def test_a_database_as_storage(task_file: Path, command: Callable[..., Done], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    arguments = search(task_file, tmp_path, "shared", "--budget", f"{BUDGET}ms", "--storage", url)
    assert command(*arguments, "--trials", 9).code == 0
    done = command("resume", "shared", "--trials", 12, "--results", tmp_path)
    assert done.code == 0, done.err
    study = optuna.load_study(storage=url, study_name="shared")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 12
    assert len(points_of(front_of(tmp_path / "shared"))) == 12
    assert not (tmp_path / "shared" / "study.journal").exists()
    assert "Warning" not in done.err


def test_progress_is_on_disk_while_it_runs(task_file: Path, command: Callable[..., Done], tmp_path: Path) -> None:
    done = command(*search(task_file, tmp_path, "seen", "--budget", "2000us", "--trials", 6))
    assert done.code == 0, done.err
    assert finished_in(tmp_path / "seen" / "study.journal") == 6
