from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autocompress.spaces.capture import capture
from autocompress.spaces.groups import Group, Span, find_groups
from autocompress.spaces.layers import find_layers
from autocompress.spaces.network import Network

Function = Callable[[nn.Module, Tensor], object]
ModelOf = Callable[..., nn.Module]


def conv(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, **options)


def groups_of(model: nn.Module, shape: tuple[int, ...] = (3, 4, 4)) -> dict[str, Group]:
    return {group.name: group for group in find_groups(capture(model, torch.randn(1, *shape)))}


def test_a_chain_with_depthwise_and_head(function_model: ModelOf) -> None:
    parts = {"a": conv(3, 4), "d": nn.Conv2d(4, 8, 3, groups=4), "b": conv(8, 5), "l": nn.Linear(20, 2)}
    groups = groups_of(function_model(lambda m, x: m.l(m.b(m.d(m.a(x).relu())).flatten(1)), **parts))
    assert groups == {
        "a": Group("a", 4, (Span("a"), Span("d", 0, 2)), (Span("b", 0, 2),)),
        "b": Group("b", 5, (Span("b"),), (Span("l", 0, 4),)),
        "l": Group("l", 2, (Span("l"),), (), (), "they are the network's output"),
    }


def test_residual_adds_join_and_norms_are_members(function_model: ModelOf) -> None:
    parts = {"a": conv(3, 4), "n": nn.BatchNorm2d(4), "b": conv(4, 4), "c": conv(4, 2), "k": torch.randn(1, 4, 4, 4)}
    groups = groups_of(function_model(lambda m, x: m.c((y := m.a(x)) * m.k + m.b(F.relu(m.n(y)))), **parts))
    members = (Span("mul.constant"), Span("n"))
    assert groups["a"] == Group("a", 4, (Span("a"), Span("b")), (Span("b"), Span("c")), members)
    assert set(groups) == {"a", "c"}


def test_squeeze_excite_gate_joins(function_model: ModelOf) -> None:
    parts = {"a": conv(3, 4), "r": conv(4, 2), "e": nn.Linear(2, 4), "c": conv(4, 2)}
    groups = groups_of(
        function_model(
            lambda m, x: m.c((y := m.a(x)) * m.e(m.r(y.mean((2, 3), True)).flatten(1)).sigmoid().view(-1, 4, 1, 1)), **parts
        )
    )
    assert groups["a"] == Group("a", 4, (Span("a"), Span("e")), (Span("r"), Span("c")))
    assert groups["r"] == Group("r", 2, (Span("r"),), (Span("e"),))


def test_concatenation_has_offsets_and_aligned_slices_take_them_back(function_model: ModelOf) -> None:
    parts = {"a": conv(3, 4), "b": conv(3, 2), "c": conv(6, 5), "d": conv(2, 5), "n": nn.BatchNorm2d(6)}
    groups = groups_of(function_model(lambda m, x: m.c(y := m.n(torch.cat([m.a(x), m.b(x)], 1)).relu()) * m.d(y[:, 4:]), **parts))
    assert groups["a"] == Group("a", 4, (Span("a"),), (Span("c"),), (Span("n"),))
    assert groups["b"] == Group("b", 2, (Span("b"),), (Span("c", 4), Span("d")), (Span("n", 4),))
    assert groups["c"].producers == (Span("c"), Span("d"))


def test_tokens_keep_their_channels_behind_a_permute(function_model: ModelOf) -> None:
    parts = {"a": conv(3, 4), "l": nn.Linear(4, 6), "h": nn.Linear(6, 2)}
    groups = groups_of(function_model(lambda m, x: m.h(m.l(m.a(x).flatten(2).transpose(1, 2)).relu()), **parts))
    assert groups["a"] == Group("a", 4, (Span("a"),), (Span("l"),))
    assert groups["l"] == Group("l", 6, (Span("l"),), (Span("h"),))


