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
TypeName = Literal["f32", "f16", "s8"]

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
        return (rows, plane) if self.y_dtype.itemsize > 1 else (-(-(self.problem.y_lane + rows) // QUAD), plane, QUAD)


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


def elementwise(
    op: Literal["add", "mul", "activation", "copy", "global_pool"],
    x: NDArray[Any],
    size: Size,
    channels: int,
    *,
    x2: NDArray[Any] | None = None,
    activation: str = "none",
    constants: Sequence[float] = (),
    x_format: Quantization | None = None,
    x2_format: Quantization | None = None,
    y_format: Quantization | None = None,
    x_lane: int = 0,
    y_lane: int = 0,
    y_plane: int | None = None,
) -> Call:
    """An op without weights whose output has the type of its input.

    Args:
        x: input planes.
        size: height and width of x.
        x2: the other operand of add and mul, of the shape of x; or (planes, 1, ...), which is used for the whole plane.
        activation, constants: applied to the result, as in `layer`; not to a copy in float.
        x_format, x2_format, y_format: of int8 tensors.
        x_lane, y_lane: channel of the first int8 quad at which a copy begins to read and write.

    Raises:
        UserError: arrays or sizes that do not fit together, or an unknown activation.
    """
    problem = _problem(channels, channels, x, size, (1, 1) if op == "global_pool" else size, y_plane)
    problem = replace(problem, x_lane=x_lane, y_lane=y_lane)
    if x2 is not None:
        problem = replace(problem, x2_plane=x2.shape[1], gate=int(x2.shape[1] == 1))
    problem = _formatted(_activated(problem, activation, constants, y_format), x_format, x2_format, y_format, op == "add")
    call = Call(f"{_type_name(x)}_{op}", problem, x)
    return _checked(call if x2 is None else replace(call, x2=x2))


def convert(
    x: NDArray[Any],
    to: TypeName,
    size: Size,
    channels: int,
    *,
    x_format: Quantization | None = None,
    y_format: Quantization | None = None,
    y_plane: int | None = None,
) -> Call:
    """A tensor in another element type; arguments and errors as in `elementwise`."""
    problem = _problem(channels, channels, x, size, size, y_plane)
    problem = _formatted(_activated(problem, "none", (), y_format), x_format, None, y_format)
    return _checked(Call(f"{_type_name(x)}_to_{to}", problem, x))


def pool(
    op: Literal["max_pool", "avg_pool"],
    x: NDArray[Any],
    x_size: Size,
    channels: int,
    kernel: Size,
    *,
    stride: Size = (1, 1),
    dilation: Size = (1, 1),
    padding: Size = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
    x_format: Quantization | None = None,
    y_format: Quantization | None = None,
    y_plane: int | None = None,
) -> Call:
    """Pooling as torch.nn.functional does it; arguments as there, all others and errors as in `elementwise`.

    Max pooling leaves the format of int8 tensors as it is.
    """
    sizes = [
        _pooled(side, before, (window - 1) * apart + 1, step, ceil_mode)
        for side, before, window, apart, step in zip(x_size, padding, kernel, dilation, stride, strict=True)
    ]
    problem = replace(
        _problem(channels, channels, x, x_size, (sizes[0], sizes[1]), y_plane),
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride_height=stride[0],
        stride_width=stride[1],
        dilation_height=dilation[0],
        dilation_width=dilation[1],
        pad_top=padding[0],
        pad_left=padding[1],
        count_height=padding[0] if count_include_pad else 0,
        count_width=padding[1] if count_include_pad else 0,
        divisor=divisor or 0,
    )
    problem = _formatted(_activated(problem, "none", (), y_format), x_format, None, y_format)
    return _checked(Call(f"{_type_name(x)}_{op}", problem, x))


def gather(x: NDArray[Any], indices: NDArray[np.int32], channels: int, fill: float = 0.0) -> Call:
    """A tensor whose elements are elements of another, in any order.

    Args:
        x: input planes.
        indices: shape (channels, pixels): for every element of the output the (channel * pixels + pixel) of the input that it
            is a copy of, or a negative number for `fill`.
        channels: of x.
        fill: a real number, or the code of int8 tensors.

    Raises:
        UserError: arrays that do not fit together.
    """
    problem = _problem(len(indices), channels, x, (1, x.shape[1]), (1, indices.shape[1]), None)
    order = indices
    if x.dtype == TYPES["s8"]:
        # What numbers say of planes is translated to quads.
        channel, pixel = np.divmod(indices, x.shape[1])
        in_quads = (channel // QUAD * x.shape[1] + pixel) * QUAD + channel % QUAD
        padded = np.pad(np.where(indices < 0, -1, in_quads), ((0, -len(indices) % QUAD), (0, 0)), constant_values=-1)
        order = padded.reshape(-1, QUAD, indices.shape[1]).transpose(0, 2, 1)
    flat = np.ascontiguousarray(order, np.int32).reshape(-1)
    return _checked(Call(f"{_type_name(x)}_gather", replace(problem, low=float(fill)), x, indices=flat))


def _pooled(size: int, padding: int, reach: int, stride: int, ceil_mode: bool) -> int:
    """Outputs along one side; a window may not begin behind the input and its left padding."""
    left = size + 2 * padding - reach
    count = (left + (stride - 1 if ceil_mode else 0)) // stride + 1
    return count - 1 if ceil_mode and (count - 1) * stride >= size + padding else count


def _type_name(x: NDArray[Any]) -> str:
    names = [name for name, dtype in TYPES.items() if dtype == x.dtype]
    if not names:
        raise UserError(f"the kernels have no tensors of {x.dtype}: use float32, float16 or int8")
    return names[0]


def _formatted(
    problem: Problem, x: Quantization | None, x2: Quantization | None, y: Quantization | None, is_sum: bool = False
) -> Problem:
    """With the scales and zero points of an op without weights; divided by the output's scale if the activation does not bend."""
    first, second = x or Quantization(), x2 or Quantization()
    divisor = y.scale if y is not None and problem.activation <= 1 else 1.0
    return replace(
        problem,
        x_scale=first.scale / divisor,
        x2_scale=second.scale / divisor if is_sum else second.scale,
        x_zero_point=first.zero_point,
        x2_zero_point=second.zero_point,
    )


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
    quads = call.kernel.startswith("s")
    planes = -(-(p.x_lane + p.columns) // QUAD) if quads else p.columns
    dtype = TYPES["s8" if quads else call.kernel.split("_")[0]]
    for name, array, plane in (("input", call.x, p.x_plane), ("second input", call.x2, p.x2_plane)):
        shape = (planes, plane, QUAD) if quads else (planes, plane)
        if name != "input" and not plane:
            continue
        if array.shape != shape or array.dtype != dtype or 0 in shape:
            raise UserError(f"the {name} is {array.dtype} of shape {array.shape}: give {dtype} of shape {shape}, no side 0")
    if not all(array.flags.c_contiguous for array in call.buffers):
        raise UserError("the pixels of the input are not next to each other: use numpy.ascontiguousarray")
    return call
