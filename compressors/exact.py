"""A Candidate whose int8 ops give the codes that the kernels give, bit for bit.

A Candidate computes in float32, as fast as torch can: where a sum falls close to the middle between two codes it may take the
other one, about one code in ten thousand. Behind many Layers such codes spread. An ExactCandidate takes integer sums and rounds
them as kernels/csrc/ac_kernels.h says; it is a few times slower. Ops in fp32 and fp16 are those of a Candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray

from ..kernels.arithmetic import bend, fma, quantise
from ..spaces.datatypes import output_type
from ..spaces.execute import run_op
from ..spaces.network import Activation, Op
from .candidate import Candidate, Correct, Value, clipping
from .quantization import Quantizer, codes

Array = NDArray[Any]


@dataclass(frozen=True)
class ExactCandidate(Candidate):
    """A Candidate to compare kernels with; see the top of this file."""

    @staticmethod
    def like(candidate: Candidate) -> ExactCandidate:
        """The same network, computed exactly."""
        return ExactCandidate(candidate.plan, candidate.network, candidate.types, candidate.quantizers, candidate.scales)

    def _layer(self, op: Op, value: Value, correct: Correct | None) -> Value:
        """As Candidate does it, without `correct`: whoever corrects statistics has folded them in before he asks for bits."""
        if value.type != "int8":
            return super()._layer(op, value, correct)
        weight, bias = self.network.tensors[f"{op.name}.weight"], self.network.tensors[f"{op.name}.bias"]
        scale = self.scales[op.name]
        integers = codes(weight, scale.view(-1, *[1] * (weight.dim() - 1)), self.plan[op.name].bits).double()
        own = {f"{op.name}.weight": integers, f"{op.name}.bias": torch.zeros(len(bias), dtype=torch.float64)}
        sums = run_op(_bare(op), [value.data.double()], own).numpy()
        quantizer = self.quantizers[op.name] if output_type(self.network, op.name, "int8", is_layer=True) == "int8" else None
        unit = _unit(op, quantizer)
        rows = (-1, *[1] * (sums.ndim - 2)) if op.kind == "conv2d" else (-1,)
        factor = (scale.double().numpy() * value.scale / unit).astype(np.float32).reshape(rows)
        shift = (bias.double().numpy() / unit).astype(np.float32).reshape(rows)
        return _finish(op, fma(sums.astype(np.float32), factor, shift), quantizer)

    def _integer(self, op: Op, values: Sequence[Value]) -> Value:
        quantizer = self.quantizers[op.name]
        unit = _unit(op, quantizer)
        arrays = [value.data.numpy() for value in values]
        factors = [np.float32(value.scale / unit) for value in values]
        x, factor = arrays[0], factors[0]
        if op.kind == "add":
            if x.size < arrays[1].size:
                # The operand that is repeated is the kernel's second.
                arrays, factors = arrays[::-1], factors[::-1]
            r: Array = fma(arrays[0], factors[0], arrays[1] * factors[1])
        elif op.kind == "mul":
            if x.size < arrays[1].size:
                values = values[::-1]
            r = arrays[0] * arrays[1] * (np.float32(values[0].scale / unit) * np.float32(values[1].scale))
        elif op.kind in ("avg_pool", "adaptive_avg_pool"):
            r = _averages(op, values[0], unit)
        elif op.kind == "affine":
            rows = (-1, *[1] * (x.ndim - 2))
            weight, bias = (self.network.tensors[f"{op.name}.{part}"].double().numpy() for part in ("weight", "bias"))
            slope = (np.abs(weight) * values[0].scale / unit).astype(np.float32).reshape(rows)
            r = fma(x * np.sign(weight).astype(np.float32).reshape(rows), slope, (bias / unit).astype(np.float32).reshape(rows))
        elif op.kind == "pad":
            top, left, bottom, right = op.attributes["padding"]
            sides = ((0, 0), (0, 0), (top, bottom), (left, right))
            r = np.pad(x * factor, sides, constant_values=np.float32(op.attributes["value"]) * np.float32(1 / unit))
        else:
            parts = [torch.from_numpy(array * own) for array, own in zip(arrays, factors, strict=True)]
            r = run_op(_bare(op), parts, {}).numpy()
        return _finish(op, r, quantizer)


def adaptive_windows(size: int, count: int) -> list[tuple[int, int]]:
    """Begin and end of every window along one side of an adaptive pool."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def regular(windows: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Length and distance of windows along one side that all have the same; None if they have not."""
    lengths = {end - begin for begin, end in windows}
    distances = {after[0] - before[0] for before, after in pairwise(windows)} or {1}
    return (lengths.pop(), distances.pop()) if len(lengths) == len(distances) == 1 else None


