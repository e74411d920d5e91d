"""Every kernel against plain NumPy: on this machine, built for phones under qemu, and under sanitizers."""

from __future__ import annotations

import json
import math
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autocompress.errors import UserError
from autocompress.kernels.arithmetic import ACTIVATIONS, bend, fma, quantise, requantise
from autocompress.kernels.calls import TYPES, Call, Quantization, TypeName, convert, elementwise, gather, layer, pool
from autocompress.kernels.native import Library, Prepared, host_library, read_outputs, run, write_jobs
from autocompress.kernels.packing import (
    KERNELS,
    PackedDtype,
    PackedStructure,
    pack_depthwise_float,
    pack_depthwise_integer,
    pack_float,
    pack_integer,
    pack_quads,
    pack_winograd,
    unpack_quads,
)
from autocompress.kernels.toolchain import HOST, PROGRAMS, SOURCES, build, names_for

MATRICES = list(KERNELS)
DEPTHWISE: list[tuple[PackedDtype, Literal["depthwise"]]] = [
    ("fp32", "depthwise"),
    ("fp16", "depthwise"),
    ("int8", "depthwise"),
]
WINOGRAD: tuple[PackedDtype, Literal["winograd"]] = ("fp32", "winograd")
FLOATS = {"fp32": np.float32, "fp16": np.float16}
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
CONSTANTS = {"clamp": (-0.5, 0.75), "leaky_relu": (0.125,), "elu": (1.5,)}


@dataclass(frozen=True)
class Case:
    """A call, and the output that NumPy computes: (channels, pixels); int8 is exact, else `allowed` is the largest error."""

    call: Call
    expected: NDArray[Any]
    allowed: NDArray[np.float64] | None

    def check(self, y: NDArray[Any], untouched: int | None = None) -> None:
        """Compare an output; `untouched` is the byte that must still be in the gaps between planes."""
        pixels = self.expected.shape[1]
        assert y.shape == self.call.y_shape
        if untouched is not None:
            assert (np.ascontiguousarray(y[:, pixels:]).view(np.uint8) == untouched).all()
        y = y[:, :pixels]
        if y.ndim == 3:
            y = unpack_quads(y, len(self.expected))
        if self.allowed is None:
            np.testing.assert_array_equal(y, self.expected)
        else:
            assert np.isfinite(y).all()
            assert (np.abs(y - self.expected) <= self.allowed).all()


