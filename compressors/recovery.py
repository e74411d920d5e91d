"""Statistics correction: give every Layer's output the mean and variance it has in the dense network.

Compression shrinks and shifts what a Layer puts out, and the error grows from Layer to Layer. Restoring the two moments
per channel, one Layer after the other in the order of the network, undoes most of it at no run-time cost: the correction is
folded into weights, biases and scales (in the spirit of batch norm tuning, Frantar and Alistarh, OBC, NeurIPS 2022; Nagel et
al., Data-Free Quantization, ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from ..spaces.network import Op
from .candidate import Candidate
from .quantization import to_half

#: A Layer is corrected only if each of its channels has been seen at this many positions: fewer would fit noise.
MIN_POSITIONS = 1024
#: Share of the median channel variance that is added to both variances: channels that hardly vary are not blown up.
DAMPING = 1e-3


@dataclass(frozen=True)
class Moments:
    """Mean and variance per output channel of one Layer, before its activation; shape (channels,)."""

    mean: torch.Tensor
    variance: torch.Tensor


def dense_moments(dense: Candidate, x: torch.Tensor) -> dict[str, Moments]:
    """Moments of every Layer of the dense network on inputs `x`, for the Layers with enough positions in them.

    Args:
        dense: the fp32 dense Candidate.
    """
    found: dict[str, Moments] = {}

    def record(op: Op, output: torch.Tensor, scale: float) -> torch.Tensor:
        positions = _positions(op, output)
        if positions.numel() // positions.shape[1] >= MIN_POSITIONS:
            mean, variance = torch.batch_norm_update_stats(positions, None, None, 0.0)
            found[op.name] = Moments(mean * scale, variance * scale**2)
        return output

    dense.run(x, record)
    return found


@dataclass
class StatisticsCorrection:
    """A `Correct` function that restores dense moments on the inputs it sees, and remembers how.

    Attributes:
        dense: moments of the dense network on these inputs, for the channels which the Candidate still has.
        gains, shifts: what has been found for each Layer; output' = gain * output + shift in real numbers.
    """

    dense: Mapping[str, Moments]
    gains: dict[str, torch.Tensor] = field(default_factory=dict)
    shifts: dict[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, op: Op, output: torch.Tensor, scale: float) -> torch.Tensor:
        """Corrects `output` where it lies."""
        if op.name not in self.dense:
            return output
        target = self.dense[op.name]
        wanted_mean, wanted_variance = target.mean / scale, target.variance / scale**2
        epsilon = max(DAMPING * float(wanted_variance.median()), 1e-12)
        positions = _positions(op, output)
        mean, variance = torch.batch_norm_update_stats(positions, None, None, 0.0)
        # Damped on both sides: what compression left alone is left alone here too.
        wanted_std = (wanted_variance + epsilon).sqrt()
        gain = wanted_std * (variance + epsilon).rsqrt()
        self.gains[op.name] = gain
        self.shifts[op.name] = (wanted_mean - gain * mean) * scale
        nothing = output.new_empty(0)
        torch.native_batch_norm(
            positions, wanted_std, wanted_mean, mean, variance, False, 0.0, epsilon, out=(positions, nothing, nothing)
        )
        return output


def fold(candidate: Candidate, correction: StatisticsCorrection) -> Candidate:
    """The Candidate with a correction folded into its weights, biases and scales; integer codes stay as they are, and half
    precision weights are rounded again.
    """
    tensors, scales = dict(candidate.network.tensors), dict(candidate.scales)
    for layer, gain in correction.gains.items():
        weight, bias = f"{layer}.weight", f"{layer}.bias"
        tensors[weight] = tensors[weight] * gain.view(-1, *[1] * (tensors[weight].ndim - 1))
        if candidate.plan[layer].bits == 16:
            tensors[weight] = to_half(tensors[weight])
        tensors[bias] = tensors[bias] * gain + correction.shifts[layer]
        if layer in scales:
            scales[layer] = scales[layer] * gain
    return replace(candidate, network=replace(candidate.network, tensors=tensors), scales=scales)


def _positions(op: Op, output: torch.Tensor) -> torch.Tensor:
    """A view of a Layer's batched output with channels as its second axis."""
    return output if channel_axis(op, output) == 1 else output.view(-1, output.shape[-1])


def channel_axis(op: Op, output: torch.Tensor) -> int:
    """The axis of a Layer's batched output that holds its channels."""
    return 1 if op.kind == "conv2d" else output.ndim - 1
