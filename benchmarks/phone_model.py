"""Score and fit the analytic core model on published phone latencies, and on kernels measured on this computer.

    python benchmarks/phone_model.py --measure                 (an idle machine, about 3 minutes: the rows of this computer)
    python benchmarks/phone_model.py --data FOLDER [--write]   (fits and scores, with the rows measured before)

FOLDER holds tables of published latencies:
  pixel6_int8.csv: five int8 networks on the Cortex-X1 of a Pixel 6 (MobileNetV4, arXiv:2404.10518, table 6: TFLite with XNNPACK,
      pinned to the fastest core). Three constants are fitted on them; the error is that of each network left out of its own fit.
      One of them is about the depthwise kernels of that runtime, not ours: see network_ms.
      The same networks on the Cortex-X3 of a Galaxy S23 are a check, never fitted: as a core without I8MM, like the Pixel 6's,
      and with it. Whether that build of XNNPACK used I8MM is not known.
  ncnn_benchmark.csv, xnnpack_tflite_float.csv: other cores and data types, a check of how far the constants carry.
  layers_tophub_arm_cpu.csv, layers_tflite_mobilenetv2_pixel_issue23131.csv, blocks_proxyless_ofa_lut.csv,
      mobilenet_v2v3_pixel123.csv: layers, blocks and networks of other runtimes: are they in the model's order? One table is not,
      see block_runtime.
  fast_sparse_convnets_sd835.csv: sparse fp32 networks (Elsen et al., arXiv:1911.09723) on a Cortex-A73, a check with the same
      constants, and of the ratio to the dense networks of xnnpack_tflite_float.csv on the same chip. The A73's figures are
      estimates; its undocumented rate of loads decides the result, so the other reading is printed, too.
This computer: kernels on layers of EfficientNet-Lite0, MobileNetV4 and ResNet-50, dense and sparse, as `autocompress bench` times
  them. The same model with the description of this core, its three constants fitted on one half of the layers and scored on the
  other. It is where the error of sparse and quantised kernels is known from. Only an AMD Zen 3 is described (HOST).
With --write the result goes to results/benchmarks/phone_model.json.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import combinations, permutations
from math import ceil, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autocompress.errors import UserError
from autocompress.files import write_json, write_text
from autocompress.kernels.bench import Settings, measure
from autocompress.kernels.core_model import FITTED, FITTED_X86, VERSION, Calibration, op_time_us, supports
from autocompress.kernels.geometry import Geometry, KernelOp
from autocompress.kernels.table import MeasuredRows, Row, RowKey, measured_path, unsteady_keys
from autocompress.kernels.targets import Core, Target, load_target, target_from_json

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "phone_model.json"
HOST_ROWS = RESULT.with_name("phone_model_host.csv")
#: This computer's core: nominal figures; the clock is that of the sentinel, 20000 rounds of a multiplication and an addition.
HOST = {"name": "cpu", "model": "zen3", "ghz": 3.0, "l3_kb": 16384, "l3_gbps": 60.0, "dram_gbps": 15.0}
SENTINEL_CYCLES = 80000.0
Ops = tuple[Geometry, ...]
Score = dict[str, str | float]
Vector = npt.NDArray[np.float64]


class Builder:
    """Writes a network down as the ops that run: batch norm folded, activations fused."""

    def __init__(self, size: int, channels: int = 3) -> None:
        self.height = size
        self.channels = channels
        self.ops: list[Geometry] = []

    def _window(self, op: KernelOp, out: int, kernel: int, stride: int, groups: int) -> None:
        before, after = self.height, ceil(self.height / stride)
        shape = (self.channels, out, before, before, after, after)
        self.ops.append(Geometry(op, *shape, (kernel, kernel), (stride, stride), groups=groups))
        self.height, self.channels = after, out

    def conv(self, out: int, kernel: int = 1, stride: int = 1) -> None:
        self._window("conv", out, kernel, stride, 1)

    def depthwise(self, kernel: int, stride: int = 1) -> None:
        self._window("depthwise", self.channels, kernel, stride, self.channels)

    def pool(self, kernel: int, stride: int) -> None:
        self._window("pool", self.channels, kernel, stride, 1)

    def shortcut(self, out: int, stride: int) -> None:
        """A 1x1 convolution beside the ops that follow."""
        height, channels = self.height, self.channels
        self.conv(out, 1, stride)
        self.height, self.channels = height, channels

    def elementwise(self, op: KernelOp) -> None:
        size, channels = self.height, self.channels
        self.ops.append(Geometry(op, channels, channels, size, size, size, size))

    def squeeze_excite(self, reduced: int) -> None:
        height, channels = self.height, self.channels
        self.ops.append(Geometry("global_pool", channels, channels, height, height, 1, 1))
        self.ops.append(Geometry("linear", channels, reduced, 1, 1, 1, 1))
        self.ops.append(Geometry("linear", reduced, channels, 1, 1, 1, 1))
        self.ops.append(Geometry("activation", channels, channels, 1, 1, 1, 1))
        self.ops.append(Geometry("mul", channels, channels, height, height, height, height))

    def head(self, *features: int) -> Ops:
        self.ops.append(Geometry("global_pool", self.channels, self.channels, self.height, self.height, 1, 1))
        for out in features:
            self.ops.append(Geometry("linear", self.channels, out, 1, 1, 1, 1))
            self.channels = out
        return tuple(self.ops)


def divisible(value: float, divisor: int = 8) -> int:
    """Channels after a width multiplier, as the MobileNet papers round them."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def mobilenet_v1(width: float = 1.0) -> Ops:
    """arXiv:1704.04861, table 1."""
    net = Builder(224)
    net.conv(divisible(32 * width), 3, 2)
    for out, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        net.depthwise(3, stride)
        net.conv(divisible(out * width))
    return net.head(1000)


def inverted_residual(net: Builder, out: int, expand: int, kernel: int, stride: int) -> None:
    """arXiv:1801.04381, table 1."""
    residual = stride == 1 and net.channels == out
    if expand != 1:
        net.conv(net.channels * expand)
    net.depthwise(kernel, stride)
    net.conv(out)
    if residual:
        net.elementwise("add")


