"""Whole dense networks: our C runtime against LiteRT, ExecuTorch and ONNX Runtime on this machine, fp32 and int8.

    python benchmarks/peers.py --write

Every runtime computes the same network with the same weights and, in int8, the same codes of weights and formats of activations:
static, weights with a scale for each output channel. Input and output are fp32 everywhere. One thread on one pinned core, batch
1, in one process. Outputs are compared first. Then the runtimes take turns of a few runs each, of which the first is not counted,
and the input is written anew before each run, outside of the clock. Noise only makes things slower: the time of a runtime is the
median of its fastest turn, as for rows and networks in docs/bench.md, and a ratio is one of such times.

A peer may run a network in several ways; the fastest counts:
  litert          XNNPACK, channels last; int8 signed
  executorch      XNNPACK too, lowered from torch.export; int8 signed, written as PT2E does it
  ort             fp32: ONNX Runtime with all optimisations, which choose its blocked layout
  ort-u8          int8: QuantizeLinear and DequantizeLinear around each op, unsigned activations, as is usual on x86
  ort-u8-precise  the same with session.x64quantprecision, which makes weights unsigned too
  ort-s8          signed activations, with session.qdqisint8allowed
On AVX2 without VNNI, the kernels of `ort-u8` add pairs of products in 16 bits and saturate. What that does to outputs is in
`agreement`; where they stray (`wrong`), that way counts in `against_best`, and not in `against_best_right`. A file with signed
activations and no setting is not among the ways: ONNX Runtime then computes part of these networks in fp32, and is slower.

Weights of EfficientNet-Lite0 are its own, the others' are random, with batch norm statistics that fit them. Codes and formats are
those of ranges on made-up pictures. Runtimes round int8 sums in ways of their own, and differences of one code spread through a
network, all the more through one with random weights. So what is asked of int8 outputs is that they stray from those of the fp32
network no more than ours do; `agreement` tells both distances.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import idle
import numpy as np
import onnx
import peer_executorch
import peer_runtimes
import torch
from numpy.typing import NDArray
from peer_networks import tflite
from peer_runtimes import Model
from table_error import compressed, timm_model

from autocompress.compressors.candidate import Candidate
from autocompress.compressors.input_statistics import collect_activations
from autocompress.compressors.quantization import choose_quantizer
from autocompress.deployment.onnx import BATCH_NAME, to_model
from autocompress.deployment.program import program
from autocompress.errors import UserError
from autocompress.files import write_json
from autocompress.kernels import runtime
from autocompress.kernels.artifact import write_artifact
from autocompress.kernels.toolchain import kernels_hash
from autocompress.spaces.capture import capture
from autocompress.spaces.execute import run
from autocompress.spaces.layers import find_layers
from autocompress.spaces.network import Network
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan
from autocompress.tasks.efficientnet_lite0 import load_model

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "peers.json"
Dtype = Literal["fp32", "int8"]
OURS = "autocompress"
WAYS: dict[Dtype, tuple[str, ...]] = {
    "fp32": (OURS, "litert", "executorch", "ort"),
    "int8": (OURS, "litert", "executorch", "ort-u8", "ort-u8-precise", "ort-s8"),
}
#: Configuration of ONNX Runtime's session for its ways.
SETTINGS: dict[str, dict[str, str]] = {
    "ort-u8-precise": {"session.x64quantprecision": "1"},
    "ort-s8": {"session.qdqisint8allowed": "1"},
}
#: Ways that may be wrong.
SATURATING = frozenset({"ort-u8"})
#: Largest relative error of fp32 outputs against ours.
ERROR = 1e-3
#: Smallest correlation of our int8 outputs with those of the fp32 network, and how much more noise than ours others' may have.
CORRELATION, NOISE = 0.9, 1.1
SIZE, PICTURES = 224, 8
#: Packages whose versions are told with the numbers.
VERSIONS = ("ai-edge-litert", "executorch", "onnxruntime", "torch", "ziglang")
#: Runs that count in a turn, and the fewest turns.
RUNS, TURNS = 3, 5


def settled(model: torch.nn.Module) -> torch.nn.Module:
    """A network with random weights whose batch norms do what trained ones do: all gains 1, statistics of the pictures."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # some are zero at first
            module.reset_running_stats()
            module.momentum = None
    with torch.inference_mode():
        model.train()(pictures(seed=1))
    return model.eval()


