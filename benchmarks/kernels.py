"""Time the C kernels of this machine: rates of the dense ones, and the sparse ones against the dense one of their type.

    python benchmarks/kernels.py [--output results/benchmarks/kernels.json]

Each number is the median over runs on one pinned core. The runs of a sparse kernel and of its dense competitor
alternate, so that a change of clock or load touches both. On x86 the ratios say little about a phone: the machine differs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from autocompress.files import write_json
from autocompress.kernels.calls import Quantization, layer
from autocompress.kernels.native import Prepared
from autocompress.kernels.packing import KERNELS, PackedDtype, PackedStructure, pack_float, pack_integer, pack_quads

#: out channels, in channels, pixels: 1x1 layers as they occur in mobile networks, and one linear layer.
SHAPES = ((64, 64, 3136), (128, 128, 784), (256, 256, 196), (960, 160, 49), (512, 512, 1))
SPARSITIES = (0.5, 0.7, 0.8, 0.9)


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
        return Prepared(layer(pack_float(weight, np.zeros(rows), structure), x, (1, pixels), activation="relu"))
    quantised = rng.integers(-127, 128, (rows, columns)) * mask
    x8 = pack_quads(rng.integers(-128, 128, (columns, pixels)).astype(np.int8))
    packed = pack_integer(quantised, np.zeros(rows), 1e-3, structure)
    return Prepared(layer(packed, x8, (1, pixels), activation="relu", y=Quantization(1.0, -128)))


def medians(calls: Sequence[Prepared], seconds: float) -> list[float]:
    """Median microseconds of each call, run in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for call, own in zip(calls, times, strict=True):
            # Short calls are run several times in a row, so that the clock's and Python's share stays small.
            repeats = 1 if not own else max(1, int(200 / own[0]))
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            own.append((time.perf_counter() - start) / repeats * 1e6)
    return [statistics.median(own) for own in times]


def machine() -> str:
    """The CPU's name where the system tells it, and the system."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {platform.system()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="also write the numbers to this JSON file")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each comparison")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows: list[dict[str, Any]] = []
    print(machine())
    for dtype, structure in KERNELS:
        if structure == "dense" or dtype not in ("fp32", "int8"):
            continue
        for shape in SHAPES:
            for sparsity in SPARSITIES:
                calls = [prepare(dtype, "dense", shape, 0.0), prepare(dtype, structure, shape, sparsity)]
                dense, sparse = medians(calls, arguments.seconds)
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
    if arguments.output is not None:
        write_json(arguments.output, {"machine": machine(), "date": date.today().isoformat(), "rows": rows})
        print(json.dumps({"written": str(arguments.output)}))


if __name__ == "__main__":
    main()
