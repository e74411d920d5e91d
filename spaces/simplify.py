"""Simplify a list of ops: fold affine ops, explicit padding and activations into other ops, and merge reshapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from .network import Op


def simplify(
    ops: Sequence[Op], tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], output: str
) -> tuple[tuple[Op, ...], str]:
    """The ops that `output` needs, simplified, and the new name of `output`; the same values up to rounding.

    `tensors` and `shapes` are changed in place: folded weights replace those of the op that took them up.
    """
    return _Simplifier(ops, tensors, shapes, output).apply()


class _Simplifier:
    """One pass over the ops, in order; each is pushed onto the simplified ones before it."""

    def __init__(self, ops: Sequence[Op], tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], output: str) -> None:
        self.tensors = tensors
        self.shapes = shapes
        self.output = output
        needed = {output}
        for op in reversed(ops):
            if op.name in needed:
                needed.update(op.inputs)
        self.pending = [op for op in ops if op.name in needed]
        #: How many reads every tensor has, pending ops and the model's output included.
        self.uses = Counter(name for op in self.pending for name in op.inputs)
        self.uses[output] += 1
        self.done: dict[str, Op] = {}

    def apply(self) -> tuple[tuple[Op, ...], str]:
        renamed: dict[str, str] = {}
        for op in self.pending:
            renamed[op.name] = self.push(replace(op, inputs=tuple(renamed.get(name, name) for name in op.inputs)))
        return tuple(self.done.values()), renamed[self.output]

    def push(self, op: Op) -> str:
        """Place `op`, alone or folded into what it reads; return the name of the tensor that has its result."""
        source = self.done.get(op.inputs[0])
        if op.kind == "reshape":
            return self.push_reshape(op, source)
        if source is None or self.uses[source.name] != 1:
            return self.place(op)
        if op.kind == "conv2d" and source.kind == "pad" and source.attributes["value"] == 0:
            del self.done[source.name]
            padding = tuple(a + b for a, b in zip(op.attributes["padding"], source.attributes["padding"], strict=True))
            return self.push(replace(op, inputs=source.inputs, attributes={**op.attributes, "padding": padding}))
        if op.kind not in ("affine", "activation"):
            return self.place(op)
        if source.kind == "reshape" and (op.kind == "activation" or self.keeps_channels(source)):
            # Elementwise and per-channel ops commute with such a reshape: moved before it they can be folded.
            del self.done[source.name]
            self.uses[source.name], self.uses[op.name] = self.uses[op.name], 1
            self.shapes[op.name] = self.shapes[source.inputs[0]]
            inner = self.push(replace(op, inputs=source.inputs))
            return self.push(replace(source, inputs=(inner,)))
        if source.activation.name != "none":
            return self.place(op)
        if op.kind == "activation" and source.kind in ("conv2d", "linear", "affine", "add", "mul"):
            self.done[source.name] = replace(source, attributes={**source.attributes, "activation": op.activation})
        elif op.kind == "affine" and (
            source.kind in ("conv2d", "affine") or (source.kind == "linear" and len(self.shapes[source.name]) == 1)
        ):
            self.fold_affine(source.name, op.name)
        else:
            return self.place(op)
        self.uses[source.name] = self.uses[op.name]
        return source.name

    def push_reshape(self, op: Op, source: Op | None) -> str:
        if source is not None and source.kind == "reshape":
            origin = source.inputs[0]
            self.uses[source.name] -= 1
            if self.uses[source.name] == 0:
                del self.done[source.name]
            else:
                self.uses[origin] += 1
            op = replace(op, inputs=(origin,))
        origin = op.inputs[0]
        if self.shapes[origin] == self.shapes[op.name]:
            self.uses[origin] += self.uses[op.name] - 1
            return origin
        return self.place(op)

    def place(self, op: Op) -> str:
        self.done[op.name] = op
        return op.name

    def keeps_channels(self, op: Op) -> bool:
        return self.shapes[op.inputs[0]][0] == self.shapes[op.name][0]

    def fold_affine(self, layer: str, affine: str) -> None:
        """Fold the affine op into the layer before it: w' = s * w, b' = s * b + t, in float64 before rounding."""
        scale = self.tensors.pop(f"{affine}.weight").double()
        shift = self.tensors.pop(f"{affine}.bias").double()
        weight, bias = self.tensors[f"{layer}.weight"].double(), self.tensors[f"{layer}.bias"].double()
        self.tensors[f"{layer}.weight"] = (weight * scale.reshape(-1, *(1,) * (weight.dim() - 1))).float()
        self.tensors[f"{layer}.bias"] = (bias * scale + shift).float()