@dataclass(frozen=True)
class Layer:
    """What decides a case of a convolution or linear layer; sizes are those of the output."""

    rows: int = 6
    columns: int = 5
    size: tuple[int, int] = (5, 4)
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    density: float = 1.0
    activation: str = "none"
    real: bool = False
    gap: int = 0
    seed: int = 0

    def input_size(self) -> tuple[int, int]:
        """The smallest input that gives this output; may be less than 1."""
        top, left, bottom, right = self.padding
        height = (self.size[0] - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] + 1 - top - bottom
        width = (self.size[1] - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1 - left - right
        return max(height, 1), max(width, 1)


def activate(r: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Activations in float64, by their textbook formulas."""
    constants = CONSTANTS.get(name, ())
    erf = np.vectorize(math.erf, otypes=[float])
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-r))
        results = {
            "none": lambda: r,
            "relu": lambda: np.maximum(r, 0),
            "clamp": lambda: np.clip(r, *constants),
            "hardswish": lambda: r * np.clip(r + 3, 0, 6) / 6,
            "hardsigmoid": lambda: np.clip(r + 3, 0, 6) / 6,
            "sigmoid": lambda: sigmoid,
            "silu": lambda: r * sigmoid,
            "tanh": lambda: np.tanh(r),
            "gelu": lambda: r * (1 + erf(r / math.sqrt(2))) / 2,
            "gelu_tanh": lambda: r * (1 + np.tanh(math.sqrt(2 / math.pi) * (r + 0.044715 * r**3))) / 2,
            "leaky_relu": lambda: np.where(r < 0, r * constants[0], r),
            "elu": lambda: np.where(r < 0, constants[0] * np.expm1(np.minimum(r, 0)), r),
        }
        return results[name]()


def convolve(x: NDArray[Any], weight: NDArray[Any], spec: Layer) -> NDArray[Any]:
    """Convolution of (channels, height, width) by (rows, channels / groups, height, width), padded with 0."""
    top, left, bottom, right = spec.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    height = (padded.shape[1] - (spec.kernel[0] - 1) * spec.dilation[0] - 1) // spec.stride[0] + 1
    width = (padded.shape[2] - (spec.kernel[1] - 1) * spec.dilation[1] - 1) // spec.stride[1] + 1
    rows, own = len(weight) // spec.groups, weight.shape[1]
    y = np.zeros((len(weight), height, width), np.result_type(x, weight))
    for ky in range(spec.kernel[0]):
        for kx in range(spec.kernel[1]):
            a, b = ky * spec.dilation[0], kx * spec.dilation[1]
            rows_read = slice(a, a + (height - 1) * spec.stride[0] + 1, spec.stride[0])
            columns_read = slice(b, b + (width - 1) * spec.stride[1] + 1, spec.stride[1])
            for group in range(spec.groups):
                mine = slice(group * rows, (group + 1) * rows)
                inputs = padded[group * own : (group + 1) * own, rows_read, columns_read]
                y[mine] += np.einsum("oc,chw->ohw", weight[mine, :, ky, kx], inputs)
    return y


def masked(rng: np.random.Generator, spec: Layer, block: tuple[int, int]) -> NDArray[np.bool_]:
    """Which weights are kept: blocks of `block` rows x channels, and no block at all in some rows when density is below 1."""
    shape = (spec.rows, spec.columns // spec.groups, *spec.kernel)
    kept = rng.random((-(-shape[0] // block[0]), -(-shape[1] // block[1]), *spec.kernel)) < spec.density
    if spec.density < 1:
        kept[rng.integers(len(kept))] = False
    return kept.repeat(block[0], 0).repeat(block[1], 1)[: shape[0], : shape[1]]


def with_gap(planes: NDArray[Any], gap: int) -> NDArray[Any]:
    """Planes further apart; what lies between must have no effect, not even as NaN."""
    wide = np.full(
        (len(planes), planes.shape[1] + gap, *planes.shape[2:]), -128 if planes.itemsize == 1 else np.nan, planes.dtype
    )
    wide[:, : planes.shape[1]] = planes
    return wide


def layer_case(dtype: PackedDtype, structure: PackedStructure | Literal["depthwise", "winograd"], spec: Layer) -> Case:
    """A random layer and its output."""
    if structure == "depthwise":
        spec = replace(spec, columns=spec.rows, groups=spec.rows, real=False)
    if structure == "winograd":
        spec = replace(spec, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), groups=1)
    rng = np.random.default_rng(spec.seed)
    height, width = spec.input_size()
    block = (1, 1) if structure in ("dense", "depthwise", "winograd") else KERNELS[dtype, structure][1]
    mask = masked(rng, spec, block)
    constants = CONSTANTS.get(spec.activation, ())
    geometry = {"stride": spec.stride, "dilation": spec.dilation, "padding": spec.padding}
    bias = rng.standard_normal(spec.rows)
    plane = (height + spec.padding[0] + spec.padding[2], width + spec.padding[1] + spec.padding[3])
    outputs = [
        (side - (window - 1) * apart - 1) // step + 1
        for side, window, apart, step in zip(plane, spec.kernel, spec.dilation, spec.stride, strict=True)
    ]
    y_plane = outputs[0] * outputs[1] + spec.gap

    if dtype == "fp32" or dtype == "fp16":
        weight = (rng.standard_normal(mask.shape) * mask).astype(FLOATS[dtype])
        x = rng.standard_normal((spec.columns, height, width)).astype(FLOATS[dtype])
        if structure == "depthwise":
            packed = pack_depthwise_float(weight[:, 0], bias, dtype)
        elif structure == "winograd":
            packed = pack_winograd(weight, bias)
        else:
            packed = pack_float(weight, bias, structure, dtype, spec.groups)
        wide, wide_x = weight.astype(np.float64), x.astype(np.float64)
        r = convolve(wide_x, wide, spec) + bias[:, None, None]
        magnitude = convolve(np.abs(wide_x), np.abs(wide), spec) + np.abs(bias)[:, None, None] + 1
        call = layer(
            packed,
            with_gap(x.reshape(spec.columns, -1), spec.gap),
            (height, width),
            activation=spec.activation,
            constants=constants,
            y_plane=y_plane,
            **geometry,
        )
        expected = activate(r, spec.activation).reshape(spec.rows, -1)
        return Case(call, expected, TOLERANCE[dtype] * magnitude.reshape(spec.rows, -1))

    largest = 7 if dtype == "int4" else 127
    # Extremes are common on purpose: they are what saturating instructions get wrong.
    weight = rng.integers(-largest, largest + 1, mask.shape)
    weight = np.where(rng.random(mask.shape) < 0.3, rng.choice([-largest, largest], mask.shape), weight) * mask
    x8 = rng.integers(-128, 128, (spec.columns, height, width))
    x8 = np.where(rng.random(x8.shape) < 0.3, rng.choice([-128, 127], x8.shape), x8)
    zero_point = int(rng.integers(-128, 128))
    sums = convolve(x8 - zero_point, weight, spec).reshape(spec.rows, -1)
    # Scales such that outputs are spread over the codes and beyond, for a real output of a few units.
    scale = rng.random(spec.rows) * 4 / max(1.0, float(np.abs(sums).max()))
    y = None if spec.real else Quantization(float(rng.random() * 0.05 + 0.005), int(rng.integers(-128, 128)))
    if structure == "depthwise":
        packed = pack_depthwise_integer(weight[:, 0], bias, scale, zero_point)
    else:
        packed = pack_integer(weight, bias, scale, structure, zero_point, dtype, spec.groups)
    planes = pack_quads(x8.reshape(spec.columns, -1).astype(np.int8), fill=int(rng.integers(-128, 128)))
    call = layer(
        packed,
        with_gap(planes, spec.gap),
        (height, width),
        activation=spec.activation,
        constants=constants,
        y=y,
        y_plane=y_plane,
        **geometry,
    )
    if y is None:
        r = sums * scale[:, None] + bias[:, None]
        return Case(call, activate(r, spec.activation), 1e-5 * (np.abs(r) + np.abs(bias)[:, None] + 1))
    return Case(call, integer_outputs(sums, call, y, spec), None)


def integer_outputs(sums: NDArray[np.int64], call: Call, y: Quantization, spec: Layer) -> NDArray[np.int8]:
    """What `arithmetic.requantise` makes of the sums, with bounds found here."""
    name, low, high = spec.activation, -128.0, 127.0
    if name == "relu":
        name, low = "clamp", float(y.zero_point)
    elif name == "clamp":
        low, high = (float(np.clip(round(bound / y.scale) + y.zero_point, -128, 127)) for bound in CONSTANTS["clamp"])
    return requantise(
        sums,
        call.scale[: spec.rows, None],
        call.bias[: spec.rows, None],
        y.zero_point,
        activation=name,
        slope=CONSTANTS.get(name, (0.0,))[0],
        inverse_scale=float(np.float32(1 / y.scale)),
        low=low,
        high=high,
    )


@dataclass(frozen=True)
class Op:
    """What decides a case of an op without weights."""

    op: Literal["add", "mul", "activation", "copy", "global_pool", "max_pool", "avg_pool", "convert"] = "add"
    channels: int = 5
    size: tuple[int, int] = (3, 4)
    gate: bool = False
    activation: str = "none"
    lanes: tuple[int, int] = (0, 0)
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None
    gap: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Tensor:
    """Random activations: as the kernel reads them, and their values (codes less zero point for int8) as (channels, pixels)."""

    planes: NDArray[Any]
    values: NDArray[Any]
    format: Quantization | None


def tensor(rng: np.random.Generator, dtype: TypeName, channels: int, pixels: int, gap: int, lane: int = 0) -> Tensor:
    """`lane` channels before the first one belong to someone else."""
    if dtype != "s8":
        x = rng.standard_normal((channels, pixels)).astype(TYPES[dtype])
        return Tensor(with_gap(x, gap), x, None)
    codes = rng.integers(-128, 128, (lane + channels, pixels)).astype(np.int8)
    form = Quantization(float(rng.random() * 0.05 + 0.005), int(rng.integers(-128, 128)))
    return Tensor(with_gap(pack_quads(codes), gap), codes[lane:].astype(np.int64) - form.zero_point, form)


def finish(dtype: TypeName, r: NDArray[Any], spec: Op, y: Quantization | None, call: Call) -> Case:
    """The case of an op that computes `r` (for int8, as the kernel does it in float32) before its activation."""
    if y is None or dtype != "s8":
        expected = activate(r.astype(np.float64), spec.activation)
        return Case(call, expected, (1e-5 if dtype == "f32" else 4e-3) * (np.abs(r) + 1))
    name, low, high = spec.activation, -128.0, 127.0
    if name == "relu":
        low = float(y.zero_point)
    elif name == "clamp":
        low, high = (float(np.clip(round(bound / y.scale) + y.zero_point, -128, 127)) for bound in CONSTANTS["clamp"])
    elif name != "none":
        r = bend(r, name, CONSTANTS.get(name, (0.0,))[0]) * np.float32(1 / y.scale)
    return Case(call, quantise(r, y.zero_point, low, high), None)


def op_case(dtype: TypeName, spec: Op) -> Case:
    """A random op without weights and its output."""
    rng = np.random.default_rng(spec.seed)
    pixels = spec.size[0] * spec.size[1]
    x = tensor(rng, dtype, spec.channels, pixels, spec.gap, spec.lanes[0])
    x2 = tensor(rng, dtype, spec.channels, 1 if spec.gate else pixels, 0 if spec.gate else spec.gap)
    y = Quantization(float(rng.random() * 0.05 + 0.005), int(rng.integers(-128, 128))) if dtype == "s8" else None
    assert spec.op != "convert"
    if spec.op == "max_pool" or spec.op == "avg_pool":
        return pool_case(dtype, spec, x, y)
    outputs = 1 if spec.op == "global_pool" else pixels
    call = elementwise(
        spec.op,
        x.planes,
        spec.size,
        spec.channels,
        x2=x2.planes if spec.op in ("add", "mul") else None,
        activation=spec.activation,
        constants=CONSTANTS.get(spec.activation, ()),
        x_format=x.format,
        x2_format=x2.format,
        y_format=y,
        x_lane=spec.lanes[0],
        y_lane=spec.lanes[1],
        y_plane=outputs + spec.gap,
    )
    return finish(dtype, op_result(spec, x.values, x2.values, call if dtype == "s8" else None), spec, y, call)


def op_result(spec: Op, a: NDArray[Any], b: NDArray[Any], call: Call | None) -> NDArray[Any]:
    """The result before the activation; of codes (with a call) in the float32 operations of csrc/ac_kernels.h."""
    if call is None:
        wide, other = a.astype(np.float64), b.astype(np.float64)
        results = {"add": wide + other, "mul": wide * other, "global_pool": wide.mean(1, keepdims=True)}
        return results.get(spec.op, wide)
    x_scale, x2_scale = np.float32(call.problem.x_scale), np.float32(call.problem.x2_scale)
    if spec.op == "add":
        return fma(a.astype(np.float32), x_scale, b.astype(np.float32) * x2_scale)
    if spec.op == "mul":
        return (a * b).astype(np.float32) * (x_scale * x2_scale)
    if spec.op == "global_pool":
        return a.sum(1, keepdims=True).astype(np.float32) * (x_scale / np.float32(a.shape[1]))
    return a.astype(np.float32) * x_scale


def pool_case(dtype: TypeName, spec: Op, x: Tensor, y: Quantization | None) -> Case:
    """Pooling, window by window."""
    assert spec.op == "max_pool" or spec.op == "avg_pool"
    call = pool(
        spec.op,
        x.planes,
        spec.size,
        spec.channels,
        spec.kernel,
        stride=spec.stride,
        dilation=spec.dilation,
        padding=spec.padding,
        ceil_mode=spec.ceil_mode,
        count_include_pad=spec.count_include_pad,
        divisor=spec.divisor,
        x_format=x.format,
        y_format=y,
    )
    call = replace(call, problem=replace(call.problem, y_plane=call.problem.y_plane + spec.gap))
    height, width = call.problem.y_height, call.problem.y_width
    planes = x.values.reshape(spec.channels, *spec.size)
    is_max = spec.op == "max_pool"
    results = np.zeros((spec.channels, height, width), np.float32 if dtype == "s8" else np.float64)
    for row in range(height):
        for column in range(width):
            starts = (row * spec.stride[0] - spec.padding[0], column * spec.stride[1] - spec.padding[1])
            lines = [start + np.arange(k) * d for start, k, d in zip(starts, spec.kernel, spec.dilation, strict=True)]
            inside = [line[(line >= 0) & (line < side)] for line, side in zip(lines, spec.size, strict=True)]
            window = planes[:, inside[0][:, None], inside[1]].reshape(spec.channels, -1)
            if is_max:
                results[:, row, column] = window.max(1)
                continue
            extra = spec.padding if spec.count_include_pad else (0, 0)
            counts = [
                int(((line >= -more) & (line < side + more)).sum())
                for line, side, more in zip(lines, spec.size, extra, strict=True)
            ]
            divisor = spec.divisor or counts[0] * counts[1]
            sums = window.astype(np.float64).sum(1)
            if dtype == "s8":
                results[:, row, column] = sums.astype(np.float32) * (np.float32(call.problem.x_scale) / np.float32(divisor))
            else:
                results[:, row, column] = sums / divisor
    flat = results.reshape(spec.channels, -1)
    if is_max and x.format is not None:
        return Case(call, (flat + x.format.zero_point).astype(np.int8), None)
    return finish(dtype, flat, spec, y, call)


def convert_case(source: TypeName, to: TypeName, spec: Op) -> Case:
    """A conversion between element types."""
    rng = np.random.default_rng(spec.seed)
    pixels = spec.size[0] * spec.size[1]
    x = tensor(rng, source, spec.channels, pixels, spec.gap)
    y = Quantization(float(rng.random() * 0.05 + 0.005), int(rng.integers(-128, 128))) if to == "s8" else None
    call = convert(x.planes, to, spec.size, spec.channels, x_format=x.format, y_format=y, y_plane=pixels + spec.gap)
    r = x.values.astype(np.float32) * np.float32(call.problem.x_scale)
    if y is not None:
        return Case(call, quantise(r, y.zero_point), None)
    return Case(call, r.astype(TYPES[to]).astype(np.float64), np.full(r.shape, 1e-7))


def gather_case(dtype: TypeName, channels: int, pixels: int, shape: tuple[int, int], gap: int, seed: int) -> Case:
    """Elements of x anywhere in y, some more than once and some not at all, and about a fifth of y filled."""
    rng = np.random.default_rng(seed)
    x = tensor(rng, dtype, channels, pixels, gap)
    indices = rng.integers(0, channels * pixels, shape)
    values = x.values + (x.format.zero_point if x.format is not None else 0)
    fill = float(rng.integers(-128, 128)) if dtype == "s8" else 0.375
    filled = rng.random(shape) < 0.2
    expected = np.where(filled, fill, values.reshape(-1)[indices])
    own = np.where(filled, -1, indices // pixels * (pixels + gap) + indices % pixels)
    call = gather(x.planes, own.astype(np.int32), channels, fill)
    return Case(call, expected.astype(TYPES[dtype]), None)


activations = st.sampled_from(["none", "relu", "clamp", *ACTIVATIONS[2:]])
densities = st.sampled_from([0.0, 0.02, 0.3, 0.7, 1.0])
channels = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 12, 17, 33])
gaps = st.sampled_from([0, 0, 3])
seeds = st.integers(0, 2**32 - 1)
deterministic = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def pointwise(draw: st.DrawFn) -> Layer:
    """1x1 layers, for every tile width and tail."""
    pixels = draw(st.one_of(st.integers(1, 130), st.sampled_from([1, 49, 196])))
    return Layer(
        rows=draw(st.integers(1, 13)),
        columns=draw(channels),
        size=(1, pixels),
        density=draw(densities),
        activation=draw(activations),
        real=draw(st.booleans()),
        gap=draw(gaps),
        seed=draw(seeds),
    )


@st.composite
def windowed(draw: st.DrawFn) -> Layer:
    """Convolutions of any window, stride, dilation, padding and groups."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    return Layer(
        rows=groups * draw(st.integers(1, 6)),
        columns=groups * draw(st.sampled_from([1, 2, 3, 4, 5, 8, 17, 66])),
        size=(draw(st.integers(1, 9)), draw(st.integers(1, 20))),
        kernel=kernel,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        dilation=(draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 2, 3]))),
        padding=draw(
            st.tuples(st.integers(0, kernel[0]), st.integers(0, kernel[1]), st.integers(0, kernel[0]), st.integers(0, kernel[1]))
        ),
        groups=groups,
        density=draw(densities),
        activation=draw(st.sampled_from(["none", "relu", "hardswish"])),
        real=draw(st.booleans()),
        gap=draw(gaps),
        seed=draw(seeds),
    )


