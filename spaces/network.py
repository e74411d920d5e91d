"""Network: the captured model, as ops over named tensors.

Every tensor is named after the op that computes it; the network's input is the tensor `input`. Shapes are per
sample: the batch dimension is left out and is free. Weights live beside the ops in `tensors`, under
`<op>.weight` and `<op>.bias` (both are always there for a Layer), and `<op>.constant`, `<op>.constant1` for constants
that an op reads, shaped per sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

INPUT = "input"

#: kind -> attributes. Axes and shapes are per sample (axis 0 is the channel of an image).
KINDS: dict[str, tuple[str, ...]] = {
    "conv2d": ("stride", "padding", "dilation", "groups", "activation"),  # padding: top, left, bottom, right
    "linear": ("activation",),
    "affine": ("activation",),  # per-channel weight * x + bias: a batch norm with no convolution to fold into
    "add": ("activation",),
    "mul": ("activation",),
    "cat": ("axis",),
    "slice": ("axis", "start", "stop"),
    "activation": ("activation",),
    "max_pool": ("kernel", "stride", "padding", "dilation", "ceil_mode"),  # padding: height, width
    "avg_pool": ("kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor"),
    "adaptive_avg_pool": ("size",),  # output height, width; (1, 1) is global pooling
    "pad": ("padding", "value"),  # top, left, bottom, right
    "reshape": ("shape",),
    "permute": ("axes",),
}


@dataclass(frozen=True)
class Activation:
    """An elementwise function, fused into an op or an op of its own: `name` with its constants, as `clamp` (0, 6).

    Names: none, relu, clamp(low, high) (relu6 is clamp(0, 6)), hardswish, hardsigmoid, silu, sigmoid, gelu, gelu_tanh,
    leaky_relu(slope), tanh, elu(alpha).
    """

    name: str = "none"
    constants: tuple[float, ...] = ()


@dataclass(frozen=True)
class Op:
    """One operation; its output tensor has the op's name."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def activation(self) -> Activation:
        value: Activation = self.attributes.get("activation", Activation())
        return value


@dataclass(frozen=True)
class Network:
    """The captured model in topological order, batch norm folded, padding and activations fused.

    Attributes:
        ops: in an order in which each op's inputs come before it.
        tensors: weights, biases and constants by name, float32 on the CPU.
        shapes: per-sample shape of every tensor that an op computes, and of `input`.
        output: name of the tensor that the model returns.
    """

    ops: tuple[Op, ...]
    tensors: Mapping[str, torch.Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    output: str

    def op(self, name: str) -> Op:
        """The op of that name."""
        by_name: dict[str, Op] | None = self.__dict__.get("_by_name")
        if by_name is None:
            by_name = {op.name: op for op in self.ops}
            object.__setattr__(self, "_by_name", by_name)
        return by_name[name]