#: Name -> model.
NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "efficientnet_lite0": load_model,
    "mobilenetv2_100": lambda: settled(timm_model("mobilenetv2_100")),
    "mobilenetv4_conv_small": lambda: settled(timm_model("mobilenetv4_conv_small")),
    "resnet18": lambda: settled(timm_model("resnet18")),
}


def pictures(seed: int) -> torch.Tensor:
    """Smooth colours with some noise, shape (PICTURES, 3, SIZE, SIZE), mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(PICTURES, 3, 14, 14, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic")
    x = smooth + 0.2 * torch.randn(smooth.shape, generator=generator)
    return (x - x.mean()) / x.std()


def candidate(network: Network, dtype: Dtype) -> Candidate:
    """The dense network in one type: weights rounded to the nearest code, activations in the formats of the pictures' ranges."""
    option = Option("dense", 0.0, 32 if dtype == "fp32" else 8)
    plan = Plan.of({layer.name: option for layer in find_layers(network)})
    tensors, scales = dict(network.tensors), {}
    for name in plan:
        groups = network.op(name).attributes.get("groups", 1)
        tensors[f"{name}.weight"], scale = compressed(tensors[f"{name}.weight"], option, groups)
        if scale is not None:
            scales[name] = scale
    ranges = collect_activations(network, [pictures(seed=1)])
    quantizers = {name: choose_quantizer(each) for name, each in ranges.items()}
    return Candidate.of(plan, replace(network, tensors=tensors), quantizers, scales)


def ours(network: Candidate, x: NDArray[np.float32]) -> Model:
    """The model file in our C runtime."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder) / "model.acm"
        write_artifact(program(network), path)
        model = runtime.Model(path)  # keeps the file mapped
    place, output = np.empty_like(x), [np.empty(0, np.float32)]

    def run() -> None:
        output[0] = model.run(place)

    return Model(lambda: np.copyto(place, x), run, lambda: output[0])


def prepare(way: str, network: Candidate) -> Callable[[NDArray[np.float32]], Model]:
    """The network in the file of one way, made once; then ready for a picture of shape (3, SIZE, SIZE)."""
    if way == OURS:
        return partial(ours, network)
    load: Callable[[NDArray[np.float32]], Model]
    if way == "litert":
        load = partial(peer_runtimes.litert, tflite(network))
    elif way == "executorch":
        load = partial(peer_executorch.executorch, peer_executorch.program(network))
    else:
        file = to_model(network, integer=True)
        content = (unsigned(file) if "u8" in way else file).SerializeToString()
        shape = (1, *network.network.shapes[network.network.output])
        settings, free = SETTINGS.get(way), {BATCH_NAME: 1}
        load = partial(peer_runtimes.onnx_runtime, content, shape=shape, settings=settings, free=free)
    return partial(_one_picture, load, last=way == "litert")


def _one_picture(load: Callable[[NDArray[np.float32]], Model], x: NDArray[np.float32], last: bool) -> Model:
    """A runtime of batches for a batch of one picture, with channels `last` or first."""
    model = load(np.ascontiguousarray(x.transpose(1, 2, 0) if last else x)[None])
    return replace(model, read=lambda: model.read()[0])


def unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an ONNX model whose activations are unsigned where they were signed: the same real numbers, codes 128 higher."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    constants = {constant.name: constant for constant in changed.graph.initializer}
    zero_points = {
        node.input[2]
        for node in changed.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in constants
    }
    for name in zero_points:
        higher = onnx.numpy_helper.to_array(constants[name]).astype(np.int16) + 128
        constants[name].CopyFrom(onnx.numpy_helper.from_array(higher.astype(np.uint8), name))
    return changed


def outputs(load: Callable[[NDArray[np.float32]], Model], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Outputs, shape (pictures, classes), for `x`, shape (pictures, 3, SIZE, SIZE)."""
    found = []
    for picture in x:
        model = load(picture)
        model.write()
        model.run()
        found.append(np.array(model.read(), np.float64))
    return np.stack(found)


