"""Other channels: the Network in which only some channels of each Group remain, or in which they have another order."""

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
    for name, indices in kept.items():
        values = indices.tolist()
        size = _group(groups, name).channels
        if not values or values != sorted(set(values)) or values[0] < 0 or values[-1] >= size:
            raise UserError(f"the kept channels of group {name} must be sorted, unique and in [0, {size}): at least one.")
    return _select(network, kept)


def permute_channels(network: Network, groups: Sequence[Group], orders: Mapping[str, Tensor]) -> Network:
    """`network` with the channels of each named Group in another order: it computes what `network` computes.

    Args:
        groups: of `network`, from `find_groups`.
        orders: Group name -> the channels in their new order, shape (channels,), int64. Groups that are not named stay.

    Raises:
        UserError: an unknown or frozen Group, or an order that does not hold each channel once.
    """
    for name, order in orders.items():
        size = _group(groups, name).channels
        if sorted(order.tolist()) != list(range(size)):
            raise UserError(f"the order of group {name} must hold each channel from 0 to {size - 1} once.")
    return _select(network, orders)


def _select(network: Network, chosen: Mapping[str, Tensor]) -> Network:
    """`network` with the channels `chosen` of each named Group, in that order."""
    places = {name: _places(layout, chosen) for name, layout in group_layouts(network)[1].items()}
    tensors = dict(network.tensors)
    shapes = dict(network.shapes)
    for name, (axis, indices) in places.items():
        if name in tensors:
            tensors[name] = tensors[name].index_select(axis, indices)
        else:
            shape = list(shapes[name])
            shape[axis] = len(indices)
            shapes[name] = tuple(shape)
    ops = tuple(_chosen(op, network, places, tensors, shapes) for op in network.ops)
    return Network(ops, tensors, shapes, network.output)


def _group(groups: Sequence[Group], name: str) -> Group:
    group = next((group for group in groups if group.name == name), None)
    if group is None:
        raise UserError(f"there is no group {name}: take the names from find_groups.")
    if group.frozen:
        raise UserError(f"channels of group {name} are fixed ({group.frozen}): leave it out.")
    return group


def _places(layout: Layout, chosen: Mapping[str, Tensor]) -> tuple[int, Tensor]:
    """The axis of a tensor's channels, and the indices along it that are chosen."""
    parts = []
    for channels, span in layout.spans(""):
        own = chosen.get(channels.name, torch.arange(channels.length))
        parts.append((span.offset + own.unsqueeze(1) * span.repeat + torch.arange(span.repeat)).reshape(-1))
    return layout.axis, torch.cat(parts)


def _chosen(
    op: Op,
    network: Network,
    places: Mapping[str, tuple[int, Tensor]],
    tensors: dict[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
) -> Op:
    """`op` on the chosen channels; its weight and bias in `tensors` are replaced."""
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
