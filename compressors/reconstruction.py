"""Sparse weights that keep a Layer's outputs: masks chosen by curvature, the other weights refitted by least squares.

For a weight W and the covariance C of its inputs, removing weights changes the outputs' variance by
`tr((W' - W) C (W' - W)^T)`; the change of their mean, `(W - W') mean`, goes into the bias. With non-negative activations the
means are most of the second moment, so the centring matters more than anything else here.

References:
    [OBC] Frantar, Singh, Alistarh: Optimal Brain Compression. NeurIPS 2022.
    [ALPS] Meng, Behdin, Wang, Mazumder: ALPS: Improved Optimization for Highly Sparse One-Shot Pruning. NeurIPS 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..spaces.option import Structure
from .input_statistics import InputStatistics
from .pruning import block_sums, choose_mask, magnitude_mask, obs_scores

Method = Literal["obs", "magnitude"]

#: The mask grows by this share of the weights between two refits.
STEP = 0.1
#: Conjugate gradient iterations of a refit, at most; it starts from the previous one, so few are needed.
ITERATIONS = 8
#: A refit ends when its squared gradient has fallen to this share.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Curvature:
    """The damped covariance of a Layer's inputs and its inverse, each (groups, columns, columns)."""

    covariance: Tensor
    inverse: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """Weights at one sparsity.

    Attributes:
        weight: (groups, rows, columns), exactly zero where removed.
        mask: (groups, rows, columns) bool, True where kept.
        error: `relative_error` of the weight.
    """

    weight: Tensor
    mask: Tensor
    error: float


def curvature(statistics: InputStatistics) -> Curvature:
    """Damp the covariance, so that weights do not follow what is chance in the calibration data, and invert it."""
    covariance = statistics.covariance
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    added = statistics.damping * diagonal.mean(1) + 1e-6 * diagonal.mean() + 1e-20
    damped = covariance + torch.diag_embed(added[:, None].expand_as(diagonal))
    return Curvature(damped, invert(damped))


def invert(matrix: Tensor) -> Tensor:
    """The inverse of symmetric positive definite matrices (..., n, n), computed in double precision."""
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix.double())).to(matrix.dtype)


def relative_error(weight: Tensor, dense: Tensor, covariance: Tensor) -> float:
    """Variance of the change of the outputs over the variance of the outputs: tr(D C D^T) / tr(W C W^T), D = weight - dense."""
    total = float(((dense @ covariance) * dense).sum(dtype=torch.float64))
    change = weight - dense
    return float(((change @ covariance) * change).sum(dtype=torch.float64)) / total if total > 0 else 0.0


def corrected_bias(bias: Tensor, weight: Tensor, dense: Tensor, mean: Tensor) -> Tensor:
    """The bias with which `weight` has the mean outputs of `dense`.

    Args:
        bias: (groups * rows,).
        weight, dense: (groups, rows, columns).
        mean: of the inputs, (groups, columns).
    """
    return bias + ((dense - weight) @ mean[:, :, None]).flatten()


def refit(start: Tensor, dense: Tensor, mask: Tensor, covariance: Tensor, iterations: int, tolerance: float = 0.0) -> Tensor:
    """The weights on `mask` with the smallest tr((X - dense) C (X - dense)^T), by preconditioned conjugate gradients.

    All rows are solved at once, each with its own step lengths.

    Args:
        start: where to begin, (groups, rows, columns); taken at `mask` only.
        dense: the weights to imitate.
        mask: bool, True where a weight may differ from zero.
        covariance: C, (groups, columns, columns), positive definite.
        iterations: matrix products with C, plus one, at most.
        tolerance: stop when the squared, preconditioned gradient has fallen to this share of what it was.
    """
    # In place wherever it can be: these matrices leave the cache, and passes over them cost as much as the products.
    keep = mask.to(dense.dtype)
    precondition = covariance.diagonal(dim1=1, dim2=2)[:, None].reciprocal()
    solution = start * keep
    residual = ((dense - solution) @ covariance).mul_(keep)
    direction = precondition * residual
    power = torch.linalg.vecdot(residual, direction)[..., None]
    tiny = torch.finfo(dense.dtype).tiny
    enough = tolerance * float(power.sum())
    for _ in range(iterations):
        if float(power.sum()) <= enough:
            break
        image = (direction @ covariance).mul_(keep)
        step = power / torch.linalg.vecdot(direction, image)[..., None].clamp_(min=tiny)
        solution.addcmul_(step, direction)
        residual.addcmul_(step, image, value=-1)
        scaled = torch.mul(precondition, residual, out=image)
        previous, power = power, torch.linalg.vecdot(residual, scaled)[..., None]
        direction.mul_(power / previous.clamp(min=tiny)).add_(scaled)
    return solution


def reconstruct(
    dense: Tensor,
    curvature: Curvature,
    structure: Structure,
    channels: int,
    levels: Sequence[float],
    method: Method = "obs",
) -> list[Reconstruction]:
    """Sparse weights at every level, from one gradual pass.

    The mask grows in steps of `STEP`; each step ranks all blocks of the layer by the increase of error on their removal
    [OBC], given the weights as refitted so far, and refits the rest [ALPS]. The result at a level does not depend on the
    other levels asked for.

    Args:
        dense: (groups, rows, columns) in the column order of `pruning.to_matrix`.
        curvature: of the layer's inputs.
        structure: what is removed together.
        channels: input channels of one kernel position.
        levels: sparsities in (0, 1).
        method: `magnitude` removes the smallest blocks and keeps the other weights as they are.

    Returns:
        One Reconstruction a level, in the order of `levels`.
    """
    found: dict[float, Reconstruction] = {}
    weight, removed, waypoint = dense, None, 0
    for level in sorted(set(levels)):
        if method == "magnitude":
            mask = magnitude_mask(dense, structure, level, channels)
            sparse = dense * mask
        else:
            while (waypoint + 1) * STEP <= level + 1e-9:
                waypoint += 1
                weight, mask = _remove(weight, dense, curvature, structure, channels, waypoint * STEP, removed)
                removed = block_sums(mask.float(), structure, channels) == 0
            sparse = weight
            if waypoint * STEP < level - 1e-9:
                sparse, mask = _remove(weight, dense, curvature, structure, channels, level, removed)
        found[level] = Reconstruction(sparse, mask, relative_error(sparse, dense, curvature.covariance))
    return [found[level] for level in levels]


def _remove(
    weight: Tensor,
    dense: Tensor,
    curvature: Curvature,
    structure: Structure,
    channels: int,
    sparsity: float,
    removed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    scores = obs_scores(weight, curvature.inverse, structure, channels)
    mask = choose_mask(scores, structure, sparsity, dense.shape[1], channels, removed)
    return refit(weight, dense, mask, curvature.covariance, ITERATIONS, TOLERANCE), mask