def agreement(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> dict[str, float]:
    """How far outputs, shape (pictures, classes), are from those wanted.

    Returns:
        `relative_error`: the largest difference over the largest output; `noise`: root mean squares of differences over those of
        outputs; `correlation`: mean over the pictures; `same_class`: share of pictures whose largest output is the same one.
    """
    correlations = [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(found, wanted, strict=True)]
    return {
        "relative_error": float(f"{abs(found - wanted).max() / abs(wanted).max():.3g}"),
        "noise": round(float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)), 5),
        "correlation": round(statistics.fmean(correlations), 5),
        "same_class": float(np.mean(found.argmax(1) == wanted.argmax(1))),
    }


Agreement = Mapping[str, Mapping[str, float]]


def wrong_ways(dtype: Dtype, told: Mapping[str, Agreement]) -> list[str]:
    """Ways whose outputs are not those of the network; `told`: way -> agreement `with_ours` and `with_fp32`."""
    if dtype == "fp32":
        return [way for way, each in told.items() if each["with_ours"]["relative_error"] > ERROR]
    if told[OURS]["with_fp32"]["correlation"] < CORRELATION:
        return [OURS]
    return [way for way, each in told.items() if each["with_fp32"]["noise"] > NOISE * told[OURS]["with_fp32"]["noise"]]


def compare(name: str, dtype: Dtype, ways: Mapping[str, Callable[[NDArray[np.float32]], Model]], real: Network) -> dict[str, Any]:
    """Agreement of the ways with ours, and of all with the fp32 network `real`.

    Raises:
        UserError: another way than a saturating one computes something else.
    """
    x = pictures(seed=2)
    with torch.inference_mode():
        wanted = run(real, x).double().numpy()
    found = {way: outputs(load, x.numpy()) for way, load in ways.items()}
    told = {way: {"with_ours": agreement(y, found[OURS]), "with_fp32": agreement(y, wanted)} for way, y in found.items()}
    wrong = wrong_ways(dtype, told)
    if set(wrong) - SATURATING:
        raise UserError(f"{dtype} {name}: {', '.join(wrong)} compute something else. Nothing to compare: report this.")
    return {"agreement": told, "wrong": wrong}


def time_ways(models: Mapping[str, Model], seconds: float) -> dict[str, list[list[float]]]:
    """Milliseconds of the runs of each way, by turn."""
    times: dict[str, list[list[float]]] = {way: [] for way in models}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[OURS]) < TURNS:
        for way, model in models.items():
            turn = []
            for _ in range(RUNS + 1):
                model.write()
                start = time.perf_counter_ns()
                model.run()
                turn.append((time.perf_counter_ns() - start) / 1e6)
            times[way].append(turn[1:])
    return times


def row(name: str, dtype: Dtype, real: Network, seconds: float) -> dict[str, Any]:
    """One network in one type."""
    network = candidate(real, dtype)
    ways = {way: prepare(way, network) for way in WAYS[dtype]}
    told = compare(name, dtype, ways, real)
    x = pictures(seed=2)[0].numpy()
    times = time_ways({way: load(x) for way, load in ways.items()}, seconds)
    fastest = {way: idle.fastest_round(turns) for way, turns in times.items()}
    halves = [{way: idle.fastest_round(turns[half::2]) for way, turns in times.items()} for half in (0, 1)]
    return {
        "network": name,
        "dtype": dtype,
        "ms": {way: round(each, 4) for way, each in fastest.items()},
        "all_runs_ms": {
            way: [round(float(q), 4) for q in np.percentile([run for turn in turns for run in turn], (10, 50, 90))]
            for way, turns in times.items()
        },
        "turns": len(times[OURS]),
        "best": best(fastest, ()),
        "against_best": ratio(fastest, ()),
        "halves": [ratio(half, ()) for half in halves],  # of every second turn by itself: the spread of the ratio
        "against_best_right": ratio(fastest, told["wrong"]),
        "against": {way: round(fastest[way] / fastest[OURS], 3) for way in fastest if way != OURS},
        **told,
    }


