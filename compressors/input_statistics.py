"""Calibration statistics of the dense network: what every Layer reads, and how every tensor is spread.

Column order is that of `pruning.to_matrix`: by kernel position, the input channel innermost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from ..spaces.execute import run
from ..spaces.layers import Layer
from ..spaces.network import INPUT, Network, Op
from .pruning import to_matrix

#: Bins of an activation histogram.
BINS = 2048
#: Candidates for the damping of a Layer.
DAMPINGS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
#: Rows of a weight that the choice is made on, at most.
DAMPING_ROWS = 64
#: Damping where there is too little data to choose.
DEFAULT_DAMPING = 0.1
#: Values of one tensor that one batch adds to its histogram, at most.
SAMPLES = 1 << 16


@dataclass(frozen=True)
class InputStatistics:
    """First and second moments of the unfolded inputs of one Layer, per convolution group.

    Attributes:
        mean: (groups, columns).
        covariance: (groups, columns, columns), of the centred inputs.
        positions: how many output positions were looked at.
        damping: share of the mean input variance that fits to these statistics should add to every input's variance.
    """

    mean: Tensor
    covariance: Tensor
    positions: int
    damping: float


@dataclass(frozen=True)
class ActivationStatistics:
    """Spread of the values of one tensor.

    Attributes:
        low, high: the exact extremes over all calibration samples.
        counts: (BINS,) values per bin of a histogram from low to high, of a regular subsample.
        centres: (BINS,) mean of the values in each bin; its middle where the bin is empty.
    """

    low: float
    high: float
    counts: Tensor
    centres: Tensor


class _Moments:
    """Running moments of shifted inputs; the shift (the first batch's mean) keeps float32 sums accurate."""

    def __init__(self, shift: Tensor) -> None:
        self.shift = shift
        self.count = 0
        self.sum = torch.zeros_like(shift)
        self.products = torch.zeros(shift.shape[0], shift.shape[2], shift.shape[2])

    def add(self, patches: Tensor) -> None:
        shifted = patches - self.shift
        self.count += shifted.shape[1]
        self.sum += shifted.sum(1, keepdim=True)
        self.products.baddbmm_(shifted.transpose(1, 2), shifted)

    def absorb(self, other: _Moments) -> None:
        """Add what `other`, which has the same shift, has seen."""
        self.count += other.count
        self.sum += other.sum
        self.products += other.products

    @property
    def covariance(self) -> Tensor:
        mean = self.sum / self.count
        return self.products / self.count - mean.transpose(1, 2) * mean

    @property
    def mean(self) -> Tensor:
        return (self.sum / self.count + self.shift)[:, 0]


class _Halves:
    """Moments of the first and the second half of all samples apart: one says how well the other generalises."""

    def __init__(self, patches: Tensor, samples: int) -> None:
        shift = patches.mean(1, keepdim=True)
        self.halves = (_Moments(shift), _Moments(shift))
        self.left = samples // 2

    def add(self, patches: Tensor, samples: int) -> None:
        """Add the patches of the next samples."""
        cut = min(samples, self.left) * (patches.shape[1] // samples)
        self.left -= min(samples, self.left)
        for half, part in zip(self.halves, (patches[:, :cut], patches[:, cut:]), strict=True):
            half.add(part)

    @property
    def finite(self) -> bool:
        return all(bool(half.sum.isfinite().all() and half.products.isfinite().all()) for half in self.halves)

    def finish(self, weight: Tensor) -> InputStatistics:
        first, second = self.halves
        damping = DEFAULT_DAMPING
        if first.count > 0 and second.count > 0:
            damping = choose_damping(weight, first.covariance, second.covariance)
        first.absorb(second)
        return InputStatistics(first.mean, first.covariance, first.count, damping)


def choose_damping(weight: Tensor, first: Tensor, second: Tensor) -> float:
    """The damping with which weights fitted on half of the samples do best on the other half.

    The test case: a third of the inputs, drawn at random, is removed, and the other weights are refitted. Late Layers see few
    independent inputs (one photograph is one class), and without enough damping compensation only learns these by heart.

    Args:
        weight: (groups, rows, columns).
        first, second: covariances of the inputs in the two halves, (groups, columns, columns).

    Returns:
        One of `DAMPINGS`: share of the mean input variance to add to every input's variance. As all samples together need less
        of it than half of them, it is half of what is best for the halves.
    """
    columns = weight.shape[2]
    if columns < 3:
        return DEFAULT_DAMPING
    weight = weight[:, :: -(-weight.shape[1] // DAMPING_ROWS)]
    drawn = torch.randperm(columns, generator=torch.Generator().manual_seed(0))
    gone, kept = drawn[: columns // 3], drawn[columns // 3 :]
    losses = torch.zeros(len(DAMPINGS), dtype=torch.float64)
    for fitted, tested in ((first, second), (second, first)):
        target = fitted[:, kept][:, :, gone] @ weight[:, :, gone].transpose(1, 2)
        variance = fitted.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp_min(0)
        # A channel may be constant in one half: what rounding leaves of its variance then can be negative.
        floor = 1e-6 * variance.mean() + 1e-12
        eye = torch.eye(len(kept))
        for index, damping in enumerate(DAMPINGS):
            system = fitted[:, kept][:, :, kept] + (2 * damping * variance + floor) * eye
            change = -weight.clone()
            change[:, :, kept] = torch.cholesky_solve(target, torch.linalg.cholesky(system)).transpose(1, 2)
            losses[index] += float(((change @ tested) * change).sum(dtype=torch.float64))
    return DAMPINGS[int(losses.argmin())]


def collect(
    network: Network, layers: Sequence[Layer], batches: Sequence[Tensor], max_positions: int = 8192
) -> dict[str, InputStatistics]:
    """Moments of the inputs of `layers`, from one pass of `network` over the calibration data.

    Big early Layers are subsampled: in every batch the same number of output positions is drawn, at random but always alike.

    Args:
        network: the dense network.
        layers: those whose inputs matter.
        batches: calibration inputs, each (samples, ...). Where inputs come from fewer sources (crops of photographs), those of
            one source should follow each other: the damping is chosen between the first and the second half.
        max_positions: of all samples together; depthwise Layers, whose matrices are tiny, use an eighth.

    Raises:
        UserError: there is no calibration data, or a Layer's input is not finite.
    """
    samples = _count(batches)
    wanted = {layer.name: layer for layer in layers}
    moments: dict[str, _Halves] = {}
    generators = {name: torch.Generator().manual_seed(_seed(name)) for name in wanted}

    def observe(op: Op, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        layer = wanted.get(op.name)
        if layer is None:
            return
        budget = max_positions // 8 if layer.depthwise else max_positions
        patches = input_patches(layer, inputs[0], -(-budget // samples), generators[op.name])
        if op.name not in moments:
            moments[op.name] = _Halves(patches, samples)
        moments[op.name].add(patches, len(inputs[0]))

    with torch.inference_mode():
        for batch in batches:
            run(network, batch, observe)
        for name, found in moments.items():
            if not found.finite:
                raise UserError(
                    f"the inputs of layer {name} are not finite on the calibration data: check the model and its preprocessing"
                )
        return {name: moments[name].finish(to_matrix(network.tensors[f"{name}.weight"], wanted[name].groups)) for name in wanted}


def input_patches(layer: Layer, x: Tensor, per_sample: int, generator: torch.Generator) -> Tensor:
    """What `layer` multiplies with its weights at some output positions of every sample of `x`.

    Args:
        layer: gives kernel, stride, padding and dilation.
        x: (samples, channels, height, width) for a convolution, (samples, ..., features) for a linear.
        per_sample: positions drawn in each sample; all of them if there are no more.
        generator: draws the positions.

    Returns:
        (groups, samples * positions, columns).
    """
    samples = x.shape[0]
    height, width = layer.out_size
    positions = height * width
    if positions <= per_sample:
        chosen = torch.arange(positions).expand(samples, positions)
    else:
        # One draw for all samples of a batch: a draw for each would cost more than the products.
        chosen = torch.randperm(positions, generator=generator)[:per_sample].expand(samples, per_sample)
    which = torch.arange(samples)[:, None]
    if layer.kind == "linear":
        return x.reshape(samples, positions, layer.in_channels)[which, chosen].reshape(1, -1, layer.in_channels)
    planes = x.permute(0, 2, 3, 1)
    top = chosen // width * layer.stride[0] - layer.padding[0]
    left = chosen % width * layer.stride[1] - layer.padding[1]
    taps = []
    for row in range(layer.kernel[0]):
        for column in range(layer.kernel[1]):
            y, z = top + row * layer.dilation[0], left + column * layer.dilation[1]
            inside = (y >= 0) & (y < layer.in_size[0]) & (z >= 0) & (z < layer.in_size[1])
            values = planes[which, y.clamp(0, layer.in_size[0] - 1), z.clamp(0, layer.in_size[1] - 1)]
            taps.append(values if inside.all() else values * inside[..., None])
    patches = torch.stack(taps, 2).reshape(-1, len(taps), layer.groups, layer.in_channels // layer.groups)
    # Batched products of strided matrices are slower by two orders of magnitude.
    return patches.permute(2, 0, 1, 3).flatten(2).contiguous()


def collect_activations(network: Network, batches: Sequence[Tensor]) -> dict[str, ActivationStatistics]:
    """Spread of the network's input and of every tensor that it computes, from one pass over the calibration data.

    Raises:
        UserError: there is no calibration data, or a tensor is not finite.
    """
    _count(batches)
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    samples: dict[str, list[Tensor]] = {}

    def note(name: str, x: Tensor) -> None:
        low, high = (float(extreme) for extreme in torch.aminmax(x))
        lows[name] = min(lows.get(name, low), low)
        highs[name] = max(highs.get(name, high), high)
        # An odd step in storage order, so that it does not fall in with a power-of-two number of channels.
        flat = (
            x.permute(0, 2, 3, 1).flatten()
            if x.is_contiguous(memory_format=torch.channels_last) and x.dim() == 4
            else x.flatten()
        )
        samples.setdefault(name, []).append(flat[:: (flat.numel() // SAMPLES) | 1].clone())

    with torch.inference_mode():
        for batch in batches:
            note(INPUT, batch)
            run(network, batch, lambda op, _, output: note(op.name, output))
        return {name: _histogram(name, lows[name], highs[name], torch.cat(values).float()) for name, values in samples.items()}


def _histogram(name: str, low: float, high: float, values: Tensor) -> ActivationStatistics:
    if not abs(low) + abs(high) < float("inf"):
        raise UserError(f"tensor {name} is not finite on the calibration data: check the model and its preprocessing")
    width = max(high - low, 1e-12) / BINS
    bins = ((values - low) / width).long().clamp(0, BINS - 1)
    counts = torch.bincount(bins, minlength=BINS)
    sums = torch.bincount(bins, values.double(), minlength=BINS)
    middles = low + (torch.arange(BINS, dtype=torch.float64) + 0.5) * width
    centres = torch.where(counts > 0, sums / counts.clamp(min=1), middles)
    return ActivationStatistics(low, high, counts, centres.float())


def _count(batches: Sequence[Tensor]) -> int:
    samples = sum(batch.shape[0] for batch in batches)
    if samples == 0:
        raise UserError("there is no calibration data: give the task at least one calibration input")
    return samples


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
