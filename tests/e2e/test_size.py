"""Searches that are about size, alone or beside latency."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import BUDGET, Done, points_of


def costs(point: dict[str, Any], objectives: list[str]) -> tuple[float, ...]:
    names = {"latency": "latency_ms", "size": "size_bytes"}
    return point["search_loss"], *(point[names[objective]] for objective in objectives)


@pytest.mark.parametrize(
    ("arguments", "minimised", "title"),
    [
        (("--budget", f"{BUDGET}ms", "--max-size", "12kB"), [], f"within {BUDGET} ms and 12.0 kB"),
        (("--objective", "size", "--max-size", "12KB"), [], "within 12.0 kB"),
        (("--max-size", "12000B"), ["latency"], "loss against latency within 12.0 kB"),
        (("--objective", "size"), ["size"], "loss against size"),
        (("--objective", "latency,size"), ["latency", "size"], "loss against latency and size"),
    ],
    ids=["both", "size", "latency within a size", "size front", "both fronts"],
)
def test_a_search(
    command: Callable[..., Done], task_file: Path, tmp_path: Path, arguments: tuple[str, ...], minimised: list[str], title: str
) -> None:
    more = ("--task", f"{task_file}:task", "--results", tmp_path, "--study", "s", "--trials", 26 if minimised else 14)
    done = command(*more, *arguments, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert title in done.err
    budget, largest, objectives = told["budget_ms"], told["max_size_bytes"], told["objectives"]
    assert largest == (12_000 if "--max-size" in arguments else None)
    assert objectives == (arguments[arguments.index("--objective") + 1] if "--objective" in arguments else "latency").split(",")
    points = points_of(told)
    for point in points:
        within = (budget is None or point["latency_ms"] <= budget) and (largest is None or point["size_bytes"] <= largest)
        assert point["feasible"] == within
    assert all(point["feasible"] for point in told["points"]), "our sampler proposes nothing beyond a budget"
    best = next(point for point in points if point["trial"] == told["best"])
    assert best["feasible"] and best["loss"] is not None
    # What is beyond a budget that is no objective takes no part in the front.
    of = [point for point in points if "size" in objectives or largest is None or point["size_bytes"] <= largest]
    of = [point for point in of if "latency" in objectives or budget is None or point["latency_ms"] <= budget]
    assert any(point["on_front"] for point in of) and not any(point["on_front"] for point in points if point not in of)
    for point in of:
        mine = costs(point, objectives)
        others = [costs(other, objectives) for other in of]
        beaten = any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in others)
        assert not (point["on_front"] and beaten)
        assert point["on_front"] or beaten or others.count(mine) > 1
    page = (tmp_path / "s" / "report.html").read_text()
    assert 'id="pareto-second"' in page and "Loss against" in page

    again = command("resume", "s", "--results", tmp_path, "--trials", len(points) + 2, "--json")
    assert again.code == 0, again.err
    longer = json.loads(again.out)
    assert len(points_of(longer)) == len(points) + 2
    assert (longer["max_size_bytes"], longer["objectives"]) == (largest, objectives)
    shown = command("report", "s", "--results", tmp_path)
    assert shown.code == 0 and title in " ".join(shown.out.split())
    other = command(*more, "--budget", f"{BUDGET}ms", "--max-size", "11kB")
    assert re.search("study s was made with another .*max size", other.message)


def test_an_impossible_size_names_what_holds_it_and_one_that_works(
    command: Callable[..., Done], task_file: Path, tmp_path: Path
) -> None:
    arguments = ("--task", f"{task_file}:task", "--results", tmp_path, "--trials", 1)
    smallest = command(*arguments, "--max-size", "1kB").message
    assert "held by" in smallest and "asked for 1 kB" in smallest
    size = smallest.rpartition("Try --max-size ")[2].rstrip(".")
    assert command(*arguments, "--objective", "size", "--max-size", size).code == 0


def test_names_of_studies(command: Callable[..., Done], task_file: Path, tmp_path: Path) -> None:
    arguments = ("--task", f"{task_file}:task", "--results", tmp_path, "--trials", 1)
    assert command(*arguments, "--budget", f"{BUDGET}ms", "--max-size", "20kB").code == 0
    assert command(*arguments, "--objective", "size").code == 0
    assert {path.parent.name for path in tmp_path.glob("*/front.json")} == {
        f"tiny-pixel7-{BUDGET}ms-20kB",
        "tiny-pixel7-front-size",
    }
