from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.compressors.pruning import (
    block_sums,
    choose_mask,
    magnitude_mask,
    obs_scores,
    spread_blocks,
    to_matrix,
    to_weight,
)
from autocompress.errors import UserError
from autocompress.spaces.option import BLOCKS, Structure

STRUCTURES = tuple(BLOCKS)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.sampled_from((1, 4, 9)), st.integers(1, 11))


@settings(deadline=None)
@given(shape=shapes, seed=st.integers(0, 99), groups=st.sampled_from((1, 2)))
def test_matrix_order_is_position_then_channel(shape: tuple[int, int, int, int], seed: int, groups: int) -> None:
    _, rows, positions, channels = shape
    side = int(positions**0.5)
    weight = torch.randn(rows * groups, channels, side, side, generator=torch.Generator().manual_seed(seed))
    matrix = to_matrix(weight, groups)
    assert matrix.shape == (groups, rows, positions * channels)
    assert torch.equal(to_weight(matrix, tuple(weight.shape)), weight)
    out, channel, y, x = rows * groups - 1, channels - 1, side - 1, 0
    assert matrix[out // rows, out % rows, (y * side + x) * channels + channel] == weight[out, channel, y, x]


@settings(max_examples=200, deadline=None)
@given(shape=shapes, structure=st.sampled_from(STRUCTURES), sparsity=st.floats(0.01, 0.99), seed=st.integers(0, 999))
def test_masks_are_whole_blocks_and_as_many_as_asked(
    shape: tuple[int, int, int, int], structure: Structure, sparsity: float, seed: int
) -> None:
    groups, rows, positions, channels = shape
    weight = torch.randn(groups, rows, positions * channels, generator=torch.Generator().manual_seed(seed))
    mask = magnitude_mask(weight, structure, sparsity, channels)
    height, width = BLOCKS[structure]
    by_position = mask.view(groups, rows, positions, channels)
    for top in range(0, rows, height):
        for left in range(0, channels, width):
            block = by_position[:, top : top + height, :, left : left + width].flatten(3).transpose(1, 2).flatten(2)
            assert torch.equal(block.any(2), block.all(2))
    assert mask.any()
    wrong = abs(float((~mask).float().mean()) - sparsity)
    biggest = height * width / mask.numel()
    whole = block_sums(mask.float(), structure, channels)
    only_one_left = int((whole > 0).sum()) == 1
    assert wrong <= biggest / 2 + 1e-6 or only_one_left


@settings(deadline=None)
@given(shape=shapes, structure=st.sampled_from(STRUCTURES), seed=st.integers(0, 99))
def test_spread_is_the_inverse_of_sums(shape: tuple[int, int, int, int], structure: Structure, seed: int) -> None:
    groups, rows, positions, channels = shape
    ones = torch.ones(groups, rows, positions * channels)
    sizes = block_sums(ones, structure, channels)
    values = torch.randn(sizes.shape, generator=torch.Generator().manual_seed(seed))
    spread = spread_blocks(values, structure, rows, channels)
    assert spread.shape == ones.shape
    torch.testing.assert_close(block_sums(spread, structure, channels), values * sizes)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_obs_score_is_the_loss_of_removing_a_block(structure: Structure) -> None:
    generator = torch.Generator().manual_seed(3)
    rows, positions, channels = 6, 2, 6
    inputs = torch.randn(200, positions * channels, generator=generator, dtype=torch.float64)
    hessian = inputs.T @ inputs / 200 + torch.ones(12, 12)
    weight = torch.randn(1, rows, 12, generator=generator, dtype=torch.float64)
    scores = obs_scores(weight, torch.linalg.inv(hessian)[None], structure, channels)
    picked = torch.zeros_like(scores)
    picked[0, -1, 1, -1] = 1
    gone = spread_blocks(picked, structure, rows, channels)[0] > 0
    loss = 0.0
    for row, removed in zip(weight[0], gone, strict=True):
        if removed.any():
            best = torch.zeros_like(row)
            best[~removed] = torch.linalg.solve(hessian[~removed][:, ~removed], hessian[~removed] @ row)
            loss += float((best - row) @ hessian @ (best - row))
    assert loss > 0
    assert float(scores[0, -1, 1, -1]) == pytest.approx(loss, rel=1e-9)


def test_removed_blocks_stay_removed() -> None:
    scores = torch.tensor([5.0, 1.0, 2.0, 3.0]).view(1, 1, 1, 4)
    removed = torch.tensor([True, False, False, False]).view(1, 1, 1, 4)
    mask = choose_mask(scores, "unstructured", 0.5, 1, 4, removed)
    assert mask.flatten().tolist() == [False, False, True, True]


def test_structures_without_blocks_are_refused() -> None:
    with pytest.raises(UserError, match="channel"):
        magnitude_mask(torch.ones(1, 4, 4), "channel", 0.5, 4)