def mobilenet_v2(width: float, size: int = 224) -> Ops:
    """arXiv:1801.04381, table 2."""
    net = Builder(size)
    net.conv(divisible(32 * width), 3, 2)
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, out, repeats, stride in stages:
        for repeat in range(repeats):
            inverted_residual(net, divisible(out * width), expand, 3, stride if repeat == 0 else 1)
    net.conv(max(1280, divisible(1280 * width)))
    return net.head(1000)


def efficientnet_lite0() -> Ops:
    """The TPU models repository's EfficientNet-Lite0: EfficientNet-B0 (arXiv:1905.11946) without squeeze-and-excite."""
    net = Builder(224)
    net.conv(32, 3, 2)
    stages = [
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ]
    for expand, out, repeats, stride, kernel in stages:
        for repeat in range(repeats):
            inverted_residual(net, out, expand, kernel, stride if repeat == 0 else 1)
    net.conv(1280)
    return net.head(1000)


def mobileone_s4() -> Ops:
    """arXiv:2206.04040, reparameterised: one 3x3 depthwise and one 1x1 convolution a block, squeeze-and-excite late."""
    net = Builder(224)
    net.conv(64, 3, 2)
    for blocks, out, gated in [(2, 192, 0), (8, 448, 0), (10, 896, 5), (1, 2048, 1)]:
        for block in range(blocks):
            gate = block >= blocks - gated
            net.depthwise(3, 2 if block == 0 else 1)
            if gate:
                net.squeeze_excite(net.channels // 16)
            net.conv(out)
            if gate:
                net.squeeze_excite(out // 16)
    return net.head(1000)


#: Universal inverted bottlenecks: first depthwise kernel (0: none), middle one, stride, expansion, output channels.
_CONV_MEDIUM = [
    (3, 5, 2, 4, 80),
    (3, 3, 1, 2, 80),
    (3, 5, 2, 6, 160),
    (3, 3, 1, 4, 160),
    (3, 3, 1, 4, 160),
    (3, 5, 1, 4, 160),
    (3, 3, 1, 4, 160),
    (3, 0, 1, 4, 160),
    (0, 0, 1, 2, 160),
    (3, 0, 1, 4, 160),
    (5, 5, 2, 6, 256),
    (5, 5, 1, 4, 256),
    (3, 5, 1, 4, 256),
    (3, 5, 1, 4, 256),
    (0, 0, 1, 4, 256),
    (3, 0, 1, 4, 256),
    (3, 5, 1, 2, 256),
    (5, 5, 1, 4, 256),
    (0, 0, 1, 4, 256),
    (0, 0, 1, 4, 256),
    (5, 0, 1, 2, 256),
]


def mobilenet_v4_conv_medium(size: int = 256) -> Ops:
    """arXiv:2404.10518, the table of MNv4-Conv-M."""
    net = Builder(size)
    net.conv(32, 3, 2)
    net.conv(128, 3, 2)
    net.conv(48)
    for first, middle, stride, expand, out in _CONV_MEDIUM:
        residual = stride == 1 and net.channels == out
        inner = divisible(net.channels * expand)
        if first:
            net.depthwise(first, 1 if middle else stride)
        net.conv(inner)
        if middle:
            net.depthwise(middle, stride)
        net.conv(out)
        if residual:
            net.elementwise("add")
    net.conv(960)
    return net.head(1280, 1000)


def resnet(blocks: Sequence[int], bottleneck: bool) -> Ops:
    """arXiv:1512.03385, table 1; the max pool is priced as one of ours."""
    net = Builder(224)
    net.conv(64, 7, 2)
    net.pool(3, 2)
    for stage, repeats in enumerate(blocks):
        width = 64 << stage
        out = 4 * width if bottleneck else width
        for repeat in range(repeats):
            stride = 2 if stage and repeat == 0 else 1
            if net.channels != out:
                net.shortcut(out, stride)
            if bottleneck:
                net.conv(width)
                net.conv(width, 3, stride)
                net.conv(out)
            else:
                net.conv(out, 3, stride)
                net.conv(out, 3)
            net.elementwise("add")
    return net.head(1000)


def vgg16() -> Ops:
    """arXiv:1409.1556, column D."""
    net = Builder(224)
    for out, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            net.conv(out, 3)
        net.pool(2, 2)
    first = Geometry("linear", 512 * 49, 4096, 1, 1, 1, 1)
    return (*net.ops, first, Geometry("linear", 4096, 4096, 1, 1, 1, 1), Geometry("linear", 4096, 1000, 1, 1, 1, 1))


def squeezenet() -> Ops:
    """arXiv:1602.07360, version 1.1."""
    net = Builder(227)
    net.conv(64, 3, 2)
    net.pool(3, 2)
    for place, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        net.conv(squeeze)
        net.conv(4 * squeeze)
        net.channels = squeeze
        net.conv(4 * squeeze, 3)
        net.channels = 8 * squeeze
        if place in (1, 3):
            net.pool(3, 2)
    net.conv(1000)
    return net.head()


NETWORKS: dict[str, Callable[[], Ops]] = {
    "MobileNet-V1": mobilenet_v1,
    "MobileNet-V2-0.5x": lambda: mobilenet_v2(0.5),
    "MobileNet-V2-1.5x": lambda: mobilenet_v2(1.5),
    "MobileOne-S4": mobileone_s4,
    "MNv4-Conv-M": mobilenet_v4_conv_medium,
}

#: Weak priors of the fit: ln(constant) is normal with this centre and standard deviation. Efficiency: what tuned matrix kernels
#: reach; depthwise: the model as it stands; op_cycles: 3.6 microseconds at 2.8 GHz, an interpreter's dispatch and cold code.
PRIORS = {"efficiency": (0.8, 0.2), "depthwise": (1.0, 0.15), "op_cycles": (1e4, 0.7)}
#: Standard deviation of ln(published / modelled) that the fit assumes; figures are published with one decimal.
NOISE = 0.03
PROVENANCE = "constants fitted on five int8 networks published for a Pixel 6 Cortex-X1"
PROVENANCE_X86 = "constants fitted on kernels measured on an AMD Zen 3"


def network_ms(ops: Ops, bits: int, core: Core, constants: Calibration, sparsity: float = 0.0) -> float:
    """Milliseconds of a published network; `sparsity` goes to the 1x1 convolutions, unstructured.

    Depthwise kernels of those runtimes load an input for each product and widen int8, as ours do for unusual windows; their fp32
    windows of 3x3 are multiplied directly.
    """
    total = 0.0
    for op in ops:
        sparse = sparsity > 0.0 and op.op == "conv" and op.kernel == (1, 1)
        structure, share = ("unstructured", sparsity) if sparse else ("dense", 0.0)
        total += op_time_us(op, structure, share, bits, core, constants, published=True)
    return total / 1e3


def fit(networks: Sequence[Ops], published_ms: Sequence[float], core: Core) -> Calibration:
    """Efficiency, depthwise and op_cycles: maximum a posteriori by Gauss-Newton on their logarithms; int8, dense."""
    centres = np.log([centre for centre, _ in PRIORS.values()])
    widths = np.array([width for _, width in PRIORS.values()])

    def constants(theta: Vector) -> Calibration:
        values = dict(zip(PRIORS, np.exp(theta).tolist(), strict=True))
        return dataclasses.replace(FITTED, **values, core=core.model, provenance=PROVENANCE)

    def residuals(theta: Vector) -> Vector:
        modelled = [network_ms(ops, 8, core, constants(theta)) for ops in networks]
        return np.concatenate([np.log(modelled / np.asarray(published_ms)) / NOISE, (theta - centres) / widths])

    theta = centres.copy()
    for _ in range(12):
        base = residuals(theta)
        jacobian = np.stack([(residuals(theta + 1e-4 * unit) - base) / 1e-4 for unit in np.eye(len(theta))], axis=1)
        theta = theta - np.linalg.lstsq(jacobian, base, rcond=None)[0]
    return constants(theta)


def read(path: Path, device: str, **wanted: str) -> dict[str, float]:
    """model -> latency_ms of the rows of a device whose columns are, or begin with and go on in brackets, what is wanted."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if device in row["device"]]
    return {row["model"]: float(row["latency_ms"]) for row in rows if all(row[k].split("(")[0] == v for k, v in wanted.items())}


def core_of(model: str, ghz: float, l3_kb: float, l3_gbps: float, dram_gbps: float) -> Core:
    """A core of a phone that is not a built-in target."""
    figures = {"name": "core", "model": model, "ghz": ghz, "l3_kb": l3_kb, "l3_gbps": l3_gbps, "dram_gbps": dram_gbps}
    return target_from_json({"schema": 1, "name": "other", "core": [figures]}, "benchmark").core()


def other_cores(folder: Path, constants: Calibration) -> list[Score]:
    """Published rows of other cores, runtimes and data types beside the model with the Pixel 6's constants: a check."""
    ncnn, xnnpack = folder / "ncnn_benchmark.csv", folder / "xnnpack_tflite_float.csv"
    pixel7, pixel6 = load_target("pixel7"), load_target("pixel6")
    a76, a78, a55 = pixel6.core("A76"), pixel7.core("A78"), pixel7.core("A55")
    a73 = core_of("cortex-a73", ghz=2.35, l3_kb=2048, l3_gbps=10.0, dram_gbps=8.0)
    v1, v2 = mobilenet_v1(), mobilenet_v2(1.0)
    cases = [
        ("A73 2.35 GHz, XNNPACK fp32", a73, 2.35, 32, read(xnnpack, "Pixel 2", threads="1"), "MobileNet v1 1.0X", v1),
        ("A73 2.35 GHz, XNNPACK fp32", a73, 2.35, 32, read(xnnpack, "Pixel 2", threads="1"), "MobileNet v2 1.0X", v2),
        ("A76 2.84 GHz, XNNPACK fp32", a76, 2.84, 32, read(xnnpack, "Pixel 4", threads="1"), "MobileNet v1 1.0X", v1),
        ("A76 2.84 GHz, XNNPACK fp32", a76, 2.84, 32, read(xnnpack, "Pixel 4", threads="1"), "MobileNet v2 1.0X", v2),
        ("A78AE 2.2 GHz, ncnn fp16", a78, 2.2, 16, read(ncnn, "A78AE", threads="1", dtype="fp16"), "mobilenet", v1),
        ("A78AE 2.2 GHz, ncnn fp16", a78, 2.2, 16, read(ncnn, "A78AE", threads="1", dtype="fp16"), "mobilenet_v2", v2),
        ("A78AE 2.2 GHz, ncnn int8", a78, 2.2, 8, read(ncnn, "A78AE", threads="1", dtype="int8"), "mobilenet", v1),
        ("A76 2.4 GHz, ncnn fp16", a76, 2.4, 16, read(ncnn, "Raspberry Pi 5", threads="1", dtype="fp16"), "mobilenet", v1),
        ("A76 2.4 GHz, ncnn fp16", a76, 2.4, 16, read(ncnn, "Raspberry Pi 5", threads="1", dtype="fp16"), "mobilenet_v2", v2),
        ("A76 2.4 GHz, ncnn int8", a76, 2.4, 8, read(ncnn, "Raspberry Pi 5", threads="1", dtype="int8"), "mobilenet", v1),
        ("A55 1.8 GHz, ncnn fp16", a55, 1.8, 16, read(ncnn, "Rk3566", threads="1", dtype="fp16"), "mobilenet", v1),
        ("A55 1.8 GHz, ncnn fp16", a55, 1.8, 16, read(ncnn, "Rk3566", threads="1", dtype="fp16"), "mobilenet_v2", v2),
        ("A55 1.8 GHz, ncnn int8", a55, 1.8, 8, read(ncnn, "Rk3566", threads="1", dtype="int8"), "mobilenet", v1),
    ]
    return [
        score(f"{where} {model}", published[model], network_ms(ops, bits, dataclasses.replace(core, ghz=ghz), constants))
        for where, core, ghz, bits, published, model, ops in cases
    ]


def score(name: str, published: float, modelled: float) -> Score:
    return {
        "network": name,
        "published_ms": published,
        "modelled_ms": round(modelled, 2),
        "error": round(modelled / published - 1, 4),
    }


def summary(scores: Sequence[Score]) -> dict[str, float]:
    errors = [abs(float(row["error"])) for row in scores]
    return {"mean_abs_error": round(sum(errors) / len(errors), 4), "max_abs_error": round(max(errors), 4), "rows": len(errors)}


def spread(scores: Sequence[Score]) -> float:
    """Root mean square of ln(modelled / published)."""
    return sqrt(sum(log(1 + float(row["error"])) ** 2 for row in scores) / len(scores))


def rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")


def left_out(published: dict[str, float], core: Core) -> list[Score]:
    """Every network, modelled with the constants of a fit on the others."""
    scores = []
    for name in published:
        rest = [other for other in published if other != name]
        constants = fit([NETWORKS[other]() for other in rest], [published[other] for other in rest], core)
        scores.append(score(name, published[name], network_ms(NETWORKS[name](), 8, core, constants)))
    return scores


def sparse_networks(path: Path, constants: Calibration, loads: float | None = None) -> list[Score]:
    """Elsen et al.'s MobileNets on a Cortex-A73, unstructured 1x1 convolutions; `loads` replaces the core's loads per cycle."""
    core = core_of("cortex-a73", ghz=2.35, l3_kb=2048, l3_gbps=10.0, dram_gbps=8.0)
    if loads is not None:
        # 10 loads an inner iteration of 32 products, which is what the rate in the core's table comes from too.
        rates = tuple(
            (key, 32 / max(10 / loads, 21 / 2) if key == ("fp32", "unstructured") else rate) for key, rate in core.macs_per_cycle
        )
        core = dataclasses.replace(core, loads=loads, macs_per_cycle=rates)
    scores = []
    for name, published in read(path, "Snapdragon 835").items():
        found = re.fullmatch(r"MobileNetV([12]) ([0-9.]+) sparse([0-9]+)", name)
        if found:
            ops = (mobilenet_v1 if found[1] == "1" else mobilenet_v2)(float(found[2]))
            scores.append(score(name, published, network_ms(ops, 32, core, constants, int(found[3]) / 100)))
    return scores


def sparse_ratios(folder: Path, constants: Calibration) -> list[Score]:
    """Sparse MobileNets over the dense ones of the same chip, published and modelled; the error is that of the ratio."""
    core = core_of("cortex-a73", ghz=2.35, l3_kb=2048, l3_gbps=10.0, dram_gbps=8.0)
    dense = read(folder / "xnnpack_tflite_float.csv", "Pixel 2", threads="1")
    sparse = read(folder / "fast_sparse_convnets_sd835.csv", "Snapdragon 835")
    scores: list[Score] = []
    for name, beside, ops, share in (
        ("MobileNetV1 1.0 sparse90", "MobileNet v1 1.0X", mobilenet_v1(), 0.9),
        ("MobileNetV2 cache-aware 1.0 sparse85", "MobileNet v2 1.0X", mobilenet_v2(1.0), 0.85),
    ):
        published = sparse[name] / dense[beside]
        modelled = network_ms(ops, 32, core, constants, share) / network_ms(ops, 32, core, constants)
        scores.append(
            {
                "network": name,
                "published_ratio": round(published, 3),
                "modelled_ratio": round(modelled, 3),
                "error": round(modelled / published - 1, 4),
            }
        )
    return scores


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's, ties sharing their mean rank."""
    columns = []
    for column in zip(*pairs, strict=True):
        _, inverse, counts = np.unique(np.array(column), return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        columns.append(((2 * ends - counts - 1) / 2)[inverse])
    return float(np.corrcoef(columns[0], columns[1])[0, 1])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def orders(folder: Path, constants: Calibration) -> dict[str, dict[str, float]]:
    """Rank correlation of modelled with published times, fp32, by device: layers, blocks, and ncnn's networks in int8.

    Clocks do not matter here. The in-order A53 is modelled as an A55, Note 10's big core as the Pixel 6's A76. Pixel 1's Kryo
    multiplies one register a cycle, as an A72 does (LLVM's models of both), and is modelled as one.
    """
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    pixel7, pixel6 = load_target("pixel7"), load_target("pixel6")
    a72, a76 = older_core("cortex-a72", 1.8), pixel6.core("A76")
    known = {"A53": older_core("cortex-a55", 1.2), "A72": a72, "A73": older_core("cortex-a73", 2.4)}
    for row in rows_of(folder / "layers_tophub_arm_cpu.csv"):
        shape = re.match(r"(\w+) (\d+)x(\d+) s(\d+) p\d+ in(\d+)x(\d+)x(\d+) out(\d+)x(\d+)x(\d+)", row["model"])
        core = re.search(r"A(53|72|73)", row["core"])
        assert shape is not None and core is not None, row
        kh, kw, stride, inputs, *size = map(int, shape.groups()[1:])
        kind: KernelOp = "conv" if shape[1] == "conv" else "depthwise"
        outputs, sizes = size[2], (size[0], size[1], size[3], size[4])
        groups = inputs if kind == "depthwise" else 1
        geometry = Geometry(kind, inputs, outputs, *sizes, (kh, kw), (stride, stride), groups=groups)
        time = op_time_us(geometry, "dense", 0.0, 32, known[core[0]], constants, published=True)
        found[f"TopHub layers, {row['device']}"].append((time, float(row["latency_ms"])))
    for name, latency in read(folder / "layers_tflite_mobilenetv2_pixel_issue23131.csv", "Pixel").items():
        found["MobileNetV2's layers, TFLite, Pixel 1"].append((network_ms(profiled(name), 32, a72, constants), latency))
    for name, latency in read(folder / "mobilenet_v2v3_pixel123.csv", "Pixel 1", dtype="fp32").items():
        scaled = re.fullmatch(r"MobileNetV2 ([\d.]+)_(\d+)", name)
        if scaled:
            ops = mobilenet_v2(float(scaled[1]), int(scaled[2]))
            found["MobileNetV2s, TFLite, Pixel 1"].append((network_ms(ops, 32, a72, constants), latency))
    for row in rows_of(folder / "blocks_proxyless_ofa_lut.csv"):
        time = network_ms(block(row["model"]), 32, a72 if "Pixel 1" in row["device"] else a76, constants)
        found[f"blocks, {row['device']}"].append((time, float(row["latency_ms"])))
    networks = {
        "squeezenet": squeezenet(),
        "mobilenet": mobilenet_v1(),
        "resnet18": resnet((2, 2, 2, 2), False),
        "resnet50": resnet((3, 4, 6, 3), True),
        "vgg16": vgg16(),
    }
    for device, own in (("A78AE", pixel7.core("A78")), ("Raspberry Pi 5", a76), ("Rk3566", pixel7.core("A55"))):
        published = read(folder / "ncnn_benchmark.csv", device, threads="1", dtype="int8")
        found[f"ncnn int8 networks, {device}"] = [
            (network_ms(ops, 8, own, constants), published[name]) for name, ops in networks.items()
        ]
    return {name: {"rows": len(pairs), "spearman": round(rank_correlation(pairs), 4)} for name, pairs in found.items()}


def older_core(model: str, ghz: float) -> Core:
    """A core of a board or phone of the years before 2019."""
    return core_of(model, ghz, l3_kb=2048, l3_gbps=6.0, dram_gbps=4.0)


def relative_fit(columns: Vector, times: Vector) -> Vector:
    """The factors on columns whose sum has the least squares of relative errors."""
    factors: Vector = np.linalg.lstsq(columns / times[:, None], np.ones(len(times)), rcond=None)[0].astype(np.float64)
    return factors


def block_runtime(folder: Path, constants: Calibration) -> dict[str, Any]:
    """How the Pixel 1's block table ranks when its runtime, TFLite of 2018, has constants of its own.

    These are factors on the model's time of depthwise and of all other ops, and a time for every output of a convolution that is
    not depthwise, whatever its size and depth. Blocks of each input size are told with a fit on all the others. Besides, with
    nothing of the model: the rank correlation of MACs; that of three counts, with times that are fitted on all rows (MACs of
    depthwise and of other ops, outputs of convolutions), about the most to be had; and how many of the pairs in which one block
    has at least the other's size, channels, expansion and window, at the same stride, contradict that in time: the table's noise.
    """
    core = older_core("cortex-a72", 1.8)
    published = read(folder / "blocks_proxyless_ofa_lut.csv", "Pixel 1")
    blocks = [block(name) for name in published]
    times = np.array(list(published.values()))
    depthwise = [tuple(op for op in ops if op.op == "depthwise") for ops in blocks]
    others = [tuple(op for op in ops if op.op != "depthwise") for ops in blocks]
    outputs = [sum(op.out_channels * op.out_height * op.out_width for op in ops if op.op == "conv") for ops in others]
    parts = np.array(
        [
            [network_ms(rest, 32, core, constants), network_ms(own, 32, core, constants), count / 1e6]
            for rest, own, count in zip(others, depthwise, outputs, strict=True)
        ]
    )
    macs = [[sum(op.macs for op in ops) / 1e6 for ops in both] for both in zip(others, depthwise, strict=True)]
    counts = np.column_stack([np.array(macs), parts[:, 2]])

    sizes = np.array([ops[0].in_height for ops in blocks])
    told = np.empty(len(times))
    for size in np.unique(sizes):
        told[sizes == size] = parts[sizes == size] @ relative_fit(parts[sizes != size], times[sizes != size])
    other, windows, output_ns = relative_fit(parts, times)
    of_counts = relative_fit(counts, times)
    ranks = {
        "spearman_left_out": told,
        "spearman_of_macs": counts[:, 0] + counts[:, 1],
        "spearman_of_three_counts": counts @ of_counts,
    }
    fields = [[int(number) for number in re.findall(r"\d+", name)] for name in published if name.startswith("expanded_conv")]
    latencies = [latency for name, latency in published.items() if name.startswith("expanded_conv")]
    ordered = [
        small < large
        for (a, small), (b, large) in permutations(zip(fields, latencies, strict=True), 2)
        if a != b and a[-2] == b[-2] and all(i <= j for i, j in zip(a[:-2], b[:-2], strict=True))
    ]
    return {
        "rows": len(times),
        **{name: round(rank_correlation(list(zip(values, times, strict=True))), 4) for name, values in ranks.items()},
        "mean_abs_error_left_out": round(float(np.mean(np.abs(told / times - 1))), 4),
        "factor": round(float(other), 3),
        "factor_of_depthwise": round(float(windows), 3),
        "nanoseconds_an_output": round(float(output_ns), 2),
        "mean_abs_error_of_three_counts": round(float(np.mean(np.abs(counts @ of_counts / times - 1))), 4),
        "nanoseconds_of_three_counts": [round(float(value), 3) for value in of_counts],
        "pairs_larger": len(ordered),
        "pairs_larger_and_faster": len(ordered) - sum(ordered),
    }


def profiled(name: str) -> Ops:
    """The op of a row of TFLite's profile of MobileNetV2, as `expanded_conv_6/depthwise 3x3 s2 192 28->14`.

    Raises:
        ValueError: another kind of row.
    """
    if found := re.search(r"depthwise 3x3 s1 (\d+)x?\s?(\d+)x\d+$", name):
        net = Builder(int(found[2]), int(found[1]))
        net.depthwise(3)
    elif found := re.search(r"depthwise 3x3 s2 (\d+) (\d+)->", name):
        net = Builder(int(found[2]), int(found[1]))
        net.depthwise(3, 2)
    elif found := re.search(r"(\d+)->(\d+) (\d+)x\d+$", name):
        net = Builder(int(found[3]), int(found[1]))
        net.conv(int(found[2]))
    elif found := re.search(r"Logits (\d+)->(\d+)", name):
        return (Geometry("linear", int(found[1]), int(found[2]), 1, 1, 1, 1),)
    else:
        raise ValueError(f"no op is known for {name}")
    return tuple(net.ops)


def block(name: str) -> Ops:
    """The ops of a row of the block tables of ProxylessNAS and Once-for-all, as `Conv_1-input:7x7x320-output:7x7x1280`.

    Raises:
        ValueError: another kind of row.
    """
    kind, _, rest = name.partition("-")
    fields = dict(field.split(":") for field in rest.split("-"))
    shape = [int(number) for number in fields["input"].split("x")]
    out = int(fields["output"].split("x")[-1])
    net = Builder(shape[0], shape[2])
    if kind == "Conv":
        net.conv(out, 3, 2)
    elif kind in ("Conv_1", "Conv_2"):
        net.conv(out)
    elif kind == "AvgPool2D":
        return net.head()
    elif kind == "Logits":
        return net.head(out) if net.height > 1 else net.head(out)[1:]
    elif kind == "expanded_conv":
        expand, stride = int(fields["expand"]), int(fields["stride"])
        # Once-for-all gives channels, ProxylessNAS a factor; neither expands when nothing is gained.
        expanded = expand if "se" in fields else expand * net.channels
        if expanded != net.channels:
            net.conv(expanded)
            if fields.get("hs") == "1":
                net.elementwise("activation")
        net.depthwise(int(fields["kernel"]), stride)
        if fields.get("hs") == "1":
            net.elementwise("activation")
        if fields.get("se") == "1":
            net.squeeze_excite(divisible(net.channels / 4))
        net.conv(out)
        if fields["idskip"] == "1":
            net.elementwise("add")
    else:
        raise ValueError(f"no ops are known for {name}")
    return tuple(net.ops)


def host_target(ghz: float = 3.0) -> Target:
    return target_from_json({"schema": 1, "name": "benchmark", "transport": "local", "core": [{**HOST, "ghz": ghz}]}, "benchmark")


def host_keys(core: Core) -> tuple[RowKey, ...]:
    """Rows to measure here: the shapes of three networks' layers with every Option, and the ops between."""

    def conv(inputs: int, outputs: int, size: int, kernel: int = 1, stride: int = 1) -> Geometry:
        after = ceil(size / stride)
        return Geometry("conv", inputs, outputs, size, size, after, after, (kernel, kernel), (stride, stride))

    pointwise = [
        *[(16, 96, 112), (32, 16, 112), (24, 144, 56), (144, 24, 56), (144, 40, 28), (40, 240, 28), (80, 480, 14), (480, 80, 14)],
        *[(672, 112, 14), (192, 1152, 7), (1152, 320, 7), (320, 1280, 7), (160, 960, 14), (640, 160, 16), (256, 1024, 8)],
        *[(64, 256, 56), (256, 64, 56), (256, 512, 28), (1024, 256, 14), (512, 2048, 7)],
    ]
    windows = [(3, 32, 224, 2), (32, 128, 112, 2), (64, 64, 56, 1), (128, 128, 28, 1), (256, 256, 14, 1), (512, 512, 7, 1)]
    matrices = [conv(*shape) for shape in pointwise]
    matrices += [conv(inputs, outputs, size, 3, stride) for inputs, outputs, size, stride in windows]
    matrices += [conv(128, 128, 56, 3, 2), Geometry("linear", 1280, 1000, 1, 1, 1, 1), Geometry("linear", 2048, 1000, 1, 1, 1, 1)]
    keys = []
    for geometry in matrices:
        keys += [RowKey(geometry, "dense", 0.0, bits) for bits in (32, 8, 4)]
        for structure, bits in (("unstructured", 32), ("block4x1", 32), ("block1x4", 8), ("block4x4", 8)):
            keys += [RowKey(geometry, structure, zeros, bits) for zeros in (0.5, 0.7, 0.8, 0.9)]
    plain: list[Geometry] = []
    for channels, size, kernel, stride in (
        *[(32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (144, 56, 5, 2), (240, 28, 5, 1), (480, 14, 3, 1)],
        *[(672, 14, 5, 1), (672, 14, 5, 2), (1152, 7, 5, 1), (960, 7, 3, 1)],
    ):
        shape = conv(channels, channels, size, kernel, stride)
        plain.append(dataclasses.replace(shape, op="depthwise", groups=channels))
    for channels, size in ((16, 112), (24, 56), (144, 56), (40, 28), (112, 14), (192, 7)):
        plane = (size, size, size, size)
        operations: tuple[KernelOp, ...] = ("add", "activation", "copy")
        plain += [Geometry(op, channels, channels, *plane) for op in operations]
        plain.append(Geometry("global_pool", channels, channels, size, size, 1, 1))
        plain.append(Geometry("pool", channels, channels, size, size, size // 2, size // 2, (2, 2), (2, 2)))
    keys += [RowKey(geometry, "dense", 0.0, bits) for geometry in plain for bits in (32, 8)]
    return tuple(key for key in keys if supports(key.geometry, key.structure, key.bits, core))


def measure_host(row_ms: float) -> None:
    """Measure the rows of this computer, and keep them in HOST_ROWS.

    Raises:
        UserError: it is not the computer that HOST describes, or the rows are unsteady.
    """
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    if not re.search(r"AuthenticAMD[\s\S]*cpu family\s*: 25\b", info) or "avx512f" in info:
        raise UserError(
            "only an AMD Zen 3 is described in HOST: add this computer's core to kernels/targets/_cores.toml and there."
        )
    target = host_target()
    keys = host_keys(target.core())
    begin = time.perf_counter()

    def update(done: int, total: int, what: str) -> None:
        print(f"\r{done} of {total} rows, {time.perf_counter() - begin:.0f} s  ", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        os.environ["XDG_DATA_HOME"] = folder
        done = measure(target, target.core(), keys, Settings(row_ms=row_ms), update)
        text = measured_path(target, target.core()).read_text(encoding="utf-8")
    if done.unsteady or done.missing or done.refused:
        print(f"\n{done.unsteady} unsteady, {done.missing} missing, {done.refused} refused", file=sys.stderr)
    write_text(HOST_ROWS, text)
    print(f"\n{done.measured} rows in {HOST_ROWS}", file=sys.stderr)


HostRows = Mapping[RowKey, Row]


def host_fit(rows: HostRows, core: Core) -> Calibration:
    """The three constants of the model for rows of this computer: least mean |ln(modelled / measured)|, by search on a grid."""
    best, best_error = FITTED_X86, float("inf")
    values = {"efficiency": FITTED_X86.efficiency, "depthwise": FITTED_X86.depthwise, "op_cycles": FITTED_X86.op_cycles}
    grids = {
        "efficiency": [0.7 + 0.02 * step for step in range(16)],
        "depthwise": [0.8 + 0.05 * step for step in range(13)],
        "op_cycles": [50.0 * 1.5**step for step in range(8)],
    }
    for _ in range(2):
        for name, grid in grids.items():
            for value in grid:
                constants = dataclasses.replace(FITTED_X86, **{**values, name: value})
                error = statistics.fmean(abs(log(ratio)) for ratio in host_ratios(rows, core, constants).values())
                if error < best_error:
                    best, best_error = constants, error
            values = {name: getattr(best, name) for name in values}
    return best


def host_ratios(rows: HostRows, core: Core, constants: Calibration) -> dict[RowKey, float]:
    """Modelled over measured times."""
    return {
        key: op_time_us(key.geometry, key.structure, key.sparsity, key.bits, core, constants) / row.microseconds
        for key, row in rows.items()
    }


def host_scores(path: Path) -> tuple[Calibration, dict[str, float], dict[str, Any]]:
    """The constants for this kind of computer, biases of its sparse kernels (ln), and the scores.

    Layers are split in two halves; each half is modelled with constants that are fitted on the other.
    """
    found = MeasuredRows.load(path)
    unsteady = unsteady_keys(found.rows)
    measured = {key: row for key, row in found.rows.items() if key not in unsteady}
    clock = min(row.measurement.sentinel_ns for row in measured.values() if row.measurement is not None)
    core = host_target(SENTINEL_CYCLES / clock).core()
    geometries = list(dict.fromkeys(key.geometry for key in measured))
    ratios: dict[RowKey, float] = {}
    for half in (0, 1):
        own = set(geometries[half::2])
        constants = host_fit({key: row for key, row in measured.items() if key.geometry not in own}, core)
        ratios |= host_ratios({key: row for key, row in measured.items() if key.geometry in own}, core, constants)
    kinds: dict[str, list[float]] = defaultdict(list)
    layers: dict[Geometry, list[tuple[float, float]]] = defaultdict(list)
    for key, ratio in ratios.items():
        row = measured[key]
        kinds[row.kernel].append(ratio)
        layers[key.geometry].append((row.microseconds, row.microseconds * ratio))
    agree = [
        (a[0] < b[0]) == (a[1] < b[1])
        for times in layers.values()
        for a, b in combinations(times, 2)
        if max(a[0], b[0]) > 1.1 * min(a[0], b[0])
    ]
    biases: dict[str, list[float]] = defaultdict(list)
    for key, ratio in ratios.items():
        dense = ratios.get(RowKey(key.geometry, "dense", 0.0, key.bits))
        if key.structure != "dense" and dense is not None:
            biases[f"{key.structure} {key.bits}"].append(log(ratio / dense))
    everything = host_fit(measured, core)
    errors = [abs(ratio - 1) for ratio in ratios.values()]
    hashes = {row.measurement.kernel_hash for row in measured.values() if row.measurement is not None}
    dates = {row.measurement.date[:10] for row in measured.values() if row.measurement is not None}
    scores = {
        "cpu": found.last_device,
        "ghz": round(core.ghz, 3),
        "measured": max(dates),
        "kernel_hash": sorted(hashes),
        "rows": len(ratios),
        "unsteady_rows_left_out": len(unsteady),
        "median_abs_error": round(statistics.median(errors), 4),
        "ninetieth_percentile_abs_error": round(statistics.quantiles(errors, n=10)[-1], 4),
        "log_spread": round(sqrt(statistics.fmean(log(ratio) ** 2 for ratio in ratios.values())), 4),
        "pairs": len(agree),
        "pairs_in_order": round(sum(agree) / len(agree), 4),
        "kernels": {
            name: {
                "rows": len(own),
                "median_abs_error": round(statistics.median(abs(ratio - 1) for ratio in own), 4),
                "bias": round(statistics.median(own) - 1, 4),
            }
            for name, own in sorted(kinds.items())
        },
    }
    return everything, {name: statistics.fmean(own) for name, own in biases.items()}, scores


def table_seconds() -> float:
    """Seconds for a table of 50 layers x 60 options from nothing."""
    core = load_target("pixel7").core()
    options = [("dense", 0.0, bits) for bits in (32, 16, 8, 4)]
    sparse = (("unstructured", 32), ("unstructured", 16), ("block4x1", 32), ("block4x1", 16), ("block1x4", 8), ("block4x4", 8))
    options += [(structure, 0.4 + 0.05 * step, bits) for structure, bits in sparse for step in range(10)]
    layers = [Geometry("conv", 16 * n, 24 * n, 14, 14, 14, 14, (3, 3)) for n in range(1, 51)]
    begin = time.perf_counter()
    for geometry in layers:
        for structure, sparsity, bits in options[:60]:
            op_time_us(geometry, structure, sparsity, bits, core, FITTED)
    return time.perf_counter() - begin


def show(title: str, scores: Sequence[Score]) -> None:
    print(f"\n{title}")
    for row in scores:
        published, modelled = row["published_ms"], row["modelled_ms"]
        print(f"  {row['network']:44} published {published:7.2f} ms, modelled {modelled:7.2f} ms, {row['error']:+.1%}")
    total = summary(scores)
    print(f"  mean absolute error {total['mean_abs_error']:.1%}, largest {total['max_abs_error']:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Score and fit the analytic core model on published and measured latencies.")
    parser.add_argument("--data", type=Path, help="folder with the tables of published latencies")
    parser.add_argument(
        "--measure", action="store_true", help=f"measure kernels on this computer, idle, and write {HOST_ROWS.name}"
    )
    parser.add_argument("--row-ms", type=float, default=150.0, help="milliseconds in which a row is repeated")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    arguments = parser.parse_args()
    if arguments.measure:
        measure_host(arguments.row_ms)
    if arguments.data is not None:
        evaluate(arguments.data, arguments.write)
    elif not arguments.measure:
        raise UserError("there is nothing to do: give --data FOLDER, --measure, or both.")


def evaluate(folder: Path, write: bool) -> None:
    """Fit, score and print everything."""
    x1 = load_target("pixel6").core("X1")
    published = read(folder / "pixel6_int8.csv", "Pixel 6")
    constants = fit([NETWORKS[name]() for name in published], list(published.values()), x1)
    pixel6 = left_out(published, x1)
    x3 = load_target("galaxy-s23").core("X3")
    without = dataclasses.replace(x3, features=tuple(name for name in x3.features if name != "i8mm"))
    s23, s23_i8mm = (
        [score(n, ms, network_ms(NETWORKS[n](), 8, core, constants)) for n, ms in read(folder / "pixel6_int8.csv", "S23").items()]
        for core in (without, x3)
    )
    sparse = sparse_networks(folder / "fast_sparse_convnets_sd835.csv", constants)
    sparse_twice = sparse_networks(folder / "fast_sparse_convnets_sd835.csv", constants, loads=1.0)
    ratios = sparse_ratios(folder, constants)
    others = other_cores(folder, constants)
    ranks = orders(folder, constants)
    runtime = block_runtime(folder, constants)
    host_constants, biases, host = host_scores(HOST_ROWS)
    sparse_errors = [*(log(1 + float(row["error"])) for row in sparse), *biases.values()]
    row_spread = float(str(host["log_spread"]))
    published_depthwise = rounded(constants.depthwise)
    constants = Calibration(
        efficiency=rounded(constants.efficiency),
        depthwise=1.0,  # no time of our depthwise kernels on a phone is known: they are taken as they are counted
        op_cycles=rounded(constants.op_cycles),
        core=x1.model,
        spread=rounded(spread([*pixel6, *s23])),
        spread_elsewhere=rounded(spread([*s23, *others])),
        spread_i8mm=rounded(spread(s23_i8mm)),
        spread_sparse=rounded(sqrt(statistics.fmean(error**2 for error in sparse_errors))),
        spread_row=rounded(row_spread),
        provenance=PROVENANCE,
    )
    kernel_biases = [log(1 + float(own["bias"])) for own in host["kernels"].values()]
    x86 = Calibration(
        efficiency=rounded(host_constants.efficiency),
        depthwise=rounded(host_constants.depthwise),
        op_cycles=rounded(host_constants.op_cycles),
        core=str(HOST["model"]),
        spread=rounded(sqrt(statistics.fmean(bias**2 for bias in kernel_biases))),
        spread_elsewhere=rounded(row_spread),
        spread_i8mm=rounded(row_spread),
        spread_sparse=rounded(sqrt(statistics.fmean(error**2 for error in biases.values()))),
        spread_row=rounded(row_spread),
        provenance=PROVENANCE_X86,
    )
    net = efficientnet_lite0()
    lite0 = {
        name: round(sum(op_time_us(op, "dense", 0.0, bits, load_target("pixel7").core(), constants) for op in net) / 1e3, 2)
        for name, bits in (("fp32", 32), ("fp16", 16), ("int8", 8))
    }
    seconds = table_seconds()

    show("Pixel 6, Cortex-X1, int8: each network left out of the fit", pixel6)
    show("Galaxy S23, Cortex-X3 without I8MM, int8: constants of the Pixel 6", s23)
    show("The same with I8MM", s23_i8mm)
    show("Other cores, runtimes and data types: constants of the Pixel 6", others)
    show("Snapdragon 835, Cortex-A73, sparse fp32: constants of the Pixel 6", sparse)
    show("The same if the A73 loads 16 bytes a cycle, not 8 (undocumented)", sparse_twice)
    print("\nSparse over dense on the same chip")
    for row in ratios:
        both = f"published {row['published_ratio']}, modelled {row['modelled_ratio']}"
        print(f"  {row['network']:44} {both}, {row['error']:+.1%}")
    print("\nRank correlation of modelled and published times")
    for name, rank in ranks.items():
        print(f"  {name:60} {rank['rows']:4} rows, {rank['spearman']:.3f}")
    print(
        f"  {'Pixel 1 blocks, constants of that runtime':60} {runtime['rows']:4} rows, {runtime['spearman_left_out']:.3f}\n"
        f"    each input size left out of its fit; {runtime['nanoseconds_an_output']} ns an output of a convolution; "
        f"MACs alone {runtime['spearman_of_macs']:.3f}; three counts {runtime['spearman_of_three_counts']:.3f}; "
        f"{runtime['pairs_larger_and_faster']} of {runtime['pairs_larger']} larger blocks faster"
    )
    print(
        f"\nThis computer, {host['rows']} rows: median error {host['median_abs_error']:.1%}, "
        f"pairs in order {host['pairs_in_order']:.1%}"
    )
    for name, own in host["kernels"].items():
        print(f"  {name:28} {own['rows']:4} rows, median error {own['median_abs_error']:.1%}, bias {own['bias']:+.1%}")
    print(f"\n50 layers x 60 options: {seconds:.2f} s")
    print(f"EfficientNet-Lite0 on pixel7: {lite0} ms (modelled)")
    for name, fitted, now in (("FITTED", constants, FITTED), ("FITTED_X86", x86, FITTED_X86)):
        print(f"\n{fitted}\n" + (f"core_model.{name} is this." if fitted == now else f"core_model.{name} differs: change it."))
    if write:
        result = {
            "benchmark": "phone_model",
            "date": date.today().isoformat(),
            "machine": f"{platform.system()} {platform.machine()} (only the rows under `host` were measured on it)",
            "model_version": VERSION,
            "constants": dataclasses.asdict(constants),
            "constants_x86": dataclasses.asdict(x86),
            "published_depthwise": published_depthwise,
            "priors": {name: {"centre": centre, "log_sd": width} for name, (centre, width) in PRIORS.items()},
            "pixel6_left_one_out": {**summary(pixel6), "networks": pixel6},
            "galaxy_s23_check": {**summary(s23), "networks": s23},
            "galaxy_s23_check_with_i8mm": {**summary(s23_i8mm), "networks": s23_i8mm},
            "other_cores_check": {**summary(others), "networks": others},
            "sparse_check": {**summary(sparse), "networks": sparse},
            "sparse_check_with_twice_the_loads": {**summary(sparse_twice), "networks": sparse_twice},
            "sparse_over_dense": {**summary(ratios), "networks": ratios},
            "rank_correlation": ranks,
            "pixel1_block_runtime": runtime,
            "host": host,
            "table_seconds": round(seconds, 2),
            "efficientnet_lite0_pixel7_ms": lite0,
        }
        write_json(RESULT, result)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
