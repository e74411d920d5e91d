"""Whole channels removed from a Group: which ones, and weights of the Layers that read them which make up for it.

References:
    [ZipLM] Kurtic, Frantar, Alistarh: ZipLM: Inference-Aware Structured Pruning of Language Models. NeurIPS 2023
    [CP] He, Zhang, Sun: Channel Pruning for Accelerating Very Deep Neural Networks. ICCV 2017 (least-squares reconstruction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..spaces.groups import Group
from ..spaces.layers import Layer
from ..spaces.space import kept_channels
from .input_statistics import InputStatistics
from .pruning import to_matrix, to_weight
from .reconstruction import Curvature, Method, corrected_bias, curvature, relative_error

#: Share of a Group's channels that is removed between two rankings of the others.
STEP = 0.04


@dataclass(frozen=True)
class ChannelChoice:
    """A Group with fewer channels.

    Attributes:
        kept: (remaining,) int64, ascending: the channels of the Group that remain.
        compensated: for each consumer its weight, columns of removed channels zero, and its bias.
        error: sum of the consumers' relative errors.
    """

    kept: Tensor
    compensated: Mapping[str, tuple[Tensor, Tensor]]
    error: float


@dataclass(frozen=True)
class Consumer:
    """A Layer that reads a Group's channels, with its dense weights and what is known of its inputs."""

    layer: Layer
    weight: Tensor
    bias: Tensor
    statistics: InputStatistics


def prunable(group: Group) -> bool:
    """Whether channels of `group` can be removed at all."""
    return not group.frozen and bool(group.consumers) and group.channels > 1


def channel_columns(group: Group, layer: Layer) -> Tensor:
    """The columns of `layer`'s weight matrix that read each channel of `group`: (channels, columns per channel) int64."""
    parts = []
    positions = torch.arange(layer.kernel[0] * layer.kernel[1])[:, None] * layer.in_channels
    for span in group.consumers:
        if span.op == layer.name:
            inputs = span.offset + torch.arange(group.channels)[:, None, None] * span.repeat + torch.arange(span.repeat)
            parts.append((positions + inputs).flatten(1))
    return torch.cat(parts, 1)


def remove_columns(weight: Tensor, group: Group, layer: Layer, kept: Tensor) -> Tensor:
    """`weight` of a consumer with zeros where it reads channels of `group` that are not `kept`."""
    removed = torch.ones(group.channels, dtype=torch.bool)
    removed[kept] = False
    matrix = to_matrix(weight).clone()
    matrix[:, :, channel_columns(group, layer)[removed].flatten()] = 0
    return to_weight(matrix, tuple(weight.shape))


def choose_channels(
    group: Group, consumers: Sequence[Consumer], levels: Sequence[float], method: Method = "obs"
) -> dict[float, ChannelChoice]:
    """Channels to keep, and compensated consumers, at every level.

    Channels are removed in rounds; each round ranks them by the sum over the consumers of the relative increase of their squared
    output error if the channel is removed and all other inputs make up for it [ZipLM]. At each level the consumers' weights are
    the least-squares ones for the remaining channels [CP]. A level's result does not depend on the other levels.

    Args:
        group: a `prunable` one.
        consumers: one for each Layer among its consumers.
        levels: shares of the channels to remove; `spaces.space.kept_channels` says how many remain.
        method: `magnitude` ranks by the norm of the columns and leaves the remaining weights as they are.
    """
    curved = [curvature(consumer.statistics) for consumer in consumers]
    dense = [to_matrix(consumer.weight) for consumer in consumers]
    columns = [channel_columns(group, consumer.layer) for consumer in consumers]
    fewest = min(kept_channels(group.channels, level) for level in levels)
    if method == "magnitude":
        norms = [(weight.square().sum((0, 1)) / weight.square().sum().clamp(min=1e-20)) for weight in dense]
        order = sum(
            (norm[where].sum(1) for norm, where in zip(norms, columns, strict=True)), torch.zeros(group.channels)
        ).argsort(stable=True)
    else:
        order = _removal_order(dense, curved, columns, group.channels - fewest)
    choices = {}
    for level in levels:
        removed = torch.zeros(group.channels, dtype=torch.bool)
        removed[order[: group.channels - kept_channels(group.channels, level)]] = True
        compensated, error = {}, 0.0
        for consumer, weight, curve, where in zip(consumers, dense, curved, columns, strict=True):
            new = _without(weight, curve, where[removed].flatten(), method)
            bias = corrected_bias(consumer.bias, new, weight, consumer.statistics.mean)
            compensated[consumer.layer.name] = (to_weight(new, tuple(consumer.weight.shape)), bias)
            error += relative_error(new, weight, curve.covariance)
        choices[level] = ChannelChoice((~removed).nonzero()[:, 0], compensated, error)
    return choices


def _without(weight: Tensor, curve: Curvature, columns: Tensor, method: Method) -> Tensor:
    """`weight` (1, rows, columns) with `columns` zero and, for OBS, the others the least-squares ones: W C[:, S] C[S, S]^-1."""
    new = weight.clone()
    new[:, :, columns] = 0
    if method == "magnitude" or len(columns) == 0:
        return new
    kept = torch.ones(weight.shape[2], dtype=torch.bool)
    kept[columns] = False
    covariance = curve.covariance[0]
    factor = torch.linalg.cholesky(covariance[kept][:, kept].double())
    new[0][:, kept] = torch.cholesky_solve((covariance[kept] @ weight[0].T).double(), factor).T.float()
    return new


def _removal_order(dense: Sequence[Tensor], curved: Sequence[Curvature], columns: Sequence[Tensor], count: int) -> Tensor:
    """The first `count` channels to remove, in order.

    Each round takes the cheapest `STEP` of the channels and eliminates them from weights and inverses, which then are
    those of the problem with the remaining channels.
    """
    channels = columns[0].shape[0]
    energies = [float(((weight @ curve.covariance) * weight).sum()) for weight, curve in zip(dense, curved, strict=True)]
    weights = [weight[0] for weight in dense]
    inverses = [curve.inverse[0] for curve in curved]
    live = torch.ones(channels, dtype=torch.bool)
    order: list[int] = []
    stride = max(1, round(STEP * channels))
    while len(order) < count:
        scores = torch.zeros(channels)
        for weight, inverse, where, energy in zip(weights, inverses, columns, energies, strict=True):
            blocks = inverse[where[:, :, None], where[:, None, :]]
            blocks[~live] = torch.eye(where.shape[1])
            parts = weight[:, where]
            scores += torch.einsum("rci,cij,rcj->c", parts, torch.linalg.inv(blocks), parts) / max(energy, 1e-20)
        chosen = scores.masked_fill(~live, torch.inf).argsort(stable=True)[: min(stride, count - len(order))]
        order += chosen.tolist()
        live[chosen] = False
        for index, where in enumerate(columns):
            gone = where[chosen].flatten()
            rows = inverses[index][gone]
            solved = torch.linalg.solve(rows[:, gone].double(), rows.double()).float()
            weights[index] = weights[index] - weights[index][:, gone] @ solved
            inverses[index] = inverses[index] - rows.T @ solved
            weights[index][:, gone] = 0
    return torch.tensor(order)
