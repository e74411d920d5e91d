"""Candidates against the plainest reference: real numbers, with every int8 tensor fake-quantised after it is computed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autocompress.compressors.candidate import Candidate, Value
from autocompress.compressors.input_statistics import collect_activations
from autocompress.compressors.pruning import to_matrix, to_weight
from autocompress.compressors.quantization import (
    Quantizer,
    choose_quantizer,
    fake_quantize,
    round_to_grid,
    to_half,
    weight_scales,
)
from autocompress.spaces.capture import capture
from autocompress.spaces.datatypes import MOVES
from autocompress.spaces.execute import run, run_op
from autocompress.spaces.layers import find_layers
from autocompress.spaces.network import INPUT, Network, Op
from autocompress.spaces.option import Bits, Option
from autocompress.spaces.plan import Plan


class Mixed(nn.Module):
    """Every kind of op around Layers: clipping and bending activations, a gate, a residual, a concatenation, moves, pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.bend = nn.Conv2d(8, 8, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.clip = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.linear = nn.Conv2d(8, 8, 1)
        self.join = nn.Conv2d(16, 12, 1)
        self.offset = nn.Parameter(torch.linspace(-1, 1, 12).reshape(1, 12, 1, 1))
        self.head = nn.Linear(12 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.stem(x))
        y = nn.functional.hardswish(self.bend(x))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        z = self.linear(nn.functional.relu(self.clip(y))) + x
        z = torch.cat([z, y], 1)
        z = nn.functional.max_pool2d(nn.functional.relu(self.join(z)), 2)
        z = nn.functional.avg_pool2d(z + self.offset, 2)
        return self.head(z.flatten(1))


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(3)) + 0.3


@pytest.fixture(scope="module")
def mixed(inputs: Tensor) -> Network:
    torch.manual_seed(1)
    return capture(Mixed().eval(), inputs[:1])


@pytest.fixture(scope="module")
def quantizers(mixed: Network, inputs: Tensor) -> dict[str, Quantizer]:
    return {name: choose_quantizer(spread) for name, spread in collect_activations(mixed, [inputs]).items()}


def candidate_of(network: Network, quantizers: dict[str, Quantizer], bits: dict[str, Bits]) -> Candidate:
    tensors, scales = dict(network.tensors), {}
    for layer in find_layers(network):
        name, weight = f"{layer.name}.weight", network.tensors[f"{layer.name}.weight"]
        matrix = to_matrix(weight, layer.groups)
        if bits[layer.name] == 16:
            tensors[name] = to_half(weight)
        elif bits[layer.name] in (8, 4):
            scale = weight_scales(matrix, bits[layer.name])
            tensors[name] = to_weight(round_to_grid(matrix, scale, bits[layer.name]), tuple(weight.shape))
            scales[layer.name] = scale.flatten()
    plan = Plan.of({layer.name: Option("dense", 0.0, bits[layer.name]) for layer in find_layers(network)})
    return Candidate.of(plan, replace(network, tensors=tensors), quantizers, scales)


def reference(candidate: Candidate, op: Op, inputs: dict[str, tuple[Tensor, str]]) -> tuple[Tensor, str]:
    """One op on (real numbers, type they are stored in), in the plainest way."""
    type_ = candidate.types[op.name]
    read = []
    for name in op.inputs:
        if name not in inputs:
            constant = candidate.network.tensors[name].unsqueeze(0)
            read.append(constant.half().float() if type_ == "fp16" else constant)
            continue
        real, stored = inputs[name]
        if stored != type_ and type_ == "int8":
            real = fake_quantize(real, candidate.quantizers[name])
        elif stored != type_ and type_ == "fp16":
            real = real.half().float()
        read.append(real)
    output = run_op(op, read, candidate.network.tensors)
    if op.name in candidate.plan and op.name == candidate.network.output:
        return output, "fp32"
    if type_ == "int8" and op.kind not in MOVES:
        output = fake_quantize(output, candidate.quantizers[op.name])
    if type_ == "fp16":
        output = output.half().float()
    return output, type_


def check_every_op(candidate: Candidate, x: Tensor) -> Tensor:
    """Each op on the same inputs as the reference; returns the network's output."""
    values: dict[str, Value] = {INPUT: candidate.input_value(x)}
    for op in candidate.network.ops:
        known = {name: (value.real.clone(), value.type) for name, value in values.items()}
        expected, stored = reference(candidate, op, known)
        found = values[op.name] = candidate.step(op, values)
        assert found.type == stored
        if stored == "int8":
            step = candidate.quantizers[op.name].scale if op.kind not in MOVES else found.scale
            assert found.scale == pytest.approx(step)
            assert torch.equal(found.data, found.data.round())
            # Float rounding may decide a tie the other way: by one code, for few values.
            change = (found.real - expected).abs() / step
            assert float(change.max()) < 1.01
            assert float((change > 0.01).float().mean()) < 5e-3
        else:
            tolerance = 2e-3 if stored == "fp16" else 1e-5
            assert torch.allclose(found.real, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))
        for name, (before, _) in known.items():
            assert torch.equal(values[name].real, before), f"{op.name} changed its input {name}"
    return candidate.finish(values[candidate.network.output])


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
def test_one_type_everywhere(mixed: Network, quantizers: dict[str, Quantizer], inputs: Tensor, bits: Bits) -> None:
    candidate = candidate_of(mixed, quantizers, {layer.name: bits for layer in find_layers(mixed)})
    output = check_every_op(candidate, inputs)
    assert torch.equal(output, candidate.run(inputs))
    dense = run(mixed, inputs)
    error = float((output - dense).square().mean() / dense.var())
    assert error < {32: 1e-10, 16: 1e-5, 8: 0.02, 4: 0.3}[bits]
    assert bits == 32 or error > 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_mixed_types(mixed: Network, quantizers: dict[str, Quantizer], inputs: Tensor, seed: int) -> None:
    chooser = random.Random(seed)
    choices: tuple[Bits, ...] = (32, 16, 8, 4)
    bits = {layer.name: chooser.choice(choices) for layer in find_layers(mixed)}
    candidate = candidate_of(mixed, quantizers, bits)
    assert len(set(candidate.types.values())) > 1
    assert torch.equal(check_every_op(candidate, inputs), candidate.run(inputs))


def test_the_correction_sees_every_layer_before_its_activation(
    mixed: Network, quantizers: dict[str, Quantizer], inputs: Tensor
) -> None:
    candidate = candidate_of(mixed, quantizers, {layer.name: 8 for layer in find_layers(mixed)})
    seen: dict[str, Tensor] = {}

    def record(op: Op, output: Tensor, scale: float) -> Tensor:
        seen[op.name] = output.clone() * scale
        return output

    candidate.run(inputs, record)
    assert list(seen) == [layer.name for layer in find_layers(mixed)]
    stem = seen["stem"]
    assert float(stem.min()) < 0, "recorded behind the relu6"
    x = fake_quantize(inputs, quantizers[INPUT])
    expected = nn.functional.conv2d(x, candidate.network.tensors["stem.weight"], candidate.network.tensors["stem.bias"], 2, 1)
    assert torch.allclose(stem, expected, atol=1e-4)
