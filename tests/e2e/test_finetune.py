"""Fine-tuning from the command line: what it writes, and that it goes on after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from autocompress.api import Prepared
from autocompress.deployment.weights import load_weights
from autocompress.evaluators.loss import divergence, outputs
from autocompress.kernels.runtime import Model
from autocompress.reports.result import StudyResult
from autocompress.spaces.plan import Plan
from autocompress.tasks.task import evaluation_data

from .conftest import Done, Run, points_of, spawn


def best_of(folder: Path) -> dict[str, Any]:
    front = json.loads((folder / "front.json").read_text())
    return next(point for point in points_of(front) if point["trial"] == front["best"])


def copied(run: Run, folder: Path) -> Path:
    return Path(shutil.copytree(run.folder, folder / run.folder.name))


def test_the_best_network_is_trained_reported_and_written(
    bounded: Run, command: Callable[..., Done], tiny: Prepared, tmp_path: Path
) -> None:
    folder = copied(bounded, tmp_path)
    before = best_of(folder)
    done = command("finetune", "bounded", "--minutes", 0.1, "--results", tmp_path)
    assert done.code == 0, done.err
    assert "minutes of fine-tuning" in " ".join(done.out.split())
    after, told = best_of(folder), best_of(folder)["finetuned"]
    assert "finetuned" not in before and after["plan"] == before["plan"] and after["latency_ms"] == before["latency_ms"]
    assert (told["loss_before"], told["metric_before"]) == (pytest.approx(before["loss"]), before["metric"])
    assert told["held_out"] <= told["held_out_before"] and 0 < told["minutes"] < 0.2 and told["steps"] > 0
    assert StudyResult.load(folder / "result.json").finetuned is not None
    assert "fine-tuning" in (folder / "report.html").read_text()
    plan = Plan.from_json(json.loads((folder / "best" / "plan.json").read_text()))
    written = load_weights(tiny.recovered(plan), folder / "best" / "weights.safetensors")
    inputs, _ = evaluation_data(tiny.task)
    expected = outputs(written.run, inputs)
    loss = divergence(outputs(tiny.evaluator.dense.run, inputs), expected)
    assert loss == pytest.approx(after["loss"], rel=1e-3, abs=1e-7)
    session = onnxruntime.InferenceSession(folder / "best" / "model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    images = [image.numpy() for image in inputs[:32]]
    in_onnx = torch.from_numpy(np.concatenate([session.run(None, {name: image[None]})[0] for image in images]))
    with Model(folder / "best" / "model.acm") as model:
        in_runtime = torch.from_numpy(np.stack([model.run(image) for image in images])).view_as(in_onnx)
    for found in (in_onnx, in_runtime):
        assert float((found - expected[:32]).square().mean() / expected.var()) < 1e-4


def test_a_killed_training_goes_on(bounded: Run, command: Callable[..., Done], tmp_path: Path) -> None:
    folder = copied(bounded, tmp_path)
    arguments = ("finetune", "bounded", "--minutes", "0.5", "--results", str(tmp_path))
    process = spawn(*arguments)
    end = time.monotonic() + 240
    while not list((folder / "finetune").glob("*.safetensors")):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    (path,) = (folder / "finetune").glob("[!.]*.safetensors")
    # The optimizer's state is no part of this: a step back to better parameters drops it.
    kept = {name: value for name, value in load_file(path).items() if name.startswith("now.")}
    assert kept and "finetuned" not in best_of(folder)
    done = command(*arguments)
    assert done.code == 0, done.err
    told = best_of(folder)["finetuned"]
    assert told["minutes"] == pytest.approx(0.5, abs=0.25)
    after = load_file(path)
    assert any(not torch.equal(value, after[name]) for name, value in kept.items())
    again = command(*arguments)
    assert again.code == 0 and best_of(folder)["finetuned"] == told


def test_no_time_to_train_is_refused(bounded: Run, command: Callable[..., Done], task_file: Path, tmp_path: Path) -> None:
    refused = command("--task", f"{task_file}:task", "--budget", "1ms", "--finetune", 0, "--results", tmp_path)
    assert "--finetune 0" in refused.message
