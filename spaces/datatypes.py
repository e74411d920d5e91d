"""Data types: in which number format each op of a Network computes under a Plan, and where conversions stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .network import INPUT, Network
from .option import ACTIVATIONS
from .plan import Plan

DataType = Literal["fp32", "fp16", "int8"]

#: Ops that only move values: an int8 tensor passes through them with its codes and scale unchanged.
MOVES = frozenset({"max_pool", "reshape", "permute", "slice"})

_WIDTH: dict[DataType, int] = {"int8": 0, "fp16": 1, "fp32": 2}


def data_types(network: Network, plan: Plan) -> dict[str, DataType]:
    """The type in which each op computes, by op name.

    A Layer computes in the type that its Option's bits ask for; any other op in the widest type among its inputs, so that
    it never costs precision. Inputs of another type are converted on the way in.
    """
    types: dict[str, DataType] = {}
    stored: dict[str, DataType] = {INPUT: "fp32"}
    for op in network.ops:
        if op.name in plan:
            types[op.name] = ACTIVATIONS[plan[op.name].bits]
        else:
            # A constant operand has no type of its own: it is stored in whatever the op computes in.
            inputs = [stored[name] for name in op.inputs if name in stored]
            types[op.name] = max(inputs, key=_WIDTH.__getitem__, default="fp32")
        stored[op.name] = output_type(network, op.name, types[op.name], op.name in plan)
    return types


def output_type(network: Network, name: str, computes: DataType, is_layer: bool) -> DataType:
    """The type in which an op's output is stored: what it computes in, but a Layer that ends the network writes fp32.

    Its accumulators are scaled to real numbers anyway; rounding logits to 8 bits would only lose precision.
    """
    return "fp32" if is_layer and name == network.output else computes


def conversions(network: Network, plan: Plan, types: Mapping[str, DataType]) -> list[tuple[str, DataType, DataType]]:
    """All conversions that a Plan needs, as (tensor, from, to); each tensor is converted at most once to each type.

    The network's output is handed over as fp32.
    """
    stored: dict[str, DataType] = {INPUT: "fp32"}
    found: dict[tuple[str, DataType, DataType], None] = {}
    for op in network.ops:
        for name in op.inputs:
            if name in stored and stored[name] != types[op.name]:
                found[name, stored[name], types[op.name]] = None
        stored[op.name] = output_type(network, op.name, types[op.name], op.name in plan)
    if stored[network.output] != "fp32":
        found[network.output, stored[network.output], "fp32"] = None
    return list(found)
