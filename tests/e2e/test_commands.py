"""The commands around a search."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Done, Run


def test_report_writes_the_same_anew(bounded: Run, command: Callable[..., Done]) -> None:
    (bounded.folder / "front.csv").unlink()
    done = command("report", "bounded", "--results", bounded.folder.parent, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == bounded.front
    assert (bounded.folder / "front.csv").exists()


def test_studies_lists_them(bounded: Run, command: Callable[..., Done], tmp_path: Path) -> None:
    done = command("studies", "--results", bounded.folder.parent)
    assert done.code == 0 and "bounded" in done.out and "0.066ms" in done.out
    assert "No studies in" in command("studies", "--results", tmp_path).out


def test_tasks_and_targets_are_listed(command: Callable[..., Done]) -> None:
    tasks, targets = command("tasks"), command("targets")
    assert tasks.code == targets.code == 0
    assert "efficientnet-lite0" in tasks.out and "fashion-mnist" in tasks.out
    assert "pixel7" in targets.out and "host" in targets.out


def test_profile_json(command: Callable[..., Done], task_file: Path) -> None:
    done = command("profile", "--task", f"{task_file}:task", "--target", "pixel7", "--json")
    assert done.code == 0, done.err
    value = json.loads(done.out)
    assert set(value) == {"schema", "task", "target", "latency_source", "dtypes"}
    assert (value["schema"], value["latency_source"]) == (1, "modelled")
    assert set(value["dtypes"]) == {"fp32", "fp16", "int8"}
    for column in value["dtypes"].values():
        assert set(column) == {"total_ms", "layers"}
        assert all(set(layer) == {"name", "op", "macs", "ms"} for layer in column["layers"])
        assert len([layer for layer in column["layers"] if layer["macs"]]) == 9
        assert column["total_ms"] >= 0.9 * sum(layer["ms"] for layer in column["layers"])
    macs = [layer["macs"] for layer in value["dtypes"]["int8"]["layers"] if layer["macs"]]
    assert macs[0] == 16 * 27 * 144 and macs[-1] == 64 * 6


def test_profile_on_the_terminal(command: Callable[..., Done], task_file: Path) -> None:
    done = command("profile", "--task", f"{task_file}:task")
    assert done.code == 0 and "whole network" in done.out and "modelled on pixel7" in done.out


@pytest.mark.parametrize("arguments", [("--nonsense",), ("report",), ("export", "x"), ("--trials", "many")], ids=" ".join)
def test_wrong_usage_ends_with_2(command: Callable[..., Done], arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.code == 2 and "Traceback" not in done.err
