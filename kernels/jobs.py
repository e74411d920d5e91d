"""What a row of a LatencyTable is measured on: a kernel by name and the arguments of csrc/ac_kernels.h that fit its geometry.

Times hardly depend on values, so a job holds none: csrc/bench.c makes weights, with zeros at random places, and inputs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .core_model import DTYPES
from .geometry import Geometry

_TYPES = {"fp32": "f32", "fp16": "f16", "int8": "s8"}
#: The activation `clamp` (relu, relu6) and, for the op `activation`, hardswish: enum in csrc/ac_kernels.h.
_CLAMP, _HARDSWISH = 1, 2


@dataclass(frozen=True)
class Sizes:
    """The integers of `ac_problem`, in its order; padding comes from the sizes, half of it before."""

    rows: int
    columns: int
    x_height: int
    x_width: int
    y_height: int
    y_width: int
    kernel_height: int = 1
    kernel_width: int = 1
    stride_height: int = 1
    stride_width: int = 1
    dilation_height: int = 1
    dilation_width: int = 1
    pad_top: int = 0
    pad_left: int = 0
    count_height: int = 0
    count_width: int = 0
    divisor: int = 0
    x_plane: int = 0
    x2_plane: int = 0
    y_plane: int = 0
    gate: int = 0
    x_lane: int = 0
    y_lane: int = 0
    y_real: int = 0
    activation: int = _CLAMP
    x_zero_point: int = 3
    x2_zero_point: int = -5
    y_zero_point: int = 7


@dataclass(frozen=True)
class Reals:
    """The reals of `ac_problem`, in its order."""

    low: float
    high: float
    slope: float = 0.0
    x_scale: float = 0.02
    x2_scale: float = 0.02
    y_inverse_scale: float = 50.0


@dataclass(frozen=True)
class Job:
    """A call of a kernel, as csrc/bench.c reads it.

    Attributes:
        kernel: its name in the registry; a program may not have it.
        zeros: share of blocks of weights that a sparse kernel leaves out.
        groups: of the convolution; its kernels take the blocks of a row's group as the kept ones.
    """

    kernel: str
    zeros: float
    groups: int
    sizes: Sizes
    reals: Reals

    def line(self) -> str:
        """The job as a line of a jobs file."""
        integers = dataclasses.astuple(self.sizes)
        reals = dataclasses.astuple(self.reals)
        return " ".join(map(str, (self.kernel, self.zeros, self.groups, *integers, *reals)))


def job_of(geometry: Geometry, structure: str, sparsity: float, bits: int) -> Job:
    """The job that measures a row. Whether there is such a kernel is for the program to say.

    Rows do not tell the activation: matrix kernels, add and mul are timed with a clamp, the op `activation` with hardswish.
    Pooling is timed as max pooling, `convert` as the way from fp32.
    """
    dtype = _TYPES[DTYPES[bits]]
    op = geometry.op
    groups = 1
    if op in ("conv", "linear"):
        groups = geometry.groups
        # Groups are blocks that are left out: dense in its group is sparse in the whole.
        packed = structure if groups == 1 else ("block4x4" if dtype == "s8" else "block4x1")
        kernel = f"{'s4' if bits == 4 else dtype}_{packed}"
    elif op == "depthwise":
        kernel = f"{dtype}_depthwise"
    elif op == "convert":
        kernel = f"convert_f32_{dtype}"
    else:
        kernel = f"{dtype}_{'max_pool' if op == 'pool' else op}"
    reals = Reals(-128.0, 127.0) if dtype == "s8" else Reals(0.0, 6.0)
    return Job(kernel, sparsity, groups, _sizes(geometry), reals)


def _sizes(geometry: Geometry) -> Sizes:
    height, width = geometry.in_height, geometry.in_width
    out_height, out_width = geometry.out_height, geometry.out_width
    x2_plane = gate = 0
    if geometry.op in ("add", "mul"):
        # A gate is told by the input's size of one pixel; the operand that it is applied to has the output's.
        gate = int((height, width) == (1, 1) != (out_height, out_width))
        height, width = out_height, out_width
        x2_plane = 1 if gate else height * width
    top, left = (
        max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - inputs) // 2
        for inputs, outputs, kernel, stride, dilation in (
            (height, out_height, geometry.kernel[0], geometry.stride[0], geometry.dilation[0]),
            (width, out_width, geometry.kernel[1], geometry.stride[1], geometry.dilation[1]),
        )
    )
    return Sizes(
        rows=geometry.out_channels,
        columns=geometry.in_channels if geometry.op in ("conv", "linear") else geometry.out_channels,
        x_height=height,
        x_width=width,
        y_height=out_height,
        y_width=out_width,
        kernel_height=geometry.kernel[0],
        kernel_width=geometry.kernel[1],
        stride_height=geometry.stride[0],
        stride_width=geometry.stride[1],
        dilation_height=geometry.dilation[0],
        dilation_width=geometry.dilation[1],
        pad_top=top,
        pad_left=left,
        x_plane=height * width,
        x2_plane=x2_plane,
        y_plane=out_height * out_width,
        gate=gate,
        activation=_HARDSWISH if geometry.op == "activation" else _CLAMP,
    )
