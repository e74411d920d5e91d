from __future__ import annotations

import functools
import math

import torch
from torch import nn

from autocompress.api import Prepared
from autocompress.evaluators.size import size_bytes
from autocompress.spaces.capture import capture
from autocompress.spaces.network import Network
from autocompress.spaces.option import Bits, Option
from autocompress.spaces.plan import Plan


@functools.cache
def small() -> Network:
    return capture(nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 6)).eval(), torch.zeros(1, 4, 2, 2))


def sizes(first: Option, second: Option) -> int:
    network = small()
    names = [op.name for op in network.ops if op.kind in ("conv2d", "linear")]
    return size_bytes(network, Plan.of(dict(zip(names, (first, second), strict=True))))


def test_dense_weights_and_biases() -> None:
    dense: dict[Bits, Option] = {bits: Option("dense", 0.0, bits) for bits in (32, 16, 8, 4)}
    assert sizes(dense[32], dense[32]) == 4 * (32 + 8 + 192 + 6)
    assert sizes(dense[16], dense[16]) == 2 * (32 + 192) + 4 * (8 + 6)
    # Integers: one scale for each output channel beside its bias.
    assert sizes(dense[8], dense[8]) == (32 + 192) + 8 * (8 + 6)
    assert sizes(dense[4], dense[32]) == 32 // 2 + 8 * 8 + 4 * (192 + 6)


def test_sparse_weights_pay_for_positions() -> None:
    dense = Option("dense", 0.0, 32)
    rest = 4 * (192 + 6)
    assert sizes(Option("unstructured", 0.5, 32), dense) == 16 * 4 + 16 * 2 + 4 * 8 + rest
    assert sizes(Option("block4x1", 0.5, 16), dense) == 16 * 2 + 4 * 2 + 4 * 8 + rest
    assert sizes(Option("block4x4", 0.5, 8), dense) == 16 + 1 * 2 + 8 * 8 + rest


def test_removed_channels_are_gone(tiny: Prepared) -> None:
    space, evaluator = tiny.profile.space, tiny.evaluator
    plan = space.consistent(dict(space.uniform(Option("channel", 0.5, 8))))
    network = evaluator.shape(plan)
    whole = size_bytes(evaluator.network, space.uniform(Option("dense", 0.0, 8)))
    weights = sum(network.tensors[f"{name}.weight"].numel() for name in plan)
    channels = sum(network.tensors[f"{name}.bias"].numel() for name in plan)
    assert all(option.bits == 8 for option in plan.values())
    assert size_bytes(network, plan) == weights + 8 * channels < 0.6 * whole
    assert math.isclose(weights, sum(math.prod(network.tensors[f"{name}.weight"].shape) for name in plan))
