"""Weights on 8 and 4 bit grids and in half precision, and static int8 activation quantisers.

References:
    [GPTQ] Frantar, Ashkboos, Hoefler, Alistarh: GPTQ: Accurate Post-Training Quantization. ICLR 2023.
    [SparseGPT] Frantar, Alistarh: SparseGPT. ICML 2023: pruned weights take part as weights whose grid is zero.
    [STE] Bengio, Leonard, Courville: Estimating or Propagating Gradients Through Stochastic Neurons. arXiv:1308.3432.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..files import write_json
from .input_statistics import ActivationStatistics
from .reconstruction import Curvature

#: Shares of a row's largest magnitude that are tried as the end of its grid.
_SHRINK = {8: (1.0, 0.97, 0.94, 0.9, 0.85, 0.8), 4: tuple(1.0 - 0.025 * step for step in range(25))}
#: Columns that one error update of the later columns gathers.
_BLOCK = 64


def largest_code(bits: int) -> int:
    """The end of the symmetric integer grid: 127 for 8 bits, 7 for 4.

    Raises:
        UserError: weights are not quantised to that many bits.
    """
    if bits not in _SHRINK:
        raise UserError(f"no integer grid of {bits} bits: use one of {', '.join(map(str, _SHRINK))}")
    return int(2 ** (bits - 1)) - 1


def weight_scales(weight: Tensor, bits: int, importance: Tensor | None = None) -> Tensor:
    """The step of each row's grid with the smallest squared rounding error.

    Args:
        weight: (groups, rows, columns).
        bits: 8 or 4.
        importance: (groups, columns), weighs the errors; usually the inputs' variance.

    Returns:
        (groups, rows, 1), positive also for rows of zeros.
    """
    end = largest_code(bits)
    top = weight.abs().amax(2, keepdim=True).clamp(min=1e-8) / end
    best, least = top, torch.full_like(top, torch.inf)
    for share in _SHRINK[bits]:
        change = (round_to_grid(weight, top * share, bits) - weight).square()
        error = (change if importance is None else change * importance[:, None]).sum(2, keepdim=True)
        best, least = torch.where(error < least, top * share, best), torch.minimum(error, least)
    return best


def round_to_grid(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The nearest values on the grid of `scale`, as real numbers."""
    return codes(weight, scale, bits) * scale


def codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The integers, as float, of the nearest values on the grid of `scale`."""
    end = largest_code(bits)
    return round_through(weight / scale).clamp_(-end, end)


def quantize(weight: Tensor, scale: Tensor, bits: int, curvature: Curvature, mask: Tensor | None = None) -> Tensor:
    """Values on the grid, each column's rounding error made up for by the columns after it [GPTQ].

    Columns are taken in the order of falling input variance. Removed weights stay exactly zero [SparseGPT].

    Args:
        weight: (groups, rows, columns); rows may be those of several options of one layer.
        scale: (groups, rows, 1).
        bits: 8 or 4.
        curvature: of the layer's inputs.
        mask: (groups, rows, columns) bool, True where a weight is kept.
    """
    groups, _, columns = weight.shape
    variance = curvature.covariance.diagonal(dim1=1, dim2=2)
    order = variance.sum(0).argsort(descending=True, stable=True)
    back = order.argsort()
    inverse = curvature.inverse[:, order][:, :, order]
    factor = torch.linalg.cholesky(inverse.double(), upper=True).to(weight.dtype)
    factor = factor / factor.diagonal(dim1=1, dim2=2)[:, :, None]
    work = weight[:, :, order].transpose(1, 2).contiguous()
    keep = None if mask is None else mask[:, :, order].transpose(1, 2).to(weight.dtype)
    step = scale.transpose(1, 2)
    result = torch.empty_like(work)
    for first in range(0, columns, _BLOCK):
        last = min(first + _BLOCK, columns)
        errors = torch.empty(groups, last - first, work.shape[2])
        for column in range(first, last):
            current = work[:, column : column + 1]
            rounded = round_to_grid(current, step, bits)
            if keep is not None:
                rounded = rounded * keep[:, column : column + 1]
            result[:, column : column + 1] = rounded
            error = current - rounded
            errors[:, column - first : column - first + 1] = error
            if column + 1 < last:
                work[:, column + 1 : last].baddbmm_(factor[:, column, column + 1 : last, None], error, alpha=-1)
        if last < columns:
            work[:, last:].baddbmm_(factor[:, first:last, last:].transpose(1, 2), errors, alpha=-1)
    return result[:, back].transpose(1, 2).contiguous()


def to_half(weight: Tensor) -> Tensor:
    """The nearest half precision values, in float32; magnitudes beyond its range become its largest."""
    return half_through(weight.clamp(-65504.0, 65504.0))


class _StraightThrough(torch.autograd.Function):
    """A rounding whose gradient is that of no rounding [STE]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        return rounding(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def round_through(x: Tensor) -> Tensor:
    """`x` rounded to integers, in place; where a gradient is wanted, not in place, and the gradient passes straight through."""
    return _straight_through(x, torch.round) if x.requires_grad else x.round_()


def round_between(x: Tensor, low: float, high: float) -> Tensor:
    """`x` clipped to [low, high] and rounded to integers, as `round_through` does; where it clips, no gradient passes."""
    # The gradient of hardtanh is one fused pass, that of clamp four.
    return round_through(F.hardtanh(x, low, high) if x.requires_grad else x.clamp_(low, high))


def half_through(x: Tensor, own: bool = False) -> Tensor:
    """The nearest half precision values, in float32; the gradient, if one is wanted, passes straight through in float32.

    Args:
        own: `x` may be overwritten.
    """
    if x.requires_grad:
        return _straight_through(x, _halved)
    return x.copy_(x.half()) if own else _halved(x)


def _straight_through(x: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    result: Tensor = cast(Any, _StraightThrough).apply(x, rounding)  # torch does not annotate it
    return result


def _halved(x: Tensor) -> Tensor:
    return x.half().float()


@dataclass(frozen=True)
class Quantizer:
    """An int8 activation format: value = (code - zero_point) * scale, codes from -128 to 127; zero is exact."""

    scale: float
    zero_point: int


def fake_quantize(x: Tensor, quantizer: Quantizer) -> Tensor:
    """The values of `x` after a round trip through int8."""
    return torch.fake_quantize_per_tensor_affine(x, quantizer.scale, quantizer.zero_point, -128, 127)


def choose_quantizer(statistics: ActivationStatistics) -> Quantizer:
    """The range, within the observed one, with the smallest mean squared error over the histogram.

    A tensor without negative values uses all codes for the positive ones: its zero point is -128.
    """
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if high - low < 1e-12:
        return Quantizer(1.0, 0)
    shares = torch.linspace(0.3, 1.0, 71, dtype=torch.float64)
    values, weights = statistics.centres.double(), statistics.counts.double()

    def search(lows: Tensor, highs: Tensor) -> tuple[float, float, Quantizer]:
        scales = ((highs - lows) / 255).clamp(min=1e-12)
        zeros = (-128 - lows / scales).round().clamp(-128, 127)
        rounded = ((values / scales[:, None]).round() + zeros[:, None]).clamp(-128, 127) - zeros[:, None]
        errors = ((rounded * scales[:, None] - values).square() * weights).sum(1)
        best = int(errors.argmin())
        return float(lows[best]), float(highs[best]), Quantizer(float(scales[best]), int(zeros[best]))

    both, top, _ = search(low * shares, high * shares)
    _, top, quantizer = search(torch.full_like(shares, both), high * shares)
    if low < 0:
        _, _, quantizer = search(low * shares, torch.full_like(shares, top))
    return quantizer


def save_quantizers(path: Path, quantizers: Mapping[str, Quantizer]) -> None:
    """Write quantizers by tensor name as JSON."""
    write_json(path, {name: [quantizer.scale, quantizer.zero_point] for name, quantizer in quantizers.items()})


def load_quantizers(path: Path) -> dict[str, Quantizer] | None:
    """What `save_quantizers` wrote; None when there is no file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): Quantizer(float(scale), int(zero)) for name, (scale, zero) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"the file {path} is damaged ({error}). Remove it: it will be made again.") from error
