"""Size of a Plan's weights as the kernels store them."""

from __future__ import annotations

import math

from ..spaces.layers import find_layers
from ..spaces.network import Network
from ..spaces.option import BLOCKS
from ..spaces.plan import Plan

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
    stored = set()
    for layer in find_layers(network):
        option = plan[layer.name]
        weights = network.tensors[f"{layer.name}.weight"].numel()
        if option.structure in BLOCKS:
            rows, columns = BLOCKS[option.structure]
            weights = round(weights * (1 - option.sparsity))
            total += INDEX_BYTES * math.ceil(weights / (rows * columns))
        total += math.ceil(weights * option.bits / 8)
        total += CHANNEL_BYTES * layer.out_channels * (2 if option.bits <= 8 else 1)
        stored |= {f"{layer.name}.weight", f"{layer.name}.bias"}
    return total + sum(4 * tensor.numel() for name, tensor in network.tensors.items() if name not in stored)
