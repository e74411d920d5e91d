"""Networks for the tests of Programs: small ones with every kind of op, and Candidates of any network with any Options."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.compressors.candidate import Candidate
from autocompress.compressors.input_statistics import collect_activations
from autocompress.compressors.quantization import choose_quantizer, round_to_grid, to_half, weight_scales
from autocompress.spaces.capture import capture
from autocompress.spaces.groups import find_groups
from autocompress.spaces.layers import find_layers
from autocompress.spaces.network import INPUT, Network
from autocompress.spaces.option import BLOCKS, Bits, Option, Structure
from autocompress.spaces.plan import Plan
from autocompress.spaces.remove_channels import remove_channels

#: What may be removed from a Layer, by its bits; for depthwise Layers only nothing.
STRUCTURES: dict[Bits, tuple[Structure, ...]] = {
    32: ("dense", "unstructured", "block4x1"),
    16: ("dense", "unstructured", "block4x1"),
    8: ("dense", "block1x4", "block4x4"),
    4: ("dense",),
}


class FunctionModel(nn.Module):
    """`function(self, x)` as a module with the given parts."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], parts: Mapping[str, nn.Module | Tensor]) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


@dataclass(frozen=True)
class Small:
    """A small network.

    Attributes:
        kinds: of ops that must be in it.
        gathers, copies: steps that its Program takes to move values: in fp32, and when all Layers are dense int8.
    """

    function: Callable[[nn.Module, Tensor], Tensor]
    parts: Mapping[str, nn.Module | Tensor]
    kinds: tuple[str, ...]
    shape: tuple[int, ...] = (6, 9, 8)
    gathers: tuple[int, int] = (0, 0)
    copies: tuple[int, int] = (0, 0)

    def model(self) -> nn.Module:
        return randomised(FunctionModel(self.function, self.parts))


def conv(channels: int, outputs: int, kernel: int = 1, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, kernel, **options)


torch.manual_seed(0)

