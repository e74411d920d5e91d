"""Data types: in which number format each op of a Network computes under a Plan, and where conversions stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from .network import INPUT, Network, Op
from .option import ACTIVATIONS, Option

DataType = Literal["fp32", "fp16", "int8"]

#: Ops that only move values: an int8 tensor passes through them with its codes and scale unchanged.
MOVES = frozenset({"max_pool", "reshape", "permute", "slice"})

_WIDTH: dict[DataType, int] = {"int8": 0, "fp16": 1, "fp32": 2}


def data_types(
    network: Network, plan: Mapping[str, Option], ops: Sequence[Op] | None = None, known: Mapping[str, DataType] | None = None
) -> dict[str, DataType]:
    """The type in which each op computes, by op name.

    A Layer computes in the type that its Option's bits ask for; any other op in the widest type among its inputs, so that
    it never costs precision. Inputs of another type are converted on the way in.

    Args:
        ops: those whose types are wanted, in order; all of them by default.
        known: types of the other ops, returned too.
    """
    types = dict(known or {})
    for op in network.ops if ops is None else ops:
        if op.name in plan:
            types[op.name] = ACTIVATIONS[plan[op.name].bits]
        else:
            # A constant operand has no type of its own: it is stored in whatever the op computes in.
            inputs = [_stored(network, plan, types, name) for name in op.inputs if name in network.shapes]
            types[op.name] = max(inputs, key=_WIDTH.__getitem__, default="fp32")
    return types


def output_type(network: Network, name: str, computes: DataType, is_layer: bool) -> DataType:
    """The type in which an op's output is stored: what it computes in, but a Layer that ends the network writes fp32.

    Its accumulators are scaled to real numbers anyway; rounding logits to 8 bits would only lose precision.
    """
    return "fp32" if is_layer and name == network.output else computes


def conversions(
    network: Network, plan: Mapping[str, Option], types: Mapping[str, DataType], ops: Sequence[Op] | None = None
) -> list[tuple[str, DataType, DataType]]:
    """The conversions that a Plan needs, as (tensor, from, to); each tensor is converted at most once to each type.

    The network's output is handed over as fp32.

    Args:
        ops: those whose inputs are converted; all of them by default.
    """
    found: dict[tuple[str, DataType, DataType], None] = {}
    for op in network.ops if ops is None else ops:
        wanted = types[op.name]
        for name in op.inputs:
            if name in network.shapes:
                stored = _stored(network, plan, types, name)
                if stored != wanted:
                    found[name, stored, wanted] = None
        if op.name == network.output:
            stored = _stored(network, plan, types, op.name)
            if stored != "fp32":
                found[op.name, stored, "fp32"] = None
    return list(found)


def _stored(network: Network, plan: Mapping[str, Option], types: Mapping[str, DataType], name: str) -> DataType:
    return "fp32" if name == INPUT else output_type(network, name, types[name], name in plan)
