"""ONNX files in ONNX Runtime against the Candidates that they were written from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autocompress.compressors.candidate import Candidate
from autocompress.compressors.quantization import Quantizer, round_to_grid, to_half, weight_scales
from autocompress.deployment.onnx import to_model, to_onnx
from autocompress.errors import UserError
from autocompress.spaces.execute import run, run_op
from autocompress.spaces.groups import find_groups
from autocompress.spaces.network import INPUT, KINDS, Activation, Network, Op
from autocompress.spaces.option import Bits, Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.remove_channels import remove_channels

onnxruntime.set_default_logger_severity(3)

IMAGE = (8, 9, 11)
RELU, RELU6, NONE = Activation("relu"), Activation("clamp", (0.0, 6.0)), Activation()


class Builder:
    """A Network made by hand, with random weights."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.ops: list[Op] = []
        self.tensors: dict[str, torch.Tensor] = {}
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: shape}

    def random(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * scale

    def constant(self, name: str, *shape: int) -> str:
        self.tensors[name] = self.random(*shape)
        return name

    def op(self, name: str, kind: str, *inputs: str, **attributes: Any) -> str:
        assert set(attributes) <= set(KINDS[kind])
        self.ops.append(Op(name, kind, inputs, attributes))
        values = [torch.zeros(2, *self.shapes[n]) if n in self.shapes else self.tensors[n].unsqueeze(0) for n in inputs]
        self.shapes[name] = tuple(run_op(self.ops[-1], values, self.tensors).shape[1:])
        return name

    def conv(self, name: str, x: str, channels: int, kernel: int = 3, activation: Activation = NONE, **changes: Any) -> str:
        groups = changes.get("groups", 1)
        inputs = self.shapes[x][0] // groups
        self.tensors[f"{name}.weight"] = self.random(channels, inputs, kernel, kernel, scale=(inputs * kernel**2) ** -0.5)
        self.tensors[f"{name}.bias"] = self.random(channels, scale=0.3)
        attributes = {"stride": (1, 1), "padding": (kernel // 2,) * 4, "dilation": (1, 1), "groups": 1, "activation": activation}
        return self.op(name, "conv2d", x, **{**attributes, **changes})

    def linear(self, name: str, x: str, features: int, activation: Activation = NONE) -> str:
        inputs = self.shapes[x][-1]
        self.tensors[f"{name}.weight"] = self.random(features, inputs, scale=inputs**-0.5)
        self.tensors[f"{name}.bias"] = self.random(features, scale=0.3)
        return self.op(name, "linear", x, activation=activation)

    def network(self) -> Network:
        return Network(tuple(self.ops), self.tensors, self.shapes, self.ops[-1].name)


def samples(network: Network, count: int = 5) -> torch.Tensor:
    """Inputs for which no output of the first Layer of `case_candidate` is within 1e-4 of a step of where it is rounded: sums in
    another order, as on another processor, would move it to the next code, and with it all that is computed from it.
    """
    return torch.randn(count, *network.shapes[INPUT], generator=torch.Generator().manual_seed(9))


def make_candidate(network: Network, bits: Bits | Mapping[str, Bits]) -> Candidate:
    """Every Layer with `bits`: weights rounded, quantizers from the ranges on `samples`."""
    layers = [op.name for op in network.ops if op.kind in ("conv2d", "linear")]
    chosen: dict[str, Bits] = {name: bits if isinstance(bits, int) else bits[name] for name in layers}
    tensors, scales = dict(network.tensors), {}
    for name, width in chosen.items():
        weight = tensors[f"{name}.weight"]
        if width == 16:
            tensors[f"{name}.weight"] = to_half(weight)
        elif width <= 8:
            matrix = weight.flatten(1).unsqueeze(0)
            scale = weight_scales(matrix, width)
            tensors[f"{name}.weight"] = round_to_grid(matrix, scale, width).view_as(weight)
            scales[name] = scale.flatten()
    quantizers = {}

    def observe(name: str, x: torch.Tensor) -> None:
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = max(high - low, 1e-6) / 255
        quantizers[name] = Quantizer(scale, round(-128 - low / scale))

    x = samples(network)
    observe(INPUT, x)
    run(network, x, lambda op, inputs, output: observe(op.name, output))
    plan = Plan.of({name: Option("dense", 0.0, width) for name, width in chosen.items()})
    return Candidate.of(plan, replace(network, tensors=tensors), quantizers, scales)


def session(
    model: onnx.ModelProto, optimised: bool, save: Path | None = None, integer: bool = False
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if integer:
        # The default on ARM. On x86, int8 becomes uint8 by default, and processors without VNNI then clip sums of products.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if save is not None:
        options.optimized_model_filepath = str(save)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(candidate: Candidate, optimised: bool, integer: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """What ONNX Runtime and the Candidate return for the same samples."""
    x = samples(candidate.network)
    with torch.inference_mode():
        wanted = candidate.run(x)
    model = to_model(candidate, integer)
    (got,) = session(model, optimised, integer=integer).run(["output"], {"input": x.numpy()})
    assert got.shape == tuple(wanted.shape)
    assert float(wanted.std()) > 0 and np.isfinite(got).all()
    return torch.from_numpy(got), wanted


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def output_step(candidate: Candidate) -> float:
    """The real value of one code of the output; ops that only move values keep that of their input."""
    op = candidate.network.op(candidate.network.output)
    while op.kind in ("max_pool", "reshape", "permute", "slice"):
        op = candidate.network.op(op.inputs[0])
    return candidate.quantizers[op.name].scale


def check_single(candidate: Candidate, bits: Bits, optimised: bool = False, integer: bool = False) -> None:
    """Few ops in a row: equal up to float rounding, which may move a value to the next code or the next half now and then."""
    got, wanted = outputs(candidate, optimised, integer)
    largest = float(wanted.abs().max())
    if candidate.network.op(candidate.network.output).kind == "linear" and bits <= 8:
        assert relative_error(got, wanted) <= 1e-4 * 2 ** (8 - bits)  # the bias has the resolution of the weights
        return
    if bits == 32:
        assert float((got - wanted).abs().max()) <= 1e-5 * largest
        return
    step = output_step(candidate) if bits <= 8 else largest * 2**-10
    difference = (got - wanted).abs() / step
    assert float(difference.max()) <= 1.01
    assert float((difference > 0.01).float().mean()) <= 0.01


def conv_cases() -> dict[str, dict[str, Any]]:
    return {
        "plain": {},
        "pointwise": {"kernel": 1},
        "strided": {"stride": (2, 1)},
        "asymmetric": {"padding": (0, 1, 2, 3), "stride": (2, 2)},
        "dilated": {"dilation": (2, 1), "padding": (2, 1, 2, 1)},
        "grouped": {"groups": 4},
        "depthwise": {"groups": 8},
    }


def pool(kind: str, **attributes: Any) -> Any:
    return lambda b, x: b.op("op", kind, x, **attributes)


def max_pool(kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> Any:
    pairs = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return pool("max_pool", **{name: (value, value) for name, value in pairs.items()}, ceil_mode=ceil_mode)


def avg_pool(kernel: int, stride: int, padding: int, ceil_mode: bool, count: bool, divisor: int | None) -> Any:
    pairs = {name: (value, value) for name, value in (("kernel", kernel), ("stride", stride), ("padding", padding))}
    return pool("avg_pool", **pairs, ceil_mode=ceil_mode, count_include_pad=count, divisor=divisor)


#: One op of every kind (and attribute) behind a Layer, so that it computes in the Layer's type: name -> (builder, tensor) -> op.
CASES: dict[str, Any] = {
    **{f"conv2d {name}": lambda b, x, c=case: b.conv("op", x, 8, **c) for name, case in conv_cases().items()},
    "linear": lambda b, x: b.linear("op", b.op("flat", "reshape", x, shape=(math.prod(b.shapes[x]),)), 7),
    "linear over tokens": lambda b, x: b.linear("op", x, 7),
    "affine": lambda b, x: affine(b, x, RELU),
    "add": lambda b, x: b.op("op", "add", x, b.conv("other", "input", 8), activation=RELU),
    "add itself": lambda b, x: b.op("op", "add", x, x, activation=NONE),
    "add constant": lambda b, x: b.op("op", "add", x, b.constant("c", 8, 9, 11), activation=NONE),
    "add vector": lambda b, x: b.op("op", "add", b.constant("c", 11), x, activation=NONE),
    "mul": lambda b, x: b.op("op", "mul", x, b.conv("other", "input", 8), activation=NONE),
    "mul constant": lambda b, x: b.op("op", "mul", x, b.constant("c", 1, 9, 1), activation=RELU6),
    "mul gate": lambda b, x: b.op("op", "mul", b.op("gate", "adaptive_avg_pool", x, size=(1, 1)), x, activation=NONE),
    "cat": lambda b, x: b.op("op", "cat", x, b.conv("other", "input", 3), x, axis=0),
    "cat constant": lambda b, x: b.op("op", "cat", b.constant("c", 8, 2, 11), x, axis=1),
    "slice": lambda b, x: b.op("op", "slice", x, axis=0, start=2, stop=7),
    "slice rows": lambda b, x: b.op("op", "slice", x, axis=1, start=0, stop=4),
    "activation": lambda b, x: b.op("op", "activation", x, activation=Activation("hardswish")),
    "max_pool": max_pool(3, 2, 1, 1, False),
    "max_pool ceil": max_pool(3, 3, 1, 1, True),
    "max_pool ceil reaching beyond": max_pool(2, 2, 0, 1, True),
    "max_pool ceil dilated": max_pool(2, 6, 0, 4, True),
    "avg_pool": avg_pool(3, 2, 1, False, True, None),
    "avg_pool without padding": avg_pool(3, 2, 1, False, False, None),
    "avg_pool ceil": avg_pool(4, 3, 2, True, True, None),
    "avg_pool ceil without padding": avg_pool(4, 3, 2, True, False, None),
    "avg_pool divisor": avg_pool(2, 2, 0, False, True, 3),
    "avg_pool ceil divisor": avg_pool(2, 2, 1, True, False, 7),
    "adaptive_avg_pool global": pool("adaptive_avg_pool", size=(1, 1)),
    "adaptive_avg_pool even": pool("adaptive_avg_pool", size=(3, 11)),
    "adaptive_avg_pool uneven": pool("adaptive_avg_pool", size=(4, 7)),
    "pad": pool("pad", padding=(1, 0, 2, 3), value=0.0),
    "pad value": pool("pad", padding=(0, 1, 0, 0), value=-1.3),
    "reshape": pool("reshape", shape=(4, 2, 99)),
    "permute": pool("permute", axes=(2, 0, 1)),
}


def affine(b: Builder, x: str, activation: Activation) -> str:
    b.tensors["op.weight"], b.tensors["op.bias"] = b.random(b.shapes[x][0]), b.random(b.shapes[x][0])
    return b.op("op", "affine", x, activation=activation)


def case_candidate(case: str, bits: Bits) -> Candidate:
    builder = Builder(IMAGE)
    CASES[case](builder, builder.conv("first", INPUT, 8))
    return make_candidate(builder.network(), bits)


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
@pytest.mark.parametrize("case", CASES)
def test_every_op(case: str, bits: Bits) -> None:
    check_single(case_candidate(case, bits), bits)


def test_cases_cover_every_kind() -> None:
    assert {case_candidate(case, 32).network.op("op").kind for case in CASES} == set(KINDS)


ACTIVATIONS = [
    NONE,
    RELU,
    RELU6,
    Activation("clamp", (-0.5, 0.7)),
    Activation("hardswish"),
    Activation("hardsigmoid"),
    Activation("silu"),
    Activation("sigmoid"),
    Activation("gelu"),
    Activation("gelu_tanh"),
    Activation("leaky_relu", (0.2,)),
    Activation("tanh"),
    Activation("elu", (1.5,)),
]


@pytest.mark.parametrize("bits", [32, 16, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation(activation: Activation, bits: Bits) -> None:
    builder = Builder(IMAGE)
    fused = builder.conv("fused", INPUT, 8, activation=activation)
    alone = builder.op("alone", "activation", builder.conv("plain", INPUT, 8), activation=activation)
    builder.op("both", "cat", fused, alone, axis=0)
    check_single(make_candidate(builder.network(), bits), bits)


@pytest.mark.parametrize("quantizer", [Quantizer(0.02, -100), Quantizer(0.002, -128), Quantizer(0.01, 120)], ids=str)
@pytest.mark.parametrize("activation", [RELU, Activation("clamp", (0.0, 1.0)), Activation("clamp", (-0.5, 0.7))], ids=str)
def test_clipping_and_range_of_codes(activation: Activation, quantizer: Quantizer) -> None:
    """Whether the activation or the codes clip first."""
    builder = Builder(IMAGE)
    builder.conv("first", INPUT, 8, activation=activation)
    builder.op("end", "reshape", "first", shape=(8, 99))
    candidate = make_candidate(builder.network(), 8)
    check_single(replace(candidate, quantizers={**candidate.quantizers, "first": quantizer}), 8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_pools_of_any_shape(data: st.DataObject) -> None:
    pair = st.tuples(st.integers(1, 4), st.integers(1, 4))
    kernel, stride, dilation = data.draw(pair), data.draw(pair), data.draw(pair)
    padding = tuple(data.draw(st.integers(0, side // 2)) for side in kernel)
    builder = Builder((2, data.draw(st.integers(4, 12)), data.draw(st.integers(4, 12))))
    common = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": data.draw(st.booleans())}
    if data.draw(st.booleans()):
        room = zip(builder.shapes[INPUT][1:], padding, dilation, kernel, strict=True)
        assume(all(size + 2 * pad > d * (k - 1) for size, pad, d, k in room))
        # Without this, torch may place a window in the padding alone, where a maximum is minus infinity.
        assume(dilation == (1, 1) or padding == (0, 0))
        builder.op("op", "max_pool", INPUT, **common, dilation=dilation)
    else:
        divisor = data.draw(st.none() | st.integers(1, 9))
        builder.op("op", "avg_pool", INPUT, **common, count_include_pad=data.draw(st.booleans()), divisor=divisor)
    check_single(make_candidate(builder.network(), {}), 32)


def small_network(seed: int = 0) -> Network:
    """A stem with asymmetric padding, an inverted residual with a squeeze and excitation gate, a branch, and a head."""
    b = Builder((3, 20, 20), seed)
    b.conv("stem", INPUT, 16, activation=RELU6, stride=(2, 2), padding=(0, 0, 1, 1))
    b.conv("expand", "stem", 24, 1, Activation("hardswish"))
    b.conv("depthwise", "expand", 24, 5, RELU, groups=24)
    b.op("squeeze", "adaptive_avg_pool", "depthwise", size=(1, 1))
    b.conv("reduce", "squeeze", 8, 1, RELU)
    b.conv("excite", "reduce", 24, 1, Activation("hardsigmoid"))
    b.op("gated", "mul", "depthwise", "excite", activation=NONE)
    b.conv("project", "gated", 16, 1)
    b.op("sum", "add", "project", "stem", activation=RELU)
    b.op("pooled", "max_pool", "sum", kernel=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1), ceil_mode=False)
    b.conv("branch", "pooled", 8, 3, Activation("silu"))
    b.op("both", "cat", "pooled", "branch", axis=0)
    b.op("mean", "avg_pool", "both", kernel=(2, 2), stride=(2, 2), padding=(0, 0), ceil_mode=True, **COUNT)
    b.op("flat", "reshape", "mean", shape=(math.prod(b.shapes["mean"]),))
    b.linear("hidden", "flat", 32, RELU)
    b.linear("logits", "hidden", 10)
    return b.network()


COUNT = {"count_include_pad": False, "divisor": None}
LAYERS = ("stem", "expand", "depthwise", "reduce", "excite", "project", "branch", "hidden", "logits")


def mixed_bits(offset: int) -> dict[str, Bits]:
    cycle: tuple[Bits, ...] = (8, 32, 16, 4)
    return {name: cycle[(index + offset) % 4] for index, name in enumerate(LAYERS)}


def pruned(network: Network) -> Network:
    """`network` with every other channel of every Group removed that can lose any."""
    groups = find_groups(network)
    kept = {group.name: torch.arange(0, group.channels, 2) for group in groups if not group.frozen}
    assert kept
    return remove_channels(network, groups, kept)


#: Precision -> how far ONNX Runtime may be from the Candidate, as it is written and with the runtime's own optimisations. The
#: latter computes int8 ops in integers: values that fall between two codes differ by one, and layer follows layer.
WHOLE: dict[str, tuple[Bits | dict[str, Bits], float, float]] = {
    "fp32": (32, 1e-5, 1e-5),
    "fp16": (16, 1e-3, 1e-3),
    "int8": (8, 2e-3, 1e-2),
    "int4": (4, 2e-3, 1e-2),
    **{f"mixed {offset}": (mixed_bits(offset), 2e-3, 1e-2) for offset in range(4)},
}


@pytest.mark.parametrize("removed", [False, True], ids=["all channels", "half the channels"])
@pytest.mark.parametrize("precision", WHOLE)
def test_whole_network(precision: str, removed: bool) -> None:
    bits, as_written, optimised = WHOLE[precision]
    network = small_network()
    candidate = make_candidate(pruned(network) if removed else network, bits)
    assert relative_error(*outputs(candidate, optimised=False)) <= as_written
    assert relative_error(*outputs(candidate, optimised=True)) <= optimised


def optimised_ops(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    session(model, optimised=True, save=folder / "optimised.onnx", integer=True)
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def int8_chain() -> Network:
    b = Builder((3, 16, 16))
    b.conv("stem", INPUT, 16, activation=RELU6, stride=(2, 2))
    b.conv("depthwise", "stem", 16, 3, RELU6, groups=16)
    b.conv("project", "depthwise", 16, 1)
    b.op("sum", "add", "stem", "project", activation=NONE)
    b.op("pooled", "max_pool", "sum", kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1), ceil_mode=False)
    b.op("mean", "adaptive_avg_pool", "pooled", size=(1, 1))
    b.op("flat", "reshape", "mean", shape=(16,))
    b.linear("logits", "flat", 10)
    return b.network()


@pytest.mark.parametrize("bits", [8, 4])
def test_runtime_computes_in_integers(bits: Bits, tmp_path: Path) -> None:
    candidate = make_candidate(int8_chain(), bits)
    ops = optimised_ops(to_model(candidate, integer=True), tmp_path)
    assert (ops["QLinearConv"], ops["QLinearAdd"], ops["QLinearGlobalAveragePool"], ops["QGemm"]) == (3, 1, 1, 1)
    assert not {"Conv", "FusedConv", "Gemm", "Add", "Clip", "DequantizeLinear"} & set(ops)
    assert relative_error(*outputs(candidate, optimised=True, integer=True)) <= 1e-2


@pytest.mark.parametrize("bits", [8, 4])
def test_by_default_any_session_computes_what_the_candidate_does(bits: Bits) -> None:
    assert relative_error(*outputs(make_candidate(int8_chain(), bits), optimised=True)) <= 2e-3


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("optimised", [False, True])
def test_channels_with_a_bias_but_no_weights(optimised: bool, integer: bool) -> None:
    builder = Builder(IMAGE)
    builder.conv("first", INPUT, 8)
    builder.op("end", "reshape", "first", shape=(8, 99))
    for name, factor in (("zero", 0.0), ("tiny", 1e-9)):
        builder.tensors["first.weight"][0 if name == "zero" else 1] *= factor
    builder.tensors["first.bias"][:3] = torch.tensor([0.8, -0.6, 0.0])
    builder.tensors["first.weight"][2] = 0.0
    candidate = make_candidate(builder.network(), 8)
    candidate.scales["first"][2] = 0.0  # as a correction may leave it
    check_single(candidate, 8, optimised, integer)


def test_half_precision_is_rounded_by_the_optimised_runtime() -> None:
    builder = Builder(IMAGE)
    builder.conv("first", INPUT, 8)
    builder.op("end", "activation", "first", activation=RELU)
    got, _ = outputs(make_candidate(builder.network(), 16), optimised=True)
    assert torch.equal(got, got.half().float())


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def test_weights_are_stored_in_their_formats() -> None:
    builder = Builder((3, 8, 8))
    for index, name in enumerate(("a", "b", "c", "d")):
        builder.conv(name, "input" if index == 0 else "abcd"[index - 1], 5)
    builder.op("end", "reshape", "d", shape=(320,))
    candidate = make_candidate(builder.network(), {"a": 32, "b": 16, "c": 8, "d": 4})
    model = to_model(candidate)
    stored = constants(model)
    types = [onnx.TensorProto.DataType.Name(stored[f"{name}.weight"].data_type) for name in "abcd"]
    assert types == ["FLOAT", "FLOAT16", "INT8", "INT4"]
    assert len(stored["d.weight"].raw_data) == math.ceil(5 * 5 * 9 / 2)
    for name in "cd":
        steps = onnx.numpy_helper.to_array(stored[f"{name}.weight/scale"]).reshape(-1, 1, 1, 1)
        values = onnx.numpy_helper.to_array(stored[f"{name}.weight"]).astype(np.float32) * steps
        assert np.allclose(values, candidate.network.tensors[f"{name}.weight"].numpy(), rtol=1e-6, atol=0)


def test_file_says_what_it_is(tmp_path: Path) -> None:
    candidate = make_candidate(small_network(), mixed_bits(0))
    to_onnx(candidate, tmp_path / "folder" / "network.onnx")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["network.onnx"]
    model = onnx.load(tmp_path / "folder" / "network.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["autocompress.plan"] == candidate.plan.key
    assert properties["autocompress.weights"] == "3 int8, 2 fp32, 2 fp16, 2 int4"
    assert set(properties) == {f"autocompress.{name}" for name in ("version", "plan", "weights", "activations")}
    assert properties["autocompress.version"] == model.producer_version != ""
    shapes = [
        [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 3, 20, 20], ["batch", 10]]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["input", "output"]


def test_file_is_deterministic(tmp_path: Path) -> None:
    for name in "ab":
        to_onnx(make_candidate(small_network(), 8), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_batch_is_free(batch: int) -> None:
    b = Builder((3, 8, 8))
    b.op("end", "cat", b.conv("first", INPUT, 4), b.constant("c", 2, 8, 8), axis=0)
    candidate = make_candidate(b.network(), 32)
    x = samples(candidate.network, batch)
    (got,) = session(to_model(candidate), optimised=True).run(None, {"input": x.numpy()})
    assert relative_error(torch.from_numpy(got), candidate.run(x)) <= 1e-5


def test_ops_may_have_any_names() -> None:
    b = Builder(IMAGE)
    b.conv("output", INPUT, 8, activation=RELU)
    b.conv("output/Conv", "output", 8)
    b.op("output.weight/scale", "add", "output", "output/Conv", activation=NONE)
    for bits in (32, 8):
        check_single(make_candidate(b.network(), bits), bits)


def test_unwritable_path_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        to_onnx(make_candidate(int8_chain(), 8), tmp_path / "file" / "network.onnx")
