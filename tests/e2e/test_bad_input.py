"""Bad input ends with one message and exit code 2, and nothing is lost."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autocompress.search.journal import folder_lock

from .conftest import BUDGET, Done, finished_in, spawn


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "pixel77"), "pixel77"),
        (("--sampler", "cmaes"), "unknown sampler 'cmaes': use one of ours"),
        (("--method", "guess"), "unknown method 'guess'"),
        (("--budget", "fast"), "budget 'fast' is not a time: write it like 5ms"),
        (("--budget", "5"), "is not a time"),
        (("--budget", "-5ms"), "must be above zero"),
        (("--budget", "0ms"), "must be above zero"),
        (("--budget", "0.0001ms"), "fastest possible on pixel7 is"),
        (("--budget", "900x"), "fastest possible on pixel7 is"),
        (("--max-size", "4"), "size '4' is none: write it like 4MB"),
        (("--max-size", "0MB"), "must be at least one byte"),
        (("--max-size", "100B"), "the smallest possible size is"),
        (("--objective", "speed"), "use latency, size, or latency,size"),
        (("--objective", "size", "--sampler", "spdy"), "searches within a budget: add --budget, or --max-size"),
        (("--trials", "0"), "--trials 0 leaves nothing to do"),
        (("--timeout", "0"), "--timeout 0 leaves no time"),
        (("--samples", "0"), "--samples 0"),
        (("--seed", "-1"), "--seed -1 is negative"),
        (("--study", "../up"), "cannot be a folder"),
        (("--core", "Z80"), "Z80"),
        (("--storage", "nonsense"), "cannot open storage nonsense"),
        (("--data", "/no/such/folder"), "there is no folder /no/such/folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_options(command: Callable[..., Done], task_file: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = command("--task", f"{task_file}:task", "--results", tmp_path / "r", *arguments)
    assert words in done.message


def test_an_impossible_budget_names_what_holds_it_and_one_that_works(
    command: Callable[..., Done], task_file: Path, tmp_path: Path
) -> None:
    arguments = ("--task", f"{task_file}:task", "--results", tmp_path, "--trials", 1)
    message = command(*arguments, "--budget", "0.01ms").message
    assert "held by" in message and "asked for 0.01 ms" in message and "(modelled)" in message
    suggested = message.rpartition("Try --budget ")[2].rstrip(".")
    assert command(*arguments, "--budget", suggested).code == 0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("raises", "ZeroDivisionError: no data today"),
        ("wrong_type", "returned a str: return an autocompress.Task"),
        ("gives_nan", "holds NaN or infinity"),
        ("nan_output", "returns NaN or infinity"),
        ("wrong_calibration", "calibration has shape (96, 3, 20, 24), and after example_input it should be (samples, 3, 24, 24)"),
        ("nothing_to_compress", "no convolution or linear layer"),
        ("missing", "missing"),
    ],
)
def test_task_functions(command: Callable[..., Done], task_file: Path, tmp_path: Path, function: str, words: str) -> None:
    done = command("--task", f"{task_file}:{function}", "--results", tmp_path / "r", "--trials", 1)
    assert words in done.message
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("task", ["nothing-like-it", "no_such_file.py:task", "no.such.module:task", "tiny_task.py"])
def test_unknown_tasks(command: Callable[..., Done], tmp_path: Path, task: str) -> None:
    assert task.partition(":")[0] in command("--task", task, "--results", tmp_path).message


def test_a_metric_that_gives_nan_keeps_the_trials(command: Callable[..., Done], task_file: Path, tmp_path: Path) -> None:
    done = command("--task", f"{task_file}:bad_metric", "--results", tmp_path, "--study", "s", "--trials", 2)
    assert "metric" in done.message and "nan" in done.message
    assert finished_in(tmp_path / "s" / "study.journal") == 2


@pytest.mark.parametrize("where", ["under a file", "/proc"])
def test_a_results_folder_that_cannot_be_written(
    command: Callable[..., Done], task_file: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "file").touch()
    results = tmp_path / "file" / "results" if where == "under a file" else Path("/proc/results")
    message = command("--task", f"{task_file}:task", "--results", results, "--trials", 1).message
    assert "cannot write to" in message and "--results" in message


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writes fail, or take a part, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_wherever_it_strikes(
    command: Callable[..., Done], task_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--task", f"{task_file}:task", "--results", tmp_path, "--study", "s", "--budget", f"{BUDGET}ms", "--trials", 14)
    journal = tmp_path / "s" / "study.journal"
    shared = os.environ["AUTOCOMPRESS_CACHE"]
    monkeypatch.setenv("AUTOCOMPRESS_CACHE", str(tmp_path / "cache"))
    with room(3000):
        assert "cannot write" in command(*arguments).message  # the layer database
    monkeypatch.setenv("AUTOCOMPRESS_CACHE", shared)
    with room(20_000):
        assert "cannot write the study's journal" in command(*arguments).message
    finished = finished_in(journal)
    assert 0 < finished < 14
    with room(200_000):
        assert "cannot write" in command(*arguments).message  # the report
    assert finished_in(journal) == 14
    assert not list(tmp_path.rglob("*.part"))
    done = command(*arguments)
    assert done.code == 0, done.err
    assert finished_in(journal) == 14


def test_a_damaged_study_is_refused_and_a_torn_one_repaired(
    command: Callable[..., Done], task_file: Path, tmp_path: Path
) -> None:
    arguments = ("--task", f"{task_file}:task", "--results", tmp_path, "--study", "s", "--budget", f"{BUDGET}ms", "--trials", 6)
    assert command(*arguments).code == 0
    journal = tmp_path / "s" / "study.journal"
    whole = journal.read_bytes()
    middle = whole.index(b"\n", len(whole) // 2) + 1
    journal.write_bytes(whole[:middle] + b"#!?" + whole[middle + 40 :])
    damaged = journal.read_bytes()
    assert "study.journal is damaged" in command(*arguments).message
    assert journal.read_bytes() == damaged
    journal.write_bytes(whole[: 2 * len(whole) // 3])
    done = command(*arguments)
    assert done.code == 0, done.err
    assert finished_in(journal) == 6


def test_two_processes_on_one_study(command: Callable[..., Done], task_file: Path, tmp_path: Path) -> None:
    with folder_lock(tmp_path / "s"):
        done = command("--task", f"{task_file}:task", "--results", tmp_path, "--study", "s", "--trials", 1)
    assert f"study s is already being run by process {os.getpid()}" in done.message


def test_debug_shows_the_traceback(task_file: Path, tmp_path: Path, cache: Path) -> None:
    process = spawn("--task", f"{task_file}:raises", "--results", tmp_path, "--debug")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" in err and "ZeroDivisionError: no data today" in err


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"budget": "5 parsecs"}'])
def test_damaged_settings(command: Callable[..., Done], tmp_path: Path, content: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "settings.json").write_text(content)
    assert command("resume", "s", "--results", tmp_path).message


@pytest.mark.parametrize("name", ["resume", "report"])
def test_unknown_studies(command: Callable[..., Done], tmp_path: Path, name: str) -> None:
    assert "there is no study 'gone'" in command(name, "gone", "--results", tmp_path).message
