"""`autocompress bench` as a user runs it: on this machine, killed, continued, then used by other commands."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autocompress.kernels.table import MeasuredRows, measured_path
from autocompress.kernels.targets import load_target

from .conftest import Done, spawn

HOST = load_target("host")
QUICK = ("--row-ms", "0", "--tries", "1")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Measured rows and programs in folders of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


def rows() -> int:
    path = measured_path(HOST, HOST.core())
    return len(MeasuredRows.load(path).rows) if path.exists() else 0


def ended_after(count: int, how: int, *arguments: object) -> tuple[int, str]:
    """Exit code and messages of a command that gets a signal once so many rows are measured."""
    process = spawn(*arguments)
    try:
        deadline = time.monotonic() + 400  # compiling comes first
        while rows() < count:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        os.kill(process.pid, how)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, out + err


def test_killed_continued_and_used(command: Callable[..., Done], task_file: Path, folders: Path) -> None:
    arguments = ("bench", "--target", "host", "--task", f"{task_file}:task", *QUICK)
    code, _ = ended_after(40, signal.SIGKILL, *arguments)
    assert code == -signal.SIGKILL
    killed = rows()
    assert killed >= 40
    code, told = ended_after(killed + 40, signal.SIGINT, *arguments)
    assert code == 130 and "The same command goes on from here" in told
    # What was killed left its folder, what was interrupted did not.
    assert len(list((folders / "tmp").glob("autocompress.*"))) == 1
    before = rows()
    done = command(*arguments)
    assert done.code == 0, done.err
    measured, present = (int(words.split()[-1 if "measured" in words else 0]) for words in _counts(done.out))
    assert present <= before and measured + present == rows() > before
    profile = json.loads(command("profile", "--target", "host", "--task", f"{task_file}:task", "--json").out)
    assert profile["latency_source"] == "measured"
    assert profile["dtypes"]["fp32"]["total_ms"] > 0
    told = command("profile", "--target", "host", "--task", f"{task_file}:task").out
    assert "measured on host cpu" in " ".join(told.split())
    listed = next(line for line in command("targets").out.splitlines() if line.startswith("host"))
    assert str(rows()) in listed and time.strftime("%Y-", time.gmtime()) in listed


def _counts(out: str) -> list[str]:
    line = next(line for line in out.splitlines() if "rows measured, " in line)
    first, _, second = line.partition(" rows measured, ")
    return [f"measured {first}", second]


def test_the_general_grid_begins(folders: Path) -> None:
    code, _ = ended_after(5, signal.SIGINT, "bench", "--target", "host", "--all", *QUICK)
    assert code == 130


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "pixel77"), "unknown target 'pixel77'"),
        (("--target", "pixel7", "--device", "usb"), "'usb' names no device"),
        (("--target", "pixel7", "--device", "local"), "X1 of pixel7 a cortex-x1: choose the right --device"),
        (("--target", "pixel7", "--device", "ssh://127.0.0.1:1"), "cannot reach ssh://127.0.0.1:1"),
        (("--target", "host", "--device", "adb://"), "is this computer"),
        (("--target", "host", "--core", "X9"), "has no core 'X9'"),
        (("--target", "host", "--cpu", "4096"), "has no CPU 4096"),
        (("--target", "host", "--row-ms", "-1"), "--row-ms -1.0 is out of range"),
        (("--target", "host", "--tries", "0"), "--tries 0 is out of range"),
    ],
)
def test_bad_input(command: Callable[..., Done], arguments: tuple[str, ...], words: str) -> None:
    assert words in command("bench", "--all", *arguments).message


def test_a_folder_that_cannot_be_written(command: Callable[..., Done], folders: Path) -> None:
    (folders / "data").write_text("a file")
    assert "cannot write" in command("bench", "--all", "--target", "host").message