@st.composite
def banded(draw: st.DrawFn) -> Layer:
    """The windows that float depthwise kernels take rows at a time, of one band and of several."""
    side = draw(st.sampled_from([3, 5]))
    stride = draw(st.sampled_from([1, 2]))
    pads = st.integers(0, side)
    return Layer(
        rows=draw(st.integers(1, 3)),
        size=(draw(st.one_of(st.integers(1, 15), st.integers(1, 90))), draw(st.one_of(st.integers(1, 34), st.integers(1, 90)))),
        kernel=(side, side),
        stride=(stride, stride),
        padding=draw(st.tuples(pads, pads, pads, pads)),
        activation=draw(st.sampled_from(["none", "relu", "hardswish"])),
        gap=draw(gaps),
        seed=draw(seeds),
    )


def filled(case: Case) -> NDArray[Any]:
    """The host's output, in memory that held 0x55."""
    output = np.full(case.call.y_shape, 0, case.call.y_dtype)
    output.view(np.uint8)[:] = 0x55
    return Prepared(case.call, output=output)()


@pytest.mark.parametrize(("dtype", "structure"), MATRICES)
@deterministic
@given(spec=pointwise())
def test_pointwise_equals_numpy(dtype: PackedDtype, structure: PackedStructure, spec: Layer) -> None:
    case = layer_case(dtype, structure, spec)
    case.check(filled(case), 0x55)


