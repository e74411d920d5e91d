from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autocompress.compressors.input_statistics import BINS, ActivationStatistics, InputStatistics
from autocompress.compressors.quantization import (
    Quantizer,
    choose_quantizer,
    codes,
    fake_quantize,
    largest_code,
    load_quantizers,
    quantize,
    round_to_grid,
    save_quantizers,
    to_half,
    weight_scales,
)
from autocompress.compressors.reconstruction import curvature, relative_error
from autocompress.errors import UserError


def statistics_of(values: Tensor) -> ActivationStatistics:
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values, BINS, low, high)
    width = (high - low) / BINS
    centres = low + (torch.arange(BINS) + 0.5) * width
    return ActivationStatistics(low, high, counts, centres)


def inputs_of(groups: int, columns: int, seed: int) -> InputStatistics:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(groups, columns, columns, generator=generator)
    x = (torch.randn(groups, 300, columns, generator=generator) @ mixing).relu()
    centred = x - x.mean(1, keepdim=True)
    return InputStatistics(x.mean(1), centred.transpose(1, 2) @ centred / 300, 300, 0.01)


@settings(max_examples=40, deadline=None)
@given(
    bits=st.sampled_from((8, 4)),
    groups=st.integers(1, 3),
    rows=st.integers(1, 5),
    columns=st.integers(1, 80),
    seed=st.integers(0, 999),
    share=st.floats(0.0, 0.9),
)
def test_values_are_on_the_grid_and_pruned_ones_stay_zero(
    bits: int, groups: int, rows: int, columns: int, seed: int, share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(groups, rows, columns, generator=generator) >= share
    weight = torch.randn(groups, rows, columns, generator=generator) * mask
    curve = curvature(inputs_of(groups, columns, seed))
    scale = weight_scales(weight, bits, curve.covariance.diagonal(dim1=1, dim2=2))
    assert (scale > 0).all()
    result = quantize(weight, scale, bits, curve, mask)
    whole = codes(result, scale, bits)
    assert whole.abs().max() <= largest_code(bits)
    torch.testing.assert_close(result, whole * scale, rtol=1e-5, atol=0)
    assert (result[~mask] == 0).all()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_error_compensation_beats_rounding(bits: int, groups: int, sparse: bool) -> None:
    generator = torch.Generator().manual_seed(bits)
    weight = torch.randn(groups, 16, 100, generator=generator)
    mask = torch.rand(weight.shape, generator=generator) > (0.4 if sparse else -1)
    weight = weight * mask
    curve = curvature(inputs_of(groups, 100, 7))
    scale = weight_scales(weight, bits)
    ours = relative_error(quantize(weight, scale, bits, curve, mask), weight, curve.covariance)
    plain = relative_error(round_to_grid(weight, scale, bits), weight, curve.covariance)
    assert 0 < ours < 0.9 * plain


def test_rows_are_independent() -> None:
    weight = torch.randn(1, 6, 70, generator=torch.Generator().manual_seed(0))
    curve = curvature(inputs_of(1, 70, 1))
    scale = weight_scales(weight, 4)
    together = quantize(weight, scale, 4, curve)
    for part in (slice(0, 2), slice(2, 6)):
        torch.testing.assert_close(quantize(weight[:, part], scale[:, part], 4, curve), together[:, part], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [8, 4])
def test_scales_are_at_least_as_good_as_the_full_range(bits: int) -> None:
    weight = torch.randn(1, 20, 200, generator=torch.Generator().manual_seed(2))
    full = weight.abs().amax(2, keepdim=True) / largest_code(bits)
    best = weight_scales(weight, bits)
    error = (round_to_grid(weight, best, bits) - weight).square().sum(2)
    assert (error <= (round_to_grid(weight, full, bits) - weight).square().sum(2) + 1e-6).all()
    if bits == 4:
        assert (best < full).any()


def test_rows_of_zeros_stay_zero() -> None:
    weight = torch.zeros(1, 3, 4)
    scale = weight_scales(weight, 8)
    assert (scale > 0).all()
    assert (round_to_grid(weight, scale, 8) == 0).all()


def test_unknown_bits_are_refused() -> None:
    with pytest.raises(UserError, match="8, 4"):
        weight_scales(torch.ones(1, 1, 1), 5)


def test_half_precision_does_not_overflow() -> None:
    values = to_half(torch.tensor([1.0 + 2**-12, 1e6, -1e6]))
    assert values.tolist() == [1.0, 65504.0, -65504.0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), shift=st.floats(-3, 3), spread=st.floats(0.01, 100))
def test_zero_is_exact_and_codes_fit(seed: int, shift: float, spread: float) -> None:
    values = (torch.randn(4000, generator=torch.Generator().manual_seed(seed)) + shift) * spread
    quantizer = choose_quantizer(statistics_of(values))
    assert quantizer.scale > 0
    assert -128 <= quantizer.zero_point <= 127
    rounded = fake_quantize(values, quantizer)
    assert fake_quantize(torch.zeros(1), quantizer) == 0
    whole = rounded / quantizer.scale + quantizer.zero_point
    torch.testing.assert_close(whole, whole.round(), atol=1e-3, rtol=0)
    assert float(whole.min()) >= -128.01
    assert float(whole.max()) <= 127.01
    plain = max(float(values.max()), 0.0) - min(float(values.min()), 0.0)
    full = Quantizer(plain / 255, round(-128 - min(float(values.min()), 0.0) / (plain / 255)))
    ours, other = ((fake_quantize(values, q) - values).square().mean() for q in (quantizer, full))
    assert ours <= 1.1 * other


def test_relu_outputs_use_all_codes() -> None:
    values = torch.randn(10000, generator=torch.Generator().manual_seed(0)).relu()
    quantizer = choose_quantizer(statistics_of(values))
    assert quantizer.zero_point == -128
    assert quantizer.scale <= float(values.max()) / 255 * 1.001


def test_outliers_are_clipped_and_constants_accepted() -> None:
    values = torch.cat([torch.rand(1000000, generator=torch.Generator().manual_seed(0)), torch.tensor([2.5])])
    assert choose_quantizer(statistics_of(values)).scale * 255 < 1.5
    zeros = ActivationStatistics(0.0, 0.0, torch.zeros(BINS), torch.zeros(BINS))
    assert fake_quantize(torch.zeros(3), choose_quantizer(zeros)).tolist() == [0.0, 0.0, 0.0]


def test_quantizers_come_back_as_they_were(tmp_path: Path) -> None:
    made = {"input": Quantizer(1 / 3, -128), "a.b": Quantizer(1e-7, 5)}
    assert load_quantizers(tmp_path / "ranges.json") is None
    save_quantizers(tmp_path / "ranges.json", made)
    assert load_quantizers(tmp_path / "ranges.json") == made


@pytest.mark.parametrize("content", ["", "[]", '{"input": 3}', '{"input": [0.1]}', '{"input": ["x", 1]}'])
def test_damaged_quantizers_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "ranges.json").write_text(content)
    with pytest.raises(UserError, match="Remove it"):
        load_quantizers(tmp_path / "ranges.json")