def best(ms: Mapping[str, float], but: Sequence[str]) -> str:
    """The fastest peer that is not in `but`."""
    return min((way for way in ms if way != OURS and way not in but), key=ms.__getitem__)


def ratio(ms: Mapping[str, float], but: Sequence[str]) -> float:
    """Time of the fastest peer that is not in `but` over ours: above 1, we are faster."""
    return round(ms[best(ms, but)] / ms[OURS], 3)


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Geometric means of the ratios over the networks, by type."""
    return {
        dtype: {
            key: round(statistics.geometric_mean(each[key] for each in rows if each["dtype"] == dtype), 3)
            for key in ("against_best", "against_best_right")
        }
        for dtype in WAYS
    }


def options(description: str | None, result: Path, networks: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for: networks, seconds, whether to go on beside others, and whether to write.

    Raises:
        UserError: what would be written is not the whole result, or not of an idle machine.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write the numbers to results/benchmarks/{result.name}")
    parser.add_argument("--networks", nargs="+", choices=tuple(networks), default=tuple(networks))
    parser.add_argument("--seconds", type=float, default=8, help="of timing, for each comparison of all runtimes")
    parser.add_argument("--busy", action="store_true", help="go on although the machine is busy; such numbers are not written")
    arguments = parser.parse_args()
    if arguments.write and (arguments.busy or len(arguments.networks) < len(networks)):
        raise UserError("--write needs all networks on an idle machine: leave the other options out")
    return arguments


def main() -> None:
    arguments = options(__doc__, RESULT, tuple(NETWORKS))
    torch.set_num_threads(1)
    load, begin = idle.begin(arguments.busy), time.monotonic()
    rows = []
    for name in arguments.networks:
        network = capture(NETWORKS[name](), torch.zeros(1, 3, SIZE, SIZE))
        for dtype in WAYS:
            rows.append(row(name, dtype, network, arguments.seconds))
            show(rows[-1])
    result = {
        "machine": f"{idle.cpu()}, {platform.system()}",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "kernels": kernels_hash(),
        "geometric_means": means(rows),
        "networks": rows,
        "other_load_cores": load.cores(),
        "seconds": round(time.monotonic() - begin),
    }
    print(f"geometric means {result['geometric_means']}; others used {result['other_load_cores']:.2f} cores")
    if arguments.write:
        idle.require_idle(load.cores())
        write_json(RESULT, result)


def show(told: Mapping[str, Any]) -> None:
    """Print a row."""
    ratios = f"{told['against_best']:.2f} x {told['best']}, {told['against_best_right']:.2f} x the best that is right"
    print(f"{told['network']} {told['dtype']}: {ratios}")
    for way, ms in told["ms"].items():
        low, _, high = told["all_runs_ms"][way]
        with_ours, with_fp32 = (told["agreement"][way][which] for which in ("with_ours", "with_fp32"))
        print(
            f"  {way:14} {ms:7.2f} ms ({low:.2f} to {high:.2f}); "
            f"with ours: error {with_ours['relative_error']:.1e}, correlation {with_ours['correlation']:.4f}; "
            f"with fp32: noise {with_fp32['noise']:.3f}, correlation {with_fp32['correlation']:.4f}, "
            f"same class {with_fp32['same_class']:.0%}{' WRONG' if way in told['wrong'] else ''}",
            flush=True,
        )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
