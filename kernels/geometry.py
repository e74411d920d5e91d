"""Geometry: the shape of one op as a kernel sees it; the key of a LatencyTable row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KernelOp = Literal[
    "conv", "depthwise", "linear", "add", "mul", "pool", "global_pool", "activation", "copy", "gather", "convert", "widen"
]

#: From which input and output channels, and from which pixels of a plane of outputs, `takes_winograd`.
_FEWEST_CHANNELS = 16
_FEWEST_OUTPUTS = 36


@dataclass(frozen=True, order=True)
class Geometry:
    """Shape of one op, batch 1.

    Attributes:
        op: `conv` is any convolution with more than one input channel per group (1x1 included); `linear` is a matrix by
            `out_width` columns (1 for a plain linear); `mul` with `in_height` 1 broadcasts a per-channel gate over a plane;
            `copy` moves planes (concatenation), `gather` single elements (permute, explicit padding); `convert` turns fp32 into
            another data type, `widen` that type into fp32.
        in_channels, out_channels: over all groups.
        kernel, stride, dilation: height, width.
    """

    op: KernelOp
    in_channels: int
    out_channels: int
    in_height: int
    in_width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates when dense; 0 for ops that only move or combine data."""
        if self.op not in ("conv", "depthwise", "linear"):
            return 0
        window = self.kernel[0] * self.kernel[1]
        return self.out_channels * self.out_height * self.out_width * (self.in_channels // self.groups) * window


def takes_winograd(geometry: Geometry) -> bool:
    """Whether dense fp32 weights of an op are packed for csrc/f32_winograd.c: where fewer products are worth larger weights.

    A window of 3x3 with stride 1, enough channels to pay for transforming inputs and outputs, enough tiles of 2x2 outputs to pay
    for reading 16/9 of the weights, and no more than a third of these tiles' outputs beyond the plane.
    """
    tiles = -(-geometry.out_height // 2) * -(-geometry.out_width // 2)
    outputs = geometry.out_height * geometry.out_width
    return (
        (geometry.op, geometry.groups, geometry.kernel, geometry.stride, geometry.dilation) == ("conv", 1, (3, 3), (1, 1), (1, 1))
        and min(geometry.in_channels, geometry.out_channels) >= _FEWEST_CHANNELS
        and outputs >= _FEWEST_OUTPUTS
        and 3 * outputs >= 2 * 4 * tiles
    )
