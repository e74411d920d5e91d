"""ONNX files in ONNX Runtime against the Candidates that they were written from."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from autocompress.compressors.candidate import Candidate
from autocompress.compressors.quantization import Quantizer, round_to_grid, to_half, weight_scales
from autocompress.deployment.onnx import to_model, to_onnx
from autocompress.errors import UserError
from autocompress.spaces.execute import run, run_op
from autocompress.spaces.groups import find_groups
from autocompress.spaces.network import INPUT, KINDS, Activation, Network, Op
from autocompress.spaces.option import Bits, Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.remove_channels import remove_channels
from hypothesis import assume, given, settings
from hypothesis import strategies as st

onnxruntime.set_default_logger_severity(3)

IMAGE = (8, 9, 11)
RELU, RELU6, NONE = Activation("relu"), Activation("clamp", (0.0, 6.0)), Activation()


class Builder:
    """A Network made by hand, with random weights."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.ops: list[Op] = []
        self.tensors: dict[str, torch.Tensor] = {}
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: shape}

    def random(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * scale

    def constant(self, name: str, *shape: int) -> str:
        self.tensors[name] = self.random(*shape)
        return name

    def op(self, name: str, kind: str, *inputs: str, **attributes: Any) -> str:
        assert set(attributes) <= set(KINDS[kind])
        self.ops.append(Op(name, kind, inputs, attributes))
        values = [torch.zeros(2, *self.shapes[n]) if n in self.shapes else self.tensors[n].unsqueeze(0) for n in inputs]
        self.shapes[name] = tuple(run_op(self.ops[-1], values, self.tensors).shape[1:])
        return name

    def conv(self, name: str, x: str, channels: int, kernel: int = 3, activation: Activation = NONE, **changes: Any) -> str:
        groups = changes.get("groups", 1)
        inputs = self.shapes[x][0] // groups
        self.tensors[f"{name}.weight"] = self.random(channels, inputs, kernel, kernel, scale=(inputs * kernel**2) ** -0.5)
        self.tensors[f"{name}.bias"] = self.random(channels, scale=0.3)
        attributes = {"stride": (1, 1), "padding": (kernel // 2,) * 4, "dilation": (1, 1), "groups": 1, "activation": activation}
        return self.op(name, "conv2d", x, **{**attributes, **changes})

    def linear(self, name: str, x: str, features: int, activation: Activation = NONE) -> str:
        inputs = self.shapes[x][-1]
        self.tensors[f"{name}.weight"] = self.random(features, inputs, scale=inputs**-0.5)
        self.tensors[f"{name}.bias"] = self.random(features, scale=0.3)
        return self.op(name, "linear", x, activation=activation)

    def network(self) -> Network:
        return Network(tuple(self.ops), self.tensors, self.shapes, self.ops[-1].name)


def samples(network: Network, count: int = 5) -> torch.Tensor:
    return torch.randn(count, *network.shapes[INPUT], generator=torch.Generator().manual_seed(99))


def make_candidate(network: Network, bits: Bits | Mapping[str, Bits]) -> Candidate:
    """Every Layer with `bits`: weights rounded, quantizers from the ranges on `samples`."""
    layers = [op.name for op in network.ops if op.kind in ("conv2d", "linear")]
    chosen: dict[str, Bits] = {name: bits if isinstance(bits, int) else bits[name] for name in layers}
    tensors, scales = dict(network.tensors), {}
    for name, width in chosen.items():
        weight = tensors[f"{name}.weight"]
        if width == 16:
            tensors[f"{name}.weight"] = to_half(weight)
        elif width <= 8:
            matrix = weight.flatten(1).unsqueeze(0)
            scale = weight_scales(matrix, width)
            tensors[f"{name}.weight"] = round_to_grid(matrix, scale, width).view_as(weight)
            scales[name] = scale.flatten()
    quantizers = {}

    def observe(name: str, x: torch.Tensor) -> None:
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = max(high - low, 1e-6) / 255
        quantizers[name] = Quantizer(scale, round(-128 - low / scale))

    x = samples(network)
    observe(INPUT, x)
    run(network, x, lambda op, inputs, output: observe(op.name, output))
    plan = Plan.of({name: Option("dense", 0.0, width) for name, width in chosen.items()})
    return Candidate.of(plan, replace(network, tensors=tensors), quantizers, scales)


def session(model: onnx.ModelProto, optimised: bool, save: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Without it, x86 processors that lack VNNI clip sums of two int8 products to 16 bits.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if save is not None:
        options.optimized_model_filepath = str(save)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(candidate: Candidate, optimised: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What ONNX Runtime and the Candidate return for the same samples."""
    x = samples(candidate.network)
    with torch.inference_mode():
        wanted = candidate.run(x)
    (got,) = session(to_model(candidate), optimised).run(["output"], {"input": x.numpy()})
    assert got.shape == tuple(wanted.shape)
    assert float(wanted.std()) > 0 and np.isfinite(got).all()
    return torch.from_numpy(got), wanted


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def check_single(candidate: Candidate, bits: Bits, optimised: bool = False) -> None:
    """Few ops in a row: equal up to float rounding, which may move a value to the next code or the next half now and then."""
    got, wanted = outputs(candidate, optimised)
    largest = float(wanted.abs().max())
    if bits == 32:
        assert float((got - wanted).abs().max()) <= 1e-5 * largest
        return
    exact = candidate.quantizers[candidate.network.output].scale if bits <= 8 else largest * 2**-10
    difference = (got - wanted).abs() / exact
    assert float(difference.max()) <= 1.01
    assert float((difference > 0.01).float().mean()) <= 0.01
