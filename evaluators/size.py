"""Size of a Plan's weights as the kernels store them, before windows are transformed.

Dense fp32 windows that Winograd's products read (csrc/f32_winograd.c) take 16/9 of what is counted here in a model file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from ..spaces.groups import Group
from ..spaces.layers import find_layers
from ..spaces.network import Network
from ..spaces.option import BLOCKS, Option
from ..spaces.plan import Plan
from ..spaces.remove_channels import remove_channels
from .latency import LatencyEvaluator

#: Bytes of the position of one kept block.
INDEX_BYTES = 2
#: Bytes of the bias, and of the scale where there is one, of one output channel.
CHANNEL_BYTES = 4


def size_bytes(network: Network, plan: Plan) -> int:
    """Bytes of all weights, positions of kept blocks, scales, biases and constants of a compressed network.

    Args:
        network: the compressed network, removed channels gone.
    """
    total = 0
    for layer in find_layers(network):
        total += layer_bytes(network.tensors[f"{layer.name}.weight"].numel(), layer.out_channels, plan[layer.name])
    return total + _other_bytes(network)


def layer_bytes(weights: int, out_channels: int, option: Option) -> int:
    """Bytes of one Layer of so many weights and output channels, those that an Option removes as channels gone already."""
    positions = 0
    if option.structure in BLOCKS:
        rows, columns = BLOCKS[option.structure]
        weights = round(weights * (1 - option.sparsity))
        positions = INDEX_BYTES * math.ceil(weights / (rows * columns))
    return positions + math.ceil(weights * option.bits / 8) + CHANNEL_BYTES * out_channels * (2 if option.bits <= 8 else 1)


def _other_bytes(network: Network) -> int:
    """Bytes of all tensors that are not a Layer's."""
    stored = {f"{layer.name}.{part}" for layer in find_layers(network) for part in ("weight", "bias")}
    return sum(4 * tensor.numel() for name, tensor in network.tensors.items() if name not in stored)


class SizeEvaluator:
    """Sizes of Plans of one Network: what `size_bytes` counts, without making the smaller network.

    Args:
        latency: of the same Network; it knows how many channels remain where.
        groups: those whose channels may be removed.
    """

    def __init__(self, latency: LatencyEvaluator, groups: tuple[Group, ...]) -> None:
        self._latency = latency
        bare = replace(latency.network, tensors={name: tensor.to("meta") for name, tensor in latency.network.tensors.items()})
        self._others = _other_bytes(bare)
        # Constants have at most one axis of channels, so what a Group's channels take in them is proportional to their number.
        self._shares = {
            group.name: (self._others - _other_bytes(remove_channels(bare, [group], {group.name: torch.arange(1)})))
            / (group.channels - 1)
            for group in groups
        }
        self._channels = {group.name: group.channels for group in groups}
        self._readers = {
            group.name: sorted({span.op for span in group.consumers} - {span.op for span in group.producers}) for group in groups
        }
        self._known: dict[tuple[object, ...], int] = {}

    def bytes(self, plan: Plan) -> int:
        """The size of a whole Plan."""
        kept = self._latency.kept(plan)
        return sum([self.layer(name, option, kept) for name, option in plan.options]) + self._rest(kept)

    def layer(self, name: str, option: Option, kept: Mapping[str, int]) -> int:
        """Bytes of one Layer under an Option when Groups keep only so many channels."""
        key = (name, option, *self._latency.deciding(name, kept))
        found = self._known.get(key)
        if found is None:
            layer = self._latency.layers[name]
            inputs, outputs = self._latency.layer_channels(name, kept)
            weights = outputs * (1 if layer.depthwise else inputs // layer.groups) * layer.kernel[0] * layer.kernel[1]
            found = self._known[key] = layer_bytes(weights, outputs, option)
        return found

    def others(self, group: Group, plan: Plan, kept: Mapping[str, int]) -> int:
        """Bytes, under a Plan's Options, of Layers that read a Group's channels and do not produce them, and of all constants.

        Args:
            kept: channels that Groups keep; takes the place of what the Plan itself says.
        """
        return sum([self.layer(name, plan[name], kept) for name in self._readers[group.name]]) + self._rest(kept)

    def _rest(self, kept: Mapping[str, int]) -> int:
        return self._others - round(sum(self._shares[name] * (self._channels[name] - count) for name, count in kept.items()))
