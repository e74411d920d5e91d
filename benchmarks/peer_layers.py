"""Dense 1x1 convolutions: our fp32 and int8 kernels against LiteRT (XNNPACK) and ONNX Runtime on this machine.

    python benchmarks/peer_layers.py --write

Layers: all 1x1 convolutions with stride 1 of three networks, distinct ones, each with a fused ReLU. Every runtime computes the
same layer, in a model of that layer alone, from the same numbers; outputs are compared before anything is timed. One thread on
one pinned core, in one process. The runtimes take turns, in passes of a few calls. Noise only makes things slower: the time of a
runtime is the median of its fastest pass, as for rows in docs/bench.md, and a ratio is one of such times.

Memory is as in a network: passes go round models with weights and activations of their own, which take together at least
twice the L2 cache, and a model's input is written again just before its call, outside of the clock.

A runtime may run a layer in several ways; the one that is fastest on that layer counts:
  litert          NHWC; int8 signed, with a scale for each output channel
  ort-nchw        ONNX Runtime as it loads an exported layer, level "extended"
  ort-all         the same with all optimisations, which change the layout and back
  ort-nchwc       its kernel for its blocked layout, input and output in that layout already, as inside a network
  ort-s8, ort-u8  its QLinearConv, channels last, as inside a network, for signed and unsigned activations
  ort-s8-nchw, ort-u8-nchw  the same as it loads an exported layer
On AVX2 without VNNI, ONNX Runtime's kernels for unsigned activations add pairs of products in 16 bits and saturate: outputs can
be wrong. Such ways (`wrong`) count in `against_best`, and not in `against_best_right`; `code_difference` is the largest error.

Times of calls from Python hold the call itself. `call_us` is that of each way on a layer of 8 channels and one pixel. `net` has
the ratios after taking it away from every time, which is harder for us: our call is the cheapest.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import ai_edge_litert.schema_py_generated as schema
import idle
import numpy as np
import onnxruntime
import peer_runtimes
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from peer_runtimes import Model, TfliteFile

from autocompress.errors import UserError
from autocompress.files import write_json
from autocompress.kernels.calls import Quantization, layer
from autocompress.kernels.native import Prepared
from autocompress.kernels.packing import pack_float, pack_integer, pack_quads, unpack_quads

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "peer_layers.json"
#: in channels, out channels, side of the square plane; at 224 x 224, as captured from timm's models (a test compares).
LAYERS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "efficientnet_lite0": (
        (32, 16, 112), (16, 96, 112), (96, 24, 56), (24, 144, 56), (144, 24, 56), (144, 40, 28), (40, 240, 28),
        (240, 40, 28), (240, 80, 14), (80, 480, 14), (480, 80, 14), (480, 112, 14), (112, 672, 14), (672, 112, 14),
        (672, 192, 7), (192, 1152, 7), (1152, 192, 7), (1152, 320, 7), (320, 1280, 7),
    ),
    "mobilenetv4_conv_small": (
        (32, 32, 56), (96, 64, 28), (64, 192, 28), (192, 96, 14), (96, 192, 14), (96, 384, 14), (384, 96, 14),
        (96, 576, 14), (576, 128, 7), (128, 512, 7), (512, 128, 7), (128, 384, 7), (384, 128, 7), (128, 960, 7), (960, 1280, 1),
    ),
    "resnet50": (
        (64, 64, 56), (64, 256, 56), (256, 64, 56), (256, 128, 56), (128, 512, 28), (512, 128, 28), (512, 256, 28),
        (256, 1024, 14), (1024, 256, 14), (1024, 512, 14), (512, 2048, 7), (2048, 512, 7),
    ),
}  # fmt: skip
Dtype = Literal["fp32", "int8"]
WAYS: dict[Dtype, tuple[str, ...]] = {
    "fp32": ("autocompress", "litert", "ort-nchw", "ort-all", "ort-nchwc"),
    "int8": ("autocompress", "litert", "ort-s8", "ort-u8", "ort-s8-nchw", "ort-u8-nchw"),
}
OURS = "autocompress"
LEVEL_2 = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
FEWEST_MODELS, FEWEST_PASSES = 4, 5
BLOCK = (
    16 if "avx512f" in idle.flags() else 8
)  #: channels of ONNX Runtime's blocked layout here; where it errs, the comparison refuses


@dataclass(frozen=True)
class Numbers:
    """A layer's data. In fp32 all are real numbers; in int8 they are codes, the input's zero point and the output's -128.

    Attributes:
        x: shape (in, side, side), float32 or int8.
        weight: shape (out, in), float32 or int8.
        bias: shape (out,), float32, or int32 in units of x_scale * weight_scale.
        weight_scale: shape (out,); all of them 1 in fp32, as the others.
        y: what comes out, shape (out, side, side), computed in float64 and for int8 rounded to codes.
    """

    x: NDArray[Any]
    weight: NDArray[Any]
    bias: NDArray[Any]
    x_scale: float
    weight_scale: NDArray[np.float32]
    y_scale: float
    y: NDArray[Any]


def numbers(dtype: Dtype, inputs: int, outputs: int, side: int, seed: int) -> Numbers:
    """Normal weights, and inputs as a ReLU leaves them."""
    rng = np.random.default_rng(seed)
    real = rng.standard_normal((outputs, inputs)) / math.sqrt(inputs)
    pixels = np.maximum(rng.standard_normal((inputs, side * side)), 0)
    if dtype == "fp32":
        weight, x, bias = real.astype(np.float32), pixels.astype(np.float32), rng.standard_normal(outputs).astype(np.float32)
        total = weight.astype(np.float64) @ x + bias[:, None]
        y = np.maximum(total, 0).reshape(outputs, side, side)
        return Numbers(x.reshape(inputs, side, side), weight, bias, 1.0, np.ones(outputs, np.float32), 1.0, y)
    x_scale = float(np.float32(pixels.max() / 255))
    x8 = (np.rint(pixels / x_scale) - 128).clip(-128, 127).astype(np.int8)
    weight_scale = (abs(real).max(1) / 127).astype(np.float32)
    weight8 = np.rint(real / weight_scale[:, None]).clip(-127, 127).astype(np.int8)
    bias32 = np.rint(rng.standard_normal(outputs) / (x_scale * weight_scale)).astype(np.int32)
    sums = weight8.astype(np.float64) @ (x8.astype(np.float64) + 128) + bias32[:, None]
    total = sums * (x_scale * weight_scale.astype(np.float64))[:, None]
    y_scale = float(np.float32(total.max() / 255))
    y8 = (np.rint(total / y_scale) - 128).clip(-128, 127).reshape(outputs, side, side)
    return Numbers(x8.reshape(inputs, side, side), weight8, bias32, x_scale, weight_scale, y_scale, y8)


def ours(n: Numbers) -> Model:
    """Our dense kernel."""
    inputs, side, _ = n.x.shape
    outputs = len(n.weight)
    if n.x.dtype == np.float32:
        source = n.x.reshape(inputs, side * side)
        x = source.copy()
        call = Prepared(layer(pack_float(n.weight, n.bias, "dense"), x, (side, side), activation="relu"))
        return Model(lambda: np.copyto(x, source), call, lambda: call.output.reshape(outputs, side, side))
    source = pack_quads(n.x.reshape(inputs, side * side))
    x = source.copy()
    scale = n.x_scale * n.weight_scale
    packed = pack_integer(n.weight, n.bias * scale, scale, "dense", x_zero_point=-128)
    call = Prepared(layer(packed, x, (side, side), activation="relu", y=Quantization(n.y_scale, -128)))
    return Model(lambda: np.copyto(x, source), call, lambda: unpack_quads(call.output, outputs).reshape(outputs, side, side))


def litert(n: Numbers) -> Model:
    """LiteRT's interpreter, which hands the layer to XNNPACK; the output as (out, side, side)."""
    model = peer_runtimes.litert(tflite(n), np.ascontiguousarray(n.x.transpose(1, 2, 0))[None])
    return replace(model, read=lambda: model.read()[0].transpose(2, 0, 1))


