"""Packing: inverse of unpacking, as the C files describe it, and strict about its input; requantisation as documented."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.kernels.packing import (
    KERNELS,
    PackedStructure,
    fixed_point,
    pack_f32,
    pack_quads,
    pack_s8,
    requantise,
    unpack,
    unpack_quads,
)

FP32 = [structure for dtype, structure in KERNELS if dtype == "fp32"]
INT8 = [structure for dtype, structure in KERNELS if dtype == "int8"]
SIDES = st.integers(1, 19)


@pytest.mark.parametrize("structure", FP32)
@settings(max_examples=40, deadline=None)
@given(rows=SIDES, columns=SIDES, density=st.sampled_from([0.0, 0.1, 0.5, 1.0]), seed=st.integers(0, 2**32 - 1))
def test_unpack_inverts_pack_f32(structure: PackedStructure, rows: int, columns: int, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < density)).astype(np.float32)
    bias = rng.standard_normal(rows).astype(np.float32)
    packed = pack_f32(weight, bias, structure)
    matrix, vector = unpack(packed)
    np.testing.assert_array_equal(matrix, weight)
    np.testing.assert_array_equal(vector, bias)
    assert len(packed.bias) % 4 == 0
    assert packed.counts.sum() == len(packed.indices)


@pytest.mark.parametrize("structure", INT8)
@settings(max_examples=40, deadline=None)
@given(
    rows=SIDES,
    columns=SIDES,
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    zero_point=st.integers(-128, 127),
    seed=st.integers(0, 2**32 - 1),
)
def test_unpack_inverts_pack_s8(
    structure: PackedStructure, rows: int, columns: int, density: float, zero_point: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (rows, columns)) * (rng.random((rows, columns)) < density)
    bias = rng.integers(-(10**6), 10**6, rows)
    packed = pack_s8(weight, bias, rng.random(rows), structure, zero_point)
    matrix, vector = unpack(packed)
    np.testing.assert_array_equal(matrix, weight)
    np.testing.assert_array_equal(vector, bias)
    assert matrix.dtype == np.int8
    assert len(packed.multiplier) == len(packed.shift) == len(packed.bias)


def test_block4x1_is_packed_as_its_file_says() -> None:
    weight = np.zeros((5, 3), np.float32)
    weight[:4, 1] = [1, 2, 3, 4]
    weight[2, 2] = 5
    weight[4, 0] = 6
    packed = pack_f32(weight, np.arange(5, dtype=np.float32), "block4x1")
    assert packed.counts.tolist() == [2, 1]
    assert packed.indices.tolist() == [1, 2, 0]
    assert packed.weights.reshape(-1, 4).tolist() == [[1, 2, 3, 4], [0, 0, 5, 0], [6, 0, 0, 0]]
    assert packed.bias.tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


def test_s8_dense_is_packed_as_its_file_says() -> None:
    weight = np.arange(1, 11).reshape(2, 5)
    packed = pack_s8(weight, [100, 200], 0.25, "dense", x_zero_point=2)
    assert packed.weights.reshape(2, 4, 4).tolist() == [
        [[1, 2, 3, 4], [6, 7, 8, 9], [0] * 4, [0] * 4],
        [[5, 0, 0, 0], [10, 0, 0, 0], [0] * 4, [0] * 4],
    ]
    assert packed.bias.tolist() == [100 - 2 * 15, 200 - 2 * 40, 0, 0]
    assert packed.multiplier.tolist() == [2**30, 2**30, 0, 0]
    assert packed.shift.tolist() == [32, 32, 31, 31]


def test_sparse_packing_shrinks_with_sparsity() -> None:
    weight = np.zeros((64, 64), np.float32)
    weight[:, :8] = 1
    bias = np.zeros(64, np.float32)
    assert pack_f32(weight, bias, "block4x1").bytes < pack_f32(weight, bias, "dense").bytes / 4


@settings(max_examples=50, deadline=None)
@given(channels=SIDES, pixels=SIDES, seed=st.integers(0, 2**32 - 1))
def test_unpack_quads_inverts_pack_quads(channels: int, pixels: int, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, (channels, pixels)).astype(np.int8)
    quads = pack_quads(x)
    assert quads.shape == ((channels + 3) // 4, pixels, 4)
    assert quads[(channels - 1) // 4, pixels - 1, (channels - 1) % 4] == x[-1, -1]
    np.testing.assert_array_equal(unpack_quads(quads, channels), x)


@given(scale=st.floats(0, 1 - 2.0**-31))
def test_fixed_point_is_exact_to_31_bits(scale: float) -> None:
    multiplier, shift = fixed_point(scale)
    assert 0 <= int(multiplier) < 2**31
    assert 31 <= int(shift) <= 62
    error = abs(Fraction(int(multiplier), 2 ** int(shift)) - Fraction(scale))
    assert error <= max(Fraction(scale) / 2**31, Fraction(1, 2**63))


@given(
    total=st.integers(-(2**31), 2**31 - 1),
    multiplier=st.integers(0, 2**31 - 1),
    shift=st.integers(31, 62),
    zero_point=st.integers(-128, 127),
)
def test_requantise_rounds_once_with_ties_upwards(total: int, multiplier: int, shift: int, zero_point: int) -> None:
    exact = Fraction(total * multiplier, 2**shift) + Fraction(1, 2)
    expected = max(-100, min(90, exact.__floor__() + zero_point))
    assert int(requantise(total, multiplier, shift, zero_point, -100, 90)) == expected


def test_requantise_ties() -> None:
    multiplier, shift = fixed_point(0.5)
    assert requantise([-3, -1, 1, 3], multiplier, shift, 0).tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize("scale", [1.0, 1 - 2.0**-40, -0.1, float("nan"), float("inf")])
def test_fixed_point_refuses_what_it_cannot_hold(scale: float) -> None:
    with pytest.raises(UserError, match=r"\[0, 1\)"):
        fixed_point([0.5, scale])


def test_bad_input_is_refused() -> None:
    one = np.ones((2, 2), np.int64)
    with pytest.raises(UserError, match="no fp32 kernel for structure block4x4"):
        pack_f32(np.ones((2, 2)), np.ones(2), "block4x4")
    with pytest.raises(UserError, match="no int8 kernel for structure unstructured"):
        pack_s8(one, [0, 0], 0.1, "unstructured")
    with pytest.raises(UserError, match="one bias for every row"):
        pack_f32(np.ones((2, 2)), np.ones(3), "dense")
    with pytest.raises(UserError, match="-128"):
        pack_s8(-128 * one, [0, 0], 0.1, "dense")
    with pytest.raises(UserError, match="take integers"):
        pack_s8(one * 0.5, [0, 0], 0.1, "dense")
    with pytest.raises(UserError, match="zero point"):
        pack_s8(one, [0, 0], 0.1, "dense", 128)
    with pytest.raises(UserError, match="overflow"):
        pack_s8(one, [2**31 - 256, 0], 0.1, "dense")
