"""Verification on this machine: outputs, times, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from autocompress.api import Prepared
from autocompress.deployment.verify import Verification, verify
from autocompress.errors import UserError
from autocompress.kernels import remote
from autocompress.kernels.devices import DeviceInfo, this_machine
from autocompress.kernels.targets import load_target
from autocompress.reports.verification import print_verification
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
