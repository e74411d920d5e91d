"""Which rows of a LatencyTable the Plans of a Network can ask for: what `autocompress bench --task` measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from ..kernels.geometry import Geometry
from ..kernels.table import RowKey
from ..spaces.groups import Group
from ..spaces.network import INPUT
from ..spaces.option import BITS, BLOCKS
from ..spaces.space import CHANNEL_LEVELS, WEIGHT_LEVELS, kept_channels
from .latency import TYPE_BITS, LatencyEvaluator

#: Choices of kept channels beyond which only some are taken for one op: those that change one Group, or all of them alike.
MOST_CHOICES = 512


def needed_rows(
    latency: LatencyEvaluator, weight_levels: Sequence[float] = WEIGHT_LEVELS, channel_levels: Sequence[float] = CHANNEL_LEVELS
) -> tuple[RowKey, ...]:
    """Every row that the latency of a Plan can ask for, each once, those of unpruned channels first.

    All Options count which the target has kernels for, also those that the Space leaves out since they cannot pay: that is known
    only once they are measured. An op that touches so many Groups that their choices are more than MOST_CHOICES has only some of
    them; rows of the others stay modelled.
    """
    whole: dict[RowKey, None] = {}
    pruned: dict[RowKey, None] = {}
    for kept, keys in _rows(latency, weight_levels, channel_levels):
        (pruned if kept else whole).update(dict.fromkeys(keys))
    return tuple(dict.fromkeys([*whole, *pruned]))


def _rows(
    latency: LatencyEvaluator, weight_levels: Sequence[float], channel_levels: Sequence[float]
) -> Iterator[tuple[Mapping[str, int], list[RowKey]]]:
    network = latency.network
    for op in network.ops:
        groups = latency.groups_of((op.name, *op.inputs))
        for kept in _choices(groups, channel_levels):
            bend = None if op.kind == "activation" else latency.bend_geometry(op, kept)
            if bend is not None:
                yield kept, _plain_rows(latency, bend, (32, 16, 8))
            if op.name in latency.layers:
                own = {group.name for group in groups if any(span.op == op.name for span in group.producers)}
                # A Layer that loses channels is dense in those that remain.
                levels = () if own & kept.keys() else weight_levels
                yield kept, _layer_rows(latency, latency.layer_geometry(op.name, kept), levels)
            else:
                widths = [TYPE_BITS[type_] for type_ in TYPE_BITS if not latency.free(op, type_)]
                yield kept, _plain_rows(latency, latency.other_geometry(op, kept), widths)
    for tensor in (INPUT, *(op.name for op in network.ops)):
        for kept in _choices(latency.groups_of((tensor,)), channel_levels):
            # Keyed by the narrower side: none has 32. The input is fp32.
            yield kept, _plain_rows(latency, latency.conversion_geometry("convert", tensor, kept), (16, 8))
            if tensor != INPUT:
                yield kept, _plain_rows(latency, latency.conversion_geometry("widen", tensor, kept), (16, 8))


def _choices(groups: Sequence[Group], channel_levels: Sequence[float]) -> Iterable[dict[str, int]]:
    """Channels that Groups keep, those that keep all left out: first none, then every choice of levels."""
    kept = {group.name: sorted({kept_channels(group.channels, share) for share in channel_levels}) for group in groups}
    full = {group.name: group.channels for group in groups}
    if math.prod(1 + len(counts) for counts in kept.values()) <= MOST_CHOICES:
        chosen = [dict(zip(kept, counts, strict=True)) for counts in product(*([full[name], *kept[name]] for name in kept))]
    else:
        alike = [{group.name: kept_channels(group.channels, share) for group in groups} for share in channel_levels]
        chosen = [{}, *({name: count} for name, counts in kept.items() for count in counts), *alike]
    return [{name: count for name, count in choice.items() if count != full[name]} for choice in chosen]


def _layer_rows(latency: LatencyEvaluator, geometry: Geometry, weight_levels: Sequence[float]) -> list[RowKey]:
    supports = latency.table.supports
    keys = [RowKey(geometry, "dense", 0.0, bits) for bits in BITS if supports(geometry, "dense", bits)]
    for structure, bits in product(BLOCKS, BITS):
        if supports(geometry, structure, bits):
            keys += [RowKey(geometry, structure, round(level, 6), bits) for level in weight_levels]
    return keys


def _plain_rows(latency: LatencyEvaluator, geometry: Geometry, widths: Sequence[int]) -> list[RowKey]:
    return [RowKey(geometry, "dense", 0.0, bits) for bits in widths if latency.table.supports(geometry, "dense", bits)]