@pytest.mark.parametrize(("dtype", "structure"), [*MATRICES, *DEPTHWISE])
@deterministic
@given(spec=windowed())
def test_convolution_equals_numpy(dtype: PackedDtype, structure: PackedStructure, spec: Layer) -> None:
    case = layer_case(dtype, structure, spec)
    case.check(filled(case), 0x55)


@pytest.mark.parametrize(("dtype", "structure"), DEPTHWISE)
@settings(deterministic, max_examples=150)
@given(spec=banded())
def test_depthwise_bands_equal_numpy(dtype: PackedDtype, structure: Literal["depthwise"], spec: Layer) -> None:
    case = layer_case(dtype, structure, spec)
    case.check(filled(case), 0x55)


@st.composite
def tiled(draw: st.DrawFn) -> Layer:
    """Layers for Winograd's products: blocks of every width, whole and not, of one row of tiles and of many."""
    pads = st.integers(0, 4)
    return Layer(
        rows=draw(st.one_of(st.integers(1, 9), st.integers(60, 75))),
        columns=draw(st.one_of(st.integers(1, 9), st.sampled_from([33, 256, 259]))),
        size=draw(
            st.one_of(
                st.tuples(st.integers(1, 9), st.integers(1, 9)),
                st.tuples(st.integers(1, 6), st.integers(1, 70)),
                st.sampled_from([(14, 14), (15, 13), (70, 1), (10, 20)]),
            )
        ),
        padding=draw(st.tuples(pads, pads, pads, pads)),
        activation=draw(st.sampled_from(["none", "relu", "clamp", "hardswish", "leaky_relu"])),
        gap=draw(gaps),
        seed=draw(seeds),
    )


