"""Calls: one kernel with all its arguments, as a value; run by `native` on this machine or written to a job file.

Activations are arrays (planes, pixels, ...) as csrc/ac_kernels.h lays them out: (channels, pixels) in float32 or float16, and
(ceil(channels / 4), pixels, 4) in int8 (`packing.pack_quads`). The second side may be longer than the plane: what lies behind its
pixels is a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .arithmetic import ACTIVATIONS
from .packing import QUAD, Packed

Size = tuple[int, int]
FloatName = Literal["f32", "f16", "s8"]

#: Element types of activations, by the prefix of a kernel's name.
TYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2"), "s8": np.dtype("i1")}


@dataclass(frozen=True)
class Quantization:
    """An int8 format: value = (code - zero_point) * scale."""

    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True)
class Problem:
    """The scalars of `ac_problem` in csrc/ac_kernels.h, which says what they mean, in its order."""

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
    activation: int = 0
    x_zero_point: int = 0
    x2_zero_point: int = 0
    y_zero_point: int = 0
    low: float = 0.0
    high: float = 0.0
    slope: float = 0.0
    x_scale: float = 0.0
    x2_scale: float = 0.0
    y_inverse_scale: float = 0.0


#: Names of the integers and of the reals of a Problem, in order.
INTEGERS = tuple(each.name for each in fields(Problem) if each.type == "int")
REALS = tuple(each.name for each in fields(Problem) if each.type == "float")


def _no_bytes() -> NDArray[np.int8]:
    return np.zeros(0, np.int8)


def _no_reals() -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


def _no_integers() -> NDArray[np.int32]:
    return np.zeros(0, np.int32)


@dataclass(frozen=True)
class Call:
    """A kernel's name in csrc/registry.c and its arguments; all arrays contiguous, of the types that the kernel reads."""

    kernel: str
    problem: Problem
    x: NDArray[Any]
    x2: NDArray[Any] = field(default_factory=_no_bytes)
    weights: NDArray[Any] = field(default_factory=_no_bytes)
    bias: NDArray[np.float32] = field(default_factory=_no_reals)
    scale: NDArray[np.float32] = field(default_factory=_no_reals)
    start: NDArray[np.int32] = field(default_factory=_no_integers)
    counts: NDArray[np.int32] = field(default_factory=_no_integers)
    indices: NDArray[np.int32] = field(default_factory=_no_integers)

    @property
    def buffers(self) -> tuple[NDArray[Any], ...]:
        """In the order of a job file."""
        return self.weights, self.bias, self.scale, self.start, self.counts, self.indices, self.x, self.x2

    @property
    def y_dtype(self) -> np.dtype[Any]:
        """Element type of the output."""
        return TYPES["f32" if self.problem.y_real else self.kernel.rpartition("_to_")[2].split("_")[0]]

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output, gaps included."""
        rows, plane = self.problem.rows, self.problem.y_plane
        return (rows, plane) if self.y_dtype.itemsize > 1 else (-(-rows // QUAD), plane, QUAD)


def layer(
    packed: Packed,
    x: NDArray[Any],
    x_size: Size,
    *,
    stride: Size = (1, 1),
    dilation: Size = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    activation: str = "none",
    constants: Sequence[float] = (),
    y: Quantization | None = None,
    y_plane: int | None = None,
) -> Call:
    """A convolution (any kernel, 1x1 and depthwise included) or linear layer.

    Args:
        packed: the weights.
        x: input planes.
        x_size: height and width of x; of a linear layer (1, tokens).
        padding: top, left, bottom, right; of an int8 input with its zero point.
        activation, constants: as in `spaces.network.Activation`.
        y: format of an int8 output; None for one in float32 (int8 weights) or in the type of the weights.
        y_plane: pixels from one plane of the output to the next; by default no gap.

    Raises:
        UserError: arrays or sizes that do not fit together, or an unknown activation.
    """
    top, left, bottom, right = padding
    sizes = [
        (size + before + after - (window - 1) * apart - 1) // step + 1
        for size, before, after, window, apart, step in zip(
            x_size, (top, left), (bottom, right), packed.kernel, dilation, stride, strict=True
        )
    ]
    problem = _problem(packed.rows, packed.columns, x, x_size, (sizes[0], sizes[1]), y_plane)
    problem = replace(
        problem,
        kernel_height=packed.kernel[0],
        kernel_width=packed.kernel[1],
        stride_height=stride[0],
        stride_width=stride[1],
        dilation_height=dilation[0],
        dilation_width=dilation[1],
        pad_top=top,
        pad_left=left,
        x_zero_point=packed.x_zero_point,
    )
    integer = packed.dtype in ("int8", "int4")
    problem = _activated(problem, activation, constants, y)
    divisor = 1.0
    if integer and y is None:
        if packed.depthwise:
            raise UserError("an int8 depthwise layer writes int8: give the format of its output")
        problem = replace(problem, y_real=1)
    elif y is not None:
        if not integer:
            raise UserError(f"a {packed.dtype} layer has no int8 output: convert it afterwards")
        divisor = y.scale if problem.activation <= 1 else 1.0
    call = Call(
        packed.function,
        problem,
        x,
        weights=packed.weights,
        bias=(packed.bias / divisor).astype(np.float32),
        scale=(packed.scale / divisor).astype(np.float32),
        start=packed.start,
        counts=packed.counts,
        indices=packed.indices,
    )
    return _checked(call)


def _problem(rows: int, columns: int, x: NDArray[Any], x_size: Size, y_size: Size, y_plane: int | None) -> Problem:
    plane = x.shape[1] if x.ndim > 1 else 0
    pixels = y_size[0] * y_size[1]
    return Problem(rows, columns, *x_size, *y_size, x_plane=plane, y_plane=pixels if y_plane is None else y_plane)


def _activated(problem: Problem, activation: str, constants: Sequence[float], y: Quantization | None) -> Problem:
    """With the activation's number and constants; bounds in codes if there is an int8 output."""
    name, bounds = ("clamp", (0.0, float("inf"))) if activation == "relu" else (activation, tuple(constants))
    if name not in ACTIVATIONS:
        raise UserError(f"the kernels have no activation {activation}: use one of relu, {', '.join(ACTIVATIONS)}")
    problem = replace(problem, activation=ACTIVATIONS.index(name))
    if name == "clamp":
        low, high = bounds
        if y is not None:
            low, high = (float(np.clip(np.rint(bound / y.scale) + y.zero_point, -128, 127)) for bound in (low, high))
        problem = replace(problem, low=low, high=high)
    elif name in ("leaky_relu", "elu"):
        problem = replace(problem, slope=float(bounds[0]) if bounds else {"leaky_relu": 0.01, "elu": 1.0}[name])
    if y is not None:
        problem = replace(problem, y_zero_point=y.zero_point, y_inverse_scale=1.0 / y.scale)
    return problem


def _checked(call: Call) -> Call:
    """The call, if its arrays are what the kernel reads."""
    p = call.problem
    planes = (-(-p.columns // QUAD), p.x_plane, QUAD) if call.kernel.startswith("s") else (p.columns, p.x_plane)
    dtype = TYPES["s8" if call.kernel.startswith("s") else call.kernel.split("_")[0]]
    if call.x.shape != planes or call.x.dtype != dtype or 0 in planes:
        raise UserError(f"the input is {call.x.dtype} of shape {call.x.shape}: give {dtype} of shape {planes}, no side 0")
    if not all(array.flags.c_contiguous for array in call.buffers):
        raise UserError("the pixels of the input are not next to each other: use numpy.ascontiguousarray")
    return call
