"""Packing: weights and activations in the order in which the C kernels read them, and back.

The layouts are described at the top of each file in csrc/ and, for activations, in csrc/ac_kernels.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError

PackedDtype = Literal["fp32", "fp16", "int8", "int4"]
PackedStructure = Literal["dense", "unstructured", "block4x1", "block1x4", "block4x4"]

#: Every matrix kernel by what it computes: its name in csrc/registry.c and the rows x columns of the blocks it reads.
KERNELS: dict[tuple[PackedDtype, PackedStructure], tuple[str, tuple[int, int]]] = {
    ("fp32", "dense"): ("f32_dense", (4, 1)),
    ("fp32", "block4x1"): ("f32_block4x1", (4, 1)),
    ("fp32", "unstructured"): ("f32_unstructured", (1, 1)),
    ("fp16", "dense"): ("f16_dense", (4, 1)),
    ("fp16", "block4x1"): ("f16_block4x1", (4, 1)),
    ("fp16", "unstructured"): ("f16_unstructured", (1, 1)),
    ("int8", "dense"): ("s8_dense", (4, 4)),
    ("int8", "block4x4"): ("s8_block4x4", (4, 4)),
    ("int8", "block1x4"): ("s8_block1x4", (1, 4)),
    ("int4", "dense"): ("s8_dense_w4", (4, 4)),
}

#: The kernel that reads what `pack_winograd` makes.
WINOGRAD_KERNEL = "f32_winograd"
#: G of Winograd's F(2x2, 3x3), by which windows are multiplied from both sides, and what takes it back (csrc/f32_winograd.c).
_WINOGRAD = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])
_WINOGRAD_INVERSE = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])

#: Rows are padded to a multiple of this, and int8 columns too.
QUAD = 4

_FLOATS: dict[PackedDtype, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16}

Int32s = NDArray[np.int32]


@dataclass(frozen=True)
class Packed:
    """The weights of a convolution or linear layer as a kernel reads them. With R = rows rounded up to 4:

    Attributes:
        rows, columns: output and input channels.
        kernel: height and width of the window.
        weights: as the kernel's file says.
        bias: shape (R,), real numbers.
        counts: shape (R / rows of a block,): kept blocks of every row of blocks; empty for dense and depthwise.
        indices: of every kept block: position of the window * blocks of columns + block of columns; empty likewise.
        scale: shape (R,): the real number that one unit of a sum stands for; empty for fp32 and fp16.
        start: shape (R,): what sums begin with: -x_zero_point * sum of the row's weights; empty likewise.
        x_zero_point: the integer that stands for 0 in the input.
        depthwise: every output channel has the input channel of its own number.
        winograd: windows of 3x3 that are transformed to 4x4.
    """

    dtype: PackedDtype
    structure: PackedStructure
    rows: int
    columns: int
    kernel: tuple[int, int]
    weights: NDArray[Any]
    bias: NDArray[np.float64]
    counts: Int32s
    indices: Int32s
    scale: NDArray[np.float64]
    start: Int32s
    x_zero_point: int = 0
    depthwise: bool = False
    winograd: bool = False

    @property
    def function(self) -> str:
        """The name of the kernel that reads this."""
        if self.depthwise:
            return {"fp32": "f32", "fp16": "f16"}.get(self.dtype, "s8") + "_depthwise"
        if self.winograd:
            return WINOGRAD_KERNEL
        return KERNELS[self.dtype, self.structure][0]

    @property
    def bytes(self) -> int:
        """What the kernel reads besides activations; bias and scale are float32 there."""
        arrays = (self.weights, self.counts, self.indices, self.start)
        return sum(array.nbytes for array in arrays) + 4 * (len(self.bias) + len(self.scale))


def pack_float(
    weight: ArrayLike, bias: ArrayLike, structure: PackedStructure, dtype: Literal["fp32", "fp16"] = "fp32", groups: int = 1
) -> Packed:
    """Pack fp32 or fp16 weights. A block is kept when any of its weights is not zero.

    Args:
        weight: shape (rows, columns / groups) or (rows, columns / groups, height, width).
        bias: shape (rows,).
        groups: of the convolution; more than one are packed as the blocks on a diagonal, for a sparse kernel.

    Raises:
        UserError: wrong shapes, or no kernel for `structure` in that dtype.
    """
    matrix, vector = _checked(weight, bias, structure, dtype, groups)
    structure = "block4x1" if groups > 1 and structure == "dense" else structure
    cube = _cube(matrix.astype(_FLOATS[dtype]), groups)
    weights, counts, indices = _blocks(cube, dtype, structure)
    rows, _, columns = cube.shape
    none = np.zeros(0, np.int32)
    return Packed(dtype, structure, rows, columns, _kernel(matrix), weights, _padded(vector), counts, indices, np.zeros(0), none)


def pack_winograd(weight: ArrayLike, bias: ArrayLike) -> Packed:
    """Pack dense fp32 weights of a 3x3 convolution with stride and dilation 1, transformed (Lavin and Gray, arXiv:1509.09308).

    Args:
        weight: shape (rows, columns, 3, 3).
        bias: shape (rows,).

    Raises:
        UserError: wrong shapes.
    """
    matrix, vector = _checked(weight, bias, "dense", "fp32", 1)
    if matrix.shape[2:] != (3, 3):
        raise UserError(f"a window of {matrix.shape[2]}x{matrix.shape[3]} is not packed for Winograd's products: use pack_float")
    rows, columns = matrix.shape[:2]
    positions = np.einsum("ay,rcyx,bx->abrc", _WINOGRAD, matrix.astype(np.float64), _WINOGRAD).reshape(16, rows, columns)
    padded = np.pad(positions.astype(np.float32), ((0, 0), (0, -rows % QUAD), (0, 0)))
    weights = np.ascontiguousarray(padded.reshape(16, -1, QUAD, columns).transpose(0, 1, 3, 2)).reshape(-1)
    none = np.zeros(0, np.int32)
    kernel = (3, 3)
    return Packed("fp32", "dense", rows, columns, kernel, weights, _padded(vector), none, none, np.zeros(0), none, winograd=True)


def pack_integer(
    weight: ArrayLike,
    bias: ArrayLike,
    scale: ArrayLike,
    structure: PackedStructure,
    x_zero_point: int = 0,
    dtype: Literal["int8", "int4"] = "int8",
    groups: int = 1,
) -> Packed:
    """Pack int8 or int4 weights with per-row scales. A block is kept when any of its weights is not zero.

    Args:
        weight: shape (rows, columns / groups) or (rows, columns / groups, height, width); integers in [-127, 127], or [-7, 7] for
            int4; zero point 0.
        bias: shape (rows,), real numbers.
        scale: shape (rows,) or scalar: x scale * weight scale.
        x_zero_point: the integer that stands for 0 in the input, and that pads it.
        groups: as in `pack_float`; with more than one, int4 weights are packed as int8.

    Raises:
        UserError: wrong shapes, values out of range, sums that could overflow int32, or no kernel for `structure`.
    """
    matrix, vector = _checked(weight, bias, structure, dtype, groups)
    wide, scales = _integers(matrix, scale, x_zero_point, 127 if dtype == "int8" else 7)
    if groups > 1:
        dtype, structure = "int8", "block4x4" if structure == "dense" else structure
    cube = _cube(wide, groups)
    weights, counts, indices = _blocks(cube.astype(np.int8), dtype, structure)
    if dtype == "int4":
        weights = _pack_nibbles(weights.reshape(-(-len(cube) // QUAD), -1, QUAD * QUAD))
    start = _padded(-x_zero_point * cube.sum((1, 2)))
    rows, _, columns = cube.shape
    return Packed(
        dtype,
        structure,
        rows,
        columns,
        _kernel(matrix),
        weights,
        _padded(vector),
        counts,
        indices,
        _padded(scales),
        start.astype(np.int32),
        x_zero_point,
    )


def pack_depthwise_float(weight: ArrayLike, bias: ArrayLike, dtype: Literal["fp32", "fp16"] = "fp32") -> Packed:
    """Pack the fp32 or fp16 weights of a depthwise convolution.

    Args:
        weight: shape (channels, height, width).
        bias: shape (channels,).

    Raises:
        UserError: wrong shapes.
    """
    array, vector = _checked_depthwise(weight, bias)
    channels, height, width = array.shape
    weights = np.ascontiguousarray(array, _FLOATS[dtype]).reshape(-1)
    none = np.zeros(0, np.int32)
    kernel = (height, width)
    return Packed(
        dtype, "dense", channels, channels, kernel, weights, _padded(vector), none, none, np.zeros(0), none, depthwise=True
    )


def pack_depthwise_integer(weight: ArrayLike, bias: ArrayLike, scale: ArrayLike, x_zero_point: int = 0) -> Packed:
    """Pack the int8 weights of a depthwise convolution.

    Args:
        weight: shape (channels, height, width), integers in [-127, 127].
        bias, scale, x_zero_point: as in `pack_integer`.

    Raises:
        UserError: wrong shapes or values out of range.
    """
    array, vector = _checked_depthwise(weight, bias)
    wide, scales = _integers(array[:, None], scale, x_zero_point, 127)
    channels, height, width = array.shape
    taps = np.pad(array, ((0, -channels % QUAD), (0, 0), (0, -width % QUAD)))
    weights = taps.reshape(-1, QUAD, height, taps.shape[2] // QUAD, QUAD).transpose(0, 2, 3, 1, 4)
    start = _padded(-x_zero_point * wide.sum((1, 2, 3))).astype(np.int32)
    none = np.zeros(0, np.int32)
    return Packed(
        "int8",
        "dense",
        channels,
        channels,
        (height, width),
        np.ascontiguousarray(weights, np.int8).reshape(-1),
        _padded(vector),
        none,
        none,
        _padded(scales),
        start,
        x_zero_point,
        depthwise=True,
    )


def unpack(packed: Packed) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The weight, shape (rows, columns, height, width), and the bias, shape (rows,), that were packed.

    The inverse of `pack_*`, for `pack_winograd` up to rounding; groups come back as the blocks on a diagonal of one group, and
    depthwise weights as (rows, height, width).
    """
    height, width = packed.kernel
    window = height * width
    bias = packed.bias[: packed.rows]
    if packed.depthwise:
        taps = packed.weights
        if packed.dtype == "int8":
            quads = taps.reshape(-1, height, -(-width // QUAD), QUAD, QUAD).transpose(0, 3, 1, 2, 4)
            taps = quads.reshape(-(-packed.rows // QUAD) * QUAD, height, -1)[: packed.rows, :, :width]
        return taps.reshape(packed.rows, height, width), bias
    if packed.winograd:
        quads = packed.weights.astype(np.float64).reshape(4, 4, -1, packed.columns, QUAD)
        windows = np.einsum("ya,abqci,xb->qicyx", _WINOGRAD_INVERSE, quads, _WINOGRAD_INVERSE)
        return windows.reshape(-1, packed.columns, 3, 3)[: packed.rows].astype(np.float32), bias
    block_rows, block_columns = KERNELS[packed.dtype, packed.structure][1]
    row_blocks, column_blocks = -(-packed.rows // QUAD) * QUAD // block_rows, -(-packed.columns // block_columns)
    weights = packed.weights
    if packed.dtype == "int4":
        weights = _unpack_nibbles(weights.reshape(row_blocks, -1, QUAD * QUAD), window * column_blocks)
    kept = weights.reshape(-1, block_rows, block_columns)
    blocks = np.zeros((row_blocks, window * column_blocks, block_rows, block_columns), kept.dtype)
    if packed.structure == "dense":
        blocks[:] = kept.reshape(blocks.shape)
    else:
        blocks[np.repeat(np.arange(row_blocks), packed.counts), packed.indices] = kept
    cube = blocks.reshape(row_blocks, window, column_blocks, block_rows, block_columns).transpose(0, 3, 1, 2, 4)
    cube = cube.reshape(row_blocks * block_rows, window, column_blocks * block_columns)[: packed.rows, :, : packed.columns]
    weight = np.ascontiguousarray(cube.transpose(0, 2, 1)).reshape(packed.rows, packed.columns, height, width)
    return weight, bias


def pack_quads(x: NDArray[np.int8], fill: int = 0) -> NDArray[np.int8]:
    """int8 activations of shape (channels, pixels) as the kernels read them: (ceil(channels / 4), pixels, 4)."""
    channels, pixels = x.shape
    quads = -(-channels // QUAD)
    padded = np.full((quads * QUAD, pixels), fill, np.int8)
    padded[:channels] = x
    return np.ascontiguousarray(padded.reshape(quads, QUAD, pixels).transpose(0, 2, 1))


def unpack_quads(x: NDArray[np.int8], channels: int) -> NDArray[np.int8]:
    """The inverse of `pack_quads`: shape (channels, pixels)."""
    quads, pixels, _ = x.shape
    return np.ascontiguousarray(x.transpose(0, 2, 1).reshape(quads * QUAD, pixels)[:channels])


def _checked(
    weight: ArrayLike, bias: ArrayLike, structure: PackedStructure, dtype: PackedDtype, groups: int
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The weight with 4 axes, and the bias."""
    array, vector = np.asarray(weight), np.asarray(bias, np.float64)
    if array.ndim == 2:
        array = array[:, :, None, None]
    if array.ndim != 4 or 0 in array.shape or vector.shape != array.shape[:1]:
        raise UserError(
            f"a weight of shape {np.shape(weight)} with a bias of shape {vector.shape} is no layer: "
            "give (rows, columns) or (rows, columns, height, width) and one bias for every row"
        )
    if groups < 1 or array.shape[0] % groups:
        raise UserError(f"{array.shape[0]} output channels cannot be cut into {groups} groups: use a divisor")
    if not np.isfinite(vector).all() or not np.isfinite(array).all():
        raise UserError("a weight or bias is not finite: check the layer for NaN and infinity")
    if (dtype, structure) not in KERNELS:
        offered = ", ".join(name for kind, name in KERNELS if kind == dtype)
        raise UserError(f"there is no {dtype} kernel for structure {structure}: use one of {offered}")
    return array, vector


def _checked_depthwise(weight: ArrayLike, bias: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    array, vector = np.asarray(weight), np.asarray(bias, np.float64)
    if array.ndim != 3 or 0 in array.shape or vector.shape != array.shape[:1]:
        raise UserError(
            f"a weight of shape {array.shape} with a bias of shape {vector.shape} is no depthwise layer: "
            "give (channels, height, width) and one bias for every channel"
        )
    if not np.isfinite(vector).all() or not np.isfinite(array).all():
        raise UserError("a weight or bias is not finite: check the layer for NaN and infinity")
    return array, vector


def _integers(
    weight: NDArray[Any], scale: ArrayLike, x_zero_point: int, largest: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The weight in int64 and a scale for every row, checked."""
    if weight.dtype.kind not in "iu":
        raise UserError("int8 kernels take integers: quantise the weight first")
    wide = weight.astype(np.int64)
    if np.abs(wide).max() > largest:
        raise UserError(f"these weights must be in [-{largest}, {largest}]: quantise them symmetrically")
    if not -128 <= x_zero_point <= 127:
        raise UserError(f"zero point {x_zero_point} is not an int8: choose one in [-128, 127]")
    if (256 * np.abs(wide).sum((1, 2, 3)) >= 2**31).any():
        raise UserError("an int8 layer could overflow its int32 sums: split its input channels")
    scales = np.broadcast_to(np.asarray(scale, np.float64), wide.shape[:1])
    if not (np.isfinite(scales) & (scales >= 0)).all():
        raise UserError("a scale is negative or not finite: give x scale * weight scale of every row")
    return wide, scales


def _kernel(weight: NDArray[Any]) -> tuple[int, int]:
    return weight.shape[2], weight.shape[3]


def _cube(weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """(rows, columns / groups, height, width) as (rows, window, columns), the groups on a diagonal."""
    rows, columns, height, width = weight.shape
    own = weight.reshape(rows, columns, height * width).transpose(0, 2, 1)
    if groups == 1:
        return own
    cube = np.zeros((groups, rows // groups, height * width, groups, columns), weight.dtype)
    cube[np.arange(groups), :, :, np.arange(groups)] = own.reshape(groups, rows // groups, height * width, columns)
    return cube.reshape(rows, height * width, groups * columns)


def _blocks(cube: NDArray[Any], dtype: PackedDtype, structure: PackedStructure) -> tuple[NDArray[Any], Int32s, Int32s]:
    """Weights of the kept blocks, their number in every row of blocks, and the index of each."""
    block_rows, block_columns = KERNELS[dtype, structure][1]
    rows, window, columns = cube.shape
    padded = np.pad(cube, ((0, -rows % QUAD), (0, 0), (0, -columns % block_columns)))
    shape = (padded.shape[0] // block_rows, block_rows, window * padded.shape[2] // block_columns, block_columns)
    blocks = padded.reshape(shape).transpose(0, 2, 1, 3)
    if structure == "dense":
        return np.ascontiguousarray(blocks).reshape(-1), np.zeros(0, np.int32), np.zeros(0, np.int32)
    kept = (blocks != 0).any((2, 3))
    return blocks[kept].reshape(-1), kept.sum(1, dtype=np.int32), np.nonzero(kept)[1].astype(np.int32)


def _pack_nibbles(blocks: NDArray[np.int8]) -> NDArray[np.int8]:
    """(rows of blocks, blocks, 16) as bytes that hold the weights of two blocks each; csrc/s8_dense_w4.c."""
    even = np.pad(blocks, ((0, 0), (0, blocks.shape[1] % 2), (0, 0)))
    return ((even[:, ::2] & 15) | (even[:, 1::2] << 4)).reshape(-1)


def _unpack_nibbles(pairs: NDArray[np.int8], blocks: int) -> NDArray[np.int8]:
    """The inverse of `_pack_nibbles`."""
    return np.stack([(pairs << 4) >> 4, pairs >> 4], 2).reshape(len(pairs), -1, QUAD * QUAD)[:, :blocks]


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    """`values` with zeros appended up to a multiple of 4."""
    return np.pad(values, (0, -len(values) % QUAD))
