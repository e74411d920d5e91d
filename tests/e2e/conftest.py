"""Whole runs of the command line: some in a process of their own, to be killed; most in this one, which has torch loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from autocompress.cli import main
from autocompress.tasks.task import Task

#: Milliseconds that the tiny task can meet on pixel7, and has to be compressed for (dense int8 takes 0.077).
BUDGET = 0.066

TASK_FILE = """
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, {folder!r})
import tiny

from autocompress.tasks.task import Task


def task():
    model = tiny.Tiny().eval()
    model.load_state_dict(load_file({weights!r}))
    calibration, _ = tiny.images(96, 1)
    return Task("tiny", model, calibration[:1], calibration, tiny.images(128, 2), "top1")


def raises():
    raise ZeroDivisionError("no data today")


def wrong_type():
    return "a model"


def gives_nan():
    made = task()
    made.model.classifier.bias.data[0] = float("nan")
    return made


def nan_output():
    made = task()
    made.model.classifier.forward = lambda x: x[:, :6] * float("nan")
    return made


def wrong_calibration():
    made = task()
    return Task("tiny", made.model, made.example_input, made.calibration[:, :, :20], made.evaluation, "top1")


def nothing_to_compress():
    made = task()
    return Task("tiny", torch.nn.Flatten(), made.example_input, made.calibration, made.calibration, "agreement")


def bad_metric():
    made = task()
    return Task("tiny", made.model, made.example_input, made.calibration, made.evaluation, lambda model, data: float("nan"))
"""


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What a failed command told: exactly one message, and no traceback."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.err.count("error: ") == 1 and self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.out + self.err
        return self.err.removeprefix("error: ").strip()


@pytest.fixture(scope="session")
def task_file(tiny_task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task file that a command can name, with the weights trained once; and functions that go wrong."""
    folder = tmp_path_factory.mktemp("task")
    save_file(tiny_task.model.state_dict(), folder / "tiny.safetensors")
    path = folder / "tiny_task.py"
    path.write_text(TASK_FILE.format(folder=str(Path(__file__).parent), weights=str(folder / "tiny.safetensors")))
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of all commands: the layer database is built once."""
    folder = tmp_path_factory.mktemp("layers")
    before = os.environ.get("AUTOCOMPRESS_CACHE")
    os.environ["AUTOCOMPRESS_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["AUTOCOMPRESS_CACHE"]
    else:
        os.environ["AUTOCOMPRESS_CACHE"] = before


@pytest.fixture
def command(cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command line in this process."""

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["autocompress", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, out, err)

    return run


def spawn(*arguments: object) -> subprocess.Popen[str]:
    """Start a command line in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "autocompress", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def finished_in(journal: Path) -> int:
    """Finished trials in a journal that may be in use."""
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    return sum(b'"state":1' in line for line in lines)


def wait_for(process: subprocess.Popen[str], journal: Path, trials: int, seconds: float = 240.0) -> None:
    """Wait until a journal holds so many finished trials."""
    end = time.monotonic() + seconds
    while finished_in(journal) < trials:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.005)


@dataclass(frozen=True)
class Run:
    """A finished search, run in a process of its own with --json."""

    arguments: tuple[str, ...]
    folder: Path
    out: str
    err: str

    @property
    def front(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)
        return value

    @property
    def points(self) -> list[dict[str, Any]]:
        return points_of(self.front)


def points_of(front: dict[str, Any]) -> list[dict[str, Any]]:
    """All trials of a front.json, baselines among them, by number."""
    return sorted([*front["points"], *front["baselines"]], key=lambda point: int(point["trial"]))


def search_once(task_file: Path, results: Path, name: str, *more: str) -> Run:
    arguments = ("--task", f"{task_file}:task", "--results", str(results), "--study", name, *more)
    process = spawn(*arguments, "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return Run(arguments, results / name, out, err)


@pytest.fixture(scope="session")
def bounded(task_file: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search within a budget."""
    return search_once(task_file, tmp_path_factory.mktemp("bounded"), "bounded", "--budget", f"{BUDGET}ms", "--trials", "22")


@pytest.fixture(scope="session")
def whole_front(task_file: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of the whole front."""
    return search_once(task_file, tmp_path_factory.mktemp("front"), "front", "--trials", "30")
