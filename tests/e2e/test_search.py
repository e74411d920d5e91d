"""What a finished search leaves behind."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from autocompress.api import Prepared, prepare
from autocompress.evaluators.loss import divergence, outputs
from autocompress.kernels.targets import load_target
from autocompress.progress import Phases, Silent
from autocompress.settings import SearchSettings
from autocompress.spaces.plan import Plan
from autocompress.tasks.loader import load_task
from autocompress.tasks.task import evaluation_data

from .conftest import BUDGET, Done, Run

TOP = {"schema", "task", "target", "latency_source", "line", "pessimism", "budget_ms", "dense_ms", "best", "points", "baselines"}
TOP |= {"max_size_bytes", "objectives"}
POINT = {"trial", "latency_ms", "search_loss", "loss", "metric", "size_bytes", "on_front", "feasible", "plan"}
POINT |= {"latency_median_ms", "latency_low_ms", "latency_high_ms"}


@pytest.fixture(scope="module")
def prepared(task_file: Path, cache: Path) -> Prepared:
    """The task as the commands see it."""
    settings = SearchSettings(cache=cache)
    return prepare(load_task(f"{task_file}:task"), load_target("pixel7"), settings, Phases(Silent()))


@pytest.fixture(params=["bounded", "whole_front"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.getfixturevalue(request.param)
    return found


def test_front_json_has_exactly_the_promised_fields(run: Run) -> None:
    front = run.front
    assert set(front) == TOP
    assert front["line"].startswith("0.0 us + 1.0000 x sum of rows (")
    assert (front["schema"], front["task"], front["target"]) == (1, "tiny", "pixel7")
    assert front["latency_source"] == "modelled"
    assert set(front["dense_ms"]) == {"fp32", "int8"}
    assert front["points"] and front["baselines"]
    for point in front["points"]:
        assert set(point) == POINT
    for baseline in front["baselines"]:
        assert set(baseline) == POINT | {"name"}
    assert len(run.points) == int(run.arguments[run.arguments.index("--trials") + 1])
    assert {"fp32 dense", "int8 dense"} <= {baseline["name"] for baseline in front["baselines"]}
    for point in run.points:
        assert isinstance(point["trial"], int) and isinstance(point["size_bytes"], int)
        assert isinstance(point["on_front"], bool) and isinstance(point["feasible"], bool)
        assert math.isfinite(point["latency_ms"]) and math.isfinite(point["search_loss"])


def test_json_on_stdout_is_the_file_and_stderr_has_no_warnings(run: Run) -> None:
    assert run.front == json.loads((run.folder / "front.json").read_text())
    assert "Warning" not in run.err and "Traceback" not in run.err
    assert run.folder.name in run.err, "the summary tells where the report is"


def test_every_file_is_there(run: Run) -> None:
    for name in (
        "front.json",
        "front.csv",
        "report.html",
        "best/plan.json",
        "best/weights.safetensors",
        "best/model.onnx",
        "best/model.acm",
    ):
        assert (run.folder / name).stat().st_size > 0, name
    assert not list(run.folder.rglob("*.part"))
    with (run.folder / "front.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + len(run.points)
    page = (run.folder / "report.html").read_text()
    assert "modelled" in page and page.lstrip().lower().startswith("<!doctype html")


def test_the_front_is_what_no_trial_beats(run: Run) -> None:
    for point in run.points:
        beaten = any(
            (o["latency_ms"] <= point["latency_ms"] and o["search_loss"] < point["search_loss"])
            or (o["latency_ms"] < point["latency_ms"] and o["search_loss"] <= point["search_loss"])
            for o in run.points
        )
        if point["on_front"]:
            assert not beaten
    assert any(point["on_front"] for point in run.points)


def test_loss_and_metric_are_null_exactly_elsewhere(run: Run) -> None:
    baselines = {baseline["trial"] for baseline in run.front["baselines"]}
    judged = 0
    for point in run.points:
        wanted = point["on_front"] or point["trial"] in baselines or point["trial"] == run.front["best"]
        assert (point["loss"] is not None) == (point["metric"] is not None) == wanted
        judged += wanted
    assert judged < len(run.points), "every trial was judged: nothing was shown"


def test_plans_are_what_was_evaluated(run: Run, prepared: Prepared) -> None:
    for point in run.points:
        plan = Plan.from_json(json.loads((run.folder / point["plan"]).read_text()))
        assert prepared.profile.latency(plan).ms == pytest.approx(point["latency_ms"])
    # The last of those whose loss is that of all samples.
    points = json.loads((run.folder / "result.json").read_text())["points"]
    some = [
        point for point in points if point["search_inputs"] == len(prepared.evaluator.samples) + len(prepared.evaluator.more)
    ][-1]
    plan = Plan.from_json(json.loads((run.folder / some["plan"]).read_text()))
    assert prepared.evaluator.loss(plan) == pytest.approx(some["search_loss"], rel=1e-6)


def test_the_best_plan_is_within_the_budget(bounded: Run) -> None:
    front = bounded.front
    assert front["budget_ms"] == BUDGET
    by_number = {point["trial"]: point for point in bounded.points}
    best = by_number[front["best"]]
    assert best["latency_ms"] <= BUDGET and best["feasible"]
    for point in bounded.points:
        assert point["feasible"] == (point["latency_ms"] <= BUDGET)
    assert all(point["feasible"] for point in front["points"]), "our sampler proposes nothing beyond the budget"
    assert json.loads((bounded.folder / "best" / "plan.json").read_text()) == json.loads(
        (bounded.folder / best["plan"]).read_text()
    )


def test_without_a_budget_everything_is_feasible(whole_front: Run) -> None:
    assert whole_front.front["budget_ms"] is None
    assert all(point["feasible"] for point in whole_front.points)


def test_the_artifact_computes_what_was_evaluated(run: Run, prepared: Prepared) -> None:
    plan = Plan.from_json(json.loads((run.folder / "best" / "plan.json").read_text()))
    inputs, labels = evaluation_data(prepared.task)
    expected = outputs(prepared.recovered(plan).run, inputs)
    session = onnxruntime.InferenceSession(run.folder / "best" / "model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = torch.from_numpy(np.concatenate([session.run(None, {name: image[None].numpy()})[0] for image in inputs]))
    assert float((found - expected).square().mean() / expected.var()) < 1e-4
    best = next(point for point in run.points if point["trial"] == run.front["best"])
    dense = outputs(prepared.evaluator.dense.run, inputs)
    assert divergence(dense, expected) == pytest.approx(best["loss"], rel=1e-4, abs=1e-7)
    assert float((found.argmax(1) == labels).float().mean()) == pytest.approx(best["metric"], abs=0.02)


def test_export_of_another_trial(bounded: Run, command: Callable[..., Done], tmp_path: Path) -> None:
    point = next(point for point in bounded.points if point["trial"] != bounded.front["best"])
    done = command("export", "bounded", "--trial", point["trial"], "--to", tmp_path / "x", "--results", bounded.folder.parent)
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        "model.acm",
        "model.onnx",
        "plan.json",
        "weights.safetensors",
    ]
    assert json.loads((tmp_path / "x" / "plan.json").read_text()) == json.loads((bounded.folder / point["plan"]).read_text())
    refused = command("export", "bounded", "--trial", 999, "--to", tmp_path / "y", "--results", bounded.folder.parent)
    assert "no finished trial 999" in refused.message
    assert not (tmp_path / "y").exists()
