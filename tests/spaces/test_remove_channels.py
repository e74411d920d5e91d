from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autocompress.errors import UserError
from autocompress.spaces.capture import capture
from autocompress.spaces.execute import run
from autocompress.spaces.groups import Group, find_groups
from autocompress.spaces.layers import find_layers
from autocompress.spaces.network import INPUT, Network
from autocompress.spaces.remove_channels import permute_channels, remove_channels


def random_choice(groups: tuple[Group, ...], seed: int) -> dict[str, Tensor]:
    """A random non-empty part of the channels of every group that can lose some."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for group in groups:
        if not group.frozen and group.channels > 1:
            count = int(torch.randint(1, group.channels, (1,), generator=generator))
            kept[group.name] = torch.randperm(group.channels, generator=generator)[:count].sort().values
    return kept


def with_zero_columns(network: Network, groups: tuple[Group, ...], kept: Mapping[str, Tensor]) -> Network:
    """`network` where no consumer reads a removed channel."""
    tensors = dict(network.tensors)
    for group in groups:
        for span in group.consumers:
            weight = tensors[f"{span.op}.weight"].clone()
            remaining = set(kept[group.name].tolist()) if group.name in kept else set(range(group.channels))
            for channel in set(range(group.channels)) - remaining:
                start = span.offset + channel * span.repeat
                weight[:, start : start + span.repeat] = 0
            tensors[f"{span.op}.weight"] = weight
    return replace(network, tensors=tensors)


def assert_removal_is_exact(network: Network, seed: int) -> dict[str, Tensor]:
    groups = find_groups(network)
    kept = random_choice(groups, seed)
    small = remove_channels(network, groups, kept)
    x = torch.randn(2, *network.shapes[INPUT], generator=torch.Generator().manual_seed(seed))
    shapes: dict[str, tuple[int, ...]] = {INPUT: network.shapes[INPUT]}
    with torch.no_grad():
        wanted = run(with_zero_columns(network, groups, kept), x)
        got = run(small, x, lambda op, _, y: shapes.update({op.name: tuple(y.shape[1:])}))
    assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert float(wanted.abs().max()) > 0
    assert shapes == dict(small.shapes)
    assert [op.name for op in small.ops] == [op.name for op in network.ops]
    sizes = {layer.name: layer.out_channels for layer in find_layers(small)}
    for group in groups:
        for span in group.producers:
            if len(group.producers) == 1 and span.repeat == 1 and span.offset == 0 and group.name in kept:
                assert sizes[span.op] == len(kept[group.name])
    return kept


@pytest.mark.parametrize(
    "name",
    ["mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "efficientnet_lite0", "resnet18", "resnet50"],
)
def test_timm_models(timm_model: Callable[[str], tuple[nn.Module, Network]], name: str) -> None:
    network = timm_model(name)[1]
    before = {key: tensor.clone() for key, tensor in network.tensors.items()}
    assert len(assert_removal_is_exact(network, 1)) >= 12
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.tensors.items())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(network_seed=st.integers(0, 15), seed=st.integers(0, 100))
def test_random_networks(random_cnn: Callable[[int], tuple[nn.Module, Network]], network_seed: int, seed: int) -> None:
    assert_removal_is_exact(random_cnn(network_seed)[1], seed)


def test_every_kind_of_place(function_model: Callable[..., nn.Module]) -> None:
    """Concatenation, aligned slices, members, depthwise multipliers, tokens, constants and a flatten in one network."""

    def function(m: nn.Module, x: Tensor) -> Tensor:
        y = F.relu(m.n(torch.cat([m.a(x), m.b(x)], 1))) + m.k
        y = m.d(y)
        z = m.c(y) + m.e(y[:, 8:]) * m.g
        tokens = m.t(z.flatten(2).transpose(1, 2)) + m.s
        return m.h(torch.cat([tokens.flatten(1), m.p(z).flatten(1)], 1))

    model = function_model(
        function,
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(3, 6, 1),
        n=nn.BatchNorm2d(10),
        k=torch.randn(10, 5, 5),
        d=nn.Conv2d(10, 20, 3, groups=10),
        c=nn.Conv2d(20, 5, 1),
        e=nn.Conv2d(12, 5, 1),
        g=torch.randn(5, 3, 3),
        t=nn.Linear(5, 7),
        s=torch.randn(9, 7),
        p=nn.MaxPool2d(2),
        h=nn.Linear(9 * 7 + 5, 3),
    )
    network = capture(model, torch.randn(1, 3, 5, 5))
    for seed in range(5):
        assert set(assert_removal_is_exact(network, seed)) == {"a", "b", "c"}


def test_nothing_named_changes_nothing(timm_model: Callable[[str], tuple[nn.Module, Network]]) -> None:
    network = timm_model("resnet18")[1]
    same = remove_channels(network, find_groups(network), {})
    assert same.ops == network.ops
    assert same.shapes == network.shapes
    assert same.tensors.keys() == network.tensors.keys()
    assert all(torch.equal(same.tensors[key], tensor) for key, tensor in network.tensors.items())


@pytest.mark.parametrize(
    ("name", "indices", "message"),
    [
        ("nothing", [0], "no group nothing"),
        ("fc", [0], r"fc are fixed \(they are the network's output\)"),
        ("conv1", [], "at least one"),
        ("conv1", [1, 0], "sorted"),
        ("conv1", [1, 1], "unique"),
        ("conv1", [63, 64], r"\[0, 64\)"),
        ("conv1", [-1, 3], r"\[0, 64\)"),
    ],
)
def test_bad_choices(timm_model: Callable[[str], tuple[nn.Module, Network]], name: str, indices: list[int], message: str) -> None:
    network = timm_model("resnet18")[1]
    with pytest.raises(UserError, match=message):
        remove_channels(network, find_groups(network), {name: torch.tensor(indices, dtype=torch.int64)})


def assert_permutation_is_exact(network: Network, seed: int) -> dict[str, Tensor]:
    """Every Group that may change its order gets a random one; each tensor then holds what it held, perhaps in another order."""
    groups = find_groups(network)
    generator = torch.Generator().manual_seed(seed)
    orders = {g.name: torch.randperm(g.channels, generator=generator) for g in groups if not g.frozen}
    permuted = permute_channels(network, groups, orders)
    x = torch.randn(2, *network.shapes[INPUT], generator=generator)
    values: dict[str, Tensor] = {}
    with torch.no_grad():
        wanted = run(network, x, lambda op, _, y: values.update({op.name: y}))
        got = run(permuted, x, lambda op, _, y: assert_same_values(y, values[op.name]))
    assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert float(wanted.abs().max()) > 0
    assert permuted.ops == network.ops
    assert permuted.shapes == network.shapes
    assert find_groups(permuted) == groups
    return orders


def assert_same_values(permuted: Tensor, original: Tensor) -> None:
    a, b = permuted.flatten().sort().values, original.flatten().sort().values
    assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())


@pytest.mark.parametrize(
    "name",
    ["mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "efficientnet_lite0", "resnet18"],
)
def test_channels_in_another_order_compute_the_same(timm_model: Callable[[str], tuple[nn.Module, Network]], name: str) -> None:
    network = timm_model(name)[1]
    before = {key: tensor.clone() for key, tensor in network.tensors.items()}
    orders = assert_permutation_is_exact(network, 1)
    assert len(orders) >= 12
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.tensors.items())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(network_seed=st.integers(0, 15), seed=st.integers(0, 100))
def test_random_networks_in_another_order(
    random_cnn: Callable[[int], tuple[nn.Module, Network]], network_seed: int, seed: int
) -> None:
    """Concatenations, slices, shuffles and gates among them."""
    assert_permutation_is_exact(random_cnn(network_seed)[1], seed)


def test_concatenated_and_shuffled_channels_in_another_order(function_model: Callable[..., nn.Module]) -> None:
    """Concatenated channels keep to their parts, shuffled ones stay as they are."""

    def function(m: nn.Module, x: Tensor) -> Tensor:
        y = m.c(torch.cat([m.a(x), m.b(x)], 1)).relu()
        return m.h(m.e(F.channel_shuffle(y, 2)).flatten(1))

    parts = {"a": nn.Conv2d(3, 8, 1), "b": nn.Conv2d(3, 4, 3, padding=1), "c": nn.Conv2d(12, 8, 1)}
    model = function_model(function, **parts, e=nn.Conv2d(8, 6, 1), h=nn.Linear(6 * 16, 3))
    network = capture(model, torch.randn(1, 3, 4, 4))
    for seed in range(5):
        assert set(assert_permutation_is_exact(network, seed)) == {"a", "b", "e"}


@pytest.mark.parametrize(
    ("name", "indices", "message"),
    [
        ("nothing", [0], "no group nothing"),
        ("fc", [0], r"fc are fixed \(they are the network's output\)"),
        ("conv1", [*range(63)], "0 to 63 once"),
        ("conv1", [*range(63), 62], "0 to 63 once"),
        ("conv1", [*range(1, 65)], "0 to 63 once"),
    ],
)
def test_bad_orders(timm_model: Callable[[str], tuple[nn.Module, Network]], name: str, indices: list[int], message: str) -> None:
    network = timm_model("resnet18")[1]
    with pytest.raises(UserError, match=message):
        permute_channels(network, find_groups(network), {name: torch.tensor(indices, dtype=torch.int64)})