FROZEN: dict[str, tuple[Function, dict[str, nn.Module | Tensor], dict[str, str]]] = {
    "shuffle": (
        lambda m, x: m.b(F.channel_shuffle(m.a(x), 2)),
        {"a": conv(3, 4), "b": conv(4, 2)},
        {"a": "reshape mixes", "b": "output"},
    ),
    "part": (lambda m, x: m.b(m.a(x)[:, 1:3]), {"a": conv(3, 4), "b": conv(2, 2)}, {"a": "takes a part", "b": "output"}),
    "grouped": (
        lambda m, x: m.c(m.b(m.a(x))),
        {"a": conv(3, 4), "b": conv(4, 6, groups=2), "c": conv(6, 2)},
        {"a": "b is a grouped convolution", "b": "b is a grouped convolution", "c": "output"},
    ),
    "broadcast": (
        lambda m, x: m.c(m.a(x) * m.b(x).sigmoid()),
        {"a": conv(3, 4), "b": conv(3, 1), "c": conv(4, 2)},
        {"a": "", "b": "broadcasts", "c": "output"},
    ),
    "different_order": (
        lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1) + m.d(x)),
        {"a": conv(3, 2), "b": conv(3, 2), "d": conv(3, 4), "c": conv(4, 2)},
        {"a": "different orders", "b": "different orders", "d": "different orders", "c": "output"},
    ),
    "depthwise_of_input": (
        lambda m, x: m.b(m.d(x)),
        {"d": conv(3, 3, groups=3), "b": conv(3, 2)},
        {"d": "network's input", "b": "output"},
    ),
    "added_to_input": (lambda m, x: m.b(x + m.a(x)), {"a": conv(3, 3), "b": conv(3, 2)}, {"a": "network's input", "b": "output"}),
    "across_the_plane": (
        lambda m, x: m.c(m.l(m.a(x))),
        {"a": conv(3, 4), "l": nn.Linear(4, 4), "c": conv(4, 2)},
        {"a": "another axis", "l": "convolves along their axis", "c": "output"},
    ),
}


@pytest.mark.parametrize("case", FROZEN)
def test_frozen_groups_say_why(function_model: ModelOf, case: str) -> None:
    function, parts, expected = FROZEN[case]
    groups = groups_of(function_model(function, **parts))
    assert set(groups) == set(expected)
    for name, reason in expected.items():
        assert (reason in groups[name].frozen) and bool(reason) == bool(groups[name].frozen)


@pytest.mark.parametrize(
    ("name", "free"),
    [
        # As many as Torch-Pruning 1.6.1 finds when the classifier is left out.
        ("mobilenetv2_100", 25),
        ("mobilenetv3_large_100", 30),
        ("mobilenetv4_conv_small", 21),
        ("efficientnet_lite0", 24),
        ("resnet50", 37),
    ],
)
def test_timm_models(timm_model: Callable[[str], tuple[nn.Module, Network]], name: str, free: int) -> None:
    network = timm_model(name)[1]
    groups = find_groups(network)
    assert sum(not group.frozen for group in groups) == free
    assert [group.producers[0].op for group in groups if group.frozen] == [network.output]
    assert_consistent(network, groups)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(seed=st.integers(0, 15))
def test_random_networks(random_cnn: Callable[[int], tuple[nn.Module, Network]], seed: int) -> None:
    network = random_cnn(seed)[1]
    assert_consistent(network, find_groups(network))


def assert_consistent(network: Network, groups: tuple[Group, ...]) -> None:
    """Names are unique; every Layer produces all its channels exactly once, and reads none twice."""
    assert len({group.name for group in groups}) == len(groups)
    for layer in find_layers(network):
        produced = sorted(c for group in groups for span in group.producers if span.op == layer.name for c in places(group, span))
        assert produced == list(range(layer.out_channels))
        read = [c for group in groups for span in group.consumers if span.op == layer.name for c in places(group, span)]
        assert len(read) == len(set(read))
        assert set(read) <= set(range(layer.in_channels))
        assert not (layer.depthwise and read)


def places(group: Group, span: Span) -> range:
    return range(span.offset, span.offset + group.channels * span.repeat)
