"""Jobs: every row of a table is measured with the arguments that its op has."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest

from autocompress.kernels.arithmetic import ACTIVATIONS
from autocompress.kernels.calls import INTEGERS, REALS
from autocompress.kernels.geometry import Geometry, KernelOp, takes_winograd
from autocompress.kernels.jobs import has_kernel, job_of

PLANE = (14, 14, 14, 14)
WAYS: tuple[KernelOp, ...] = ("convert", "widen")


@pytest.mark.parametrize(
    ("geometry", "structure", "bits", "kernel"),
    [
        (Geometry("conv", 8, 16, *PLANE), "dense", 32, "f32_dense"),
        (Geometry("conv", 8, 16, *PLANE), "unstructured", 16, "f16_unstructured"),
        (Geometry("conv", 8, 16, *PLANE), "block1x4", 8, "s8_block1x4"),
        (Geometry("linear", 8, 16, 1, 1, 1, 1), "dense", 4, "s8_dense_w4"),
        (Geometry("conv", 8, 16, *PLANE, groups=2), "dense", 8, "s8_block4x4"),
        (Geometry("conv", 8, 16, *PLANE, groups=2), "dense", 4, "s8_block4x4"),
        (Geometry("conv", 8, 16, *PLANE, groups=2), "dense", 32, "f32_block4x1"),
        (Geometry("conv", 16, 16, *PLANE, kernel=(3, 3)), "dense", 32, "f32_winograd"),
        (Geometry("conv", 16, 16, *PLANE, kernel=(3, 3)), "dense", 16, "f16_dense"),
        (Geometry("conv", 16, 16, *PLANE, kernel=(3, 3)), "dense", 8, "s8_dense"),
        (Geometry("conv", 16, 16, *PLANE, kernel=(3, 3)), "block4x1", 32, "f32_block4x1"),
        (Geometry("conv", 32, 32, *PLANE, kernel=(3, 3), groups=2), "dense", 32, "f32_block4x1"),
        (Geometry("depthwise", 8, 8, *PLANE, kernel=(3, 3), groups=8), "dense", 8, "s8_depthwise"),
        (Geometry("add", 8, 8, *PLANE), "dense", 8, "s8_add"),
    ],
)
def test_kernels(geometry: Geometry, structure: str, bits: int, kernel: str) -> None:
    job = job_of(geometry, structure, 0.0, bits)
    assert job.kernel == kernel
    assert job.groups == (2 if geometry.groups == 2 else 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"in_channels": 15}, False),
        ({"out_channels": 15}, False),
        ({"kernel": (3, 1)}, False),
        ({"stride": (2, 1)}, False),
        ({"dilation": (1, 2)}, False),
        ({"groups": 2}, False),
        ({"op": "depthwise"}, False),
        ({"out_height": 7, "out_width": 7}, True),
        ({"out_height": 6, "out_width": 6}, True),
        ({"out_height": 5, "out_width": 7}, False),  # too few outputs
        ({"out_height": 1, "out_width": 100}, False),  # half of the tiles' outputs beyond the plane
        ({"out_height": 3, "out_width": 100}, True),
    ],
)
def test_where_winograd_pays(changes: dict[str, Any], expected: bool) -> None:
    geometry = replace(Geometry("conv", 16, 16, *PLANE, kernel=(3, 3)), **changes)
    assert takes_winograd(geometry) is expected
    assert expected is (job_of(geometry, "dense", 0.0, 32).kernel == "f32_winograd")
    assert has_kernel(geometry, "dense", 32)


def test_a_line_has_every_scalar_in_order() -> None:
    job = job_of(Geometry("conv", 8, 16, *PLANE), "block4x4", 0.7, 8)
    words = job.line().split()
    assert words[:3] == ["s8_block4x4", "0.7", "1"]
    assert len(words) == 3 + len(INTEGERS) + len(REALS)
    assert [float(word) for word in words[3:]] == [float(value) for value in astuple(job.problem)]


@pytest.mark.parametrize(
    ("size", "outputs", "kernel", "stride", "dilation", "padding"),
    [
        (14, 14, 3, 1, 1, 1),
        (14, 7, 3, 2, 1, 0),
        (15, 8, 3, 2, 1, 1),
        (14, 14, 5, 1, 2, 4),
        (14, 12, 3, 1, 1, 0),
        (7, 7, 1, 1, 1, 0),
    ],
)
def test_padding_comes_from_the_sizes(size: int, outputs: int, kernel: int, stride: int, dilation: int, padding: int) -> None:
    geometry = Geometry("conv", 4, 4, size, size, outputs, outputs, (kernel, kernel), (stride, stride), (dilation, dilation))
    problem = job_of(geometry, "dense", 0.0, 32).problem
    assert (problem.pad_top, problem.pad_left) == (padding, padding)
    # The last output reads at or before the last row of padding.
    assert (outputs - 1) * stride + (kernel - 1) * dilation < size + 2 * padding + 1


def test_operands() -> None:
    add = job_of(Geometry("add", 8, 8, *PLANE), "dense", 0.0, 32).problem
    assert (add.gate, add.x_plane, add.x2_plane, add.y_plane) == (0, 196, 196, 196)
    gate = job_of(Geometry("mul", 8, 8, 1, 1, 14, 14), "dense", 0.0, 32).problem
    assert (gate.gate, gate.x_height, gate.x_plane, gate.x2_plane, gate.y_plane) == (1, 14, 196, 1, 196)
    single = job_of(Geometry("mul", 8, 8, 1, 1, 1, 1), "dense", 0.0, 32).problem
    assert (single.gate, single.x2_plane) == (0, 1)
    linear = job_of(Geometry("linear", 8, 16, 1, 1, 1, 5), "dense", 0.0, 32).problem
    assert (linear.x_height, linear.y_width, linear.y_plane) == (1, 5, 5)


def test_conversions_have_a_direction() -> None:
    kernels = {(op, bits): job_of(Geometry(op, 8, 8, *PLANE), "dense", 0.0, bits).kernel for op in WAYS for bits in (16, 8)}
    assert kernels == {
        ("convert", 16): "f32_to_f16",
        ("convert", 8): "f32_to_s8",
        ("widen", 16): "f16_to_f32",
        ("widen", 8): "s8_to_f32",
    }


def test_activations() -> None:
    assert job_of(Geometry("conv", 8, 16, *PLANE), "dense", 0.0, 8).problem.activation == ACTIVATIONS.index("clamp")
    assert job_of(Geometry("activation", 8, 8, *PLANE), "dense", 0.0, 8).problem.activation == ACTIVATIONS.index("hardswish")
