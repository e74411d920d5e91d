"""The order of every Group's channels: blocks gather weights that matter alike, so that the best blocks keep more.

A block holds four output channels, or four input channels, that follow each other. Which ones do is free: producers may write a
Group's channels in any order if those who read them know it, at no run-time cost. Channels that share a block should be read by
the same outputs and made of the same inputs. What a weight w matters to its Layer is told by m = w^2, as a share
m / (m + median m): near 1 it is kept at most sparsities, near 0 it is removed. The order sought is the one with the largest sum,
over all pairs of channels that share a block, of the inner products of their shares.

References:
    [Tetris] Ji, Liang, Deng, Zhang, Zhang, Xie: TETRIS: TilE-matching the TRemendous Irregular Sparsity. NeurIPS 2018.
    [PERM] Pool, Yu: Channel Permutations for N:M Sparsity. NeurIPS 2021.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import write_json
from ..spaces.groups import Group, Span, find_groups
from ..spaces.layers import find_layers
from ..spaces.network import Network
from ..spaces.option import BLOCKS, Structure
from ..spaces.remove_channels import permute_channels
from .pruning import to_matrix

#: To be raised whenever the same weights would get another order.
VERSION = 1
#: Channels that share a block.
WIDTH = 4
#: Times that channels are exchanged at all four places of the blocks, at most; later ones move little.
SWEEPS = 4
#: Most shares a channel and structure that are compared; of more, a regular part.
SHARES = 1024
#: Similarities are multiples of this: rounding errors of their sums, which differ between machines, decide nothing.
GRAIN = 2.0**-40


def order_channels(network: Network, structures: Mapping[str, Collection[Structure]], store: Path | None = None) -> Network:
    """`network` with every Group's channels in the order that suits the block structures of the Layers that write and read them.

    It computes what `network` computes. Its input and output keep their order, and so do Groups whose channels cannot be
    removed (behind a shuffle, for one). The same weights always get the same order.

    Args:
        structures: those that may be chosen, by Layer.
        store: a file that keeps the orders of this network and these structures; made if it is not there, or damaged.

    Raises:
        UserError: the file cannot be written.
    """
    groups = find_groups(network)
    orders = None if store is None else _load(store, groups)
    if orders is None:
        orders = find_orders(network, groups, structures)
        if store is not None:
            write_json(store, {"version": VERSION, "orders": {name: order.tolist() for name, order in orders.items()}})
    return permute_channels(network, groups, orders)


def _load(store: Path, groups: tuple[Group, ...]) -> dict[str, Tensor] | None:
    """Orders that were found before; None for a file that holds something else."""
    try:
        value = json.loads(store.read_text(encoding="utf-8"))
        orders = {str(name): torch.tensor(order, dtype=torch.int64) for name, order in value["orders"].items()}
        channels = {group.name: group.channels for group in groups}
        whole = all(torch.equal(order.sort().values, torch.arange(channels[name])) for name, order in orders.items())
        return orders if whole and value["version"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def find_orders(
    network: Network, groups: tuple[Group, ...], structures: Mapping[str, Collection[Structure]]
) -> dict[str, Tensor]:
    """For each Group that is better off in another order its channels in that order, shape (channels,), int64.

    Args:
        groups: all of `network`.
        structures: those that may be chosen, by Layer.
    """
    squares = {}
    for layer in find_layers(network):
        if layer.groups == 1 and any(structure in BLOCKS for structure in structures.get(layer.name, ())):
            matrix = to_matrix(network.tensors[f"{layer.name}.weight"]).double()
            squares[layer.name] = matrix.square().view(layer.out_channels, -1, layer.in_channels)
    orders = {}
    for group in groups:
        if group.frozen or group.channels < 2 * WIDTH:
            continue
        similarity = _similarity(group, squares, structures)
        if similarity is None:
            continue
        order = group_alike(similarity)
        if torch.equal(order, torch.arange(group.channels)):
            continue
        orders[group.name] = order
        # Blocks of both rows and columns depend on the order of both: the Groups that follow see this one's.
        for span in _aligned(group.producers, squares):
            rows = squares[span.op][span.offset : span.offset + group.channels]
            rows.copy_(rows[order])
        for span in _aligned(group.consumers, squares):
            columns = squares[span.op][:, :, span.offset : span.offset + group.channels]
            columns.copy_(columns[:, :, order])
    return orders


def group_alike(similarity: Tensor) -> Tensor:
    """An order of n items in which each four that follow each other are alike: (n,) int64.

    Blocks are filled greedily, then items are exchanged between blocks two by two, at one place of all blocks at a time, until no
    exchange adds similarity. What remains of n beyond a multiple of four stays where it is.

    Args:
        similarity: of each pair of items, symmetric, (n, n), n at least 4; whole numbers from 0, so that no rounding decides.
    """
    whole = len(similarity) // WIDTH * WIDTH
    blocks = _filled(similarity[:whole, :whole])
    for _ in range(SWEEPS):
        before = blocks
        # The item that fits least comes first: misfits of different blocks are exchanged with each other.
        fit = similarity[blocks[:, :, None], blocks[:, None]].sum(2) - similarity.diagonal()[blocks]
        blocks = blocks.gather(1, fit.argsort(dim=1, stable=True))
        for place in range(WIDTH):
            others = blocks[:, [other for other in range(WIDTH) if other != place]]
            gains = similarity[others].sum(1)[:, blocks[:, place]]
            blocks[:, place] = blocks[_exchange(gains), place]
        if torch.equal(blocks.sort(1).values, before.sort(1).values):
            break
    return torch.cat([blocks.flatten(), torch.arange(whole, len(similarity))])


def _filled(similarity: Tensor) -> Tensor:
    """Items in blocks of four, filled one after the other: (blocks, 4) int64.

    Each begins with the item most alike to all items, one that matters much, and goes on with those most alike to the block.
    """
    overall = similarity.sum(1)
    taken = torch.zeros_like(overall)
    blocks = []
    for _ in range(len(similarity) // WIDTH):
        block: list[int] = []
        while len(block) < WIDTH:
            alike = similarity[block].sum(0) if block else overall
            block.append(int((alike + taken).argmax()))
            taken[block[-1]] = -torch.inf
        blocks.append(block)
    return torch.tensor(blocks)


def _exchange(gains: Tensor) -> Tensor:
    """The item of each block when items are exchanged, two by two, as long as that adds gain: (n,) int64.

    Args:
        gains: what a block (row) gains by an item (column); at first block i has item i.
    """
    items = torch.arange(len(gains))
    first = items.clone()
    while True:
        current = gains[:, items]
        own = current.diagonal()
        added, partner = (current + current.T - own[:, None] - own).max(1)
        # Exchanges that are the best for both sides cannot disturb each other: all of them at once.
        chosen = (added > 0) & (partner[partner] == first) & (first < partner)
        if not bool(chosen.any()):
            return items
        left, right = first[chosen], partner[chosen]
        items[left], items[right] = items[right], items[left]


def _similarity(group: Group, squares: Mapping[str, Tensor], structures: Mapping[str, Collection[Structure]]) -> Tensor | None:
    """How alike the channels of `group` are to the block structures of the Layers around it: (channels, channels).

    None where no block of any Layer depends on their order.
    """
    total = torch.zeros(group.channels, group.channels, dtype=torch.float64)
    for span in _aligned(group.producers, squares):
        rows = squares[span.op][span.offset : span.offset + group.channels]
        for height, width in _blocks(structures[span.op]):
            if height == WIDTH:
                total += _inner_products(_folded(rows, 2) if width == WIDTH else rows)
    for span in _aligned(group.consumers, squares):
        columns = squares[span.op][:, :, span.offset : span.offset + group.channels]
        for height, width in _blocks(structures[span.op]):
            if width == WIDTH:
                total += _inner_products((_folded(columns, 0) if height == WIDTH else columns).permute(2, 0, 1))
    return (total / GRAIN).round() if bool(total.any()) else None


def _aligned(spans: tuple[Span, ...], squares: Mapping[str, Tensor]) -> tuple[Span, ...]:
    """Where blocks of Layers hold four channels of a Group: not where others come before these, or one is many features."""
    return tuple(span for span in spans if span.op in squares and span.repeat == 1 and span.offset % WIDTH == 0)


def _folded(matter: Tensor, axis: int) -> Tensor:
    """Sums of each four along an axis; the last sum may be of fewer."""
    moved = matter.movedim(axis, -1)
    padded = F.pad(moved, (0, -moved.shape[-1] % WIDTH))
    return padded.reshape(*padded.shape[:-1], -1, WIDTH).sum(-1).movedim(-1, axis)


def _blocks(structures: Collection[Structure]) -> list[tuple[int, int]]:
    return [size for structure, size in BLOCKS.items() if structure in structures]


def _inner_products(matter: Tensor) -> Tensor:
    """Inner products of the shares by which weights matter, scaled to have trace 1: (channels, channels).

    Args:
        matter: what the weights, or blocks of weights, of every channel matter, (channels, ...).
    """
    flat = matter.flatten(1)
    flat = flat[:, :: -(-flat.shape[1] // SHARES)]
    tiny = torch.finfo(flat.dtype).tiny
    shares = flat / (flat + flat.median().clamp(min=tiny))
    return shares @ shares.T / shares.square().sum().clamp(min=tiny)
