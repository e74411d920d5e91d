from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autocompress.compressors import channel_order
from autocompress.compressors.channel_order import find_orders, group_alike, order_channels
from autocompress.compressors.pruning import block_sums, to_matrix
from autocompress.spaces.capture import capture
from autocompress.spaces.execute import run
from autocompress.spaces.groups import find_groups
from autocompress.spaces.layers import Layer, find_layers
from autocompress.spaces.network import INPUT, Network
from autocompress.spaces.option import Structure

BLOCK_STRUCTURES: tuple[Structure, ...] = ("block4x1", "block1x4", "block4x4")


def lost(network: Network, layer: Layer, structure: Structure, sparsity: float) -> float:
    """Share of a Layer's squared weights in the blocks that are removed when those with the largest sums stay."""
    squares = to_matrix(network.tensors[f"{layer.name}.weight"]).square()
    sums = block_sums(squares, structure, layer.in_channels).flatten().sort().values
    return float(sums[: round(sparsity * len(sums))].sum() / sums.sum())


def losses(network: Network, structures: Mapping[str, tuple[Structure, ...]], sparsity: float) -> dict[Structure, float]:
    """Mean of `lost` over the Layers that may be pruned in each structure."""
    found: dict[Structure, list[float]] = {}
    for layer in find_layers(network):
        for structure in structures.get(layer.name, ()):
            found.setdefault(structure, []).append(lost(network, layer, structure, sparsity))
    return {structure: sum(values) / len(values) for structure, values in found.items()}


def everywhere(network: Network, structures: tuple[Structure, ...] = BLOCK_STRUCTURES) -> dict[str, tuple[Structure, ...]]:
    return {layer.name: structures for layer in find_layers(network) if layer.groups == 1}


def pair_similarity(similarity: Tensor, order: Tensor) -> float:
    """Sum of the similarities of all pairs that share a block."""
    whole = len(order) // 4 * 4
    blocks = order[:whole].view(-1, 4)
    return float(similarity[blocks[:, :, None], blocks[:, None, :]].sum() - similarity.diagonal()[order[:whole]].sum())


