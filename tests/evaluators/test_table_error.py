"""benchmarks/table_error.py: its Plans are mixed, every step that they run has a price, and its line is fitted rightly."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from autocompress.deployment.program import program
from autocompress.deployment.verify import OpRow, op_rows
from autocompress.kernels.jobs import job_of
from autocompress.kernels.remote import StepTiming
from autocompress.kernels.table import LatencyTable
from autocompress.kernels.targets import load_target

from ..scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(4)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    load_script("idle")
    return load_script("table_error")


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion-mnist-resnet"])
def test_every_step_of_a_plan_has_a_price_and_the_reverse(script: ModuleType, name: str) -> None:
    subject = script.Subject.of(name)
    target = load_target("host")
    table = LatencyTable(target, target.core())
    structures, bits = set(), set()
    for seed in SEEDS:
        plan = subject.plan(seed)
        assert plan == subject.plan(seed)
        structures |= {option.structure for option in plan.values()}
        bits |= {option.bits for option in plan.values()}
        steps = program(subject.candidate(plan)).steps
        rows = op_rows([StepTiming(step.name, step.call.kernel, 1.0) for step in steps], subject.latency(table)(plan).ops)
        assert rows and all(row.measured and row.predicted for row in rows)
        assert len(rows) == len(steps)
    assert {"dense", "channel", "block4x4"} <= structures and {8, 32} <= bits
    needed = script.needed([subject], len(SEEDS))
    assert set(needed) == table.rows.keys()
    kernels = {job_of(key.geometry, key.structure, key.sparsity, key.bits).kernel for key in needed}
    assert {"f32_to_s8", "s8_to_f32", "s8_dense", "f32_dense"} <= kernels


def scored(script: ModuleType, network: str, sum_ms: float, ms: float, steady: bool = True) -> Any:
    ops = (OpRow("stem", "s8_dense", 400.0, 420.0), OpRow("head", "s8_dense", 100.0, 100.0))
    return script.Scored(network, "plan", ms, 1.01 * ms, 1.2 * ms, 5, steady, sum_ms, ops)


def test_the_line_is_fitted_on_networks_that_are_not_kept_aside(script: ModuleType) -> None:
    plans = [scored(script, "fashion-mnist", ms, 0.02 + 1.1 * ms) for ms in (0.1, 0.5)]
    plans += [scored(script, "efficientnet-lite0", 8.0, 8.82, steady=False)]
    plans += [scored(script, "mobilenetv4-conv-small", ms, 1.05 * (0.02 + 1.1 * ms)) for ms in (2.0, 3.0)]
    text = StringIO()
    value = script.report(plans, Console(file=text, width=120))
    assert (value["line"]["intercept_ms"], value["line"]["slope"]) == pytest.approx((0.02, 1.1))
    assert value["line"]["fitted_on"] == ["efficientnet-lite0", "fashion-mnist"]
    scores = value["scores"]
    assert scores["fashion-mnist"]["line"]["median"] == 0.0 and scores["fashion-mnist"]["sum"]["bias"] < -0.09
    assert scores["kept aside"] == {**scores["mobilenetv4-conv-small"], "plans": 2}
    assert scores["kept aside"]["line"]["median"] == pytest.approx(1 - 1 / 1.05, abs=1e-4)
    assert scores["all"]["plans"] == 5 and value["plans_unsteady"] == 1
    assert value["second_round"] == {"median": 0.01, "p95": 0.01}
    assert value["slowest_round"] == {"median": 0.2, "p95": 0.2}
    assert "kept aside" in text.getvalue()
    kernel = script.by_kernel(plans[:1])
    assert kernel == [{"kernel": "s8_dense", "measured": pytest.approx(0.5 / 0.13, rel=1e-3), "predicted": pytest.approx(4.0)}]


def test_figures(script: ModuleType) -> None:
    assert script.figures([-0.1, 0.02, 0.03]) == {"median": 0.03, "p95": pytest.approx(0.093), "bias": 0.02}
