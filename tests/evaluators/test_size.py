from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import torch
from torch import nn

from autocompress.api import Prepared
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.evaluators.size import SizeEvaluator, size_bytes
from autocompress.kernels.table import LatencyTable
from autocompress.kernels.targets import load_target
from autocompress.spaces.capture import capture
from autocompress.spaces.groups import find_groups
from autocompress.spaces.layers import find_layers
from autocompress.spaces.network import Network
from autocompress.spaces.option import Bits, Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.remove_channels import remove_channels
from autocompress.spaces.space import build_space, removable


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
    network = evaluator.candidate(plan).network
    whole = size_bytes(evaluator.network, space.uniform(Option("dense", 0.0, 8)))
    weights = sum(network.tensors[f"{name}.weight"].numel() for name in plan)
    channels = sum(network.tensors[f"{name}.bias"].numel() for name in plan)
    assert all(option.bits == 8 for option in plan.values())
    assert size_bytes(network, plan) == weights + 8 * channels < 0.6 * whole
    assert math.isclose(weights, sum(math.prod(network.tensors[f"{name}.weight"].shape) for name in plan))


def test_the_quick_way_counts_the_same(tiny: Prepared, random_plan: Callable[[int], Plan]) -> None:
    """Without making the smaller network, for Plans with and without removed channels."""
    evaluator = SizeEvaluator(tiny.profile.latency, tiny.profile.space.groups)
    plans = [random_plan(seed) for seed in range(60)]
    assert any(option.structure == "channel" for plan in plans for option in plan.values())
    for plan in plans:
        assert evaluator.bytes(plan) == size_bytes(tiny.evaluator.candidate(plan).network, plan)


class Mixed(nn.Module):
    """A constant per channel, a concatenation, a linear behind a flatten, and a convolution in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(24)
        self.grouped = nn.Conv2d(24, 16, 3, padding=1, groups=4)
        self.scale = nn.Parameter(torch.ones(12, 1, 1))
        self.last = nn.Conv2d(16, 12, 1)
        self.head = nn.Linear(12 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(torch.cat([self.one(x), self.two(x)], 1).relu())
        return self.head((self.last(self.grouped(x)) * self.scale).flatten(1))


def test_the_quick_way_knows_constants_and_flattened_channels() -> None:
    network = capture(Mixed().eval(), torch.zeros(1, 3, 6, 6))
    groups = removable(find_groups(network))
    latency = LatencyEvaluator(network, groups, LatencyTable.for_target(load_target("pixel7"), None, 0.5))
    space = build_space(find_layers(network), groups, latency.supports, latency.alone_microseconds)
    evaluator = SizeEvaluator(latency, groups)
    removed = 0
    for seed in range(40):
        chooser = random.Random(seed)
        plan = space.consistent({layer.name: chooser.choice(space.options[layer.name]) for layer in space.layers})
        kept = {name: torch.arange(count) for name, count in latency.kept(plan).items()}
        removed += len(kept)
        assert evaluator.bytes(plan) == size_bytes(remove_channels(network, groups, kept), plan)
    assert removed > 10
