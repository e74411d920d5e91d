"""benchmarks/table_error.py: its Plans are mixed, every step that they run has a price, and its line is fitted rightly."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from autocompress.deployment.program import program
from autocompress.deployment.verify import op_rows
from autocompress.kernels.jobs import job_of
from autocompress.kernels.remote import StepTiming
from autocompress.kernels.table import LatencyTable
from autocompress.kernels.targets import load_target

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(4)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("table_error", ROOT / "benchmarks" / "table_error.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["table_error"] = module
    spec.loader.exec_module(module)
    return module


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


def test_the_line_is_the_one_that_the_times_are_on(script: ModuleType) -> None:
    sums = np.array([100.0, 400.0, 2500.0, 9000.0])
    line = script.fit_line(sums, 0.02 + 1.1 * sums / 1e3)
    assert (line.intercept_ms, line.slope) == pytest.approx((0.02, 1.1))
    assert line.ms(1000.0) == pytest.approx(1.12)
    through_zero = script.fit_line(sums, 1.1 * sums / 1e3 - 0.05)
    assert through_zero.intercept_ms == 0.0 and 0.8 < through_zero.slope < 1.1
    assert script.fit_line([2000.0], [3.0]) == script.Line(0.0, 1.5)


def test_figures(script: ModuleType) -> None:
    assert script.figures([-0.1, 0.02, 0.03]) == {"median": 0.03, "p95": pytest.approx(0.093), "bias": 0.02}