#: By name; every kind of op that capture knows is in one of them.
SMALL: dict[str, Small] = {
    "cat_of_different_scales": Small(
        lambda m, x: m.d(torch.cat([m.a(x).relu(), m.b(x) * 0.1, x, m.c(x)], 1)),
        {"a": conv(6, 5), "b": conv(6, 8), "c": conv(6, 3), "d": conv(22, 4)},
        ("cat", "conv2d"),
        copies=(4, 4),
    ),
    "split_and_cat": Small(
        lambda m, x: m.d(torch.cat([m.a(y[:, :4]), m.b(y[:, 4:9]), y[:, 9:]], 1)) if (y := m.c(x)) is not None else x,
        {"a": conv(4, 3), "b": conv(5, 6), "c": conv(6, 12), "d": conv(12, 3)},
        ("slice", "cat"),
        copies=(3, 3),
    ),
    "slice_inside_a_quad": Small(lambda m, x: m.b(m.a(x)[:, 3:8]), {"a": conv(6, 9), "b": conv(5, 4)}, ("slice",), copies=(0, 1)),
    "slice_of_pixels": Small(
        lambda m, x: m.b(m.a(x)[:, :, 1:-2, 2:]), {"a": conv(6, 8), "b": conv(8, 4, 3)}, ("slice",), gathers=(1, 1)
    ),
    "steps_along_pixels": Small(
        lambda m, x: m.b(m.a(x)[:, :, ::2, 1::3]), {"a": conv(6, 8), "b": conv(8, 4)}, ("max_pool",), gathers=(1, 1)
    ),
    "channel_shuffle": Small(
        lambda m, x: m.b(F.channel_shuffle(m.a(x), 2)),
        {"a": conv(6, 10), "b": conv(10, 4)},
        ("permute", "reshape"),
        gathers=(1, 1),
    ),
    "pixel_shuffles": Small(
        lambda m, x: m.b(F.pixel_unshuffle(F.pixel_shuffle(m.a(x), 2).relu(), 2)),
        {"a": conv(6, 8), "b": conv(8, 4)},
        ("permute", "activation"),
        gathers=(2, 2),
    ),
    "flatten": Small(lambda m, x: m.b(m.a(x).flatten(1)), {"a": conv(6, 8, 3), "b": nn.Linear(336, 5)}, ("reshape", "linear")),
    "flatten_of_odd_channels": Small(
        lambda m, x: m.b(m.a(x).flatten(1)), {"a": conv(6, 7, 3), "b": nn.Linear(294, 5)}, ("reshape", "linear")
    ),
    "flatten_in_another_order": Small(
        lambda m, x: m.b(m.a(x).permute(0, 3, 1, 2).flatten(1)), {"a": conv(6, 4, 3), "b": nn.Linear(168, 5)}, ("permute",)
    ),
    "convnext": Small(
        lambda m, x: m.e(x + (m.c(F.gelu(m.b(m.a(x).permute(0, 2, 3, 1)))) * m.s).permute(0, 3, 1, 2)),
        {
            "a": conv(6, 6, 7, padding=3, groups=6),
            "b": nn.Linear(6, 24),
            "c": nn.Linear(24, 6),
            "s": torch.rand(6) + 0.5,
            "e": conv(6, 4, 2, stride=2),
        },
        ("permute", "linear", "mul", "add"),
    ),
    "squeeze_excite": Small(
        lambda m, x: m.c((y := m.a(x).relu()) * F.hardsigmoid(m.e(F.relu(m.r(y.mean((2, 3), keepdim=True)))))),
        {"a": conv(6, 10), "r": conv(10, 3), "e": conv(3, 10), "c": conv(10, 4)},
        ("adaptive_avg_pool", "mul"),
    ),
    "squeeze_excite_linear": Small(
        lambda m, x: m.c(m.e(F.silu(m.r(x.mean((2, 3))))).sigmoid().view(-1, 6, 1, 1) * x),
        {"r": nn.Linear(6, 3), "e": nn.Linear(3, 6), "c": conv(6, 4)},
        ("linear", "reshape", "mul"),
    ),
    "coordinate_gate": Small(
        lambda m, x: m.c((y := m.a(x)) * y.mean(3, keepdim=True).sigmoid() * y.mean(2, keepdim=True).tanh()),
        {"a": conv(6, 6), "c": conv(6, 4)},
        ("avg_pool", "activation", "mul"),
        gathers=(2, 2),
    ),
    "outer_product": Small(
        lambda m, x: m.c(m.a(x).mean((2, 3), keepdim=True) * m.b(x).relu()),
        {"a": conv(6, 8), "b": conv(6, 1), "c": conv(8, 4)},
        ("mul",),
        gathers=(1, 1),
    ),
    "square_and_constants": Small(
        lambda m, x: m.c((y := m.a(x)) * y + m.p) * m.q,
        {"a": conv(6, 8), "p": torch.randn(1, 8, 9, 8), "q": torch.rand(9, 8) - 0.3, "c": conv(8, 4)},
        ("mul", "add"),
    ),
    "pads": Small(
        lambda m, x: m.d(F.max_pool2d(F.pad(m.c(F.pad(m.a(x), (1, 0, 2, 3), value=0.7)), (0, 1, 0, 1), value=-9.0), 3, 2)),
        {"a": conv(6, 7), "c": conv(7, 8, 3), "d": conv(8, 4)},
        ("pad", "max_pool"),
        gathers=(2, 2),
        copies=(0, 2),
    ),
    "pre_activation": Small(
        lambda m, x: m.c(F.relu6(m.b(y := m.a(x)))) + F.leaky_relu(m.d(y), 0.2),
        {"a": conv(6, 5), "b": nn.BatchNorm2d(5), "c": conv(5, 7), "d": conv(5, 7)},
        ("affine", "add"),
    ),
    "adaptive_pool": Small(
        lambda m, x: m.c(F.adaptive_avg_pool2d(m.a(x), 3)), {"a": conv(6, 9), "c": conv(9, 4)}, ("adaptive_avg_pool",), (6, 7, 7)
    ),
    "adaptive_pool_of_unequal_windows": Small(
        lambda m, x: m.c(F.adaptive_avg_pool2d(m.a(x), (3, 2)).relu()),
        {"a": conv(6, 9), "c": conv(9, 4)},
        ("adaptive_avg_pool", "activation"),
        (6, 5, 4),
        gathers=(2, 2),
    ),
    "pools": Small(
        lambda m, x: (
            m.c(F.avg_pool2d(y := m.a(x), 3, 2, 1, ceil_mode=True, count_include_pad=False))
            + F.max_pool2d(m.b(x), 3, 2, 1, ceil_mode=True)
            + F.avg_pool2d(m.d(y), 3, 2, 1, True, True)
            + F.avg_pool2d(m.d(y), 3, 2, 1, True, True, 5)
        ),
        {"a": conv(6, 5), "b": conv(6, 7), "c": conv(5, 7), "d": conv(5, 7)},
        ("avg_pool", "max_pool", "add"),
    ),
    "grouped_and_dilated": Small(
        lambda m, x: m.c(F.hardswish(m.b(F.elu(m.a(x), 0.8)))),
        {
            "a": conv(6, 8, 3, padding=2, dilation=2, groups=2),
            "b": conv(8, 12, 3, stride=(2, 1), padding=(0, 1), groups=4),
            "c": conv(12, 4),
        },
        ("conv2d",),
    ),
    "depthwise_multiplier_and_end": Small(
        lambda m, x: m.b(m.a(x).relu()),
        {"a": conv(6, 12, 3, padding=1, groups=6), "b": conv(12, 12, 3, groups=12)},
        ("conv2d",),
    ),
    "tokens_and_a_constant_one": Small(
        lambda m, x: m.l(torch.cat([m.t.expand(x.shape[0], -1, -1), m.a(x).flatten(2).transpose(1, 2)], 1) + m.p),
        {"a": conv(6, 8), "t": torch.randn(1, 1, 8), "p": torch.randn(1, 73, 8), "l": nn.Linear(8, 3)},
        ("cat", "permute", "add", "linear"),
        gathers=(3, 3),
        copies=(2, 2),
    ),
    "linear_over_tokens": Small(
        lambda m, x: m.b(F.gelu(m.a(x), approximate="tanh")),
        {"a": nn.Linear(6, 5), "b": nn.Linear(5, 3)},
        ("linear",),
        (7, 6),
        (2, 2),
    ),
    "one_dimension": Small(
        lambda m, x: m.l(F.max_pool1d(F.relu(m.d(F.pad(m.c(x), (1, 0), value=0.5))), 2).flatten(1)),
        {"c": nn.Conv1d(3, 4, 3, 2, 1), "d": nn.Conv1d(4, 4, 4, padding="same"), "l": nn.Linear(16, 2)},
        ("reshape", "conv2d", "pad", "max_pool", "linear"),
        (3, 14),
        gathers=(1, 1),
    ),
    "ends_permuted": Small(lambda m, x: m.a(x).permute(0, 2, 3, 1), {"a": conv(6, 5)}, ("permute",), gathers=(1, 1)),
    "ends_sliced": Small(lambda m, x: m.a(x)[:, 2:5], {"a": conv(6, 8)}, ("slice",), copies=(1, 1)),
    "ends_with_an_op": Small(lambda m, x: F.relu(m.a(x) + m.b(x)), {"a": conv(6, 8), "b": conv(6, 8)}, ("add",)),
}


