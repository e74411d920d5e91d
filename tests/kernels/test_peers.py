"""benchmarks/peers.py: its ratios and what it calls wrong. Its runtimes are an extra: what imports them is replaced."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch

from autocompress.deployment.onnx import to_model
from autocompress.deployment.program import program
from autocompress.spaces.capture import capture
from autocompress.spaces.execute import run


@dataclass(frozen=True)
class Loaded:
    """As peer_runtimes.Model."""

    write: object
    run: object
    read: Callable[[], np.ndarray]


BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    """The script, beside modules in place of those that need the extra `peers`."""
    runtimes, networks, executorch = (ModuleType(f"peer_{name}") for name in ("runtimes", "networks", "executorch"))
    vars(runtimes)["Model"] = object
    vars(networks)["tflite"] = None
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.setitem(sys.modules, "peer_runtimes", runtimes)
        patch.setitem(sys.modules, "peer_networks", networks)
        patch.setitem(sys.modules, "peer_executorch", executorch)
        spec = importlib.util.spec_from_file_location("peers", BENCHMARKS / "peers.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name in ("idle", "table_error"):
            patch.delitem(sys.modules, name)
    return module


MS = {"autocompress": 10.0, "litert": 12.0, "ort-u8": 9.0, "ort-u8-precise": 15.0}


def test_ratios(peers: ModuleType) -> None:
    assert (peers.best(MS, ()), peers.ratio(MS, ())) == ("ort-u8", 0.9)
    assert (peers.best(MS, ["ort-u8"]), peers.ratio(MS, ["ort-u8"])) == ("litert", 1.2)


def test_a_time_is_that_of_the_fastest_turn(peers: ModuleType) -> None:
    class Nothing:
        def write(self) -> None:
            pass

        run = write

    times = peers.time_ways({way: Nothing() for way in MS}, 0.0)
    assert {way: [len(turn) for turn in turns] for way, turns in times.items()} == dict.fromkeys(MS, [peers.RUNS] * peers.TURNS)
    assert peers.idle.fastest_round([[9.0, 3.0, 4.0], [5.0, 4.5, 1.0], [8.0, 8.0]]) == 4.0


def test_means(peers: ModuleType) -> None:
    rows = [
        {"dtype": dtype, "against_best": best, "against_best_right": right}
        for dtype, best, right in [("fp32", 0.5, 0.5), ("int8", 1.0, 2.0), ("fp32", 2.0, 2.0), ("int8", 1.0, 4.0)]
    ]
    assert peers.means(rows) == {
        "fp32": {"against_best": 1.0, "against_best_right": 1.0},
        "int8": {"against_best": 1.0, "against_best_right": round(math.sqrt(8), 3)},
    }


def test_agreement(peers: ModuleType) -> None:
    wanted = np.array([[1.0, 2.0, 4.0], [-3.0, 0.0, 1.0]])
    same = peers.agreement(wanted, wanted)
    assert same == {"relative_error": 0.0, "noise": 0.0, "correlation": 1.0, "same_class": 1.0}
    other = peers.agreement(wanted[:, ::-1], wanted)
    assert other["relative_error"] == 1.0
    assert other["noise"] == round(math.sqrt((9 + 9 + 16 + 16) / 31), 5)
    assert other["correlation"] < 0
    assert other["same_class"] == 0.0


def test_a_file_is_made_once_and_loaded_for_each_picture(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made, inputs = [], []

    def load(content: bytes, x: np.ndarray) -> Loaded:
        inputs.append(x)
        return Loaded(None, None, lambda: x.reshape(1, -1) + len(content))

    monkeypatch.setattr(peers, "tflite", lambda network: made.append(network) or b"1")
    monkeypatch.setattr(peers.peer_executorch, "program", lambda network: made.append(network) or b"22", raising=False)
    monkeypatch.setattr(peers.peer_runtimes, "litert", load, raising=False)
    monkeypatch.setattr(peers.peer_executorch, "executorch", load, raising=False)
    pictures = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    for way, added, axes in (("litert", 1, (1, 2, 0)), ("executorch", 2, (0, 1, 2))):
        made.clear(), inputs.clear()
        ready = peers.prepare(way, "network")
        for picture in pictures:
            assert np.array_equal(ready(picture).read(), picture.transpose(axes).ravel() + added)
            assert np.array_equal(inputs[-1], picture.transpose(axes)[None])
            assert inputs[-1].flags.c_contiguous
        assert made == ["network"]


def test_all_peers_take_part_in_both_types(peers: ModuleType) -> None:
    for ways in peers.WAYS.values():
        assert {way.split("-")[0] for way in ways} == {peers.OURS, "litert", "executorch", "ort"}


def told(error: float, noise: float, correlation: float = 0.99) -> dict[str, dict[str, float]]:
    return {"with_ours": {"relative_error": error}, "with_fp32": {"noise": noise, "correlation": correlation}}


def test_wrong_ways(peers: ModuleType) -> None:
    ours = {"autocompress": told(0.0, 0.04)}
    assert peers.wrong_ways("int8", ours | {"litert": told(0.3, 0.041), "ort-u8": told(0.3, 0.06)}) == ["ort-u8"]
    assert peers.wrong_ways("fp32", ours | {"litert": told(2e-3, 0.0), "ort": told(1e-5, 0.0)}) == ["litert"]
    assert peers.wrong_ways("int8", {"autocompress": told(0.0, 0.9, 0.3), "litert": told(0.0, 0.9, 0.3)}) == ["autocompress"]


def test_names_of_networks(peers: ModuleType) -> None:
    assert list(peers.NETWORKS) == ["efficientnet_lite0", "mobilenetv2_100", "mobilenetv4_conv_small", "resnet18"]
    assert all(timm.is_model(name) for name in peers.NETWORKS)


def test_unsigned_activations_are_the_same_numbers(peers: ModuleType) -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3)).eval()
    network = capture(layers, torch.zeros(1, 3, 16, 16))
    candidate = peers.candidate(network, "int8")
    signed = to_model(candidate, integer=True)
    changed = peers.unsigned(signed)
    types = [{tensor.name: tensor.data_type for tensor in model.graph.initializer} for model in (signed, changed)]
    differing = {name for name, type_ in types[0].items() if types[1][name] != type_}
    assert {types[1][name] for name in differing} == {onnx.TensorProto.UINT8}
    assert len(differing) == 2  # of the tensors between; weights stay as they are
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = peers.pictures(seed=2)[:2, :, :16, :16].numpy()
    first, second = (
        onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"input": x})[0] for model in (signed, changed)
    )
    assert np.array_equal(first, second)
    assert np.ptp(first) > 1


def test_candidates_are_dense_and_of_one_type(peers: ModuleType) -> None:
    network = capture(peers.NETWORKS["mobilenetv4_conv_small"](), torch.zeros(1, 3, peers.SIZE, peers.SIZE))
    x = peers.pictures(seed=2)[:2]
    with torch.inference_mode():
        wanted = run(network, x).double().numpy()
        for dtype, stored, least, most in (("fp32", "float32", 0.0, 1e-4), ("int8", "int8", 0.01, 0.6)):
            candidate = peers.candidate(network, dtype)
            assert {(option.structure, option.sparsity) for option in candidate.plan.values()} == {("dense", 0.0)}
            assert set(candidate.types.values()) == {dtype}
            steps = program(candidate).steps
            assert len(steps) >= len(candidate.plan)
            assert {step.call.x.dtype for step in steps[1:]} == {np.dtype(stored)}  # the first one may convert the input
            assert least <= peers.agreement(candidate.run(x).double().numpy(), wanted)["noise"] <= most
