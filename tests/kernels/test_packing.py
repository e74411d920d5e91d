"""Packing: inverse of unpacking, as the C files describe it, and strict about its input."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.kernels.packing import (
    KERNELS,
    PackedStructure,
    pack_depthwise_integer,
    pack_float,
    pack_integer,
    pack_quads,
    pack_winograd,
    unpack,
    unpack_quads,
)

FLOATS = [key for key in KERNELS if key[0] in ("fp32", "fp16")]
INTEGERS = [key for key in KERNELS if key[0] not in ("fp32", "fp16")]
SIDES = st.integers(1, 11)
KERNEL = st.sampled_from([(1, 1), (3, 3), (1, 2)])
DENSITY = st.sampled_from([0.0, 0.1, 0.5, 1.0])
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(("dtype", "structure"), FLOATS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=SIDES, columns=SIDES, kernel=KERNEL, density=DENSITY, seed=SEEDS)
def test_unpack_inverts_pack_float(
    dtype: Literal["fp32", "fp16"],
    structure: PackedStructure,
    rows: int,
    columns: int,
    kernel: tuple[int, int],
    density: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    shape = (rows, columns, *kernel)
    weight = (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32 if dtype == "fp32" else np.float16)
    bias = rng.standard_normal(rows)
    packed = pack_float(weight, bias, structure, dtype)
    result, vector = unpack(packed)
    np.testing.assert_array_equal(result, weight)
    np.testing.assert_array_equal(vector, bias)
    assert result.dtype == weight.dtype
    assert len(packed.bias) % 4 == 0
    assert packed.counts.sum() == len(packed.indices)


@pytest.mark.parametrize(("dtype", "structure"), INTEGERS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=SIDES, columns=SIDES, kernel=KERNEL, density=DENSITY, zero_point=st.integers(-128, 127), seed=SEEDS)
def test_unpack_inverts_pack_integer(
    dtype: Literal["int8", "int4"],
    structure: PackedStructure,
    rows: int,
    columns: int,
    kernel: tuple[int, int],
    density: float,
    zero_point: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    shape = (rows, columns, *kernel)
    largest = 127 if dtype == "int8" else 7
    weight = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < density)
    packed = pack_integer(weight, np.arange(rows), rng.random(rows), structure, zero_point, dtype)
    result, vector = unpack(packed)
    np.testing.assert_array_equal(result, weight)
    np.testing.assert_array_equal(vector, np.arange(rows))
    np.testing.assert_array_equal(packed.start[:rows], -zero_point * weight.sum((1, 2, 3)))
    assert result.dtype == np.int8
    assert len(packed.scale) == len(packed.start) == len(packed.bias)


def test_groups_are_blocks_on_a_diagonal() -> None:
    weight = np.arange(1.0, 1 + 8 * 2).reshape(8, 2)
    packed = pack_float(weight, np.zeros(8), "dense", groups=2)
    assert (packed.structure, packed.columns) == ("block4x1", 4)
    full = np.zeros((8, 4))
    full[:4, :2], full[4:, 2:] = weight[:4], weight[4:]
    np.testing.assert_array_equal(unpack(packed)[0][:, :, 0, 0], full)
    assert packed.counts.tolist() == [2, 2]


def test_block4x1_is_packed_as_its_file_says() -> None:
    weight = np.zeros((5, 3), np.float32)
    weight[:4, 1] = [1, 2, 3, 4]
    weight[2, 2] = 5
    weight[4, 0] = 6
    packed = pack_float(weight, np.arange(5), "block4x1")
    assert packed.counts.tolist() == [2, 1]
    assert packed.indices.tolist() == [1, 2, 0]
    assert packed.weights.reshape(-1, 4).tolist() == [[1, 2, 3, 4], [0, 0, 5, 0], [6, 0, 0, 0]]
    assert packed.bias.tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


def test_s8_dense_is_packed_as_its_file_says() -> None:
    weight = np.arange(1, 11).reshape(2, 5)
    packed = pack_integer(weight, [100, 200], 0.25, "dense", x_zero_point=2)
    assert packed.weights.reshape(2, 4, 4).tolist() == [
        [[1, 2, 3, 4], [6, 7, 8, 9], [0] * 4, [0] * 4],
        [[5, 0, 0, 0], [10, 0, 0, 0], [0] * 4, [0] * 4],
    ]
    assert packed.start.tolist() == [-2 * 15, -2 * 40, 0, 0]
    assert packed.scale.tolist() == [0.25, 0.25, 0, 0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=SIDES, height=st.integers(1, 5), width=st.integers(1, 9), seed=SEEDS)
def test_unpack_inverts_pack_depthwise_integer(rows: int, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = rng.integers(-127, 128, (rows, height, width)), rng.standard_normal(rows)
    packed = pack_depthwise_integer(weight, bias, 0.5, 7)
    result, vector = unpack(packed)
    np.testing.assert_array_equal(result, weight)
    np.testing.assert_array_equal(vector, bias)
    assert result.dtype == packed.weights.dtype == np.int8
    assert packed.weights.size == -(-rows // 4) * 4 * height * -(-width // 4) * 4


def test_s8_depthwise_is_packed_as_its_file_says() -> None:
    weight = np.arange(1, 26).reshape(1, 5, 5) * np.array([1, -1, 2, -2, 3])[:, None, None]
    packed = pack_depthwise_integer(weight, np.zeros(5), 0.5, x_zero_point=-3)
    assert packed.weights.dtype == np.int8
    quads = packed.weights.reshape(2, 5, 2, 4, 4)  # quad of rows, window row, window column / 4, row % 4, window column % 4
    assert quads[0, 1, :, 3].tolist() == [[-12, -14, -16, -18], [-20, 0, 0, 0]]
    assert quads[1, 4, :, 0].tolist() == [[63, 66, 69, 72], [75, 0, 0, 0]]
    assert not quads[1, :, :, 1:].any()
    assert packed.start.tolist() == [3 * 325, -3 * 325, 6 * 325, -6 * 325, 9 * 325, 0, 0, 0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=SIDES, columns=SIDES, seed=SEEDS)
def test_unpack_inverts_pack_winograd_up_to_rounding(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = rng.standard_normal((rows, columns, 3, 3)).astype(np.float32), rng.standard_normal(rows)
    packed = pack_winograd(weight, bias)
    result, vector = unpack(packed)
    largest = np.abs(weight).max((2, 3), keepdims=True)
    assert (np.abs(result - weight) <= 1e-6 * largest).all()
    np.testing.assert_array_equal(vector, bias)
    assert result.dtype == packed.weights.dtype == np.float32
    assert packed.weights.size == 16 * -(-rows // 4) * 4 * columns
    assert (packed.function, packed.kernel) == ("f32_winograd", (3, 3))


def test_f32_winograd_is_packed_as_its_file_says() -> None:
    weight = np.zeros((5, 2, 3, 3))
    weight[4, 1] = np.outer([1, 0, 0], [0, 0, 8])
    weight[0, 0] = np.outer([2, 4, 6], [1, 1, 0])
    packed = pack_winograd(weight, np.arange(5))
    positions = packed.weights.reshape(4, 4, 2, 2, 4)  # a, b, group of 4 rows, column, row of the group
    assert positions[:, :, 1, 1, 0].tolist() == [[0, 4, 4, 8], [0, 2, 2, 4], [0, 2, 2, 4], [0] * 4]
    assert positions[:, :, 0, 0, 0].tolist() == [[2, 2, 0, 0], [6, 6, 0, 0], [2, 2, 0, 0], [6, 6, 0, 0]]
    assert np.count_nonzero(packed.weights) == 9 + 8
    assert packed.bias.tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


def test_a_window_is_packed_position_by_position() -> None:
    weight = np.zeros((1, 2, 1, 3))
    weight[0, 1, 0, 2], weight[0, 0, 0, 1] = 7, 5
    packed = pack_float(weight, np.zeros(1), "unstructured")
    assert packed.indices.tolist() == [1 * 2 + 0, 2 * 2 + 1]
    assert packed.weights.tolist() == [5, 7]
    assert packed.counts.tolist() == [2, 0, 0, 0]


def test_sparse_packing_shrinks_with_sparsity() -> None:
    weight = np.zeros((64, 64), np.float32)
    weight[:, :8] = 1
    bias = np.zeros(64, np.float32)
    assert pack_float(weight, bias, "block4x1").bytes < pack_float(weight, bias, "dense").bytes / 4


@settings(max_examples=50, deadline=None, derandomize=True)
@given(channels=SIDES, pixels=SIDES, seed=SEEDS)
def test_unpack_quads_inverts_pack_quads(channels: int, pixels: int, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, (channels, pixels)).astype(np.int8)
    quads = pack_quads(x)
    assert quads.shape == ((channels + 3) // 4, pixels, 4)
    assert quads[(channels - 1) // 4, pixels - 1, (channels - 1) % 4] == x[-1, -1]
    np.testing.assert_array_equal(unpack_quads(quads, channels), x)


def test_bad_input_is_refused() -> None:
    one = np.ones((2, 2), np.int64)
    zeros = [0, 0]
    with pytest.raises(UserError, match="no fp32 kernel for structure block4x4"):
        pack_float(np.ones((2, 2)), np.ones(2), "block4x4")
    with pytest.raises(UserError, match="no int8 kernel for structure unstructured"):
        pack_integer(one, zeros, 0.1, "unstructured")
    with pytest.raises(UserError, match="one bias for every row"):
        pack_float(np.ones((2, 2)), np.ones(3), "dense")
    with pytest.raises(UserError, match="3 groups"):
        pack_float(np.ones((2, 2)), np.ones(2), "dense", groups=3)
    with pytest.raises(UserError, match="not finite"):
        pack_float(np.full((2, 2), np.nan), np.ones(2), "dense")
    with pytest.raises(UserError, match=r"\[-127, 127\]"):
        pack_integer(-128 * one, zeros, 0.1, "dense")
    with pytest.raises(UserError, match="take integers"):
        pack_integer(one * 0.5, zeros, 0.1, "dense")
    with pytest.raises(UserError, match="zero point"):
        pack_integer(one, zeros, 0.1, "dense", 128)
    with pytest.raises(UserError, match="scale"):
        pack_integer(one, zeros, -1.0, "dense")
    with pytest.raises(UserError, match="overflow"):
        pack_integer(np.full((1, 70000), 127), [0], 0.1, "dense")
    with pytest.raises(UserError, match="window of 3x1 is not packed"):
        pack_winograd(np.ones((2, 2, 3, 1)), np.ones(2))
