"""Remove channels: the smaller Network in which only some channels of each Group remain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .groups import Group, Layout, group_layouts
from .network import Network, Op


def remove_channels(network: Network, groups: Sequence[Group], kept: Mapping[str, Tensor]) -> Network:
    """`network` with only the channels `kept` of each named Group: it computes what `network` computes when every
    consumer's weights for the removed channels are zero.

    Args:
        groups: of `network`, from `find_groups`.
        kept: Group name -> sorted channel indices, shape (channels that remain,), int64. Groups that are not named stay.

    Raises:
        UserError: an unknown or frozen Group, or indices that are not sorted, unique, in range and at least one.
    """
    by_name = {group.name: group for group in groups}
    for name, indices in kept.items():
        _check(by_name.get(name), name, indices)
    places = {name: _places(layout, kept) for name, layout in group_layouts(network)[1].items()}
    tensors = dict(network.tensors)
    shapes = dict(network.shapes)
    for name, (axis, indices) in places.items():
        if name in tensors:
            tensors[name] = tensors[name].index_select(axis, indices)
        else:
            shape = list(shapes[name])
            shape[axis] = len(indices)
            shapes[name] = tuple(shape)
    ops = tuple(_remove(op, network, places, tensors, shapes) for op in network.ops)
    return Network(ops, tensors, shapes, network.output)


def _check(group: Group | None, name: str, indices: Tensor) -> None:
    if group is None:
        raise UserError(f"there is no group {name}: take the names from find_groups.")
    if group.frozen:
        raise UserError(f"channels of group {name} cannot be removed ({group.frozen}): leave it out.")
    values = indices.tolist()
    if not values or values != sorted(set(values)) or values[0] < 0 or values[-1] >= group.channels:
        raise UserError(f"the kept channels of group {name} must be sorted, unique and in [0, {group.channels}): at least one.")


def _places(layout: Layout, kept: Mapping[str, Tensor]) -> tuple[int, Tensor]:
    """The axis of a tensor's channels, and the indices along it that remain."""
    parts = []
    for channels, span in layout.spans(""):
        remaining = kept.get(channels.name, torch.arange(channels.length))
        parts.append((span.offset + remaining.unsqueeze(1) * span.repeat + torch.arange(span.repeat)).reshape(-1))
    return layout.axis, torch.cat(parts)


def _remove(
    op: Op,
    network: Network,
    places: Mapping[str, tuple[int, Tensor]],
    tensors: dict[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
) -> Op:
    """`op` on the remaining channels; its weight and bias in `tensors` are replaced."""
    attributes: dict[str, Any] = dict(op.attributes)
    in_axis, columns = places.get(op.inputs[0], (0, torch.arange(0)))
    out_axis, rows = places[op.name]
    weight, bias = f"{op.name}.weight", f"{op.name}.bias"
    if op.kind in ("conv2d", "linear"):
        tensors[weight] = tensors[weight].index_select(0, rows)
        tensors[bias] = tensors[bias].index_select(0, rows)
        reads_all = op.kind == "conv2d" and in_axis == 0 and op.attributes["groups"] == 1
        if reads_all or (op.kind == "linear" and in_axis == len(network.shapes[op.inputs[0]]) - 1):
            tensors[weight] = tensors[weight].index_select(1, columns)
        elif op.kind == "conv2d" and op.attributes["groups"] == network.shapes[op.inputs[0]][0]:
            attributes["groups"] = shapes[op.inputs[0]][0]
    elif op.kind == "affine" and in_axis == 0:
        tensors[weight] = tensors[weight].index_select(0, columns)
        tensors[bias] = tensors[bias].index_select(0, columns)
    elif op.kind == "reshape":
        attributes["shape"] = shapes[op.name]
    elif op.kind == "slice" and op.attributes["axis"] == in_axis:
        attributes["start"] = int((columns < op.attributes["start"]).sum())
        attributes["stop"] = attributes["start"] + shapes[op.name][out_axis]
    return replace(op, attributes=attributes)
