"""Verification on this machine: outputs, times, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from autocompress.api import Prepared
from autocompress.deployment.verify import Verification, remember, verify
from autocompress.errors import UserError
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.kernels import remote
from autocompress.kernels.devices import DeviceInfo, this_machine
from autocompress.kernels.line import load_points
from autocompress.kernels.table import LatencyTable, Measurement, points_path
from autocompress.kernels.targets import load_target
from autocompress.kernels.toolchain import kernels_hash
from autocompress.reports.verification import print_verification, verified_of
from autocompress.spaces.plan import Plan


def verified(tiny: Prepared, plan: Plan, repeat: int = 3) -> Verification:
    host = load_target("host")
    latency = tiny.profile.latency
    return verify(
        tiny.recovered(plan),
        tiny.evaluator.samples[:2],
        latency(plan),
        latency.source,
        host,
        host.core(),
        repeat=repeat,
    )


def test_a_network_on_this_machine(tiny: Prepared, random_plan: Callable[[int], Plan]) -> None:
    plan = random_plan(1)
    found = verified(tiny, plan)
    assert found.agrees and found.same_as_kernels and found.samples == 2
    assert found.measured_ms is not None and found.measured_ms > 0
    assert found.predicted_ms == tiny.profile.latency(plan).ms
    both = [row.name for row in found.ops if row.measured is not None and row.predicted is not None]
    assert set(plan) <= set(both), "every Layer is timed and predicted"
    predicted = tiny.profile.latency(plan).ops
    conversions = {row.name for row in predicted if row.op == "convert"}
    assert conversions <= set(both)
    assert json.loads(json.dumps(found.to_json()))["agrees"] is True
    text = StringIO()
    print_verification(found, Console(file=text, width=120))
    assert "the ops compute what was evaluated" in text.getvalue() and "measured" in text.getvalue()


def test_outputs_alone(tiny: Prepared, random_plan: Callable[[int], Plan]) -> None:
    found = verified(tiny, random_plan(2), repeat=0)
    assert found.same_as_kernels and found.measured_ms is None
    assert all(row.measured is None for row in found.ops)
    text = StringIO()
    print_verification(found, Console(file=text, width=120))
    assert "not timed" in text.getvalue()


def test_times_of_emulators_are_refused(
    tiny: Prepared, random_plan: Callable[[int], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = this_machine()
    emulated = DeviceInfo(real.machine, real.product, real.cpus, real.features, "qemu")
    monkeypatch.setattr(remote.Device, "describe", lambda self: emulated)
    with pytest.raises(UserError, match="is an emulator"):
        verified(tiny, random_plan(1))
    assert verified(tiny, random_plan(1), repeat=0).same_as_kernels
    with pytest.raises(UserError, match="runs programs in an emulator"):
        remote._check_header({"acrun": 1, "machine": "aarch64", "vdso": True}, "ssh://x", "x86_64", timed=True)


def test_a_measured_time_becomes_a_point_of_the_line(
    tiny: Prepared, random_plan: Callable[[int], Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    plan, latency = random_plan(1), tiny.profile.latency
    modelled = latency(plan)
    assert remember(2.0, latency.table.device, "tiny", plan, modelled, latency.table) is None, "modelled rows say nothing"
    how = Measurement(99, kernels_hash(), "phone1", 25e3, "2026-11-22T10:11:12+00:00")
    rows = {key: dataclasses.replace(row, source="measured", measurement=how) for key, row in latency.table.rows.items()}
    table = LatencyTable(latency.table.target, latency.table.core, measured=rows, pessimism=0.9)
    measured = LatencyEvaluator(tiny.profile.network, tiny.profile.space.groups, table)(plan)
    assert remember(2.0, "phone2", "tiny", plan, measured, table) is None, "another device's time"
    line = remember(2.0, "phone1", "tiny", plan, measured, table)
    total = math.fsum(op.median for op in measured.ops)
    assert line is not None and (line.intercept_ms, line.slope) == (0.0, pytest.approx(2e3 / total))
    (point,) = load_points(points_path(table.target, table.core))
    assert (point.network, point.plan, point.sum_us, point.measured_us) == ("tiny", plan.key, total, 2000.0)


def test_what_a_report_says_of_a_verification(tiny: Prepared, random_plan: Callable[[int], Plan]) -> None:
    plan = random_plan(1)
    found = verified(tiny, plan)
    told = verified_of(found, plan)
    assert told is not None and told.plan == plan.key and told.fingerprint == this_machine().fingerprint
    assert (told.predicted_ms, told.measured_ms, told.source) == (found.predicted_ms, found.measured_ms, "modelled")
    assert set(plan) <= {op.name for op in told.ops}
    assert verified_of(dataclasses.replace(found, measured_ms=None), plan) is None