def randomised(model: nn.Module) -> nn.Module:
    """With batch norm statistics and gains that are neither 0 nor 1, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):
                assert tensor is not None
                tensor.detach().copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return model.eval()


def samples(network: Network, count: int = 4) -> Tensor:
    return torch.randn(count, *network.shapes[INPUT], generator=torch.Generator().manual_seed(7)) + 0.1


def captured(model: nn.Module, shape: tuple[int, ...]) -> Network:
    return capture(model, torch.randn(1, *shape, generator=torch.Generator().manual_seed(3)))


def uniform(network: Network, bits: Bits, structure: Structure = "dense") -> dict[str, Option]:
    """The same Option for every Layer, as far as a kernel has it."""
    sparse = Option(structure, 0.5, bits) if structure != "dense" else Option("dense", 0.0, bits)
    return {layer.name: Option("dense", 0.0, bits) if layer.depthwise else sparse for layer in find_layers(network)}


def mixed(network: Network, seed: int) -> dict[str, Option]:
    """A random Option for every Layer."""
    chooser = random.Random(seed)
    options = {}
    for layer in find_layers(network):
        bits = chooser.choice((32, 16, 8, 8, 4))
        structure = "dense" if layer.depthwise else chooser.choice(STRUCTURES[bits])
        options[layer.name] = Option(structure, 0.0 if structure == "dense" else chooser.choice((0.5, 0.8)), bits)
    return options


def narrowed(network: Network, seed: int) -> Network:
    """The network without about a third of the channels of every other Group."""
    groups = [group for group in find_groups(network) if not group.frozen]
    generator = torch.Generator().manual_seed(seed)
    kept = {
        group.name: torch.randperm(group.channels, generator=generator)[: -(-2 * group.channels // 3)].sort().values
        for group in groups[seed % 2 :: 2]
    }
    return remove_channels(network, groups, kept)


def make_candidate(network: Network, options: Mapping[str, Option]) -> Candidate:
    """Weights rounded, blocks removed at random, quantizers from the ranges on `samples`."""
    tensors, scales = dict(network.tensors), {}
    for name, option in options.items():
        weight = tensors[f"{name}.weight"]
        if option.structure in BLOCKS:
            rows, columns = BLOCKS[option.structure]
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            blocks = (-(-weight.shape[0] // rows), -(-weight.shape[1] // columns), *weight.shape[2:])
            kept = (torch.rand(blocks, generator=generator) >= option.sparsity).repeat_interleave(rows, 0)
            weight = weight * kept.repeat_interleave(columns, 1)[: weight.shape[0], : weight.shape[1]]
        if option.bits == 16:
            weight = to_half(weight)
        elif option.bits <= 8:
            matrix = weight.flatten(1).unsqueeze(0)
            scale = weight_scales(matrix, option.bits)
            weight, scales[name] = round_to_grid(matrix, scale, option.bits).view_as(weight), scale.flatten()
        tensors[f"{name}.weight"] = weight
    ranges = collect_activations(network, [samples(network)])
    quantizers = {name: choose_quantizer(spread) for name, spread in ranges.items()}
    return Candidate.of(Plan.of(options), replace(network, tensors=tensors), quantizers, scales)
