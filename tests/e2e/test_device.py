"""Searching with the device attached, from the command line: this computer is the device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autocompress.reports.verified import load_verified

from .conftest import Done

#: Milliseconds that every Plan of the tiny task meets on any computer.
PLENTY = 200


@pytest.fixture
def searched(
    command: Callable[..., Done], task_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def run(*more: object) -> Done:
        return command(
            "--task", f"{task_file}:task", "--target", "host", "--results", tmp_path, "--study", "own", "--trials", 12, *more
        )

    return run


def test_the_best_plans_run_on_the_device(searched: Callable[..., Done], command: Callable[..., Done], tmp_path: Path) -> None:
    done = searched("--budget", f"{PLENTY}ms", "--device", "local")
    assert done.code == 0, done.err
    assert "networks ran on local: at most" in done.out
    folder = tmp_path / "own"
    verified = load_verified(folder)
    assert verified and all(0 < each.measured_ms <= PLENTY and each.ops for each in verified)
    result = json.loads((folder / "result.json").read_text())
    best = json.loads((folder / f"plans/{result['best']:05d}.json").read_text())
    assert result["provenance"]["device"]["searched within"] == f"{PLENTY} ms"
    assert "0.0 us + 1.0000 x sum of rows" in result["provenance"]["table"]["line"]
    assert "Predicted and measured" in (folder / "report.html").read_text()
    assert json.loads((folder / "best" / "plan.json").read_text()) == best
    # Nothing runs again that is known, and the study goes on with its device and its line.
    again = command("resume", "own", "--results", tmp_path)
    assert again.code == 0, again.err
    assert load_verified(folder) == verified
    told = command("verify", "own", "--repeat", 5, "--results", tmp_path)
    assert told.code == 0, told.err
    assert len(load_verified(folder)) == len(verified) and load_verified(folder) != verified
    assert "later searches" not in told.out, "a modelled table has no fitted line"


def test_a_device_without_a_budget_is_refused(searched: Callable[..., Done]) -> None:
    assert "add --budget" in searched("--device", "local").message


@pytest.mark.parametrize("url", ["ssh://me@phone", "nonsense"])
def test_another_device_is_refused_before_the_search(searched: Callable[..., Done], tmp_path: Path, url: str) -> None:
    assert searched("--budget", f"{PLENTY}ms", "--device", url).message
    assert not (tmp_path / "own" / "study.journal").exists()
