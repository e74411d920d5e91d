"""Layers: the compressible ops of a Network, with their geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .network import Activation, Network


@dataclass(frozen=True)
class Layer:
    """One convolution or linear op.

    Attributes:
        name: the op's name in the Network.
        in_channels, out_channels: of the whole op, all groups together.
        in_size, out_size: height and width; (1, tokens) for a linear over tokens, (1, 1) for a plain linear.
        padding: top, left, bottom, right.
        macs: multiply-accumulates for one sample.
    """

    name: str
    kind: Literal["conv2d", "linear"]
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    macs: int
    activation: Activation

    @property
    def depthwise(self) -> bool:
        """One input channel per group, as in MobileNet: no sparse kernel exists for it."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def columns(self) -> int:
        """Inputs of one output: the columns of the weight seen as a matrix of shape `out_channels x columns`."""
        return self.in_channels // self.groups * self.kernel[0] * self.kernel[1]


def find_layers(network: Network) -> tuple[Layer, ...]:
    """All Layers of `network`, in its order."""
    layers = []
    for op in network.ops:
        if op.kind not in ("conv2d", "linear"):
            continue
        weight = network.tensors[f"{op.name}.weight"]
        in_shape, out_shape = network.shapes[op.inputs[0]], network.shapes[op.name]
        if op.kind == "conv2d":
            in_size, out_size = (in_shape[1], in_shape[2]), (out_shape[1], out_shape[2])
            kernel = (weight.shape[2], weight.shape[3])
            stride, dilation = op.attributes["stride"], op.attributes["dilation"]
            padding, groups = op.attributes["padding"], op.attributes["groups"]
        else:
            tokens = 1
            for length in in_shape[:-1]:
                tokens *= length
            in_size = out_size = (1, tokens)
            kernel, stride, dilation, padding, groups = (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1
        layers.append(
            Layer(
                name=op.name,
                kind="conv2d" if op.kind == "conv2d" else "linear",
                in_channels=weight.shape[1] * groups,
                out_channels=weight.shape[0],
                kernel=kernel,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                in_size=in_size,
                out_size=out_size,
                macs=weight.numel() * out_size[0] * out_size[1],
                activation=op.activation,
            )
        )
    return tuple(layers)
