"""Packing: weights and activations in the order in which the C kernels read them, and back; the requantisation rule.

The layouts are described at the top of each file in csrc/ and, for activations, in csrc/ac_kernels.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError

PackedDtype = Literal["fp32", "int8"]
PackedStructure = Literal["dense", "unstructured", "block4x1", "block1x4", "block4x4"]

#: Every C kernel by what it computes: its name in csrc/ac_kernels.h and the rows x columns of the blocks it reads.
KERNELS: dict[tuple[PackedDtype, PackedStructure], tuple[str, tuple[int, int]]] = {
    ("fp32", "dense"): ("ac_f32_dense", (4, 1)),
    ("fp32", "block4x1"): ("ac_f32_block4x1", (4, 1)),
    ("fp32", "unstructured"): ("ac_f32_unstructured", (1, 1)),
    ("int8", "dense"): ("ac_s8_dense", (4, 4)),
    ("int8", "block4x4"): ("ac_s8_block4x4", (4, 4)),
    ("int8", "block1x4"): ("ac_s8_block1x4", (1, 4)),
}

#: Rows are padded to a multiple of this, and int8 columns too.
QUAD = 4

Int32s = NDArray[np.int32]


@dataclass(frozen=True)
class Packed:
    """A weight matrix as a kernel reads it. With br x bc the blocks of its kernel and R = rows rounded up to 4:

    Attributes:
        rows, columns: of the matrix: output and input channels.
        weights: kept blocks, each br x bc row by row; float32 or int8.
        bias: shape (R,); float32, or int32 with the input's zero point folded in.
        counts: shape (R / br,): kept blocks of every row of blocks; empty for dense.
        indices: column of blocks of every kept block; empty for dense.
        multiplier, shift: shape (R,), the scale from sums to outputs (see `requantise`); empty for fp32.
        x_zero_point: the one folded into `bias`; 0 for fp32.
    """

    dtype: PackedDtype
    structure: PackedStructure
    rows: int
    columns: int
    weights: NDArray[np.float32] | NDArray[np.int8]
    bias: NDArray[np.float32] | Int32s
    counts: Int32s
    indices: Int32s
    multiplier: Int32s
    shift: Int32s
    x_zero_point: int = 0

    @property
    def kernel(self) -> str:
        """The name of the C function that reads this."""
        return KERNELS[self.dtype, self.structure][0]

    @property
    def bytes(self) -> int:
        """What the kernel reads besides activations."""
        arrays = (self.weights, self.bias, self.counts, self.indices, self.multiplier, self.shift)
        return sum(array.nbytes for array in arrays)


def pack_f32(weight: ArrayLike, bias: ArrayLike, structure: PackedStructure) -> Packed:
    """Pack a float32 matrix. A block is kept when any of its weights is not zero.

    Args:
        weight: shape (rows, columns).
        bias: shape (rows,).

    Raises:
        UserError: wrong shapes, or no fp32 kernel for `structure`.
    """
    matrix, vector = _checked(weight, bias, np.float32, structure)
    weights, counts, indices = _blocks(matrix, "fp32", structure)
    none = np.zeros(0, np.int32)
    rows, columns = matrix.shape
    return Packed("fp32", structure, rows, columns, weights, _padded(vector, 0), counts, indices, none, none)


def pack_s8(
    weight: ArrayLike,
    bias: ArrayLike,
    scale: ArrayLike,
    structure: PackedStructure,
    x_zero_point: int = 0,
) -> Packed:
    """Pack an int8 matrix with per-row scales. A block is kept when any of its weights is not zero.

    Args:
        weight: shape (rows, columns), integers in [-127, 127], zero point 0.
        bias: shape (rows,), integers in units of x scale * weight scale.
        scale: shape (rows,) or scalar: x scale * weight scale / y scale, in [0, 1).
        x_zero_point: the integer that stands for 0 in the input.

    Raises:
        UserError: wrong shapes, values out of range, sums that could overflow int32, or no int8 kernel for `structure`.
    """
    wide, sums = _checked(weight, bias, np.int64, structure)
    if wide.size and np.abs(wide).max() > 127:
        raise UserError("int8 weights must be in [-127, 127]: quantise them symmetrically, without -128")
    if not -128 <= x_zero_point <= 127:
        raise UserError(f"zero point {x_zero_point} is not an int8: choose one in [-128, 127]")
    if (np.abs(sums) + 256 * np.abs(wide).sum(1) >= 2**31).any():
        raise UserError("an int8 layer could overflow its int32 sums: check its bias, or split its input channels")
    multiplier, shift = fixed_point(np.broadcast_to(np.asarray(scale, np.float64), sums.shape))
    weights, counts, indices = _blocks(wide.astype(np.int8), "int8", structure)
    rows, columns = wide.shape
    folded = (sums - x_zero_point * wide.sum(1)).astype(np.int32)
    return Packed(
        "int8",
        structure,
        rows,
        columns,
        weights,
        _padded(folded, 0),
        counts,
        indices,
        _padded(multiplier, 0),
        _padded(shift, 31),
        x_zero_point,
    )


def unpack(packed: Packed) -> tuple[NDArray[Any], NDArray[Any]]:
    """The matrix, shape (rows, columns), and the bias, shape (rows,), that were packed: the inverse of `pack_*`."""
    block_rows, block_columns = KERNELS[packed.dtype, packed.structure][1]
    shape = (-(-packed.rows // QUAD) * QUAD // block_rows, -(-packed.columns // block_columns))
    blocks = np.zeros((*shape, block_rows, block_columns), packed.weights.dtype)
    kept = packed.weights.reshape(-1, block_rows, block_columns)
    if packed.structure == "dense":
        blocks[:] = kept.reshape(blocks.shape)
    else:
        blocks[np.repeat(np.arange(shape[0]), packed.counts), packed.indices] = kept
    matrix = blocks.transpose(0, 2, 1, 3).reshape(shape[0] * block_rows, shape[1] * block_columns)
    matrix = np.ascontiguousarray(matrix[: packed.rows, : packed.columns])
    bias = packed.bias[: packed.rows]
    if packed.dtype == "int8":
        bias = bias + packed.x_zero_point * matrix.sum(1, dtype=np.int32)
    return matrix, bias


def pack_quads(x: NDArray[np.int8]) -> NDArray[np.int8]:
    """int8 activations of shape (channels, pixels) as the kernels read them: (ceil(channels / 4), pixels, 4)."""
    channels, pixels = x.shape
    quads = -(-channels // QUAD)
    padded = np.zeros((quads * QUAD, pixels), np.int8)
    padded[:channels] = x
    return np.ascontiguousarray(padded.reshape(quads, QUAD, pixels).transpose(0, 2, 1))


def unpack_quads(x: NDArray[np.int8], channels: int) -> NDArray[np.int8]:
    """The inverse of `pack_quads`: shape (channels, pixels)."""
    quads, pixels, _ = x.shape
    return np.ascontiguousarray(x.transpose(0, 2, 1).reshape(quads * QUAD, pixels)[:channels])


def fixed_point(scale: ArrayLike) -> tuple[Int32s, Int32s]:
    """The integers with `scale` = multiplier * 2^-shift to 31 significant bits, 0 <= multiplier < 2^31, 31 <= shift <= 62.

    Scales below 2^-63 become 0.

    Raises:
        UserError: a scale that is not in [0, 1) when rounded so.
    """
    value = np.asarray(scale, np.float64)
    mantissa, exponent = np.frexp(value)
    # A mantissa that rounds up to 1 belongs to the next power of two.
    exponent = exponent + (np.rint(np.ldexp(mantissa, 31)) == 2.0**31)
    shift = np.minimum(31 - exponent, 62)
    if not (np.isfinite(value) & (value >= 0) & (shift >= 31)).all():
        raise UserError("the scale from int8 products to outputs must be in [0, 1): calibrate with a wider output range")
    return np.rint(np.ldexp(value, shift)).astype(np.int32), shift.astype(np.int32)


def requantise(
    sums: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, zero_point: int, low: int = -128, high: int = 127
) -> NDArray[np.int8]:
    """The rule that turns int32 sums into int8 outputs, in all kernels and bit for bit; arguments broadcast.

    q = (sum * multiplier + 2^(shift - 1)) >> shift in int64, so to nearest, ties upwards, rounded once (TFLite's single
    rounding, XNNPACK's rndnu); then `zero_point` is added and the result clamped to [low, high].
    """
    by = np.asarray(shift, np.int64)
    product = np.asarray(sums, np.int64) * np.asarray(multiplier, np.int64)
    q = (product + (np.int64(1) << (by - 1))) >> by
    y: NDArray[np.int8] = np.clip(q + zero_point, low, high).astype(np.int8)
    return y


def _checked(
    weight: ArrayLike, bias: ArrayLike, dtype: type[np.generic], structure: PackedStructure
) -> tuple[NDArray[Any], NDArray[Any]]:
    matrix, vector = np.asarray(weight), np.asarray(bias)
    if matrix.ndim != 2 or 0 in matrix.shape or vector.shape != matrix.shape[:1]:
        raise UserError(
            f"a weight of shape {matrix.shape} with a bias of shape {vector.shape} is no layer: "
            "give a matrix (rows, columns) and one bias for every row"
        )
    if dtype is np.int64 and not (matrix.dtype.kind in "iu" and vector.dtype.kind in "iu"):
        raise UserError("int8 kernels take integers: quantise the weight and the bias first")
    return matrix.astype(dtype), vector.astype(dtype)


def _blocks(matrix: NDArray[Any], dtype: PackedDtype, structure: PackedStructure) -> tuple[NDArray[Any], Int32s, Int32s]:
    """Weights of the kept blocks, their number in every row of blocks, and the column of blocks of each."""
    if (dtype, structure) not in KERNELS:
        offered = ", ".join(name for kind, name in KERNELS if kind == dtype)
        raise UserError(f"there is no {dtype} kernel for structure {structure}: use one of {offered}")
    block_rows, block_columns = KERNELS[dtype, structure][1]
    rows, columns = -(-matrix.shape[0] // QUAD) * QUAD, -(-matrix.shape[1] // block_columns) * block_columns
    padded = np.zeros((rows, columns), matrix.dtype)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    blocks = padded.reshape(rows // block_rows, block_rows, columns // block_columns, block_columns).transpose(0, 2, 1, 3)
    if structure == "dense":
        return np.ascontiguousarray(blocks).reshape(-1), np.zeros(0, np.int32), np.zeros(0, np.int32)
    kept = (blocks != 0).any((2, 3))
    return blocks[kept].reshape(-1), kept.sum(1, dtype=np.int32), np.nonzero(kept)[1].astype(np.int32)


def _padded(values: NDArray[Any], fill: int) -> NDArray[Any]:
    """`values` with `fill` appended up to a multiple of 4."""
    return np.pad(values, (0, -len(values) % QUAD), constant_values=fill)