def tflite(n: Numbers) -> bytes:
    """The layer as a .tflite file."""
    inputs, side, _ = n.x.shape
    outputs, kind = len(n.weight), n.x.dtype.name
    real = kind == "float32"
    scales = (None, None, None, None) if real else (n.x_scale, n.weight_scale, n.x_scale * n.weight_scale, n.y_scale)
    file = TfliteFile()
    x = file.tensor("x", (1, side, side, inputs), kind, scales[0], -128)
    weight = file.constant("weight", n.weight.reshape(outputs, 1, 1, inputs), scales[1])
    bias = file.constant("bias", n.bias, scales[2])
    y = file.tensor("y", (1, side, side, outputs), kind, scales[3], -128)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.VALID, 1, 1
    options.dilationWFactor = options.dilationHFactor = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    file.op("CONV_2D", 1 if real else 3, [x, weight, bias], y, options)
    return file.content(x, y)


def onnx_runtime(n: Numbers, way: str) -> Model:
    """A session for one of the ways of ONNX Runtime."""
    x, weight, shape = n.x[None], n.weight[:, :, None, None], [1, len(n.weight), *n.x.shape[1:]]
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if n.x.dtype == np.float32:
        type_, constants = TensorProto.FLOAT, {"w": weight, "b": n.bias}
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
        if way == "ort-nchw":
            level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        elif way == "ort-nchwc":
            constants = {"w": _blocked_weight(weight), "b": np.pad(n.bias, (0, -len(weight) % BLOCK))}
            domain = {"domain": "com.microsoft.nchwc", "activation": "Relu"}
            nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], kernel_shape=[1, 1], **domain)]
            x = _blocked(n.x)[None]
            shape[1] = len(constants["b"])
    else:
        code, zero = (np.uint8, 0) if "u8" in way else (np.int8, -128)
        type_ = TensorProto.UINT8 if "u8" in way else TensorProto.INT8
        x = (x.astype(np.int16) + 128 + zero).astype(code)
        constants = {
            "x_scale": np.float32(n.x_scale), "x_zero": code(zero), "w": weight, "w_scale": n.weight_scale,
            "w_zero": np.zeros(len(n.weight), np.int8), "y_scale": np.float32(n.y_scale), "y_zero": code(zero), "b": n.bias,
        }  # fmt: skip
        last = {} if way.endswith("nchw") else {"domain": "com.microsoft", "channels_last": 1}
        # A ReLU is what the zero point at the lower end of the codes does.
        nodes = [helper.make_node("QLinearConv", ["x", *constants], ["y"], kernel_shape=[1, 1], **last)]
        if last:
            x = x.transpose(0, 2, 3, 1)
            shape = [1, *n.x.shape[1:], len(n.weight)]
    x = np.ascontiguousarray(x)
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", type_, x.shape)],
        [helper.make_tensor_value_info("y", type_, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    domains = [
        helper.make_opsetid("", 17),
        helper.make_opsetid("com.microsoft", 1),
        helper.make_opsetid("com.microsoft.nchwc", 1),
    ]
    content = helper.make_model(graph, opset_imports=domains, ir_version=10).SerializeToString()
    model = peer_runtimes.onnx_runtime(content, x, shape, level)

    def read() -> NDArray[Any]:
        y = model.read()[0]
        if way == "ort-nchwc":
            return _unblocked(y)[: len(n.weight)]
        if x.dtype == np.float32:
            return y
        return (y if way.endswith("nchw") else y.transpose(2, 0, 1)) - float(128 if "u8" in way else 0)

    return replace(model, read=read)


def _blocked(x: NDArray[Any]) -> NDArray[Any]:
    """Channels in whole blocks, the last one filled up with zeros, as ONNX Runtime keeps them inside a network."""
    x = np.pad(x, ((0, -len(x) % BLOCK), (0, 0), (0, 0)))
    channels, height, width = x.shape
    return np.ascontiguousarray(x.reshape(channels // BLOCK, BLOCK, height, width).transpose(0, 2, 3, 1)).reshape(x.shape)


def _unblocked(y: NDArray[Any]) -> NDArray[Any]:
    channels, height, width = y.shape
    return y.reshape(channels // BLOCK, height, width, BLOCK).transpose(0, 3, 1, 2).reshape(y.shape)


def _blocked_weight(weight: NDArray[Any]) -> NDArray[Any]:
    weight = np.pad(weight, [(0, -size % BLOCK) for size in weight.shape[:2]] + [(0, 0), (0, 0)])
    outputs, inputs = weight.shape[:2]
    cut = weight.reshape(outputs // BLOCK, BLOCK, inputs // BLOCK, BLOCK)
    return np.ascontiguousarray(cut.transpose(0, 2, 3, 1)).reshape(weight.shape)


def prepare(way: str, n: Numbers) -> Model:
    """The layer in one way."""
    return ours(n) if way == OURS else litert(n) if way == "litert" else onnx_runtime(n, way)


def difference(model: Model, n: Numbers) -> float:
    """Largest error of an output: in codes, or for fp32 relative to the largest output."""
    model.write()
    model.run()
    error = float(abs(model.read().astype(np.float64) - n.y).max())
    return error / float(abs(n.y).max()) if n.x.dtype == np.float32 else error


def time_layer(dtype: Dtype, shape: tuple[int, int, int], seconds: float, cache: int) -> dict[str, Any]:
    """One row: microseconds of each way."""
    inputs, outputs, side = shape
    one = numbers(dtype, *shape, seed=0)
    per_model = one.x.nbytes + one.weight.nbytes + one.y.size * one.x.itemsize
    count = max(FEWEST_MODELS, math.ceil(cache / per_model))
    data = [one, *(numbers(dtype, *shape, seed=seed) for seed in range(1, count))]
    models = {way: [prepare(way, each) for each in data] for way in WAYS[dtype]}
    wrong = {way: max(difference(m, n) for m, n in zip(models[way], data, strict=True)) for way in models}
    inexact = [way for way, error in wrong.items() if error > (1e-4 if dtype == "fp32" else 1)]
    if set(inexact) - {"ort-u8", "ort-u8-nchw"}:
        raise UserError(f"{dtype} {shape}: {', '.join(inexact)} compute something else. Nothing to compare: report this.")
    times: dict[str, list[list[float]]] = {way: [] for way in models}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[OURS]) < FEWEST_PASSES:
        for way, own in models.items():
            one_pass = []
            for model in own:
                model.write()
                start = time.perf_counter_ns()
                model.run()
                one_pass.append((time.perf_counter_ns() - start) / 1e3)
            times[way].append(one_pass)
    return {
        "dtype": dtype,
        "in_channels": inputs,
        "out_channels": outputs,
        "pixels": side * side,
        "models": count,
        "us": {way: round(idle.fastest_round(own), 2) for way, own in times.items()},
        "all_calls_us": {
            way: [round(q, 2) for q in np.percentile(np.concatenate(own), (10, 50, 90))] for way, own in times.items()
        },
        "halves_us": {way: [idle.fastest_round(own[half::2]) for half in (0, 1)] for way, own in times.items()},
        "wrong": inexact,
        "code_difference" if dtype == "int8" else "relative_error": {way: round(error, 7) for way, error in wrong.items()},
    }


def ratio(us: Mapping[str, float], call_us: Mapping[str, float], peers: Sequence[str]) -> float:
    """Time of the fastest of `peers` over ours, without the calls."""
    return min(us[peer] - call_us[peer] for peer in peers) / (us[OURS] - call_us[OURS])


def summary(rows: Sequence[Mapping[str, Any]], call_us: Mapping[str, float]) -> dict[str, Any]:
    """Geometric means over rows of one type, and those of every second pass by itself as their spread."""
    nothing = dict.fromkeys(call_us, 0.0)

    def mean(
        pick: Callable[[Mapping[str, Any], str], float], peers: Callable[[Mapping[str, Any]], list[str]], net: bool
    ) -> float:
        each = [({way: pick(row, way) for way in row["us"]}, peers(row)) for row in rows]
        return round(statistics.geometric_mean([ratio(us, call_us if net else nothing, who) for us, who in each]), 3)

    def figure(row: Mapping[str, Any], way: str) -> float:
        return float(row["us"][way])

    def every(row: Mapping[str, Any]) -> list[str]:
        return [way for way in row["us"] if way != OURS]

    def right(row: Mapping[str, Any]) -> list[str]:
        return [way for way in every(row) if way not in row["wrong"]]

    return {
        "layers": len(rows),
        "against_best": mean(figure, every, False),
        "against_best_right": mean(figure, right, False),
        "halves": [mean(lambda row, way, half=half: row["halves_us"][way][half], every, False) for half in (0, 1)],
        "net": {"against_best": mean(figure, every, True), "against_best_right": mean(figure, right, True)},
        "against": {way: mean(figure, lambda row, way=way: [way], False) for way in every(rows[0])},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="write the numbers to results/benchmarks/peer_layers.json")
    parser.add_argument("--seconds", type=float, default=1.2, help="for each layer")
    parser.add_argument("--dtype", choices=tuple(WAYS), help="only one type")
    parser.add_argument("--network", choices=tuple(LAYERS), help="only the layers of one network")
    parser.add_argument("--busy", action="store_true", help="go on although the machine is busy; such numbers are not written")
    arguments = parser.parse_args()
    whole = not (arguments.busy or arguments.dtype or arguments.network)
    if arguments.write and not whole:
        raise UserError("--write needs all layers on an idle machine: leave the other options out")
    load, begin = idle.begin(arguments.busy), time.monotonic()
    cache = 2 * 1024 * int(LEVEL_2.read_text(encoding="utf-8").strip().rstrip("K"))
    shapes = sorted(
        {shape for name, shapes in LAYERS.items() if arguments.network in (None, name) for shape in shapes},
        key=lambda shape: (-shape[2], shape),
    )
    result: dict[str, Any] = {
        "machine": f"{idle.cpu()}, {platform.system()}",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "onnxruntime", "ziglang")},
        "types": {},
        "rows": [],
    }
    for dtype in (arguments.dtype,) if arguments.dtype else WAYS:
        tiny = time_layer(dtype, (8, 8, 1), arguments.seconds, cache // 100)
        call_us = tiny["us"]
        rows = []
        for shape in shapes:
            row = time_layer(dtype, shape, arguments.seconds, cache)
            rows.append(row)
            us = row["us"]
            best = min((way for way in us if way != OURS), key=us.__getitem__)
            print(
                f"{dtype} {shape[0]:4} -> {shape[1]:4}, {shape[2]:3} x {shape[2]:3}: "
                + ", ".join(f"{way} {each:.0f}" for way, each in us.items())
                + f" us; {us[best] / us[OURS]:.2f} x {best}",
                flush=True,
            )
        networks = {
            name: summary([row for row, shape in zip(rows, shapes, strict=True) if shape in LAYERS[name]], call_us)
            for name in LAYERS
            if arguments.network in (None, name)
        }
        result["types"][dtype] = {"call_us": call_us, "all": summary(rows, call_us), "networks": networks}
        result["rows"] += rows
        print(dtype, result["types"][dtype]["all"], *((name, each["against_best"]) for name, each in networks.items()))
    others = load.cores()
    result["other_load_cores"], result["seconds"] = others, round(time.monotonic() - begin)
    print(f"{result['seconds']} s, other programs used {others:.2f} cores")
    if arguments.write:
        idle.require_idle(others)
        for row in result["rows"]:
            del row["halves_us"]
        write_json(RESULT, result)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