class Hidden(nn.Module):
    """Two convolutions whose channels fall into fours that matter together, told by `order`."""

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(8, 32, 1), nn.Conv2d(32, 24, 1), nn.Conv2d(24, 3, 1)
        for layer in (self.a, self.b, self.c):
            pattern = torch.rand(-(-layer.out_channels // 4), layer.in_channels // 4, generator=generator) < 0.5
            wide = pattern.repeat_interleave(4, 0)[: layer.out_channels].repeat_interleave(4, 1)
            weight = torch.where(wide, 1.0, 0.05) * (1 + 0.1 * torch.rand(wide.shape, generator=generator))
            layer.weight.data = weight[..., None, None]
        self.a.weight.data = self.a.weight.data[order]
        self.b.weight.data = self.b.weight.data[:, order]

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


@pytest.mark.parametrize("structure", BLOCK_STRUCTURES)
def test_blocks_that_were_torn_apart_are_found_again(structure: Structure) -> None:
    torn = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    whole, mixed = (capture(Hidden(order).eval(), torch.randn(1, 8, 2, 2)) for order in (torch.arange(32), torn))
    structures: dict[str, tuple[Structure, ...]] = {"a": (structure,), "b": (structure,)}
    ordered = order_channels(mixed, structures)
    best, before, after = (losses(network, structures, 0.25)[structure] for network in (whole, mixed, ordered))
    assert before > 5 * best
    assert after < 1.01 * best


def test_every_structure_of_a_network_keeps_more(network: Network) -> None:
    structures = everywhere(network)
    before, after = (losses(x, structures, 0.5) for x in (network, order_channels(network, structures)))
    assert set(before) == set(BLOCK_STRUCTURES)
    assert all(after[structure] < 0.97 * before[structure] for structure in BLOCK_STRUCTURES)


def test_the_network_computes_the_same(network: Network) -> None:
    ordered = order_channels(network, everywhere(network))
    x = torch.randn(4, *network.shapes[INPUT], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, got = run(network, x), run(ordered, x)
    assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert not torch.equal(ordered.tensors["expand.weight"], network.tensors["expand.weight"])
    assert ordered.ops == network.ops
    assert ordered.shapes == network.shapes
    # Its channels belong to halves of a grouped convolution.
    assert torch.equal(ordered.tensors["grouped.weight"], network.tensors["grouped.weight"])


def test_an_order_is_found_once_and_kept(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, structures = tmp_path / "orders" / "network.json", everywhere(network)
    found = order_channels(network, structures, store)
    with monkeypatch.context() as patched:
        patched.setattr(channel_order, "find_orders", lambda *_: pytest.fail("looked for again"))
        again = order_channels(network, structures, store)
    store.write_text(store.read_text()[:-9])  # damaged: found anew
    for other in (again, order_channels(network, structures, store)):
        assert all(torch.equal(value, other.tensors[name]) for name, value in found.tensors.items())
    assert json.loads(store.read_text())["orders"]


def test_only_groups_that_a_block_depends_on_are_ordered(network: Network) -> None:
    groups = find_groups(network)
    assert set(find_orders(network, groups, everywhere(network, ("dense", "channel", "unstructured")))) == set()
    assert set(find_orders(network, groups, {})) == set()
    assert set(find_orders(network, groups, {"project": ("block1x4",)})) == {"expand"}
    assert set(find_orders(network, groups, {"project": ("block4x1",)})) == {"stem"}
    assert set(find_orders(network, groups, {"project": ("block4x4",)})) == {"stem", "expand"}


def test_channels_that_blocks_do_not_hold_by_fours_stay() -> None:
    """Behind six other channels, or spread by a flatten, four channels of a Group are no block."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 16, 1), nn.Conv2d(22, 16, 1)
            self.fc = nn.Linear(16 * 9, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.c(torch.cat([self.a(x), self.b(x)], 1)).relu().flatten(1))

    torch.manual_seed(0)
    network = capture(Model().eval(), torch.randn(1, 3, 3, 3))
    groups = find_groups(network)
    assert {group.name for group in groups if not group.frozen} == {"a", "b", "c"}
    assert set(find_orders(network, groups, {"c": ("block1x4",), "fc": ("block1x4",)})) == set()


def test_the_same_weights_get_the_same_order(network: Network) -> None:
    groups = find_groups(network)
    first, second = (find_orders(network, groups, everywhere(network)) for _ in range(2))
    assert len(first) >= 2
    assert all(torch.equal(order, second[name]) for name, order in first.items())
    reversed_names = dict(reversed(everywhere(network, tuple(reversed(BLOCK_STRUCTURES))).items()))
    third = find_orders(network, groups, reversed_names)
    assert all(torch.equal(order, third[name]) for name, order in first.items())


def test_weights_of_zero_change_nothing(network: Network) -> None:
    empty = Network(network.ops, {k: torch.zeros_like(t) for k, t in network.tensors.items()}, network.shapes, network.output)
    assert find_orders(empty, find_groups(empty), everywhere(empty)) == {}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(n=st.integers(4, 41), seed=st.integers(0, 10_000))
def test_grouping_adds_similarity_until_no_exchange_does(n: int, seed: int) -> None:
    values = torch.rand(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    similarity = (values @ values.T * 1000).round()
    order = group_alike(similarity)
    assert sorted(order.tolist()) == list(range(n))
    assert order[n // 4 * 4 :].tolist() == list(range(n // 4 * 4, n))
    assert pair_similarity(similarity, order) >= pair_similarity(similarity, torch.arange(n))


def test_grouping_finds_clusters() -> None:
    labels = torch.arange(10).repeat_interleave(4)[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    order = group_alike((F.one_hot(labels).double() @ F.one_hot(labels).double().T * 100).round())
    assert all(len(set(block)) == 1 for block in labels[order].view(-1, 4).tolist())