@settings(deterministic, max_examples=200)
@given(spec=tiled())
def test_winograd_equals_numpy(spec: Layer) -> None:
    case = layer_case(*WINOGRAD, spec)
    case.check(filled(case), 0x55)


def test_winograd_has_no_other_window() -> None:
    packed = pack_winograd(np.ones((4, 4, 3, 3)), np.zeros(4))
    for geometry in ({"stride": (1, 2)}, {"stride": (2, 1)}, {"dilation": (2, 1)}, {"dilation": (1, 2)}):
        call = layer(packed, np.ones((4, 49), np.float32), (7, 7), **geometry)
        with pytest.raises(UserError, match="window of 3 x 3, with stride and dilation 1"):
            run(call)


@st.composite
def square_windows(draw: st.DrawFn) -> Layer:
    """Windows of 3 x 3 and 5 x 5 with stride 1 and 2: planes of every width around those of the tiles, with any padding."""
    side = draw(st.sampled_from([3, 5]))
    stride = draw(st.sampled_from([1, 2]))
    return Layer(
        rows=draw(st.integers(1, 9)),
        size=(draw(st.integers(1, 9)), draw(st.one_of(st.integers(1, 20), st.sampled_from([28, 33])))),
        kernel=(side, side),
        stride=(stride, stride),
        padding=draw(st.tuples(*[st.integers(0, side)] * 4)),
        activation=draw(st.sampled_from(["none", "relu", "clamp", "hardswish"])),
        gap=draw(gaps),
        seed=draw(seeds),
    )


@pytest.mark.parametrize(("dtype", "structure"), DEPTHWISE)
@deterministic
@given(spec=square_windows())
def test_depthwise_of_square_windows_equals_numpy(dtype: PackedDtype, structure: Literal["depthwise"], spec: Layer) -> None:
    case = layer_case(dtype, structure, spec)
    case.check(filled(case), 0x55)


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (4, 1)])
@pytest.mark.parametrize(("code", "zero_point"), [(-128, 127), (-128, -128), (127, -128)])
def test_the_largest_depthwise_sums_are_exact(window: int, stride: int, code: int, zero_point: int) -> None:
    # Each sum is +-127 for every tap times the largest difference of codes: what 16 bits hold, and 24 of a float.
    weight = np.full((4, window, window), 127)
    weight[1] = -127
    weight[2:, ::2] *= -1
    x = np.full((4, 9, 10), code)
    scale = np.array([2e-4, 1.5e-4, 1.1e-3, 0.9e-3]) / 2
    packed = pack_depthwise_integer(weight, np.full(4, 0.25), scale, zero_point)
    geometry = Layer(4, 4, kernel=(window, window), stride=(stride, stride), padding=(1, 2, 1, 2), groups=4)
    call = layer(
        packed,
        pack_quads(x.reshape(4, -1).astype(np.int8)),
        (9, 10),
        stride=geometry.stride,
        padding=geometry.padding,
        y=Quantization(1.0, 3),
    )
    sums = convolve(x - zero_point, weight[:, None], geometry).reshape(4, -1)
    assert abs(sums).max() == 127 * abs(code - zero_point) * window**2
    np.testing.assert_array_equal(unpack_quads(run(call), 4), integer_outputs(sums, call, Quantization(1.0, 3), geometry))


@st.composite
def elementwise_specs(draw: st.DrawFn, op: Any) -> Op:
    lanes = (draw(st.integers(0, 3)), draw(st.integers(0, 3))) if op == "copy" else (0, 0)
    return Op(
        op,
        channels=draw(st.integers(1, 9)),
        size=(draw(st.integers(1, 5)), draw(st.integers(1, 12))),
        gate=draw(st.booleans()),
        activation="none" if op == "copy" else draw(activations),
        lanes=lanes,
        gap=draw(gaps),
        seed=draw(seeds),
    )


@st.composite
def pool_specs(draw: st.DrawFn, op: Any) -> Op:
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2))) if op == "max_pool" else (1, 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    return Op(
        op,
        channels=draw(st.integers(1, 6)),
        size=(reach[0] + draw(st.integers(0, 9)), reach[1] + draw(st.integers(0, 17))),
        kernel=kernel,
        dilation=dilation,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=(draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2))),
        ceil_mode=draw(st.booleans()),
        count_include_pad=draw(st.booleans()),
        divisor=draw(st.sampled_from([None, None, 3])),
        gap=draw(gaps),
        seed=draw(seeds),
    )


