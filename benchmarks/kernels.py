"""Time the C kernels of this machine: rates of the dense ones, and the sparse ones against the dense one of their type.

    python benchmarks/kernels.py [--output results/benchmarks/kernels.json]

Each number is of one pinned core. A sparse kernel and its dense competitor take turns, so that a change of clock or load touches
both. Noise only makes things slower: the median of the fastest turn counts, as for rows in docs/bench.md. Activations begin at
multiples of 64 bytes, as in a network. On x86 the ratios say little about a phone: the machine differs.
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


def geometric_means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the shapes, of the ratios of each dtype, structure and sparsity."""
    ratios: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for row in rows:
        ratios[row["dtype"], row["structure"], row["sparsity"]].append(row["ratio"])
    return [
        {"dtype": dtype, "structure": structure, "sparsity": sparsity, "ratio": round(statistics.geometric_mean(each), 3)}
        for (dtype, structure, sparsity), each in ratios.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="also write the numbers to this JSON file")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each comparison")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows: list[dict[str, Any]] = []
    print(f"{idle.cpu()}, {platform.system()}")
    for dtype, structure in KERNELS:
        if structure == "dense" or dtype not in ("fp32", "int8"):
            continue
        for shape in SHAPES:
            for sparsity in SPARSITIES:
                calls = [prepare(dtype, "dense", shape, 0.0), prepare(dtype, structure, shape, sparsity)]
                dense, sparse = fastest(calls, arguments.seconds)
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
    means = geometric_means(rows)
    for mean in means:
        print(
            f"{mean['dtype']} {mean['structure']:12} at {mean['sparsity']:.0%}: geometric mean {mean['ratio']:5.2f} times as fast"
        )
    if arguments.output is not None:
        result = {
            "machine": f"{idle.cpu()}, {platform.system()}",
            "date": date.today().isoformat(),
            "kernels": kernels_hash(),
            "geometric_means": means,
            "rows": rows,
        }
        write_json(arguments.output, result)
        print(json.dumps({"written": str(arguments.output)}))


if __name__ == "__main__":
    main()
