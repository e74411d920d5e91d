from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autocompress.errors import UserError
from autocompress.spaces.capture import capture
from autocompress.spaces.execute import run
from autocompress.spaces.layers import find_layers
from autocompress.spaces.network import INPUT, KINDS, Activation, Network

Function = Callable[[nn.Module, Tensor], object]


def kinds(network: Network) -> dict[str, int]:
    return dict(Counter(op.kind for op in network.ops))


def assert_same(network: Network, model: nn.Module, shape: tuple[int, ...], tolerance: float = 1e-5) -> None:
    """On a batch of 2, which capture itself never sees."""
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, got = model(x.clone()), run(network, x)
    assert float(wanted.abs().max()) > 0
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


def assert_well_formed(network: Network) -> None:
    """Everything that spaces/network.py promises."""
    known = {INPUT}
    for op in network.ops:
        assert re.fullmatch(r"[A-Za-z0-9._]+", op.name)
        assert op.name not in known
        assert set(op.attributes) == set(KINDS[op.kind])
        assert all(name in known or name in network.tensors for name in op.inputs)
        if op.kind in ("conv2d", "linear", "affine"):
            assert network.tensors[f"{op.name}.weight"].shape[0] == network.tensors[f"{op.name}.bias"].shape[0]
        known.add(op.name)
    assert set(network.shapes) == known
    assert network.output in known
    assert not known & set(network.tensors)
    assert all(t.dtype == torch.float32 and t.is_contiguous() and not t.requires_grad for t in network.tensors.values())
    shapes: dict[str, tuple[int, ...]] = {INPUT: network.shapes[INPUT]}
    run(network, torch.zeros(2, *network.shapes[INPUT]), lambda op, _, y: shapes.update({op.name: tuple(y.shape[1:])}))
    assert shapes == dict(network.shapes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenetv2_100", {"conv2d": 52, "add": 10, "adaptive_avg_pool": 1, "reshape": 1, "linear": 1}),
        ("mobilenetv3_large_100", {"conv2d": 63, "add": 10, "mul": 8, "adaptive_avg_pool": 9, "reshape": 1, "linear": 1}),
        ("mobilenetv4_conv_small", {"conv2d": 46, "add": 10, "adaptive_avg_pool": 1, "reshape": 1, "linear": 1}),
        ("efficientnet_lite0", {"conv2d": 49, "add": 9, "adaptive_avg_pool": 1, "reshape": 1, "linear": 1}),
        ("resnet18", {"conv2d": 20, "add": 8, "max_pool": 1, "adaptive_avg_pool": 1, "reshape": 1, "linear": 1}),
        ("resnet50", {"conv2d": 53, "add": 16, "max_pool": 1, "adaptive_avg_pool": 1, "reshape": 1, "linear": 1}),
    ],
)
def test_timm_models(timm_model: Callable[[str], tuple[nn.Module, Network]], name: str, expected: dict[str, int]) -> None:
    model, network = timm_model(name)
    assert kinds(network) == expected
    assert_well_formed(network)
    assert_same(network, model, network.shapes[INPUT], 1e-4)
    convolutions = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert {layer.name for layer in find_layers(network)} == convolutions


def conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 6, 3, **options)


IMAGE = (4, 9, 8)

