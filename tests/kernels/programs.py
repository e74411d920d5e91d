"""Random Programs of every kernel, and what they compute when their Calls are run one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from autocompress.kernels.arithmetic import ACTIVATIONS
from autocompress.kernels.calls import TYPES, Call, Quantization, TypeName, convert, elementwise, gather, layer, pool
from autocompress.kernels.native import Prepared
from autocompress.kernels.packing import (
    KERNELS,
    PackedDtype,
    pack_depthwise_float,
    pack_depthwise_integer,
    pack_float,
    pack_integer,
    pack_winograd,
)
from autocompress.kernels.program import Place, Program, Step, Tensor

DTYPES: dict[TypeName, tuple[PackedDtype, ...]] = {"f32": ("fp32",), "f16": ("fp16",), "s8": ("int8", "int4")}
#: How weights may be packed, by type.
MATRICES = (*KERNELS, ("fp32", "winograd"))
OPS = (
    "convert",
    "matrix",
    "matrix",
    "depthwise",
    "add",
    "mul",
    "gate",
    "pool",
    "global_pool",
    "activation",
    "concatenate",
    "slice",
    "gather",
)


@dataclass(frozen=True)
class Value:
    """A tensor that steps may read, with the height and width of its planes."""

    number: int
    tensor: Tensor
    size: tuple[int, int]

    @property
    def zeros(self) -> NDArray[Any]:
        return np.zeros(self.tensor.shape, TYPES[self.tensor.type])


class Builder:
    """Appends random steps, each on tensors that are there."""

    def __init__(self, seed: int, shape: tuple[int, int, int] | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: list[Tensor] = []
        self.steps: list[Step] = []
        self.values: list[Value] = []
        channels, height, width = shape or (self.draw(1, 9), self.draw(1, 8), self.draw(1, 9))
        self.input_shape = (channels, height, width)
        self.value("input", "f32", channels, (height, width))

    def draw(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def pick(self, values: Sequence[Any]) -> Any:
        return values[self.draw(0, len(values) - 1)]

    def format(self) -> Quantization:
        return Quantization(float(self.rng.random() * 0.05 + 0.01), self.draw(-100, 100))

    def activation(self) -> tuple[str, tuple[float, ...]]:
        name = self.pick(["none", "relu", "clamp", *ACTIVATIONS[2:]])
        return name, {"clamp": (-0.5, 1.5), "leaky_relu": (0.125,), "elu": (1.0,)}.get(name, ())

    def value(
        self,
        name: str,
        kind: TypeName,
        channels: int,
        size: tuple[int, int],
        form: Quantization | None = None,
        data: NDArray[Any] | None = None,
    ) -> Value:
        tensor = Tensor(name, kind, channels, size[0] * size[1], form, data)
        self.tensors.append(tensor)
        made = Value(len(self.tensors) - 1, tensor, size)
        self.values.append(made)
        return made

    def constant(self, like: Value, pixels: int) -> Value:
        """Random data of the type and channels of a tensor."""
        empty = Tensor("constant", like.tensor.type, like.tensor.channels, pixels)
        form = self.format() if empty.type == "s8" else None
        data = self.rng.standard_normal(empty.shape) if form is None else self.rng.integers(-128, 128, empty.shape)
        return self.value("constant", empty.type, empty.channels, (1, pixels), form, data.astype(TYPES[empty.type]))

    def append(self, call: Call, x: Value, y: Value, x2: Value | None = None, x_at: int = 0, y_at: int = 0) -> Value:
        name = f"{call.kernel}.{len(self.steps)}"
        second = None if x2 is None else Place(x2.number)
        self.steps.append(Step(name, call, Place(x.number, x_at), Place(y.number, y_at), second))
        return y

    def result(self, call: Call, x: Value, form: Quantization | None = None, x2: Value | None = None, x_at: int = 0) -> Value:
        """A step whose output is a tensor of its own."""
        p = call.problem
        kind = cast(TypeName, {4: "f32", 2: "f16", 1: "s8"}[call.y_dtype.itemsize])
        size = (p.y_height, p.y_width)
        y = self.value(f"t{len(self.tensors)}", kind, p.rows, size, form if kind == "s8" else None)
        return self.append(call, x, y, x2, x_at)

    def convert(self, x: Value, to: TypeName) -> Value:
        form = self.format() if to == "s8" else None
        call = convert(x.zeros, to, x.size, x.tensor.channels, x_format=x.tensor.format, y_format=form)
        return self.result(call, x, form)

    def matrix(self, x: Value, dtype: PackedDtype, structure: Any) -> Value:
        rows, channels = self.draw(1, 9), x.tensor.channels
        kernel = (3, 3) if structure == "winograd" else self.pick([(1, 1), (1, 1), (3, 3), (2, 3)])
        before = (kernel[0] // 2, kernel[1] // 2)
        padding = (*before, kernel[0] - 1 - before[0], kernel[1] - 1 - before[1])
        shape = (rows, channels, *kernel)
        kept = self.rng.random(shape) < self.pick([0.3, 1.0])
        bias = self.rng.standard_normal(rows) * 0.1
        name, constants = self.activation()
        stride = (1, 1) if structure == "winograd" else self.pick([(1, 1), (1, 1), (2, 2)])
        if structure == "winograd":
            packed = pack_winograd(self.rng.standard_normal(shape) * kept * 0.3, bias)
            form = None
        elif x.tensor.type != "s8":
            packed = pack_float(self.rng.standard_normal(shape) * kept * 0.3, bias, structure, cast(Any, dtype))
            form = None
        else:
            assert x.tensor.format is not None
            largest = 127 if dtype == "int8" else 7
            weight = self.rng.integers(-largest, largest + 1, shape) * kept
            scale = x.tensor.format.scale * 0.5 / largest
            packed = pack_integer(weight, bias, scale, structure, x.tensor.format.zero_point, cast(Any, dtype))
            form = self.pick([self.format(), self.format(), None])
        call = layer(packed, x.zeros, x.size, stride=stride, padding=padding, activation=name, constants=constants, y=form)
        return self.result(call, x, form)

    def depthwise(self, x: Value) -> Value:
        channels = x.tensor.channels
        kernel, stride = self.pick([(3, 3), (5, 5), (1, 2)]), self.pick([(1, 1), (2, 1)])
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[0] // 2, kernel[1] // 2)
        bias = self.rng.standard_normal(channels) * 0.1
        form = None
        if x.tensor.format is None:
            dtype: Any = DTYPES[x.tensor.type][0]
            packed = pack_depthwise_float(self.rng.standard_normal((channels, *kernel)) * 0.3, bias, dtype)
        else:
            form = self.format()
            weight = self.rng.integers(-127, 128, (channels, *kernel))
            packed = pack_depthwise_integer(weight, bias, x.tensor.format.scale * 0.004, x.tensor.format.zero_point)
        name, constants = self.activation()
        call = layer(packed, x.zeros, x.size, stride=stride, padding=padding, activation=name, constants=constants, y=form)
        return self.result(call, x, form)

    def elementwise(self, op: Any, x: Value, x2: Value | None = None) -> Value:
        form = self.format() if x.tensor.type == "s8" else None
        name, constants = self.activation()
        call = elementwise(
            op,
            x.zeros,
            x.size,
            x.tensor.channels,
            x2=None if x2 is None else x2.zeros,
            activation=name,
            constants=constants,
            x_format=x.tensor.format,
            x2_format=None if x2 is None else x2.tensor.format,
            y_format=form,
        )
        return self.result(call, x, form, x2)

    def pool(self, x: Value, op: Any) -> Value:
        kernel = (min(2, x.size[0]), min(3, x.size[1]))
        form = None
        if x.tensor.type == "s8":
            form = x.tensor.format if op == "max_pool" else self.format()
        call = pool(op, x.zeros, x.size, x.tensor.channels, kernel, stride=(2, 1), x_format=x.tensor.format, y_format=form)
        return self.result(call, x, form)

    def concatenate(self, parts: Sequence[Value]) -> Value:
        """Copies into parts of one tensor; of int8 a part may begin within a quad."""
        kind, pixels = parts[0].tensor.type, parts[0].tensor.pixels
        form = self.format() if kind == "s8" else None
        channels = sum(part.tensor.channels for part in parts)
        y = self.value(f"t{len(self.tensors)}", kind, channels, parts[0].size, form)
        first = 0
        for part in parts:
            lane = first % 4 if kind == "s8" else 0
            call = elementwise(
                "copy",
                part.zeros,
                part.size,
                part.tensor.channels,
                x_format=part.tensor.format,
                y_format=form,
                y_lane=lane,
            )
            at = (first - lane) * pixels * TYPES[kind].itemsize
            self.append(call, part, y, y_at=at)
            first += part.tensor.channels
        return y

    def slice(self, x: Value) -> Value:
        """The channels from one on."""
        kind, pixels = x.tensor.type, x.tensor.pixels
        first = self.draw(0, x.tensor.channels - 1)
        lane = first % 4 if kind == "s8" else 0
        planes = x.zeros[(first // 4 if kind == "s8" else first) :]
        form = self.format() if kind == "s8" else None
        call = elementwise(
            "copy", planes, x.size, x.tensor.channels - first, x_format=x.tensor.format, y_format=form, x_lane=lane
        )
        return self.result(call, x, form, x_at=(first - lane) * pixels * TYPES[kind].itemsize)

    def gather(self, x: Value) -> Value:
        """Elements in any order, some filled in."""
        shape = (self.draw(1, 9), self.draw(1, 12))
        indices = self.rng.integers(-1, x.tensor.channels * x.tensor.pixels, shape).astype(np.int32)
        fill = 0.5 if x.tensor.format is None else float(x.tensor.format.zero_point)
        return self.result(gather(x.zeros, indices, x.tensor.channels, fill), x, x.tensor.format)

    def step(self, op: str) -> None:
        """One random op on one of the last tensors, or none if the op finds no operands."""
        x = self.pick(self.values[-3:])
        if op == "convert":
            self.convert(x, self.pick([kind for kind in TYPES if kind != x.tensor.type]))
        elif op == "matrix":
            dtype = self.pick(DTYPES[x.tensor.type])
            self.matrix(x, dtype, self.pick([structure for kind, structure in MATRICES if kind == dtype]))
        elif op == "depthwise":
            self.depthwise(x)
        elif op in ("add", "mul"):
            alike = [
                value
                for value in self.values
                if value.tensor.shape == x.tensor.shape and value.tensor.type == x.tensor.type and value.size == x.size
            ]
            self.elementwise(op, x, self.pick([*alike, *alike, self.constant(x, x.tensor.pixels)]))
        elif op == "gate":
            self.elementwise("mul", x, self.elementwise("global_pool", x))
        elif op == "pool":
            self.pool(x, self.pick(["max_pool", "avg_pool"]))
        elif op == "concatenate":
            alike = [value for value in self.values if value.tensor.type == x.tensor.type and value.size == x.size]
            self.concatenate([x, *alike[-2:]])
        elif op == "slice":
            self.slice(x)
        elif op == "gather":
            self.gather(x)
        else:
            self.elementwise(op, x)

    def program(self) -> Program:
        """All steps so far; the last tensor is the output, in float32."""
        last = next(value for value in reversed(self.values) if value.tensor.data is None)
        last = self.convert(last, "f32") if last.tensor.type != "f32" else self.elementwise("activation", last)
        return Program(
            tuple(self.tensors),
            tuple(self.steps),
            0,
            last.number,
            self.input_shape,
            (last.tensor.channels, *last.size),
            {"task": "random", "note": 'with "quotes" and ü'},
        )


def random_program(seed: int, most_steps: int = 9) -> Program:
    """A network of up to `most_steps` random ops."""
    builder = Builder(seed)
    kind = builder.pick(list(TYPES))
    if kind != "f32":
        builder.convert(builder.values[0], kind)
        builder.values = builder.values[1:]
    for _ in range(builder.draw(1, most_steps)):
        builder.step(builder.pick(OPS))
    return builder.program()


def integer_program(seed: int) -> Program:
    """A network that computes in int8 between its two conversions: all machines give the same bytes."""
    builder = Builder(seed, (5, 9, 7))
    builder.convert(builder.values[0], "s8")
    for op in ("matrix", "depthwise", "add", "gate", "matrix", "concatenate", "pool", "slice", "activation", "matrix"):
        # A layer may end in float32, and is then an end of its own.
        builder.values = [value for value in builder.values if value.tensor.type == "s8"]
        builder.step(op)
    builder.values = [value for value in builder.values if value.tensor.type == "s8"]
    return builder.program()


def small_programs() -> list[Program]:
    """Small networks that have every kernel between them."""
    programs = []

    def begun(kind: TypeName) -> tuple[Builder, Value]:
        builder = Builder(len(programs), (3, 4, 5))
        x = builder.values[0]
        return builder, x if kind == "f32" else builder.convert(x, kind)

    for kind, dtypes in DTYPES.items():
        for dtype, structure in MATRICES:
            if dtype in dtypes:
                builder, x = begun(kind)
                builder.matrix(x, dtype, structure)
                programs.append(builder.program())
        for to in TYPES:
            if to != kind:
                builder, x = begun(kind)
                builder.convert(x, to)
                programs.append(builder.program())
        for op in ("max_pool", "avg_pool"):
            builder, x = begun(kind)
            builder.pool(x, op)
            programs.append(builder.program())
        builder, x = begun(kind)
        other = builder.elementwise("activation", builder.depthwise(x))
        builder.elementwise("add", other, builder.constant(other, other.tensor.pixels))
        programs.append(builder.program())
        builder, x = begun(kind)
        builder.elementwise("mul", x, builder.elementwise("global_pool", x))
        builder.gather(builder.slice(builder.concatenate([builder.values[-1], x])))
        programs.append(builder.program())
    return programs


def inputs(program: Program, seed: int = 0) -> NDArray[np.float32]:
    """A random sample for a Program."""
    return np.random.default_rng(seed).standard_normal(program.input_shape).astype(np.float32)


def reference(program: Program, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of a Program whose Calls are run one after the other; what nobody writes is 0x55."""
    memory = [
        np.full(tensor.bytes, 0x55, np.uint8) if tensor.data is None else tensor.data.reshape(-1).view(np.uint8)
        for tensor in program.tensors
    ]
    memory[program.input] = np.ascontiguousarray(x).reshape(-1).view(np.uint8)

    def array(place: Place | None, like: NDArray[Any]) -> NDArray[Any]:
        if place is None:
            return like
        part = memory[place.tensor][place.offset : place.offset + like.nbytes]
        return part.view(like.dtype).reshape(like.shape)

    for step in program.steps:
        call = replace(step.call, x=array(step.x, step.call.x), x2=array(step.x2, step.call.x2))
        Prepared(call, output=array(step.y, np.empty(call.y_shape, call.y_dtype)))()
    return memory[program.output].view(np.float32).reshape(program.output_shape)