def _averages(op: Op, value: Value, unit: float) -> Array:
    """Sums over the windows of a pool times what one unit of a sum stands for."""
    x, bare = value.data.double(), _bare(op)
    ones = torch.ones(1, 1, *x.shape[2:], dtype=torch.float64)
    if op.kind == "adaptive_avg_pool":
        windows = [adaptive_windows(size, count) for size, count in zip(x.shape[2:], op.attributes["size"], strict=True)]
        heights, widths = ([end - begin for begin, end in side] for side in windows)
        counts: Array = np.multiply.outer(heights, widths)
        sums = (run_op(bare, [x], {}) * torch.from_numpy(counts)).round().numpy()
        if None in [regular(side) for side in windows]:
            # A matrix over pixels computes these; its rows have a scale each.
            return sums.astype(np.float32) * (value.scale / counts / unit).astype(np.float32)
    else:
        sums = run_op(replace(bare, attributes={**bare.attributes, "divisor": 1}), [x], {}).numpy()
        a = op.attributes
        # What torch divides by, for every window: its own positions, those in padding too if they are to count.
        divided = F.avg_pool2d(ones, a["kernel"], a["stride"], a["padding"], a["ceil_mode"], a["count_include_pad"], a["divisor"])
        inside = F.avg_pool2d(ones, a["kernel"], a["stride"], a["padding"], a["ceil_mode"], divisor_override=1)
        counts = np.where(divided > 0, (inside / divided.clamp(min=1e-9)).round(), 1.0)
    result: Array = sums.astype(np.float32) * (np.float32(value.scale / unit) / counts.astype(np.float32))
    return result


def _bare(op: Op) -> Op:
    return replace(op, attributes={**op.attributes, "activation": Activation()})


def _unit(op: Op, quantizer: Quantizer | None) -> float:
    """What the kernels divide scales and biases by: the output's scale, unless the activation needs real numbers."""
    return 1.0 if quantizer is None or clipping(op.activation, quantizer) is None else quantizer.scale


def _finish(op: Op, r: ArrayLike, quantizer: Quantizer | None) -> Value:
    """Activation, and rounding to codes if there is a quantizer."""
    values = np.asarray(r, np.float32)
    name, constants = op.activation.name, op.activation.constants
    if quantizer is None:
        if name in ("relu", "clamp"):
            low, high = constants if name == "clamp" else (0.0, np.inf)
            values = np.clip(values, np.float32(low), np.float32(high))
        elif name != "none":
            values = bend(values, name, *constants)
        return Value(torch.from_numpy(values))
    bounds = clipping(op.activation, quantizer)
    if bounds is None:
        values = bend(values, name, *constants) * np.float32(1 / quantizer.scale)
        bounds = (-128.0 - quantizer.zero_point, 127.0 - quantizer.zero_point)
    zero = quantizer.zero_point
    found = quantise(values, zero, *(float(np.rint(bound)) + zero for bound in bounds))
    return Value(torch.from_numpy(found.astype(np.float32) - zero), quantizer.scale, "int8")
