"""Ops that cost nothing, since the kernels read their input where it lies.

Tensors lie in memory as planes along one axis, the leading one: the first axis after a convolution, the last one after a linear
op over tokens. A reshape only counts the same memory in another way; so does a permutation that moves the leading axis to an
end, and a slice of it, in int8 of whole quads of channels. `deployment/program.py` decides for each tensor that a kernel reads;
this is the short form of it that needs no weights, with moved tensors priced at the op that asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..kernels.packing import QUAD
from ..spaces.datatypes import DataType
from ..spaces.network import INPUT, Network, Op

#: Ops whose output lies as their first input does.
_KEEPING = frozenset({"activation", "add", "mul", "slice", "cat"})


def leading_axes(network: Network) -> dict[str, int]:
    """By tensor, the axis along which its planes lie."""
    axes = {INPUT: 0}
    for op in network.ops:
        shape = network.shapes[op.name]
        source = next((name for name in op.inputs if name in axes), None)
        axis = 0
        if op.kind == "linear":
            axis = len(shape) - 1
        elif source is not None and op.kind in _KEEPING and len(network.shapes[source]) == len(shape):
            axis = axes[source]
        elif source is not None and op.kind == "reshape" and _last_stays(network.shapes[source], shape, axes[source]):
            axis = len(shape) - 1
        elif source is not None and op.kind == "permute" and _is_relabelled(op, axes[source]):
            axis = op.attributes["axes"].index(axes[source])
        axes[op.name] = axis
    return axes


def is_view(op: Op, type_: DataType, axes: Mapping[str, int]) -> bool:
    """Whether an op that computes in a type takes no time; `axes` as from `leading_axes`."""
    if op.kind == "reshape":
        return True
    if op.kind == "permute":
        return _is_relabelled(op, axes[op.inputs[0]])
    if op.kind == "slice":
        whole = type_ != "int8" or op.attributes["start"] % QUAD == 0
        return whole and bool(op.attributes["axis"] == axes[op.inputs[0]])
    return False


def _is_relabelled(op: Op, leading: int) -> bool:
    """Whether a permutation moves the leading axis to an end, and leaves the others in order."""
    order = list(op.attributes["axes"])
    others = [axis for axis in order if axis != leading]
    return others == sorted(others) and order.index(leading) in (0, len(order) - 1)


def _last_stays(source: tuple[int, ...], result: tuple[int, ...], leading: int) -> bool:
    return len(source) > 0 and len(result) > 0 and leading == len(source) - 1 > 0 and source[-1] == result[-1]
