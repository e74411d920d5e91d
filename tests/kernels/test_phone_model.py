"""benchmarks/phone_model.py: names of published rows become the right ops; the model is near max pools that were measured."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from autocompress.kernels.core_model import FITTED_X86, op_time_us
from autocompress.kernels.table import MeasuredRows

from ..scripts import load_script

ROOT = Path(__file__).resolve().parents[2]


phone_model = load_script("phone_model")


@pytest.mark.parametrize(
    ("name", "ops", "macs"),
    [
        # Without an expansion there is no first convolution: in ProxylessNAS's words and in Once-for-all's.
        (
            "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0",
            ["depthwise", "conv"],
            112 * 112 * (9 * 32 + 32 * 16),
        ),
        (
            "expanded_conv-input:80x80x24-output:80x80x24-expand:24-kernel:5-stride:1-idskip:1-se:0-hs:0",
            ["depthwise", "conv", "add"],
            80 * 80 * (25 * 24 + 24 * 24),
        ),
        (
            "expanded_conv-input:28x28x40-output:14x14x80-expand:6-kernel:5-stride:2-idskip:0",
            ["conv", "depthwise", "conv"],
            28 * 28 * 40 * 240 + 14 * 14 * (25 * 240 + 240 * 80),
        ),
        (
            "expanded_conv-input:10x10x96-output:10x10x96-expand:288-kernel:3-stride:1-idskip:1-se:0-hs:1",
            ["conv", "activation", "depthwise", "activation", "conv", "add"],
            10 * 10 * (2 * 96 * 288 + 9 * 288),
        ),
    ],
)
def test_blocks(name: str, ops: list[str], macs: int) -> None:
    block = phone_model.block(name)
    assert [op.op for op in block] == ops
    assert sum(op.macs for op in block) == macs


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("expanded_conv_5/depthwise 3x3 s1 192x28x28", 192 * 28 * 28 * 9),
        ("expanded_conv_7/depthwise 3x3 s1 384 14x14", 384 * 14 * 14 * 9),
        ("expanded_conv_6/depthwise 3x3 s2 192 28->14", 192 * 14 * 14 * 9),
        ("expanded_conv_5/project 192->32 28x28", 192 * 32 * 28 * 28),
        ("Conv_1 320->1280 7x7", 320 * 1280 * 7 * 7),
        ("Logits 1280->1001", 1280 * 1001),
    ],
)
def test_profiled_layers(name: str, macs: int) -> None:
    assert [op.macs for op in phone_model.profiled(name)] == [macs]


def test_unknown_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no op is known for Softmax 1001"):
        phone_model.profiled("Softmax 1001")
    with pytest.raises(ValueError, match="no ops are known"):
        phone_model.block("Pad-input:8x8x16-output:9x9x16")


def test_max_pools_are_near_those_measured() -> None:
    rows = {key: row for key, row in MeasuredRows.load(phone_model.HOST_ROWS).rows.items() if key.geometry.op == "pool"}
    sentinel = min(row.measurement.sentinel_ns for row in rows.values() if row.measurement is not None)
    core = phone_model.host_target(phone_model.SENTINEL_CYCLES / sentinel).core()
    for bits in (32, 8):
        ratios = [
            op_time_us(key.geometry, "dense", 0.0, bits, core, FITTED_X86) / row.microseconds
            for key, row in rows.items()
            if key.bits == bits
        ]
        assert len(ratios) == 6
        assert statistics.median(ratios) == pytest.approx(1.0, abs=0.25)
        assert all(0.8 < ratio < 1.5 for ratio in ratios)