#: name -> function of (model, x), its parts, sample shape, the kinds that must come out.
CASES: dict[str, tuple[Function, dict[str, nn.Module | Tensor], tuple[int, ...], dict[str, int]]] = {
    "conv": (lambda m, x: m.c(x), {"c": conv(stride=2, padding=1, bias=False)}, IMAGE, {"conv2d": 1}),
    "conv_rectangular": (
        lambda m, x: m.c(x),
        {"c": nn.Conv2d(4, 6, (3, 1), (1, 2), (2, 0), (2, 1), groups=2)},
        IMAGE,
        {"conv2d": 1},
    ),
    "conv_same": (lambda m, x: m.c(x), {"c": nn.Conv2d(4, 6, (4, 3), padding="same")}, IMAGE, {"conv2d": 1}),
    "conv_valid": (lambda m, x: m.c(x), {"c": conv(padding="valid")}, IMAGE, {"conv2d": 1}),
    "conv_norm_relu": (
        lambda m, x: F.relu(m.b(m.c(x)), inplace=True),
        {"c": conv(), "b": nn.BatchNorm2d(6)},
        IMAGE,
        {"conv2d": 1},
    ),
    "norm_without_gain": (lambda m, x: m.b(m.c(x)), {"c": conv(), "b": nn.BatchNorm2d(6, affine=False)}, IMAGE, {"conv2d": 1}),
    "norm_of_shared_conv": (
        lambda m, x: m.b(y := m.c(x)) + y,
        {"c": conv(), "b": nn.BatchNorm2d(6)},
        IMAGE,
        {"conv2d": 1, "affine": 1, "add": 1},
    ),
    "pre_activation": (
        lambda m, x: m.c(F.relu(m.b(x))) + x[:, :1, 1:-1, 1:-1],
        {"c": conv(), "b": nn.BatchNorm2d(4)},
        IMAGE,
        {"affine": 1, "conv2d": 1, "slice": 3, "add": 1},
    ),
    "linear_norm": (
        lambda m, x: m.b(m.l(x.flatten(1))).relu(),
        {"l": nn.Linear(288, 5), "b": nn.BatchNorm1d(5)},
        IMAGE,
        {"reshape": 1, "linear": 1},
    ),
    "asymmetric_pad": (lambda m, x: m.c(F.pad(x, (0, 1, 2, 3))), {"c": conv(stride=2)}, IMAGE, {"conv2d": 1}),
    "pad_with_value": (lambda m, x: m.c(F.pad(x, (0, 1, 2, 3), value=1.0)), {"c": conv()}, IMAGE, {"pad": 1, "conv2d": 1}),
    "pad_read_twice": (
        lambda m, x: m.c(y := F.pad(x, (1, 1, 1, 1))) + y[:, :1, 1:-1, 1:-1],
        {"c": conv()},
        IMAGE,
        {"pad": 1, "conv2d": 1, "slice": 3, "add": 1},
    ),
    "pad_channels": (
        lambda m, x: m.c(x)[:, :, ::2, ::2] + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)),
        {"c": conv(padding=1)},
        IMAGE,
        {"conv2d": 1, "max_pool": 4, "cat": 1, "add": 1},
    ),
    "pad_max_pool": (
        lambda m, x: m.c(F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)),
        {"c": nn.Conv2d(4, 2, 1)},
        IMAGE,
        {"pad": 1, "max_pool": 1, "conv2d": 1},
    ),
    "weight_standardisation": (
        lambda m, x: F.conv2d(
            x, (m.w - m.w.mean((1, 2, 3), keepdim=True)) / m.w.std((1, 2, 3), keepdim=True) * m.g, None, padding=1
        ),
        {"w": nn.Parameter(torch.randn(6, 4, 3, 3)), "g": nn.Parameter(torch.randn(6, 1, 1, 1))},
        IMAGE,
        {"conv2d": 1},
    ),
    "summed_kernels": (
        lambda m, x: F.conv2d(x, m.c.weight + F.pad(m.d.weight, (1, 1, 1, 1)), m.c.bias + m.d.bias, padding=1),
        {"c": conv(), "d": nn.Conv2d(4, 6, 1)},
        IMAGE,
        {"conv2d": 1},
    ),
    "scalars_fold": (lambda m, x: ((m.c(x) + 3) * 2 - 1) / 4, {"c": conv()}, IMAGE, {"conv2d": 1}),
    "number_minus": (lambda m, x: 1 - m.c(x), {"c": conv()}, IMAGE, {"conv2d": 1}),
    "hand_made_hardswish": (
        lambda m, x: (y := m.c(x)) * F.relu6(y + 3) / 6,
        {"c": conv()},
        IMAGE,
        {"conv2d": 1, "affine": 2, "mul": 1},
    ),
    "layer_scale": (
        lambda m, x: m.c(x) * m.g,
        {"c": conv(), "g": nn.Parameter(torch.randn(1, 6, 1, 1))},
        IMAGE,
        {"conv2d": 1},
    ),
    "constant_plane": (
        lambda m, x: m.c(x + m.p) * m.q,
        {"c": conv(), "p": torch.randn(1, 4, 9, 8), "q": torch.randn(7, 6)},
        IMAGE,
        {"add": 1, "conv2d": 1, "mul": 1},
    ),
    "subtract_scaled": (
        lambda m, x: torch.sub(m.c(x), m.d(x), alpha=2),
        {"c": conv(), "d": conv()},
        IMAGE,
        {"conv2d": 2, "add": 1},
    ),
    "square": (
        lambda m, x: m.c(x) ** 2 - x[:, :1, 2:, 2:].square(),
        {"c": conv()},
        IMAGE,
        {"conv2d": 1, "slice": 3, "mul": 2, "affine": 1, "add": 1},
    ),
    "squeeze_excite": (
        lambda m, x: x * F.hardsigmoid(m.e(F.relu(m.r(x.mean((2, 3), keepdim=True))))),
        {"r": nn.Conv2d(4, 2, 1), "e": nn.Conv2d(2, 4, 1)},
        IMAGE,
        {"adaptive_avg_pool": 1, "conv2d": 2, "mul": 1},
    ),
    "squeeze_excite_linear": (
        lambda m, x: (
            x * m.e(m.r(F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1)).relu()).sigmoid().view(-1, 4, 1, 1).expand_as(x)
        ),
        {"r": nn.Linear(4, 2), "e": nn.Linear(2, 4)},
        IMAGE,
        {"adaptive_avg_pool": 1, "reshape": 2, "linear": 2, "mul": 1},
    ),
    "coordinate_gate": (
        lambda m, x: m.c(x * x.mean(3, keepdim=True).sigmoid() * x.mean(2, keepdim=True).sigmoid()),
        {"c": conv()},
        IMAGE,
        {"avg_pool": 2, "activation": 2, "mul": 2, "conv2d": 1},
    ),
    "mean_without_axes": (
        lambda m, x: m.l(x.mean([2, 3])),
        {"l": nn.Linear(4, 3)},
        IMAGE,
        {"adaptive_avg_pool": 1, "reshape": 1, "linear": 1},
    ),
    "channel_shuffle": (
        lambda m, x: m.c(F.channel_shuffle(x, 2)),
        {"c": conv()},
        IMAGE,
        {"reshape": 2, "permute": 1, "conv2d": 1},
    ),
    "pixel_shuffles": (
        lambda m, x: F.pixel_unshuffle(m.c(F.pixel_shuffle(x, 2)), 2),
        {"c": nn.Conv2d(1, 2, 3, padding=1)},
        IMAGE,
        {"reshape": 4, "permute": 2, "conv2d": 1},
    ),
    "split_and_cat": (
        lambda m, x: torch.cat([m.c(b) for b in x.split([2, 2], 1)] + list(x.chunk(3, 1)) + [x[:, 3:]], 1),
        {"c": nn.Conv2d(2, 3, 1)},
        IMAGE,
        {"slice": 5, "conv2d": 2, "cat": 1},
    ),
    "select_and_unbind": (
        lambda m, x: m.c(x.unsqueeze(1).squeeze(1))[:, 0].unsqueeze(1) + sum(p.unsqueeze(1) for p in m.c(x).unbind(1)),
        {"c": nn.Conv2d(4, 2, 1)},
        IMAGE,
        {"conv2d": 2, "slice": 3, "affine": 1, "add": 2},
    ),
    "constant_token": (
        lambda m, x: m.l(torch.cat([m.t.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1) + m.p),
        {"l": nn.Linear(4, 3), "t": nn.Parameter(torch.randn(1, 1, 4)), "p": torch.randn(1, 73, 4)},
        IMAGE,
        {"reshape": 1, "permute": 1, "cat": 1, "add": 1, "linear": 1},
    ),
    "matmul_with_constant": (
        lambda m, x: torch.addmm(m.b, x.flatten(1) @ m.v, m.w),
        {"v": torch.randn(288, 4), "w": torch.randn(4, 3), "b": torch.randn(3)},
        IMAGE,
        {"reshape": 1, "linear": 2},
    ),
    "max_pool": (
        lambda m, x: m.c(F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
        {"c": nn.Conv2d(4, 2, 1)},
        IMAGE,
        {"max_pool": 1, "conv2d": 1},
    ),
    "max_pool_dilated": (
        lambda m, x: m.c(F.max_pool2d(x, (2, 3), (1, 2), (0, 1), (2, 1))),
        {"c": nn.Conv2d(4, 2, 1)},
        IMAGE,
        {"max_pool": 1, "conv2d": 1},
    ),
    "avg_pool": (
        lambda m, x: (
            m.c(F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False))
            + F.avg_pool2d(x[:, :1], 3, 2, 1, True, True, 5)
        ),
        {"c": nn.Conv2d(4, 2, 1)},
        IMAGE,
        {"avg_pool": 2, "slice": 1, "conv2d": 1, "add": 1},
    ),
    "avg_pool_of_everything": (
        lambda m, x: m.c(F.avg_pool2d(x, (9, 8))),
        {"c": nn.Conv2d(4, 2, 1)},
        IMAGE,
        {"adaptive_avg_pool": 1, "conv2d": 1},
    ),
    "adaptive_pools": (
        lambda m, x: m.c(F.adaptive_avg_pool2d(x, (3, None))) + F.adaptive_max_pool2d(x[:, :2], (3, 8)),
        {"c": nn.Conv2d(4, 2, 1)},
        IMAGE,
        {"adaptive_avg_pool": 1, "conv2d": 1, "slice": 1, "max_pool": 1, "add": 1},
    ),
    "adaptive_pool_of_same_size": (lambda m, x: m.c(F.adaptive_avg_pool2d(x, (9, 8))), {"c": conv()}, IMAGE, {"conv2d": 1}),
    "identities": (
        lambda m, x: m.d(m.i(m.c(x).contiguous().clone().detach())).to(torch.float32),
        {"c": conv(), "d": nn.Dropout2d(0.5), "i": nn.Identity()},
        IMAGE,
        {"conv2d": 1},
    ),
    "clamps": (
        lambda m, x: m.c(x).clamp(min=0) + m.c(x).clamp(-1, 1) + m.c(x).clamp(max=0.5) + F.hardtanh(m.c(x), -2, 1),
        {"c": conv()},
        IMAGE,
        {"conv2d": 4, "add": 3},
    ),
    "conv1d": (
        lambda m, x: m.l(m.p(F.relu(m.b(m.d(F.pad(F.relu(m.b(m.c(x))), (1, 0)))))).flatten(1)),
        {
            "c": nn.Conv1d(3, 4, 3, 2, 1),
            "b": nn.BatchNorm1d(4),
            "d": nn.Conv1d(4, 4, 4, padding="same"),
            "p": nn.MaxPool1d(2),
            "l": nn.Linear(16, 2),
        },
        (3, 14),
        {"reshape": 2, "conv2d": 2, "max_pool": 1, "linear": 1},
    ),
    "pools1d": (
        lambda m, x: m.c(F.adaptive_avg_pool1d(F.avg_pool1d(x, 2, 2, 1), 3)).mean(2),
        {"c": nn.Conv1d(3, 4, 1)},
        (3, 14),
        {"reshape": 2, "avg_pool": 1, "conv2d": 1, "adaptive_avg_pool": 2},
    ),
    "two_dimensional_input": (
        lambda m, x: m.b(F.relu(m.a(x))),
        {"a": nn.Linear(6, 5), "b": nn.Linear(5, 3)},
        (6,),
        {"linear": 2},
    ),
    "linear_over_tokens": (lambda m, x: m.b(F.gelu(m.a(x))), {"a": nn.Linear(6, 5), "b": nn.Linear(5, 3)}, (7, 6), {"linear": 2}),
    "input_changed_in_place": (lambda m, x: m.c(x.relu_()), {"c": conv()}, IMAGE, {"activation": 1, "conv2d": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_operations(function_model: Callable[..., nn.Module], case: str) -> None:
    torch.manual_seed(0)
    function, parts, shape, expected = CASES[case]
    model = function_model(function, **parts)
    network = capture(model, torch.randn(1, *shape))
    assert kinds(network) == expected
    assert_well_formed(network)
    assert_same(network, model, shape)


ACTIVATIONS: dict[str, tuple[nn.Module, Activation]] = {
    "relu": (nn.ReLU(), Activation("relu")),
    "relu6": (nn.ReLU6(), Activation("clamp", (0.0, 6.0))),
    "hardtanh": (nn.Hardtanh(-1, 2), Activation("clamp", (-1.0, 2.0))),
    "leaky_relu": (nn.LeakyReLU(0.3), Activation("leaky_relu", (0.3,))),
    "hardswish": (nn.Hardswish(), Activation("hardswish")),
    "hardsigmoid": (nn.Hardsigmoid(), Activation("hardsigmoid")),
    "silu": (nn.SiLU(), Activation("silu")),
    "sigmoid": (nn.Sigmoid(), Activation("sigmoid")),
    "gelu": (nn.GELU(), Activation("gelu")),
    "gelu_tanh": (nn.GELU("tanh"), Activation("gelu_tanh")),
    "tanh": (nn.Tanh(), Activation("tanh")),
    "elu": (nn.ELU(0.7), Activation("elu", (0.7,))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_fused_only_into_a_sole_reader(function_model: Callable[..., nn.Module], name: str) -> None:
    module, activation = ACTIVATIONS[name]
    model = function_model(lambda m, x: m.a(m.c(x)) + m.a(m.a(x[:, :1, 2:, 2:])), c=conv(), a=module)
    network = capture(model, torch.randn(1, *IMAGE))
    assert network.op("c").activation == activation
    alone = [op for op in network.ops if op.kind == "activation"]
    assert [op.activation for op in alone] == [activation, activation]
    assert_same(network, model, IMAGE)


def test_padding_is_top_left_bottom_right(function_model: Callable[..., nn.Module]) -> None:
    model = function_model(lambda m, x: m.c(F.pad(x, (1, 2, 3, 4))), c=conv(padding=(1, 0)))
    assert capture(model, torch.randn(1, *IMAGE)).op("c").attributes["padding"] == (4, 1, 5, 2)


def test_names_are_module_paths_and_stable(function_model: Callable[..., nn.Module]) -> None:
    parts = {"body": nn.Sequential(nn.Conv2d(3, 3, 1), nn.MaxPool2d(2)), "twice": nn.Conv2d(3, 3, 1)}
    model = function_model(lambda m, x: m.twice(m.twice(y := m.body(x))) + y, **parts)
    names = [op.name for op in capture(model, torch.randn(1, 3, 4, 4)).ops]
    assert names == ["body.0", "body.1", "twice.conv2d", "twice.conv2d_1", "add"]
    assert names == [op.name for op in capture(model, torch.randn(1, 3, 4, 4)).ops]


def test_names_never_clash_with_tensors(function_model: Callable[..., nn.Module]) -> None:
    parts = {"weight": nn.Conv2d(3, 3, 1), "input": nn.Conv2d(3, 3, 1), "é": nn.Conv2d(3, 3, 1)}
    model = function_model(lambda m, x: m.é(m.input(m.weight(x))), **parts)
    network = capture(model, torch.randn(1, 3, 4, 4))
    assert [op.name for op in network.ops] == ["weight_1", "input_1", "_"]
    assert_well_formed(network)


def test_model_and_example_are_left_alone(function_model: Callable[..., nn.Module]) -> None:
    model = function_model(lambda m, x: m.b(m.c(x.relu_())), c=conv(), b=nn.BatchNorm2d(6))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    example = torch.randn(1, *IMAGE)
    copy = example.clone()
    network = capture(model, example)
    for tensor in network.tensors.values():
        tensor.zero_()
    assert torch.equal(example, copy)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


REFUSED: dict[str, tuple[Function, dict[str, nn.Module | Tensor], str]] = {
    "unknown_op": (
        lambda m, x: m.c(F.instance_norm(x)),
        {"c": conv()},
        r"aten\.instance_norm\.default \(node \w+, in the model itself\)",
    ),
    "unknown_op_in_module": (
        lambda m, x: m.n(m.c(x)),
        {"c": conv(), "n": nn.LayerNorm(6)},
        r"aten\.layer_norm\.default .*in module n\)",
    ),
    "two_unknown_ops": (
        lambda m, x: F.softmax(F.layer_norm(x, (8,)), 1).cumsum(1),
        {},
        r"layer_norm.*nor are aten\.softmax.*cumsum",
    ),
    "batch_mean": (lambda m, x: x - x.mean(0, keepdim=True), {}, "means"),
    "batch_flip": (lambda m, x: m.c(x).transpose(0, 1), {"c": conv()}, "batch axis"),
    "batch_reshape": (lambda m, x: m.c(x).reshape(-1), {"c": conv()}, "batch axis"),
    "batch_fold": (lambda m, x: m.c(x).flatten(0, 1), {"c": conv()}, "batch axis"),
    "batch_slice": (lambda m, x: m.c(x)[:1], {"c": conv()}, "batch axis"),
    "batch_cat": (lambda m, x: torch.cat([x, x], 0), {}, "batch axis"),
    "batch_broadcast": (lambda m, x: x + x.mean((2, 3)).view(-1, 9, 1), {}, "batch axis|trace|cannot run"),
    "training_norm": (lambda m, x: F.batch_norm(x, None, None, training=True), {}, "batch_norm"),
    "reflection_pad": (lambda m, x: m.c(F.pad(x, (1, 1, 1, 1), mode="reflect")), {"c": conv()}, "reflect"),
    "divide_by_value": (lambda m, x: x / (x.sigmoid() + 1), {}, "divides"),
    "double": (lambda m, x: m.c(x).double().float(), {"c": conv()}, "float64"),
    "dynamic_weight": (lambda m, x: F.linear(x, x.mean((2, 3))[0:1].expand(8, 8)), {}, "batch axis|weight|cannot run"),
    "two_outputs": (lambda m, x: (x, m.c(x)), {"c": conv()}, "returns a tuple"),
    "constant_output": (lambda m, x: m.c.bias * 2, {"c": conv()}, "not computed from its input"),
    "identity": (lambda m, x: x.clone(), {}, "not computed from its input"),
    "data_dependent": (lambda m, x: m.c(x) if x.sum() > 0 else x, {"c": conv()}, "cannot trace the model"),
    "changed_buffer": (lambda m, x: m.c(x) + m.n.add_(1), {"c": conv(), "n": torch.zeros(1)}, "buffers"),
    "random": (lambda m, x: m.c(x) * torch.rand(1, 6, 1, 1), {"c": conv()}, "deterministic"),
    "not_finite": (lambda m, x: m.c(x) / m.z, {"c": conv(), "z": torch.zeros(1)}, "finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_captured_is_refused_with_one_clear_error(function_model: Callable[..., nn.Module], case: str) -> None:
    function, parts, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        capture(function_model(function, **parts), torch.randn(1, *IMAGE))


def test_example_must_fit_the_model() -> None:
    with pytest.raises(UserError, match=r"cannot run on the example of shape \(1, 5, 9, 9\) in module 0"):
        capture(nn.Sequential(conv()).eval(), torch.randn(1, 5, 9, 9))
    with pytest.raises(UserError, match=r"cannot run on the example.*missing 1 required.*must take one tensor"):
        capture(nn.Bilinear(4, 4, 2).eval(), torch.randn(1, 4))
    with pytest.raises(UserError, match="float32 tensor"):
        capture(nn.Sequential(conv()).eval(), torch.zeros(1, 4, 9, 9, dtype=torch.int64))


def test_training_mode_and_other_types_are_refused() -> None:
    model = nn.Sequential(conv()).eval()
    model[0].train()
    with pytest.raises(UserError, match=r"module 0 is in training mode"):
        capture(model, torch.randn(1, *IMAGE))
    with pytest.raises(UserError, match=r"0\.weight is torch\.float64"):
        capture(nn.Sequential(conv()).double().eval(), torch.randn(1, *IMAGE))


@settings(max_examples=16, deadline=None, derandomize=True)
@given(seed=st.integers(0, 15))
def test_random_networks(random_cnn: Callable[[int], tuple[nn.Module, Network]], seed: int) -> None:
    model, network = random_cnn(seed)
    assert_well_formed(network)
    assert_same(network, model, (3, 12, 12))