@pytest.mark.parametrize("op", ["add", "mul", "activation", "copy", "global_pool"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "s8"])
@deterministic
@given(data=st.data())
def test_elementwise_equals_numpy(dtype: TypeName, op: str, data: st.DataObject) -> None:
    spec = data.draw(elementwise_specs(op))
    if dtype != "s8":
        spec = replace(spec, lanes=(0, 0))
    case = op_case(dtype, spec)
    output = filled(case)
    if spec.lanes == (0, 0):
        case.check(output, 0x55)
    else:
        # What lies before the copy's first channel belongs to another tensor.
        channels = unpack_quads(output[:, : case.expected.shape[1]], spec.lanes[1] + spec.channels)
        assert (channels[: spec.lanes[1]] == 0x55).all()
        np.testing.assert_array_equal(channels[spec.lanes[1] :], case.expected)


@pytest.mark.parametrize("op", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "s8"])
@deterministic
@given(data=st.data())
def test_pooling_equals_numpy(dtype: TypeName, op: str, data: st.DataObject) -> None:
    case = op_case(dtype, data.draw(pool_specs(op)))
    case.check(filled(case), 0x55)


CONVERSIONS: list[tuple[TypeName, TypeName]] = [
    ("f32", "f16"),
    ("f32", "s8"),
    ("f16", "f32"),
    ("f16", "s8"),
    ("s8", "f32"),
    ("s8", "f16"),
]


@pytest.mark.parametrize(("source", "to"), CONVERSIONS)
@deterministic
@given(channels=st.integers(1, 9), pixels=st.integers(1, 40), gap=gaps, seed=seeds)
def test_conversion_equals_numpy(source: TypeName, to: TypeName, channels: int, pixels: int, gap: int, seed: int) -> None:
    case = convert_case(source, to, Op("convert", channels, (1, pixels), gap=gap, seed=seed))
    case.check(filled(case), 0x55)


@pytest.mark.parametrize("dtype", ["f32", "f16", "s8"])
@deterministic
@given(
    channels=st.integers(1, 9),
    pixels=st.integers(1, 12),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 12)),
    gap=gaps,
    seed=seeds,
)
def test_gather_equals_numpy(dtype: TypeName, channels: int, pixels: int, shape: tuple[int, int], gap: int, seed: int) -> None:
    case = gather_case(dtype, channels, pixels, shape, gap, seed)
    case.check(filled(case))


def test_a_gather_reads_nothing_beyond_its_input() -> None:
    call = gather(np.zeros((2, 3), np.float32), np.full((2, 2), 6, np.int32), 2)
    with pytest.raises(UserError, match="an index is out of range"):
        run(call)


