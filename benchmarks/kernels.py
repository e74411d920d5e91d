"""Time the C kernels of this machine: rates of the dense ones, the sparse ones against the dense one of their type, and sparse
windows of 3x3 against the same work as 1x1.

    python benchmarks/kernels.py [--output results/benchmarks/kernels.json]

Each number is of one pinned core. A kernel and its competitors take turns, so that a change of clock or load touches all of them.
Noise only makes things slower: the median of the fastest turn counts, as for rows in docs/bench.md. Activations begin at
multiples of 64 bytes, as in a network. On x86 the ratios say little about a phone: the machine differs.

The same work as a window's, with the same kept blocks, weights, loops and outputs, is a 1x1 layer with 9 times the input
channels. It reads 9 times the planes, which flatters the window where these do not fit a cache. So there is a second, stricter
one, which is no layer that exists: the 9 inputs in place of a window's are one and the same plane, of the size of the outputs. It
reads as many planes as the window and a third of its rows, and has nothing to pad, to split for a stride, to drop between rows
or to scatter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import idle
import numpy as np
from numpy.typing import NDArray

from autocompress.files import write_json
from autocompress.kernels.calls import Call, Quantization, layer
from autocompress.kernels.native import Prepared
from autocompress.kernels.packing import KERNELS, PackedDtype, PackedStructure, pack_float, pack_integer, pack_quads
from autocompress.kernels.toolchain import kernels_hash

#: out channels, in channels, pixels: 1x1 layers as they occur in mobile networks, and one linear layer.
SHAPES = ((64, 64, 3136), (128, 128, 784), (256, 256, 196), (960, 160, 49), (512, 512, 1))
#: Samples in a turn, and the fewest turns.
SAMPLES, FEWEST_TURNS = 5, 5
SPARSITIES = (0.5, 0.7, 0.8, 0.9)
#: Channels in and out, and height and width of the outputs, of layers with a window: those of a ResNet.
WINDOWS = ((64, 56), (128, 28), (256, 14), (512, 7))
WINDOW_STRIDES = (1, 2)
WINDOW_SPARSITIES = (0.7, 0.8, 0.9)


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a multiple of 64 bytes."""
    room = np.empty(values.nbytes + 64, np.uint8)
    begin = -room.ctypes.data % 64
    copy = room[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def on_aligned(call: Call) -> Prepared:
    """The call on aligned activations."""
    return Prepared(replace(call, x=aligned(call.x)), output=aligned(np.zeros(call.y_shape, call.y_dtype)))


def prepare(dtype: PackedDtype, structure: PackedStructure, shape: tuple[int, int, int], sparsity: float) -> Prepared:
    """A call with random values, and whole blocks removed at random."""
    rng = np.random.default_rng(0)
    rows, columns, pixels = shape
    block_rows, block_columns = KERNELS[dtype, structure][1]
    kept = rng.random((-(-rows // block_rows), -(-columns // block_columns))) >= sparsity
    mask = np.kron(kept, np.ones((block_rows, block_columns), bool))[:rows, :columns]
    if dtype == "fp32":
        weight = rng.standard_normal((rows, columns)) * mask
        x = rng.standard_normal((columns, pixels)).astype(np.float32)
        return on_aligned(layer(pack_float(weight, np.zeros(rows), structure), x, (1, pixels), activation="relu"))
    quantised = rng.integers(-127, 128, (rows, columns)) * mask
    x8 = pack_quads(rng.integers(-128, 128, (columns, pixels)).astype(np.int8))
    packed = pack_integer(quantised, np.zeros(rows), 1e-3, structure)
    return on_aligned(layer(packed, x8, (1, pixels), activation="relu", y=Quantization(1.0, -128)))


def prepare_window(
    dtype: PackedDtype, structure: PackedStructure, channels: int, side: int, stride: int, sparsity: float
) -> tuple[Prepared, Prepared, Prepared]:
    """A 3x3 layer with `side` rows and columns of outputs, and the same work as 1x1, from 9 planes a channel and from one."""
    rng = np.random.default_rng(0)
    block_rows, block_columns = KERNELS[dtype, structure][1]
    kept = rng.random((channels // block_rows, channels // block_columns, 3, 3)) >= sparsity
    mask = kept.repeat(block_rows, 0).repeat(block_columns, 1)
    pixels, input_pixels, bias = side * side, (side * stride) ** 2, np.zeros(channels)
    if dtype == "fp32":
        weight = rng.standard_normal(mask.shape) * mask
        x = rng.standard_normal((channels, input_pixels)).astype(np.float32)
        flat, wide = flattened(weight), np.resize(x[:, :pixels], (9 * channels, pixels))
        packed, other = pack_float(weight, bias, structure), pack_float(flat, bias, structure)
        form = None
    else:
        codes = rng.integers(-127, 128, mask.shape) * mask
        plain = rng.integers(-128, 128, (channels, input_pixels)).astype(np.int8)
        x, wide = pack_quads(plain), pack_quads(np.resize(plain[:, :pixels], (9 * channels, pixels)))
        packed, other = (pack_integer(own, bias, 1e-3, structure) for own in (codes, flattened(codes)))
        form = Quantization(1.0, -128)
    size = (side * stride, side * stride)
    window = layer(packed, x, size, stride=(stride, stride), padding=(1, 1, 1, 1), activation="relu", y=form)
    flat_layer = layer(other, wide, (side, side), activation="relu", y=form)
    one_plane = on_aligned(flat_layer)
    # An offset of a 1x1 layer is where a plane begins: the 9 of a channel become its first one. The kernel may put planes further
    # apart than they are in x.
    one_plane.offsets %= channels // block_columns * int(np.gcd.reduce(one_plane.offsets))
    return on_aligned(window), on_aligned(flat_layer), one_plane


def flattened(weight: NDArray[Any]) -> NDArray[Any]:
    """Weights of a window as those of a 1x1 layer, in the order in which kernels read them."""
    return weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)


def fastest(calls: Sequence[Prepared], seconds: float) -> list[float]:
    """Microseconds of each call: they take turns of a few samples, and the median of a call's fastest turn counts."""
    turns: list[list[list[float]]] = [[] for _ in calls]
    repeats = [1] * len(calls)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(turns[0]) < FEWEST_TURNS:
        for number, call in enumerate(calls):
            call()
            turn = []
            for _ in range(SAMPLES):
                start = time.perf_counter()
                for _ in range(repeats[number]):
                    call()
                turn.append((time.perf_counter() - start) / repeats[number] * 1e6)
            turns[number].append(turn)
            # Short calls are run several times in a row, so that the clock's and Python's share stays small.
            repeats[number] = max(1, int(200 / min(turn)))
    return [idle.fastest_round(own[1:]) for own in turns]


def geometric_means(
    rows: Sequence[dict[str, Any]], by: Sequence[str] = ("dtype", "structure", "sparsity"), of: str = "ratio"
) -> list[dict[str, Any]]:
    """Of the ratios named `of`, over the rows of each dtype, structure and so on; with the least and the largest."""
    ratios: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        ratios[tuple(row[name] for name in by)].append(row[of])
    return [
        {
            **dict(zip(by, key, strict=True)),
            of: round(statistics.geometric_mean(each), 3),
            "least": min(each),
            "largest": max(each),
        }
        for key, each in ratios.items()
    ]


def sparse_kernels() -> list[tuple[PackedDtype, PackedStructure]]:
    return [(dtype, structure) for dtype, structure in KERNELS if structure != "dense" and dtype in ("fp32", "int8")]


def time_sparse(seconds: float) -> list[dict[str, Any]]:
    """1x1 layers: dense over sparse."""
    rows = []
    for (dtype, structure), shape, sparsity in product(sparse_kernels(), SHAPES, SPARSITIES):
        calls = [prepare(dtype, "dense", shape, 0.0), prepare(dtype, structure, shape, sparsity)]
        dense, sparse = fastest(calls, seconds)
        rate = shape[0] * shape[1] * shape[2] / dense / 1e3
        rows.append(
            {
                "dtype": dtype,
                "structure": structure,
                "out_channels": shape[0],
                "in_channels": shape[1],
                "pixels": shape[2],
                "sparsity": sparsity,
                "dense_us": round(dense, 2),
                "sparse_us": round(sparse, 2),
                "ratio": round(dense / sparse, 3),
            }
        )
        print(
            f"{dtype} {structure:12} {shape[0]:4} x {shape[1]:4} x {shape[2]:5} at {sparsity:.0%}: "
            f"{sparse:9.1f} us, dense {dense:9.1f} us ({rate:6.1f} GMAC/s), {dense / sparse:5.2f} times as fast"
        )
    return rows


def time_windows(seconds: float) -> list[dict[str, Any]]:
    """3x3 layers: with a window over the same work without, both kinds of it."""
    rows = []
    for (dtype, structure), (channels, side), stride, sparsity in product(
        sparse_kernels(), WINDOWS, WINDOW_STRIDES, WINDOW_SPARSITIES
    ):
        window, pointwise, one_plane = fastest(prepare_window(dtype, structure, channels, side, stride, sparsity), seconds)
        rows.append(
            {
                "dtype": dtype,
                "structure": structure,
                "channels": channels,
                "side": side,
                "stride": stride,
                "sparsity": sparsity,
                "window_us": round(window, 2),
                "pointwise_us": round(pointwise, 2),
                "one_plane_us": round(one_plane, 2),
                "over_pointwise": round(window / pointwise, 3),
                "over_one_plane": round(window / one_plane, 3),
            }
        )
        print(
            f"{dtype} {structure:12} 3x3 of {channels:4}, {side:2} x {side:2} outputs, stride {stride} at {sparsity:.0%}: "
            f"{window:8.1f} us; 1x1 {pointwise:8.1f} us, {window / pointwise:5.3f}; "
            f"one plane {one_plane:8.1f} us, {window / one_plane:5.3f}"
        )
    return rows


def window_means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Geometric means of both ratios for each structure, then for each of its strides."""
    kernel = ("dtype", "structure")
    return [
        mean
        for of in ("over_pointwise", "over_one_plane")
        for by in (kernel, (*kernel, "stride"))
        for mean in geometric_means(rows, by, of)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="also write the numbers to this JSON file")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each comparison")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{idle.cpu()}, {platform.system()}")
    rows = time_sparse(arguments.seconds)
    windows = time_windows(arguments.seconds)
    means = geometric_means(rows)
    three = window_means(windows)
    for mean in means:
        print(
            f"{mean['dtype']} {mean['structure']:12} at {mean['sparsity']:.0%}: geometric mean {mean['ratio']:5.2f} times as fast"
        )
    for mean in three:
        of = "over_pointwise" if "over_pointwise" in mean else "over_one_plane"
        stride = f", stride {mean['stride']}" if "stride" in mean else ""
        print(
            f"{mean['dtype']} {mean['structure']:12} 3x3{stride}, {of.replace('_', ' ')}: geometric mean {mean[of]:5.3f} "
            f"({mean['least']:5.3f} to {mean['largest']:5.3f})"
        )
    if arguments.output is not None:
        result = {
            "machine": f"{idle.cpu()}, {platform.system()}",
            "date": date.today().isoformat(),
            "kernels": kernels_hash(),
            "geometric_means": means,
            "window_means": three,
            "rows": rows,
            "windows": windows,
        }
        write_json(arguments.output, result)
        print(json.dumps({"written": str(arguments.output)}))


if __name__ == "__main__":
    main()
