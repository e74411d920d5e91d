"""The Network under construction, while `capture` lowers a traced graph into it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .execute import run_op
from .network import INPUT, KINDS, Activation, Network, Op
from .simplify import simplify

#: Batch of the traced graph: a prime, and not 1, so that an op which mixes the batch with another axis shows in its shape.
BATCH = 3

#: Kinds with a weight and a bias of their own.
_LAYERS = ("conv2d", "linear", "affine")
#: An op of such a name could be taken for a tensor of the op before the dot.
_TENSOR_NAME = re.compile(r"(^|\.)(weight|bias|constant\d*)$")


@dataclass(frozen=True)
class Ref:
    """A value that depends on the input: the tensor `name`, seen broadcast to the per-sample `shape`."""

    name: str
    shape: tuple[int, ...]


class Refused(Exception):
    """A node cannot be lowered; the message says why."""


class Builder:
    """The Network under construction. Ops have temporary names until `network` gives them their final ones."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self.ops: dict[str, Op] = {}
        self.tensors: dict[str, Tensor] = {}
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: input_shape}
        self.paths: dict[str, str] = {}
        self.path = ""
        self._count = 0

    def emit(
        self,
        kind: str,
        inputs: Sequence[Ref | Tensor],
        tensors: Mapping[str, Tensor] | None = None,
        **attributes: Any,
    ) -> Ref:
        """Append an op; a Tensor among the inputs is a per-sample constant."""
        name = f"%{self._count}"
        self._count += 1
        self.paths[name] = self.path
        for key, tensor in (tensors or {}).items():
            self.tensors[f"{name}.{key}"] = _constant(tensor)
        if kind in ("add", "mul"):
            inputs = self.unbroadcast(inputs)
        names = []
        for position, value in enumerate(inputs):
            if isinstance(value, Tensor):
                constant = f"{name}.constant{position}"
                self.tensors[constant] = _constant(value)
                names.append(constant)
            else:
                names.append(self.materialise(value))
        if "activation" in KINDS[kind]:
            attributes.setdefault("activation", Activation())
        op = Op(name, kind, tuple(names), attributes)
        self.ops[name] = op
        meta = [
            torch.empty(BATCH, *self.shapes[n], device="meta")
            if n in self.shapes
            else torch.empty(1, *self.tensors[n].shape, device="meta")
            for n in names
        ]
        own = {key: self.tensors[key].to("meta") for key in (f"{name}.weight", f"{name}.bias") if key in self.tensors}
        self.shapes[name] = tuple(run_op(op, meta, own).shape[1:])
        return Ref(name, self.shapes[name])

    def materialise(self, value: Ref) -> str:
        """The name of a tensor that really has the shape of `value`."""
        if value.shape == self.shapes[value.name]:
            return value.name
        return self.emit("add", [Ref(value.name, self.shapes[value.name]), torch.zeros(value.shape)]).name

    def unbroadcast(self, inputs: Sequence[Ref | Tensor]) -> Sequence[Ref | Tensor]:
        """The inputs of an op that broadcasts by itself, without the expansions that it makes anyway."""
        plain = [Ref(value.name, self.shapes[value.name]) if isinstance(value, Ref) else value for value in inputs]
        wanted = _broadcast([value.shape for value in inputs])
        return plain if _broadcast([value.shape for value in plain]) == wanted else inputs

    def reshape(self, x: Ref, shape: Sequence[int]) -> Ref:
        return x if x.shape == tuple(shape) else self.emit("reshape", [x], shape=tuple(shape))

    def affine(self, x: Ref, weight: Tensor, bias: Tensor) -> Ref:
        """`weight` and `bias` have one value, or one per index of axis 0."""
        channels = x.shape[0]
        return self.emit("affine", [x], {"weight": weight.expand(channels), "bias": bias.expand(channels)})

    def combine(self, kind: str, x: Ref | Tensor, y: Ref | Tensor) -> Ref:
        """x + y or x * y, at least one of which depends on the input."""
        if isinstance(x, Tensor):
            x, y = y, x
        assert isinstance(x, Ref)
        if isinstance(y, Ref):
            if len(x.shape) != len(y.shape):
                raise Refused("it broadcasts one operand over the batch axis")
            return self.emit(kind, [x, y])
        y = per_sample(y, len(x.shape))
        if y.numel() != 1 and (y.shape[0] != x.shape[0] or y.numel() != x.shape[0]):
            return self.emit(kind, [x, y])
        return self.affine(x, torch.ones(1), y.reshape(-1)) if kind == "add" else self.affine(x, y.reshape(-1), torch.zeros(1))

    def network(self, output: str, model: nn.Module) -> Network:
        """The simplified Network of the ops that `output` needs, under their final names."""
        ops, output = simplify(tuple(self.ops.values()), self.tensors, self.shapes, output)
        names = self.final_names(ops, model)
        renamed, tensors = [], {}
        for op in ops:
            name = names[op.name]
            sources = {s: f"{name}.constant{i or ''}" for i, s in enumerate(s for s in op.inputs if s not in names)}
            own = {f"{op.name}.{key}": f"{name}.{key}" for key in ("weight", "bias") if f"{op.name}.{key}" in self.tensors}
            tensors.update({final: self.tensors[temporary] for temporary, final in (sources | own).items()})
            renamed.append(replace(op, name=name, inputs=tuple(names.get(s) or sources[s] for s in op.inputs)))
        shapes = {final: self.shapes[temporary] for temporary, final in names.items()}
        return Network(tuple(renamed), tensors, shapes, names[output])

    def final_names(self, ops: Sequence[Op], model: nn.Module) -> dict[str, str]:
        """Temporary name -> final one: the module path for its only op (or its only Layer), else path, kind and a number."""
        leaves = {path for path, module in model.named_modules() if not any(True for _ in module.children())}
        ops_at = Counter(self.paths[op.name] for op in ops)
        layers_at = Counter(self.paths[op.name] for op in ops if op.kind in _LAYERS)
        names, used = {INPUT: INPUT}, {INPUT}
        for op in ops:
            path = self.paths[op.name]
            alone = layers_at[path] == 1 if op.kind in _LAYERS else ops_at[path] == 1 and path in leaves
            kind = op.activation.name if op.kind == "activation" else op.kind
            base = re.sub(r"[^A-Za-z0-9._]", "_", path if alone and path else f"{path}.{kind}".lstrip("."))
            name, number = base, 0
            while name in used or _TENSOR_NAME.search(name):
                number += 1
                name = f"{base}_{number}"
            used.add(name)
            names[op.name] = name
        return names


def _constant(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32).clone(memory_format=torch.contiguous_format)


def per_sample(constant: Tensor, rank: int) -> Tensor:
    """`constant` without its batch axis, as a tensor of `rank` axes that broadcasts with per-sample values."""
    if constant.dim() > rank + 1:
        raise Refused("a constant has more axes than the tensor it is combined with")
    if constant.dim() <= rank:
        return constant.reshape((1,) * (rank - constant.dim()) + tuple(constant.shape))
    if not bool((constant == constant[:1]).all()):
        raise Refused("a constant differs between the samples of a batch")
    return constant[0]


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape to which shapes of equal rank broadcast."""
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))