#: Shapes for builds that take longer to run: every tile width and tail of every machine, and the windows of real layers.
SHAPES = (
    Layer(1, 1, (1, 1)),
    Layer(5, 3, (1, 2), activation="relu"),
    Layer(7, 9, (7, 7), density=0.5, activation="clamp"),
    Layer(16, 32, (14, 14), density=0.2, activation="hardswish"),
    Layer(6, 10, (1, 127), density=0.6, activation="silu", real=True, gap=1),
    Layer(12, 70, (1, 1), density=0.4),
    Layer(9, 20, (1, 64), density=0.0, activation="gelu"),
    # A single pixel, and three: of as many inputs as fill 4 and 8 vectors of 16 quads, and of more.
    Layer(6, 201, (1, 1), density=0.5, activation="relu"),
    Layer(9, 509, (1, 1), density=0.6, gap=3),
    Layer(5, 530, (1, 1), density=0.4),
    Layer(7, 90, (1, 3), density=0.7, gap=1),
    Layer(6, 5, (7, 7), (3, 3), padding=(1, 1, 1, 1), activation="relu", density=0.7, gap=2),
    Layer(5, 3, (9, 11), (3, 3), (2, 2), padding=(0, 0, 1, 1), activation="elu", density=0.8),
    Layer(4, 6, (4, 5), (5, 2), (3, 1), (1, 2), (2, 1, 0, 1), groups=2, activation="tanh"),
    Layer(8, 8, (3, 3), (1, 1), (2, 2), activation="sigmoid", density=0.9),
    # Depthwise planes: wide, narrow, of one column, of odd sizes; every stride of each window.
    Layer(5, 5, (3, 12), (3, 3), padding=(1, 1, 1, 1), activation="clamp"),
    Layer(8, 8, (7, 7), (5, 5), padding=(2, 2, 2, 2), activation="relu", gap=1),
    Layer(6, 6, (4, 1), (3, 3), padding=(1, 1, 1, 1)),
    Layer(3, 3, (7, 3), (3, 3), (2, 2), padding=(1, 1, 0, 0), activation="silu"),
    Layer(4, 4, (5, 9), (5, 5), (2, 2), padding=(1, 1, 2, 2), activation="relu", gap=2),
    Layer(7, 7, (1, 2), (5, 5), (2, 2), padding=(5, 5, 3, 0)),
    Layer(4, 4, (9, 7), (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2)),
    # Rows of a float depthwise kernel: shorter and longer than a vector, in one band and in several; its general path.
    Layer(3, 2, (7, 7), (5, 5), padding=(2, 2, 2, 2), activation="hardswish"),
    Layer(2, 3, (7, 6), (3, 3), (2, 2), padding=(1, 1, 1, 1)),
    Layer(2, 2, (6, 7), (5, 5), (2, 2), padding=(2, 2, 1, 1), gap=3),
    Layer(3, 1, (3, 1), (3, 3), padding=(1, 1, 1, 1), activation="relu"),
    Layer(2, 1, (1, 2), (5, 5), (2, 2), padding=(5, 4, 5, 3)),
    Layer(2, 1, (2, 1), (3, 3), padding=(1, 40, 1, 1)),
    Layer(2, 1, (43, 61), (3, 3), padding=(1, 1, 1, 1), activation="clamp"),
    Layer(2, 1, (27, 37), (5, 5), (2, 2), padding=(1, 2, 2, 1), activation="silu"),
    Layer(2, 1, (9, 13), (3, 3), (1, 1), (2, 2), padding=(2, 2, 2, 2)),
    # Panels of a dense float kernel: of many tiles, and in two parts, the second of an odd number of inputs.
    Layer(6, 5, (1, 300), activation="relu", density=0.8),
    Layer(5, 261, (7, 7), activation="relu", density=0.1),
    Layer(9, 261, (1, 51), density=0.1, gap=1),
    Layer(4, 37, (1, 3), density=0.9),
    # Windows gathered from x itself: rows as long as those of outputs, and not; whole parts outside of x, pieces of all lengths.
    Layer(5, 65, (7, 7), (3, 3), padding=(1, 1, 1, 1), density=0.1, gap=2),
    Layer(5, 66, (3, 30), (3, 3), padding=(1, 1, 1, 1), activation="relu", density=0.1),
    Layer(3, 64, (4, 13), (3, 5), dilation=(2, 1), padding=(2, 2, 2, 2), activation="hardswish", density=0.1),
    Layer(4, 70, (3, 5), (4, 2), padding=(3, 0, 2, 1), density=0.1),
    Layer(5, 68, (2, 1), (1, 3), padding=(0, 1, 0, 1), density=0.1),
    Layer(4, 64, (1, 1), (3, 3), padding=(1, 1, 1, 1), density=0.1),
    # With a stride: 8 outputs lie in one row, in two, in more; and a window of more columns than cuts are kept of.
    Layer(5, 66, (9, 48), (3, 3), (2, 2), padding=(1, 1, 1, 1), activation="relu", density=0.1),
    Layer(5, 65, (9, 27), (3, 3), (2, 2), padding=(1, 1, 1, 1), density=0.1, gap=1),
    Layer(4, 64, (13, 5), (5, 5), (2, 2), padding=(2, 2, 2, 2), density=0.1),
    Layer(5, 68, (7, 33), (3, 7), (2, 2), padding=(1, 3, 1, 3), density=0.1),
    # Many rows of several panels of which sums are kept.
    Layer(19, 66, (5, 13), (3, 3), padding=(1, 1, 1, 1), activation="relu", density=0.1),
    # And from a copy, in one part and in two.
    Layer(5, 30, (5, 9), (3, 3), (2, 2), padding=(1, 1, 1, 1), density=0.2),
    Layer(5, 70, (7, 7), (3, 3), (2, 2), padding=(1, 1, 1, 1), density=0.1, gap=1),
)

#: For Winograd's products besides: more rows and inputs than a part, a last tile left over; a plane in a corner of its padding.
TILED = (
    Layer(70, 9, (14, 14), padding=(1, 1, 1, 1), activation="relu"),
    Layer(5, 257, (7, 7), padding=(1, 1, 1, 1), gap=1),
    Layer(6, 4, (6, 29), padding=(0, 2, 2, 0), activation="silu"),
    Layer(2, 3, (1, 9), padding=(3, 11, 0, 0)),
    Layer(3, 2, (9, 1), padding=(0, 0, 11, 3), activation="clamp", gap=2),
)

OPS = (
    Op("add", 5, (7, 7), activation="relu"),
    Op("add", 4, (1, 33), gate=True, gap=3),
    Op("mul", 6, (5, 5), gate=True, activation="hardswish"),
    Op("mul", 3, (1, 1)),
    *(Op("activation", 5, (3, 7), activation=name, gap=1) for name in ("clamp", *ACTIVATIONS[2:])),
    Op("copy", 9, (3, 5), gap=2),
    Op("global_pool", 7, (7, 7)),
    Op("global_pool", 2, (1, 3), activation="sigmoid"),
    Op("max_pool", 5, (13, 15), kernel=(3, 3), stride=(2, 2), padding=(1, 1), gap=1),
    Op("max_pool", 3, (9, 9), kernel=(2, 2), stride=(2, 2), ceil_mode=True),
    Op("max_pool", 5, (4, 37), kernel=(3, 3), padding=(1, 1), dilation=(2, 1)),
    Op("max_pool", 2, (3, 40), kernel=(2, 1), stride=(1, 3)),
    Op("avg_pool", 5, (13, 15), kernel=(3, 3), stride=(2, 2), padding=(1, 1), count_include_pad=False),
    Op("avg_pool", 6, (14, 14), kernel=(7, 7)),
    Op("avg_pool", 3, (8, 9), kernel=(3, 2), stride=(2, 3), padding=(1, 1), ceil_mode=True, gap=1),
)


def all_cases() -> list[Case]:
    """Cases of every kernel."""
    layers = [
        layer_case(dtype, structure, replace(spec, seed=seed))
        for dtype, structure in [*MATRICES, *DEPTHWISE, WINOGRAD]
        for seed, spec in enumerate(SHAPES)
    ]
    layers += [layer_case(*WINOGRAD, replace(spec, seed=seed)) for seed, spec in enumerate(TILED)]
    types: list[TypeName] = ["f32", "f16", "s8"]
    ops = [op_case(dtype, replace(spec, seed=seed)) for dtype in types for seed, spec in enumerate(OPS)]
    conversions = [convert_case(*types, Op("convert", 7, (3, 7), gap=gap)) for types in CONVERSIONS for gap in (0, 2)]
    gathers = [gather_case(dtype, 5, 6, (7, 11), 1, 0) for dtype in types]
    return layers + ops + conversions + gathers


