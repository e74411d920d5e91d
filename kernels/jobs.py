"""What a row of a LatencyTable is measured on: a kernel by name and the arguments of csrc/ac_kernels.h that fit its geometry.

Times hardly depend on values, so a job holds none: csrc/bench.c makes weights, with zeros at random places, and inputs.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

from .arithmetic import ACTIVATIONS
from .calls import Problem
from .geometry import Geometry, takes_winograd
from .packing import KERNELS, WINOGRAD_KERNEL, PackedDtype

_DTYPES: dict[int, PackedDtype] = {32: "fp32", 16: "fp16", 8: "int8"}
_PREFIXES: dict[PackedDtype, str] = {"fp32": "f32", "fp16": "f16", "int8": "s8", "int4": "s8"}
#: Structure as which a dense convolution of several groups is packed: dense in its group is sparse in the whole.
_GROUPED = {"fp32": "block4x1", "fp16": "block4x1", "int8": "block4x4"}
#: Ops whose kernels have another name.
_NAMES = {"pool": "max_pool"}


@dataclass(frozen=True)
class Job:
    """A call of a kernel, as csrc/bench.c reads it.

    Attributes:
        kernel: its name in the registry; a program may not have it.
        zeros: share of blocks of weights that a sparse kernel leaves out.
        groups: of the convolution: more than one are the blocks on a diagonal, for a sparse kernel.
    """

    kernel: str
    zeros: float
    groups: int
    problem: Problem

    def line(self) -> str:
        """The job as a line of a jobs file."""
        return " ".join(map(str, (self.kernel, self.zeros, self.groups, *astuple(self.problem))))


def job_of(geometry: Geometry, structure: str, sparsity: float, bits: int) -> Job:
    """The job that measures a row. Whether there is such a kernel is for the program to say.

    Rows do not tell the activation: matrix kernels, add and mul are timed with a clamp, the op `activation` with hardswish.
    Pooling is timed as max pooling.
    """
    # Groups of int4 weights are packed as int8.
    dtype: PackedDtype = "int4" if bits == 4 and geometry.groups == 1 else _DTYPES[max(bits, 8)]
    name, op = _PREFIXES[dtype], geometry.op
    if op in ("conv", "linear"):
        packed = structure if geometry.groups == 1 or structure != "dense" else _GROUPED[dtype]
        known: dict[str, str] = {kept: kernel for (kind, kept), (kernel, _) in KERNELS.items() if kind == dtype}
        kernel = known.get(packed, f"{name}_{packed}")
        if (packed, dtype) == ("dense", "fp32") and takes_winograd(geometry):
            kernel = WINOGRAD_KERNEL
    elif op == "convert":
        kernel = f"f32_to_{name}"
    elif op == "widen":
        kernel = f"{name}_to_f32"
    else:
        kernel = f"{name}_{_NAMES.get(op, op)}"
    problem = _sizes(geometry)
    if name == "s8":
        problem = replace(problem, x_zero_point=3, x2_zero_point=-5, y_zero_point=7, low=-128.0, high=127.0)
    return Job(kernel, sparsity, geometry.groups if op in ("conv", "linear") else 1, problem)


def has_kernel(geometry: Geometry, structure: str, bits: int) -> bool:
    """Whether the kernels compute an op that the analytic model has a time for."""
    if geometry.op not in ("conv", "linear"):
        return True
    return job_of(geometry, structure, 0.0, bits).kernel in {WINOGRAD_KERNEL, *(kernel for kernel, _ in KERNELS.values())}


def _sizes(geometry: Geometry) -> Problem:
    height, width = geometry.in_height, geometry.in_width
    out_height, out_width = geometry.out_height, geometry.out_width
    x2_plane = gate = 0
    if geometry.op in ("activation", "copy", "convert", "widen"):
        height, width = out_height, out_width
    elif geometry.op in ("add", "mul"):
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
    return Problem(
        rows=geometry.out_channels,
        columns=geometry.in_channels if geometry.op in ("conv", "linear", "gather") else geometry.out_channels,
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
        activation=ACTIVATIONS.index("hardswish" if geometry.op == "activation" else "clamp"),
        low=0.0,
        high=6.0,
        x_scale=0.02,
        x2_scale=0.02,
        y_inverse_scale=50.0,
    )
