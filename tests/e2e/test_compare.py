"""Samplers side by side, from the command line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import BUDGET, Done, finished_in, spawn, wait_for

SAMPLERS = "ours,random,spdy,evopress"


def arguments(task_file: Path, results: Path, *more: object) -> tuple[str, ...]:
    own = ("--task", f"{task_file}:task", "--results", results, "--study", "c", "--budget", f"{BUDGET}ms", "--samples", 16)
    return tuple(map(str, ("compare", *own, *more)))


def content(folder: Path) -> dict[str, Any]:
    """compare.json without what differs from run to run."""
    value: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    del value["provenance"]
    for run in value["runs"]:
        for step in run["steps"]:
            del step["trial"]
        for final in run["finals"]:
            del final["trial"]
    for final in value["baselines"]:
        del final["trial"]
    return value


def test_a_comparison_that_is_killed_goes_on_and_can_grow(command: Callable[..., Done], task_file: Path, tmp_path: Path) -> None:
    asked = arguments(task_file, tmp_path / "killed", "--samplers", SAMPLERS, "--trials", 14, "--seeds", 1)
    process = spawn(*asked)
    wait_for(process, tmp_path / "killed" / "c" / "spdy-0" / "study.journal", 12)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    done = command(*asked, "--json")
    assert done.code == 0, done.err
    whole = command(*arguments(task_file, tmp_path / "whole", "--samplers", SAMPLERS, "--trials", 14, "--seeds", 1))
    assert whole.code == 0, whole.err
    assert content(tmp_path / "killed" / "c") == content(tmp_path / "whole" / "c")

    value = json.loads(done.out)
    assert value["schema"] == 1 and value["samplers"] == SAMPLERS.split(",") and value["seeds"] == [0]
    assert [run["study"] for run in value["runs"]] == [f"{name}-0" for name in SAMPLERS.split(",")]
    first = [step["search_loss"] for step in value["runs"][0]["steps"] if step["baseline"]]
    for run in value["runs"]:
        assert len(run["steps"]) == len(run["best_search_loss"]) == len(run["hypervolume"]) == 14
        assert [step["search_loss"] for step in run["steps"] if step["baseline"]] == first, "all see the same baselines"
        if run["sampler"] != "random":
            assert all(step["latency_ms"] <= BUDGET for step in run["steps"] if not step["baseline"])
        (final,) = run["finals"]
        assert final["latency_ms"] <= BUDGET and final["evaluations"] == 14
    rows = {row["name"]: row for row in value["table"]}
    assert rows["ours"]["ratio"] is None and rows["spdy"]["ratio"] > 0 and "plain solver" in rows
    page = (tmp_path / "killed" / "c" / "compare.html").read_text()
    assert "modelled" in page and "evopress" in page and page.lstrip().startswith("<!doctype html")
    assert len((tmp_path / "killed" / "c" / "compare.csv").read_text().splitlines()) == 1 + 4 * 14
    assert "compare.html" in whole.out and not list(tmp_path.rglob("*.part"))

    grown = command(*arguments(task_file, tmp_path / "killed", "--samplers", "ours,random", "--trials", 16, "--seeds", 2))
    assert grown.code == 0, grown.err
    for name, trials in (("ours-0", 16), ("random-1", 16), ("spdy-0", 14)):
        assert finished_in(tmp_path / "killed" / "c" / name / "study.journal") == trials


def test_ctrl_c_stops_with_130(task_file: Path, cache: Path, tmp_path: Path) -> None:
    process = spawn(*arguments(task_file, tmp_path, "--samplers", "ours,random", "--trials", 500))
    wait_for(process, tmp_path / "c" / "ours-0" / "study.journal", 3)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "finished trials are kept" in out and "Traceback" not in out + err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--samplers", "ours,magic"), "unknown sampler 'magic': use one of ours, tpe"),
        (("--samplers", ","), "there is no sampler to compare"),
        (("--samplers", "ours,ours"), "sampler ours is named twice"),
        (("--seeds", 0), "--seeds 0"),
        (("--trials", 0), "--trials 0"),
        (("--budget", "soon"), "budget 'soon' is not a time"),
        (("--budget", "0.001ms"), "fastest possible on pixel7"),
        (("--study", "../c"), "cannot be a folder"),
    ],
)
def test_bad_input_is_one_message(
    command: Callable[..., Done], task_file: Path, tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    assert words in command(*arguments(task_file, tmp_path / "r", *options)).message
    assert not (tmp_path / "r").exists()


def test_another_budget_under_the_same_name_is_refused(command: Callable[..., Done], task_file: Path, tmp_path: Path) -> None:
    some = ("--samplers", "random", "--trials", 1, "--seeds", 1)
    assert command(*arguments(task_file, tmp_path, *some)).code == 0
    other = command(*arguments(task_file, tmp_path, *some, "--budget", "0.07ms"))
    assert "study random-0 was made with another budget" in other.message


@pytest.mark.parametrize("sampler", ["spdy", "evopress"])
def test_a_search_without_a_budget_names_samplers_that_can(
    command: Callable[..., Done], task_file: Path, tmp_path: Path, sampler: str
) -> None:
    done = command("--task", f"{task_file}:task", "--results", tmp_path / "r", "--sampler", sampler)
    assert f"sampler {sampler} searches within a budget" in done.message
    assert not (tmp_path / "r").exists()