# Of an x86 machine also what it shares with others: AVX2 without AVX-512.
WIDTHS: list[tuple[str, tuple[str, ...]]] = [("baseline", ()), ("native", ("-DAC_F32_LANES=16",))]
if platform.machine() == "x86_64":
    WIDTHS.append(("x86_64_v3", ()))


@pytest.mark.parametrize(("cpu", "flags"), WIDTHS)
def test_other_vector_widths_equal_numpy(cpu: str, flags: Sequence[str]) -> None:
    library = Library(build(HOST, cpu, flags))
    for case in all_cases():
        case.check(run(case.call, library=library))


def run_jobs(command: Sequence[str], cases: Sequence[Case], folder: Path) -> None:
    """Run all cases in one process of the program `run`, and check what it wrote."""
    calls = [case.call for case in cases]
    write_jobs(folder / "jobs", calls)
    done = subprocess.run([*command, str(folder / "jobs"), str(folder / "output")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for case, output in zip(cases, read_outputs(folder / "output", calls), strict=True):
        case.check(output, 0x55)


# cortex_a57 has no SDOT and no half arithmetic; cortex-a76 has both, but nothing newer that a Pixel 7 lacks.
@pytest.mark.parametrize(
    ("cpu", "emulated"),
    [("cortex_x1", "cortex-a76"), ("cortex_a78", "max"), ("cortex_a55", "cortex-a76"), ("cortex_a57", "cortex-a57")],
)
def test_phone_builds_equal_numpy_under_qemu(cpu: str, emulated: str, tmp_path: Path) -> None:
    program = build("aarch64-linux-musl", cpu, product="run")
    run_jobs(["qemu-aarch64", "-cpu", emulated, str(program)], all_cases(), tmp_path)


#: SMMLA, by which bits of an instruction are fixed and which they are.
SMMLA = (0xFFE0FC00, 0x4E80A400)
PANEL_KERNELS: dict[str, tuple[PackedDtype, PackedStructure]] = {
    "s8_dense": ("int8", "dense"),
    "s8_dense_w4": ("int4", "dense"),
    "s8_block4x4": ("int8", "block4x4"),
}


def panel_cases(kernel: str) -> list[Case]:
    """Layers of all widths of tiles, of even and odd numbers of quads in one part and in several, with all kinds of windows."""
    rng = np.random.default_rng(0)
    specs = [spec for spec in SHAPES if spec.groups == 1]
    specs += [Layer(5, columns, (1, pixels), seed=1) for columns in (4, 8, 12, 1030) for pixels in (4, 9, 24, 31, 49)]
    # Few pixels beside wide tiles, and as many inputs as take several parts.
    specs += [Layer(13, 1030, (1, 32 + pixels), seed=1) for pixels in range(1, 9)]
    specs += [Layer(9, 8200, (1, pixels), seed=1) for pixels in (1, 15)]
    for seed in range(40):
        window, stride = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        specs.append(
            Layer(
                int(rng.integers(1, 18)),
                int(rng.choice([1, 7, 30, 64, 65, 115, 130])),
                (int(rng.integers(1, 9)), int(rng.integers(1, 33))),
                (window, window),
                (stride, stride),
                padding=(window // 2, window // 2, window // 2, window // 2),
                density=float(rng.choice([0.1, 0.5, 0.9])),
                activation=str(rng.choice(["none", "relu", "hardswish"])),
                real=bool(rng.integers(2)),
                gap=int(rng.integers(3)),
                seed=seed,
            )
        )
    return [layer_case(*PANEL_KERNELS[kernel], spec) for spec in specs]


@pytest.mark.parametrize("kernel", list(PANEL_KERNELS))
def test_panels_of_this_machine_equal_numpy(kernel: str) -> None:
    for case in panel_cases(kernel):
        case.check(filled(case), 0x55)


@pytest.mark.parametrize("kernel", list(PANEL_KERNELS))
@pytest.mark.parametrize(("emulated", "has"), [("max", True), ("cortex-a76", False)])
def test_the_cpu_decides_whether_i8mm_is_used(kernel: str, emulated: str, has: bool, tmp_path: Path) -> None:
    """One program for both, exact on both; the emulator's log of what it met says which variant ran."""
    machine = names_for("aarch64", "cortex-a710", ("dotprod", "fp16", "i8mm"))
    emulator = ["qemu-aarch64", "-cpu", emulated]
    told = subprocess.run([*emulator, str(build(*machine, product="bench")), "list"], check=True, capture_output=True, text=True)
    assert json.loads(told.stdout)["i8mm"] == has
    log = tmp_path / "log"
    run_jobs([*emulator, "-d", "in_asm", "-D", str(log), str(build(*machine, product="run"))], panel_cases(kernel), tmp_path)
    met = [int(word, 16) for word in re.findall(r"^0x[0-9a-f]+:  ([0-9a-f]{8})  ", log.read_text(encoding="utf-8"), re.MULTILINE)]
    assert len(met) > 1000
    assert any(word & SMMLA[0] == SMMLA[1] for word in met) == has


def test_kernels_are_clean_under_sanitizers(tmp_path: Path) -> None:
    program = tmp_path / "run"
    sources = sorted(str(path) for path in SOURCES.glob("*.c") if path.name not in PROGRAMS or path.name == "run.c")
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
    command = ["cc", "-std=c11", "-O0", "-g", "-march=native", *warnings, *sanitizers, *sources, "-o", str(program), "-lm"]
    subprocess.run(command, check=True)
    run_jobs([str(program)], all_cases(), tmp_path)


def test_every_kernel_has_cases() -> None:
    assert {case.call.kernel for case in all_cases()} == set(host_library().names())
