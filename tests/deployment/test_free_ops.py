"""What the latency calls free takes no step of a Program, and what it prices takes one."""

from __future__ import annotations

import pytest

from autocompress.deployment.program import program
from autocompress.deployment.verify import op_rows
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.evaluators.needed_rows import needed_rows
from autocompress.evaluators.views import leading_axes
from autocompress.kernels.remote import StepTiming
from autocompress.kernels.table import LatencyTable
from autocompress.kernels.targets import load_target
from autocompress.spaces.network import Network
from autocompress.spaces.option import Bits
from autocompress.spaces.plan import Plan

from .networks import SMALL, captured, make_candidate, uniform


def latency_of(network: Network) -> LatencyEvaluator:
    target = load_target("host")
    return LatencyEvaluator(network, (), LatencyTable(target, target.core()))


def unmatched(name: str, bits: Bits) -> tuple[set[str], set[str]]:
    """Steps that no row prices, and rows of ops that take no step."""
    network = captured(SMALL[name].model(), SMALL[name].shape)
    options = uniform(network, bits)
    steps = program(make_candidate(network, options)).steps
    told = latency_of(network)(Plan.of(options))
    rows = op_rows([StepTiming(step.name, step.call.kernel, 1.0) for step in steps], told.ops)
    return {row.name for row in rows if row.predicted is None}, {row.name for row in rows if row.measured is None}


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("name", ["convnext", "slice_inside_a_quad", "squeeze_excite", "cat_of_different_scales"])
def test_every_step_is_priced_and_every_price_is_a_step(name: str, bits: Bits) -> None:
    assert unmatched(name, bits) == (set(), set())


def test_slices_of_whole_channels() -> None:
    assert unmatched("split_and_cat", 32) == (set(), set())
    # In int8 a slice that begins inside a quad is moved, but by a concatenation, which reads it where it lies.
    assert unmatched("split_and_cat", 8) == (set(), {"slice_2"})


@pytest.mark.parametrize("bits", [32, 8])
def test_a_shuffle_is_moved_once(bits: Bits) -> None:
    """By the step that reads it; the price is at the permutation."""
    assert unmatched("channel_shuffle", bits) == ({"reshape_1"}, {"permute"})


def test_leading_axes() -> None:
    network = captured(SMALL["convnext"].model(), SMALL["convnext"].shape)
    axes = leading_axes(network)
    first, second = (op for op in network.ops if op.kind == "permute")
    assert (axes[first.inputs[0]], axes[first.name]) == (0, 2)
    assert (axes[second.inputs[0]], axes[second.name]) == (2, 0)
    assert not any(key.geometry.op == "gather" for key in needed_rows(latency_of(network)))


def test_pixels_are_gathered() -> None:
    network = captured(SMALL["slice_of_pixels"].model(), SMALL["slice_of_pixels"].shape)
    latency = latency_of(network)
    sliced = next(op for op in network.ops if op.kind == "slice")
    assert not latency.free(sliced, "fp32")
    assert latency.other_geometry(sliced, {}).op == "gather"
