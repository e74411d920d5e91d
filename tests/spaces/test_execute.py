from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autocompress.spaces.execute import apply_activation, run, run_op
from autocompress.spaces.network import INPUT, Activation, Network, Op

FLOAT_MAX = torch.finfo(torch.float32).max


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (Activation(), [-4.0, -1.0, 0.0, 1.0, 8.0]),
        (Activation("relu"), [0.0, 0.0, 0.0, 1.0, 8.0]),
        (Activation("clamp", (0.0, 6.0)), [0.0, 0.0, 0.0, 1.0, 6.0]),
        (Activation("clamp", (-FLOAT_MAX, 0.5)), [-4.0, -1.0, 0.0, 0.5, 0.5]),
        (Activation("hardswish"), [0.0, -1 / 3, 0.0, 2 / 3, 8.0]),
        (Activation("hardsigmoid"), [0.0, 1 / 3, 0.5, 2 / 3, 1.0]),
        (Activation("leaky_relu", (0.5,)), [-2.0, -0.5, 0.0, 1.0, 8.0]),
        (Activation("silu"), [-0.0719448, -0.2689414, 0.0, 0.7310586, 7.9973173]),
        (Activation("sigmoid"), [0.0179862, 0.2689414, 0.5, 0.7310586, 0.9996647]),
        (Activation("tanh"), [-0.9993293, -0.7615942, 0.0, 0.7615942, 0.9999998]),
        (Activation("gelu"), [-0.0001267, -0.1586553, 0.0, 0.8413447, 8.0]),
        (Activation("gelu_tanh"), [-0.0000702, -0.1588080, 0.0, 0.8411920, 8.0]),
        (Activation("elu", (2.0,)), [-1.9633687, -1.2642411, 0.0, 1.0, 8.0]),
    ],
)
def test_activations(activation: Activation, expected: list[float]) -> None:
    x = torch.tensor([-4.0, -1.0, 0.0, 1.0, 8.0])
    torch.testing.assert_close(apply_activation(activation, x), torch.tensor(expected), atol=1e-6, rtol=1e-6)


def conv_op(padding: tuple[int, int, int, int], activation: Activation = Activation()) -> Op:  # noqa: B008
    attributes = {"stride": (2, 1), "padding": padding, "dilation": (1, 2), "groups": 2, "activation": activation}
    return Op("c", "conv2d", (INPUT,), attributes)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(padding=st.tuples(*[st.integers(0, 3)] * 4), seed=st.integers(0, 100))
def test_convolution_with_any_padding(padding: tuple[int, int, int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, 7, 8, generator=generator)
    tensors = {"c.weight": torch.randn(6, 2, 3, 2, generator=generator), "c.bias": torch.randn(6, generator=generator)}
    top, left, bottom, right = padding
    padded = torch.zeros(2, 4, 7 + top + bottom, 8 + left + right)
    padded[:, :, top : top + 7, left : left + 8] = x
    wanted = F.conv2d(padded, tensors["c.weight"], tensors["c.bias"], (2, 1), 0, (1, 2), 2).relu()
    got = run_op(conv_op(padding, Activation("relu")), [x], tensors)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "groups"), [("conv2d", 1), ("conv2d", 4), ("linear", 1)])
def test_autocast_halves_products_alone(kind: str, groups: int) -> None:
    """Outputs stay float32, biases are added in it, and groups are computed in it: large biases keep all digits."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 6, 6, generator=generator) if kind == "conv2d" else torch.randn(2, 8, generator=generator)
    shape = (12, 8 // groups, 3, 3) if kind == "conv2d" else (12, 8)
    bias = 1000.0 + torch.rand(12, generator=generator)
    tensors = {"c.weight": torch.randn(*shape, generator=generator), "c.bias": bias}
    attributes = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": groups, "activation": Activation()}
    op = Op("c", kind, (INPUT,), attributes)
    wanted = run_op(op, [x], tensors)
    with torch.autocast("cpu", torch.bfloat16):
        got = run_op(op, [x], tensors)
    assert got.dtype == torch.float32
    worst = float((got - wanted).abs().max())
    assert (worst < 1e-3) if groups > 1 else (1e-3 < worst < 0.3)


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 1, 1, 2)])
def test_channels_last_is_kept(padding: tuple[int, int, int, int]) -> None:
    x = torch.randn(2, 4, 7, 8).contiguous(memory_format=torch.channels_last)
    tensors = {"c.weight": torch.randn(6, 2, 3, 2), "c.bias": torch.randn(6)}
    y = run_op(conv_op(padding), [x], tensors)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, run_op(conv_op(padding), [x.contiguous()], tensors), atol=1e-5, rtol=1e-5)


def test_reshape_and_permute_do_not_depend_on_the_memory_format() -> None:
    ops = (
        Op("split", "reshape", (INPUT,), {"shape": (2, 2, 3, 5)}),
        Op("swap", "permute", ("split",), {"axes": (1, 0, 2, 3)}),
        Op("join", "reshape", ("swap",), {"shape": (60,)}),
    )
    shapes = {INPUT: (4, 3, 5), "split": (2, 2, 3, 5), "swap": (2, 2, 3, 5), "join": (60,)}
    x = torch.randn(2, 4, 3, 5)
    wanted = x[:, [0, 2, 1, 3]].flatten(1)
    network = Network(ops, {}, shapes, "join")
    assert torch.equal(run(network, x), wanted)
    assert torch.equal(run(network, x.contiguous(memory_format=torch.channels_last)), wanted)


def chain() -> Network:
    """((x + 1) * 2 + shared) with a constant concatenated, shared being x + 1."""
    ops = (
        Op("one", "affine", (INPUT,), {"activation": Activation()}),
        Op("two", "affine", ("one",), {"activation": Activation()}),
        Op("sum", "add", ("two", "one"), {"activation": Activation("clamp", (0.0, 7.0))}),
        Op("all", "cat", ("sum", "all.constant"), {"axis": 0}),
    )
    tensors = {
        "one.weight": torch.ones(2),
        "one.bias": torch.ones(2),
        "two.weight": torch.full((2,), 2.0),
        "two.bias": torch.zeros(2),
        "all.constant": torch.tensor([9.0]),
    }
    return Network(ops, tensors, {INPUT: (2,), "one": (2,), "two": (2,), "sum": (2,), "all": (3,)}, "all")


def test_run_and_observe() -> None:
    seen: list[tuple[str, list[list[list[float]]], list[list[float]]]] = []
    output = run(
        chain(),
        torch.tensor([[0.0, 1.0], [2.0, -1.0]]),
        lambda op, i, y: seen.append((op.name, [t.tolist() for t in i], y.tolist())),
    )
    assert output.tolist() == [[3.0, 6.0, 9.0], [7.0, 0.0, 9.0]]
    assert [name for name, _, _ in seen] == ["one", "two", "sum", "all"]
    assert seen[2][1:] == ([[[2.0, 4.0], [6.0, 0.0]], [[1.0, 2.0], [3.0, 0.0]]], [[3.0, 6.0], [7.0, 0.0]])
    assert seen[3][1][1] == [[9.0]]


def test_tensors_are_freed_after_their_last_use() -> None:
    alive: dict[str, weakref.ref[Tensor]] = {}
    living: dict[str, set[str]] = {}

    def observe(op: Op, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        alive[op.name] = weakref.ref(output)
        living[op.name] = {name for name, reference in alive.items() if reference() is not None}

    run(chain(), torch.zeros(1, 2), observe)
    assert living == {"one": {"one"}, "two": {"one", "two"}, "sum": {"one", "two", "sum"}, "all": {"sum", "all"}}
