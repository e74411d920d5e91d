"""Calls say what torch says: sizes, paddings and activations of layers and pools are those of torch.nn.functional."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.kernels.calls import INTEGERS, REALS, Problem, Quantization, convert, elementwise, layer, pool
from autocompress.kernels.native import run
from autocompress.kernels.packing import pack_depthwise_integer, pack_float, pack_integer, pack_quads, unpack_quads

pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
deterministic = settings(max_examples=60, deadline=None, derandomize=True)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_problem_has_integers_and_reals_only() -> None:
    assert tuple(field.name for field in dataclasses.fields(Problem)) == INTEGERS + REALS


@deterministic
@given(kernel=pair, stride=pair, padding=st.tuples(*[st.integers(0, 2)] * 2), dilation=pair, groups=st.sampled_from([1, 2]))
def test_layers_are_torchs(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], groups: int
) -> None:
    x, weight, bias = normal(1, 4, 9, 11), normal(6, 4 // groups, *kernel), normal(6)
    expected = F.relu6(F.conv2d(x, weight, bias, stride, padding, dilation, groups))
    call = layer(
        pack_float(weight.numpy(), bias.numpy(), "dense", groups=groups),
        x[0].reshape(4, -1).numpy(),
        (9, 11),
        stride=stride,
        dilation=dilation,
        padding=(*padding, *padding),
        activation="clamp",
        constants=(0, 6),
    )
    assert (call.problem.y_height, call.problem.y_width) == tuple(expected.shape[2:])
    np.testing.assert_allclose(run(call), expected[0].reshape(6, -1).numpy(), atol=1e-4)


@deterministic
@given(
    kernel=pair,
    stride=pair,
    padding=st.tuples(*[st.integers(0, 1)] * 2),
    dilation=pair,
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
    divisor=st.sampled_from([None, 5]),
    size=st.tuples(st.integers(7, 12), st.integers(7, 12)),
)
def test_pools_are_torchs(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    size: tuple[int, int],
) -> None:
    assume(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)))
    x = normal(1, 3, *size)
    flat = x[0].reshape(3, -1).numpy()
    largest = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)
    mean = F.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    common: dict[str, Any] = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    max_call = pool("max_pool", flat, size, 3, kernel, dilation=dilation, **common)
    avg_call = pool(
        "avg_pool",
        flat,
        size,
        3,
        kernel,
        count_include_pad=count_include_pad,
        divisor=divisor,
        **common,
    )
    np.testing.assert_array_equal(run(max_call), largest[0].reshape(3, -1).numpy())
    np.testing.assert_allclose(run(avg_call), mean[0].reshape(3, -1).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["none", "relu", "hardswish", "silu", "gelu", "tanh"])
def test_an_int8_layer_is_at_most_one_code_off_its_simulation(name: str) -> None:
    rng = np.random.default_rng(1)
    codes, weight = rng.integers(-128, 128, (12, 49)), rng.integers(-127, 128, (9, 12))
    x_format, y_format, scale, bias = (
        Quantization(0.02, -30),
        Quantization(0.03, -60),
        rng.random(9) * 0.01,
        rng.standard_normal(9),
    )
    real = torch.from_numpy(weight * scale[:, None]) @ torch.from_numpy((codes + 30) * 0.02) + torch.from_numpy(bias)[:, None]
    activated = {
        "none": lambda r: r,
        "relu": F.relu,
        "hardswish": F.hardswish,
        "silu": F.silu,
        "gelu": F.gelu,
        "tanh": torch.tanh,
    }[name](real)
    expected = ((activated / 0.03).round() - 60).clamp(-128, 127).numpy()
    packed = pack_integer(weight, bias, scale * x_format.scale, "dense", x_format.zero_point)
    call = layer(packed, pack_quads(codes.astype(np.int8)), (1, 49), activation=name, y=y_format)
    difference = np.abs(unpack_quads(run(call), 9) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_what_has_no_kernel_is_refused() -> None:
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(UserError, match="no tensors of float64"):
        elementwise("add", x.astype(np.float64), (2, 2), 3)
    with pytest.raises(UserError, match="second input"):
        elementwise("add", x, (2, 2), 3, x2=np.zeros((2, 4), np.float32))
    with pytest.raises(UserError, match="writes int8"):
        layer(pack_depthwise_integer(np.ones((4, 1, 1), int), np.zeros(4), 1.0), np.zeros((1, 4, 4), np.int8), (2, 2))
    with pytest.raises(UserError, match="there is no kernel f32_to_f32"):
        run(convert(x, "f32", (2, 2), 3))
