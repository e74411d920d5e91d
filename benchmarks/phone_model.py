"""Score and fit the analytic core model on published phone latencies.

    python benchmarks/phone_model.py --data FOLDER

FOLDER holds tables of published latencies:
  pixel6_int8.csv: five int8 networks on the Cortex-X1 of a Pixel 6 (MobileNetV4, arXiv:2404.10518, table 6: TFLite with XNNPACK,
      pinned to the fastest core). Three constants are fitted on them; the error is that of each network left out of its own fit.
      The same networks on the Cortex-X3 of a Galaxy S23 are a check, never fitted.
  fast_sparse_convnets_sd835.csv: sparse fp32 networks (Elsen et al., arXiv:1911.09723) on a Cortex-A73, a check with the same
      constants. The A73's figures are estimates; its undocumented rate of loads decides the result, so both readings are printed,
      and half of the error of the other reading is what sparse weights add to the spread.
  ncnn_benchmark.csv, xnnpack_tflite_float.csv: other cores and data types, a check of how far the constants carry.
With --write the result goes to results/benchmarks/phone_model.json.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import platform
import re
from collections.abc import Callable, Sequence
from datetime import date
from math import ceil, log, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autocompress.files import write_json
from autocompress.kernels.core_model import FITTED, VERSION, Calibration, op_time_us
from autocompress.kernels.geometry import Geometry, KernelOp
from autocompress.kernels.targets import Core, load_target, target_from_json

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "phone_model.json"
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


def mobilenet_v2(width: float) -> Ops:
    """arXiv:1801.04381, table 2."""
    net = Builder(224)
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


NETWORKS: dict[str, Callable[[], Ops]] = {
    "MobileNet-V1": mobilenet_v1,
    "MobileNet-V2-0.5x": lambda: mobilenet_v2(0.5),
    "MobileNet-V2-1.5x": lambda: mobilenet_v2(1.5),
    "MobileOne-S4": mobileone_s4,
    "MNv4-Conv-M": mobilenet_v4_conv_medium,
}

#: Weak priors of the fit: ln(constant) is normal with this centre and standard deviation. Efficiency: what tuned matrix kernels
#: reach; depthwise: the model as it stands; op_cycles: 3.6 microseconds at 2.8 GHz, an interpreter's dispatch and cold code.
PRIORS = {"efficiency": (0.8, 0.2), "depthwise": (1.0, 0.25), "op_cycles": (1e4, 0.7)}
#: Standard deviation of ln(published / modelled) that the fit assumes; figures are published with one decimal.
NOISE = 0.03
PROVENANCE = "constants fitted on five int8 networks published for a Pixel 6 Cortex-X1"


def network_ms(ops: Ops, bits: int, core: Core, constants: Calibration, sparsity: float = 0.0) -> float:
    """Milliseconds of a network; `sparsity` goes to the 1x1 convolutions, unstructured."""
    total = 0.0
    for op in ops:
        sparse = sparsity > 0.0 and op.op == "conv" and op.kernel == (1, 1)
        total += op_time_us(op, "unstructured" if sparse else "dense", sparsity if sparse else 0.0, bits, core, constants)
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


def show(title: str, scores: Sequence[Score]) -> None:
    print(f"\n{title}")
    for row in scores:
        published, modelled = row["published_ms"], row["modelled_ms"]
        print(f"  {row['network']:44} published {published:7.2f} ms, modelled {modelled:7.2f} ms, {row['error']:+.1%}")
    total = summary(scores)
    print(f"  mean absolute error {total['mean_abs_error']:.1%}, largest {total['max_abs_error']:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Score and fit the analytic core model on published phone latencies.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the tables of published latencies")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    arguments = parser.parse_args()
    folder: Path = arguments.data

    x1 = load_target("pixel6").core("X1")
    published = read(folder / "pixel6_int8.csv", "Pixel 6")
    constants = fit([NETWORKS[name]() for name in published], list(published.values()), x1)
    pixel6 = left_out(published, x1)
    x3 = core_of("cortex-x3", ghz=3.36, l3_kb=8192, l3_gbps=45.0, dram_gbps=28.0)
    s23 = [score(n, ms, network_ms(NETWORKS[n](), 8, x3, constants)) for n, ms in read(folder / "pixel6_int8.csv", "S23").items()]
    sparse = sparse_networks(folder / "fast_sparse_convnets_sd835.csv", constants)
    sparse_twice = sparse_networks(folder / "fast_sparse_convnets_sd835.csv", constants, loads=1.0)
    others = other_cores(folder, constants)
    constants = Calibration(
        efficiency=rounded(constants.efficiency),
        depthwise=rounded(constants.depthwise),
        op_cycles=rounded(constants.op_cycles),
        core=x1.model,
        spread=rounded(spread([*pixel6, *s23])),
        spread_elsewhere=rounded(spread([*s23, *others])),
        spread_sparse=rounded(spread(sparse_twice) / 2),
        provenance=PROVENANCE,
    )
    lite0 = network_ms(efficientnet_lite0(), 8, load_target("pixel7").core(), constants)

    show("Pixel 6, Cortex-X1, int8: each network left out of the fit", pixel6)
    show("Galaxy S23, Cortex-X3, int8: constants of the Pixel 6", s23)
    show("Other cores, runtimes and data types: constants of the Pixel 6", others)
    show("Snapdragon 835, Cortex-A73, sparse fp32: constants of the Pixel 6", sparse)
    show("The same if the A73 loads 16 bytes a cycle, not 8 (undocumented)", sparse_twice)
    print(f"\nEfficientNet-Lite0 int8 on pixel7: {lite0:.2f} ms (modelled)")
    print(f"\n{constants}\n" + ("core_model.FITTED is this." if constants == FITTED else "core_model.FITTED differs: change it."))
    if arguments.write:
        result = {
            "benchmark": "phone_model",
            "date": date.today().isoformat(),
            "machine": f"{platform.system()} {platform.machine()} (a computation: no time here was measured on it)",
            "model_version": VERSION,
            "constants": dataclasses.asdict(constants),
            "priors": {name: {"centre": centre, "log_sd": width} for name, (centre, width) in PRIORS.items()},
            "pixel6_left_one_out": {**summary(pixel6), "networks": pixel6},
            "galaxy_s23_check": {**summary(s23), "networks": s23},
            "other_cores_check": {**summary(others), "networks": others},
            "sparse_check": {**summary(sparse), "networks": sparse},
            "sparse_check_with_twice_the_loads": {**summary(sparse_twice), "networks": sparse_twice},
            "efficientnet_lite0_int8_pixel7_ms": round(lite0, 2),
        }
        write_json(RESULT, result)


if __name__ == "__main__":
    main()
