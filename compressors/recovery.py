"""Statistics correction: give every Layer's output the mean and variance it has in the dense network.

Compression shrinks and shifts what a Layer puts out, and the error grows from Layer to Layer. Restoring the two moments
per channel, one Layer after the other in the order of the network, undoes most of it at no run-time cost: the correction is
folded into weights, biases and scales (in the spirit of batch norm tuning, Frantar and Alistarh, OBC, NeurIPS 2022; Nagel et
al., Data-Free Quantization, ICCV 2019).

The moments are those of a few inputs, and a difference between them is in part these inputs' own. How much is known from how it
varies from input to input, and so much is left uncorrected (shrinkage: James and Stein, Estimation with quadratic loss, 1961).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from ..spaces.network import Op
from .candidate import Candidate
from .quantization import to_half

#: Share of the median channel variance that is added to both variances: channels that hardly vary are not blown up.
DAMPING = 1e-3


@dataclass(frozen=True)
class Moments:
    """Mean and variance over the positions of each input, per output channel of one Layer, before its activation.

    Both have the shape (inputs, channels).
    """

    mean: torch.Tensor
    variance: torch.Tensor

    @staticmethod
    def of(op: Op, output: torch.Tensor, scale: float = 1.0) -> Moments:
        """Of a Layer's batched output, which is in units of `scale`."""
        found = [torch.batch_norm_update_stats(_positions(op, one), None, None, 0.0) for one in torch.split(output, 1)]
        mean, variance = (torch.stack(values) for values in zip(*found, strict=True))
        return Moments(mean * scale, variance * scale**2)

    def spread(self) -> torch.Tensor:
        """Mean square distance of each input's positions from the mean of all inputs, shape (inputs, channels)."""
        return self.variance + (self.mean - self.mean.mean(0)).square()


def dense_moments(dense: Candidate, x: torch.Tensor) -> dict[str, Moments]:
    """Moments of every Layer of the dense network on inputs `x`.

    Args:
        dense: the fp32 dense Candidate.
    """
    found: dict[str, Moments] = {}

    def record(op: Op, output: torch.Tensor, scale: float) -> torch.Tensor:
        found[op.name] = Moments.of(op, output, scale)
        return output

    dense.run(x, record)
    return found


@dataclass
class StatisticsCorrection:
    """A `Correct` function that restores dense moments on the inputs it sees, as far as they tell, and remembers how.

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
        wanted, found = self.dense[op.name], Moments.of(op, output, scale)
        wanted_spread, found_spread = wanted.spread(), found.spread()
        # Damped on both sides: what compression left alone is left alone here too.
        epsilon = max(DAMPING * float(wanted_spread.mean(0).median()), 1e-12)
        wanted_variance, variance = wanted_spread.mean(0) + epsilon, found_spread.mean(0) + epsilon
        ratio = (wanted_variance / variance).log()
        gain = (0.5 * ratio * _certainty(ratio, wanted_spread / wanted_variance - found_spread / variance)).exp()
        difference = (wanted.mean - found.mean) * wanted_variance.rsqrt()
        moved = difference.mean(0)
        moved = moved * _certainty(moved, difference) * wanted_variance.sqrt()
        mean = found.mean.mean(0)
        shift = mean + moved - gain * mean
        self.gains[op.name], self.shifts[op.name] = gain, shift
        positions, nothing = _positions(op, output), output.new_empty(0)
        zeros, ones = torch.zeros_like(gain), torch.ones_like(gain)
        torch.native_batch_norm(positions, gain, shift / scale, zeros, ones, False, 0.0, 0.0, out=(positions, nothing, nothing))
        return output


def _certainty(estimate: torch.Tensor, influence: torch.Tensor) -> float:
    """The part of an estimate that is not noise of the inputs it was made on, from 0 to 1 (James and Stein).

    Args:
        estimate: of all channels, in units in which their errors weigh the same, shape (channels,).
        influence: of each input on the estimate, which is their mean but for a constant, shape (inputs, channels).
    """
    square = float(estimate.square().sum())
    if len(influence) < 2 or square == 0:
        return 0.0
    return max(0.0, 1 - float(influence.var(0).sum()) / len(influence) / square)


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
