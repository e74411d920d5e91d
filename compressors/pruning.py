"""Which weights to remove: scores and masks for every sparse structure.

A weight is handled as a matrix of shape (groups, rows, columns): one problem a convolution group, rows are its output
channels, columns its inputs ordered by kernel position with the input channel innermost. In that order four consecutive
input channels at one kernel position, the width of `block1x4` and `block4x4`, are four consecutive columns. Where channels
are not a multiple of four the last block of each kernel position (or of each group's rows) is smaller.

References:
    [OBS] Hassibi, Stork: Second order derivatives for network pruning: Optimal Brain Surgeon. NeurIPS 1992.
    [OBC] Frantar, Singh, Alistarh: Optimal Brain Compression. NeurIPS 2022.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..spaces.option import BLOCKS, Structure


def to_matrix(weight: Tensor, groups: int = 1) -> Tensor:
    """(out, in / groups, height, width) or (out, in) -> (groups, out / groups, columns), the input channel innermost."""
    if weight.dim() == 4:
        weight = weight.permute(0, 2, 3, 1)
    return weight.reshape(groups, weight.shape[0] // groups, -1).contiguous()


def to_weight(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `to_matrix` for a weight of `shape`."""
    if len(shape) == 2:
        return matrix.reshape(shape).contiguous()
    out, channels, height, width = shape
    return matrix.reshape(out, height, width, channels).permute(0, 3, 1, 2).contiguous()


def block_shape(structure: Structure) -> tuple[int, int]:
    """Rows x columns which `structure` removes together.

    Raises:
        UserError: `structure` does not remove single weights or blocks of them.
    """
    if structure not in BLOCKS:
        raise UserError(f"structure {structure} has no blocks of weights: use one of {', '.join(BLOCKS)}")
    return BLOCKS[structure]


def block_sums(values: Tensor, structure: Structure, channels: int) -> Tensor:
    """Sum of `values` (groups, rows, columns) over each block: (groups, block rows, positions, blocks of channels).

    Args:
        values: one number a weight.
        structure: names the block.
        channels: input channels of one kernel position; columns is a multiple of it.
    """
    height, width = block_shape(structure)
    groups, rows, columns = values.shape
    positions = columns // channels
    padded = F.pad(values.reshape(groups, rows, positions, channels), (0, -channels % width, 0, 0, 0, -rows % height))
    tiled = padded.reshape(groups, -(-rows // height), height, positions, -(-channels // width), width)
    return tiled.sum((2, 5))


def spread_blocks(values: Tensor, structure: Structure, rows: int, channels: int) -> Tensor:
    """One value a block, as `block_sums` returns them, to one value a weight: (groups, rows, columns)."""
    height, width = block_shape(structure)
    wide = values.repeat_interleave(height, 1)[:, :rows].repeat_interleave(width, 3)[..., :channels]
    return wide.flatten(2)


def obs_scores(weight: Tensor, inverse: Tensor, structure: Structure, channels: int) -> Tensor:
    """Increase of the layer's squared error when one block is removed and the other weights of its rows make up for it [OBS].

    w_B^T ([H^-1]_BB)^-1 w_B for the part of a block in one row, summed over its rows.

    Args:
        weight: (groups, rows, columns).
        inverse: H^-1, (groups, columns, columns).
        structure: names the block.
        channels: input channels of one kernel position.

    Returns:
        (groups, block rows, positions, blocks of channels), as `block_sums`.
    """
    width = block_shape(structure)[1]
    if width == 1:
        return block_sums(weight.square() / inverse.diagonal(dim1=1, dim2=2)[:, None], structure, channels)
    groups, rows, columns = weight.shape
    index = F.pad(torch.arange(columns).reshape(-1, channels), (0, -channels % width), value=-1).reshape(-1, width)
    real = index >= 0
    blocks = inverse[:, index[:, :, None].clamp(min=0), index[:, None, :].clamp(min=0)]
    eye = torch.eye(width, dtype=weight.dtype)
    blocks = torch.where(real[:, :, None] & real[:, None, :], blocks, eye)
    parts = torch.where(real, weight[:, :, index.clamp(min=0)], 0)
    losses = torch.einsum("grbi,gbij,grbj->grb", parts, torch.linalg.inv(blocks), parts)
    # Each loss belongs to a whole block of columns by now: only rows are left to be added up.
    height = block_shape(structure)[0]
    losses = F.pad(losses, (0, 0, 0, -rows % height)).reshape(groups, -(-rows // height), height, -1).sum(2)
    return losses.reshape(*losses.shape[:2], columns // channels, -1)


def choose_mask(
    scores: Tensor, structure: Structure, sparsity: float, rows: int, channels: int, removed: Tensor | None = None
) -> Tensor:
    """The blocks to keep when those with the lowest score per weight are removed, ranked over the whole layer.

    Args:
        scores: one a block, as `block_sums` returns them.
        structure: names the block.
        sparsity: share of the weights to remove; the nearest achievable share is removed, but never everything.
        rows: of each group.
        channels: input channels of one kernel position.
        removed: blocks which are removed in any case (bool, as `scores`): masks of a ladder are nested.

    Returns:
        (groups, rows, columns) bool, True where a weight is kept.
    """
    groups, _, positions, _ = scores.shape
    sizes = block_sums(torch.ones(groups, rows, positions * channels), structure, channels).flatten()
    rank = scores.flatten() / sizes
    if removed is not None:
        rank = rank.masked_fill(removed.flatten(), -torch.inf)
    order = torch.argsort(rank, stable=True)
    shares = F.pad(sizes[order].double().cumsum(0), (1, 0)) / sizes.sum(dtype=torch.float64)
    count = min(int((shares - sparsity).abs().argmin()), len(order) - 1)
    keep = torch.ones(len(order), dtype=torch.bool)
    keep[order[:count]] = False
    return spread_blocks(keep.reshape(scores.shape), structure, rows, channels)


def magnitude_mask(weight: Tensor, structure: Structure, sparsity: float, channels: int) -> Tensor:
    """Keep the blocks of `weight` (groups, rows, columns) with the largest mean magnitude: (groups, rows, columns) bool."""
    return choose_mask(block_sums(weight.abs(), structure, channels), structure, sparsity, weight.shape[1], channels)
