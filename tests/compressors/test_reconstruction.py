from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autocompress.compressors.input_statistics import InputStatistics
from autocompress.compressors.pruning import magnitude_mask
from autocompress.compressors.reconstruction import (
    Curvature,
    Method,
    corrected_bias,
    curvature,
    invert,
    reconstruct,
    refit,
    relative_error,
)
from autocompress.spaces.option import BLOCKS, Structure

LEVELS = (0.2, 0.35, 0.5, 0.8)


def correlated(groups: int, columns: int, seed: int, samples: int = 400) -> InputStatistics:
    """Moments of non-negative inputs that depend on each other, as behind a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(groups, columns, columns, generator=generator)
    inputs = (torch.randn(groups, samples, columns, generator=generator) @ mixing + 1.0).relu()
    centred = inputs - inputs.mean(1, keepdim=True)
    return InputStatistics(inputs.mean(1), centred.transpose(1, 2) @ centred / samples, samples, 0.01)


def weights(groups: int, rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(groups, rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(groups=st.integers(1, 3), rows=st.integers(1, 6), columns=st.integers(2, 16), seed=st.integers(0, 999))
def test_refit_satisfies_the_normal_equations_on_the_mask(groups: int, rows: int, columns: int, seed: int) -> None:
    covariance = curvature(correlated(groups, columns, seed)).covariance.double()
    dense = weights(groups, rows, columns, seed).double()
    mask = weights(groups, rows, columns, seed + 1) > -0.3
    solution = refit(dense, dense, mask, covariance, iterations=200)
    assert (solution[~mask] == 0).all()
    gradient = (solution - dense) @ covariance
    assert float(gradient[mask].abs().max() if mask.any() else 0.0) <= 1e-6 * float((dense @ covariance).abs().max())


@pytest.mark.parametrize("method", ["obs", "magnitude"])
@pytest.mark.parametrize("structure", list(BLOCKS))
def test_weights_are_zero_exactly_where_removed(structure: Structure, method: Method) -> None:
    statistics = correlated(2, 18, 0)
    dense = weights(2, 8, 18, 1)
    found = reconstruct(dense, curvature(statistics), structure, 9, LEVELS, method)
    assert len(found) == len(LEVELS)
    for level, reconstruction in zip(LEVELS, found, strict=True):
        assert torch.equal(reconstruction.weight != 0, reconstruction.mask)
        height, width = BLOCKS[structure]
        assert abs(float((~reconstruction.mask).float().mean()) - level) <= height * width / dense.numel()
        error = relative_error(reconstruction.weight, dense, curvature(statistics).covariance)
        assert reconstruction.error == pytest.approx(error)


@pytest.mark.parametrize("structure", list(BLOCKS))
@pytest.mark.parametrize("seed", range(3))
def test_obs_is_better_than_magnitude(structure: Structure, seed: int) -> None:
    curve = curvature(correlated(1, 48, seed))
    dense = weights(1, 24, 48, seed)
    ours = reconstruct(dense, curve, structure, 48, LEVELS)
    plain = reconstruct(dense, curve, structure, 48, LEVELS, "magnitude")
    for one, other in zip(ours, plain, strict=True):
        assert one.error < 0.9 * other.error
    assert [one.error for one in ours] == sorted(one.error for one in ours)


def test_a_level_does_not_depend_on_the_others() -> None:
    curve = curvature(correlated(1, 24, 5))
    dense = weights(1, 12, 24, 5)
    alone = reconstruct(dense, curve, "block1x4", 24, [0.37])[0]
    among = reconstruct(dense, curve, "block1x4", 24, [0.8, 0.37, 0.1])[1]
    assert torch.equal(alone.weight, among.weight)


def test_bias_keeps_the_mean_of_the_outputs() -> None:
    statistics = correlated(2, 10, 4)
    dense = weights(2, 3, 10, 4)
    bias = torch.arange(6.0)
    sparse = dense * magnitude_mask(dense, "unstructured", 0.5, 10)
    new = corrected_bias(bias, sparse, dense, statistics.mean)
    for index in range(6):
        group, row = divmod(index, 3)
        before = dense[group, row] @ statistics.mean[group] + bias[index]
        after = sparse[group, row] @ statistics.mean[group] + new[index]
        assert float(after) == pytest.approx(float(before), abs=1e-4)


def test_dead_and_constant_inputs_are_harmless() -> None:
    covariance = torch.zeros(2, 8, 8)
    covariance[1] = torch.diag(torch.tensor([1.0, 0, 0, 2, 0, 1, 1, 0]))
    curve = curvature(InputStatistics(torch.ones(2, 8), covariance, 10, 0.01))
    assert curve.inverse.isfinite().all()
    dense = weights(2, 4, 8, 0)
    for structure in BLOCKS:
        for reconstruction in reconstruct(dense, curve, structure, 8, LEVELS):
            assert reconstruction.weight.isfinite().all()
            assert 0 <= reconstruction.error < 1.01
    assert relative_error(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.eye(3)[None]) == 0.0


@given(columns=st.integers(1, 12), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_inverse(columns: int, seed: int) -> None:
    covariance = curvature(correlated(1, columns, seed)).covariance
    assert isinstance(curvature(correlated(1, columns, seed)), Curvature)
    torch.testing.assert_close(invert(covariance) @ covariance, torch.eye(columns)[None], atol=2e-3, rtol=0)
