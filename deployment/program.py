"""From a compressed network to a Program: every op as the kernel whose time is in the table, with its packed weights.

Tensors lie in memory as planes of channels, and which axis of a tensor is called its channels is only a label: for a
convolution the first one, for a linear op the last one. So most permutations, reshapes and slices are nothing but another way to
count the same memory. Every tensor carries the numbers (channel * pixels + pixel) of its elements, and values are moved only for
an op that cannot read them where they lie.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..compressors.candidate import Candidate, constant_quantizer
from ..compressors.exact import adaptive_windows, regular
from ..compressors.quantization import Quantizer, codes
from ..kernels.arithmetic import quantise
from ..kernels.calls import TYPES, Call, Quantization, TypeName, convert, elementwise, gather, layer, pool
from ..kernels.geometry import Geometry, takes_winograd
from ..kernels.packing import (
    KERNELS,
    QUAD,
    Packed,
    PackedStructure,
    pack_depthwise_float,
    pack_depthwise_integer,
    pack_float,
    pack_integer,
    pack_quads,
    pack_winograd,
)
from ..kernels.program import Place, Program, Step, Tensor
from ..spaces.datatypes import DataType, output_type
from ..spaces.network import INPUT, Activation, Op
from ..spaces.option import Bits

_TYPE_NAMES: dict[DataType, TypeName] = {"fp32": "f32", "fp16": "f16", "int8": "s8"}
_FLOATS: dict[Bits, Literal["fp32", "fp16"]] = {32: "fp32", 16: "fp16"}
#: A linear op may read its input in the order of the memory, gaps included, up to this many times as long as the input.
_LONGEST = 2


@dataclass(frozen=True)
class Located:
    """Where a tensor of the Network is in a Program.

    Attributes:
        tensor: number of the Program's tensor.
        shape: per sample, as the Network has it; () is (1,).
        axis: the one that is its channels, while `numbers` is None.
        numbers: shape `shape`: which (channel * pixels + pixel) of the Program's tensor each element is; None when they are
            all of it, in order.
    """

    tensor: int
    shape: tuple[int, ...]
    axis: int
    numbers: NDArray[np.int64] | None = None

    def places(self) -> NDArray[np.int64]:
        """`numbers`, made if they are None."""
        if self.numbers is not None:
            return self.numbers
        rest = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        return np.moveaxis(np.arange(math.prod(self.shape)).reshape(self.shape[self.axis], *rest), 0, self.axis)


@dataclass(frozen=True)
class Lowered:
    """A Program, and where it has the tensors of the Network, by name."""

    program: Program
    located: Mapping[str, Located]


def program(candidate: Candidate, metadata: Mapping[str, str] | None = None) -> Program:
    """The steps that compute what `candidate` means.

    Args:
        metadata: added to the Plan and the version, which are in the Program's metadata anyway.

    Raises:
        UserError: a Layer that the kernels cannot compute, as one whose integer sums could overflow.
    """
    return lower(candidate, metadata).program


def lower(candidate: Candidate, metadata: Mapping[str, str] | None = None) -> Lowered:
    """As `program`, with the places of all tensors."""
    return _Lowering(candidate).lowered(metadata or {})


@dataclass(frozen=True)
class _Planes:
    """A tensor as a kernel reads it: `channels` planes of `pixels`, beginning at channel `lane` of the first quad."""

    place: Place
    type: TypeName
    channels: int
    pixels: int
    format: Quantization | None
    lane: int = 0

    def blank(self) -> NDArray[Any]:
        """An array of that shape, for a Call."""
        if self.type == "s8":
            return np.zeros((-(-(self.lane + self.channels) // QUAD), self.pixels, QUAD), np.int8)
        return np.zeros((self.channels, self.pixels), TYPES[self.type])


@dataclass
class _Lowering:
    """The Program under construction."""

    candidate: Candidate
    tensors: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    #: Tensors of the Network as they are stored, and as they were converted.
    stored: dict[str, Located] = field(default_factory=dict)
    read_as: dict[tuple[str, TypeName], Located] = field(default_factory=dict)

    def lowered(self, metadata: Mapping[str, str]) -> Lowered:
        network = self.candidate.network
        shape = network.shapes[INPUT] or (1,)
        self.add(INPUT, "f32", shape, 0)
        for op in network.ops:
            _RULES[op.kind](self, op)
        output = self.output()
        own = {
            "version": importlib.metadata.version("autocompress"),
            "plan": json.dumps(self.candidate.plan.to_json(), separators=(",", ":")),
        }
        made = Program(
            tuple(self.tensors),
            tuple(self.steps),
            0,
            output,
            network.shapes[INPUT],
            network.shapes[network.output],
            {**own, **metadata},
        )
        return Lowered(made, dict(self.stored))

    # Tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Per-sample shape of a computed tensor or a constant; () becomes (1,)."""
        network = self.candidate.network
        found = network.shapes[name] if name in network.shapes else tuple(network.tensors[name].shape)
        return tuple(found) or (1,)

    def new(
        self,
        name: str,
        type_: TypeName,
        channels: int,
        pixels: int,
        format_: Quantization | None = None,
        data: NDArray[Any] | None = None,
    ) -> int:
        """Append a tensor; return its number."""
        self.tensors.append(Tensor(name, type_, channels, pixels, format_, data))
        return len(self.tensors) - 1

    def add(self, name: str, type_: TypeName, shape: tuple[int, ...], axis: int, format_: Quantization | None = None) -> _Planes:
        """Append the tensor in which an op's output will be."""
        channels = shape[axis]
        pixels = math.prod(shape) // channels
        number = self.new(name, type_, channels, pixels, format_)
        self.stored[name] = Located(number, shape, axis)
        return _Planes(Place(number), type_, channels, pixels, format_)

    def step(self, name: str, call: Call, x: _Planes, y: Place, x2: _Planes | None = None) -> None:
        self.steps.append(Step(name, call, x.place, y, None if x2 is None else x2.place))

    def type(self, op: Op) -> TypeName:
        return _TYPE_NAMES[self.candidate.types[op.name]]

    def format(self, name: str, type_: TypeName) -> Quantization | None:
        """The format of an op's output, or of a tensor that is converted, if it is int8."""
        return _format(self.candidate.quantizers[name]) if type_ == "s8" else None

    # Reading

    def located(self, name: str, type_: TypeName) -> Located:
        """A computed tensor in a type; converted when it is first read in it."""
        value = self.stored[name]
        if self.tensors[value.tensor].type == type_:
            return value
        if (name, type_) not in self.read_as:
            axis = self.natural_axis(value)
            x = self.planes(name, self.tensors[value.tensor].type, axis)
            format_ = self.format(name, type_)
            title = f"{name}/{type_}"
            number = self.new(title, type_, x.channels, x.pixels, format_)
            call = convert(x.blank(), type_, (1, x.pixels), x.channels, x_format=x.format, y_format=format_)
            self.step(title, call, x, Place(number))
            self.read_as[name, type_] = Located(number, value.shape, axis)
        return self.read_as[name, type_]

    def natural_axis(self, value: Located) -> int:
        """The axis that can be called the channels at no cost, if there is one."""
        if value.numbers is None:
            return value.axis
        usual = 0 if len(value.shape) == 3 else len(value.shape) - 1
        others = [axis for axis in range(len(value.shape)) if axis != usual]
        return next((axis for axis in (usual, *others) if self.in_place(value, axis) is not None), usual)

    def in_place(self, value: Located, axis: int, lanes: bool = False) -> _Planes | None:
        """A tensor as planes along `axis` where it lies; None if it must be moved.

        Args:
            lanes: whether the reader can begin in the middle of a quad.
        """
        tensor = self.tensors[value.tensor]
        channels = value.shape[axis]
        pixels = math.prod(value.shape) // channels
        if value.numbers is None and value.axis == axis:
            return _Planes(Place(value.tensor), tensor.type, channels, pixels, tensor.format)
        flat = np.moveaxis(value.places(), axis, 0).reshape(-1)
        first = int(flat[0])
        if not np.array_equal(flat, np.arange(first, first + flat.size)):
            return None
        if tensor.type != "s8":
            place = Place(value.tensor, first * TYPES[tensor.type].itemsize)
            return _Planes(place, tensor.type, channels, pixels, None)
        channel, rest = divmod(first, pixels)
        if pixels != tensor.pixels or rest or (channel % QUAD and not lanes):
            return None
        place = Place(value.tensor, channel // QUAD * QUAD * pixels)
        return _Planes(place, tensor.type, channels, pixels, tensor.format, channel % QUAD)

    def planes(self, name: str, type_: TypeName, axis: int, lanes: bool = False) -> _Planes:
        """A computed tensor in a type as planes along `axis`, moved if it must be."""
        value = self.located(name, type_)
        found = self.in_place(value, axis, lanes)
        if found is None:
            moved = self.moved(name, value, axis)
            if self.tensors[self.stored[name].tensor].type == type_:
                self.stored[name] = moved
            else:
                self.read_as[name, type_] = moved
            found = self.in_place(moved, axis)
            assert found is not None
        return found

    def moved(self, name: str, value: Located, axis: int) -> Located:
        """A copy of a tensor with its channels along `axis`."""
        tensor = self.tensors[value.tensor]
        channels = value.shape[axis]
        pixels = math.prod(value.shape) // channels
        number = self.new(name, tensor.type, channels, pixels, tensor.format)
        x = self.in_place(value, axis, lanes=True)
        if x is not None:
            # Channels that begin in the middle of a quad.
            call = elementwise(
                "copy", x.blank(), (1, pixels), channels, x_lane=x.lane, x_format=tensor.format, y_format=tensor.format
            )
        else:
            x = _Planes(Place(value.tensor), tensor.type, tensor.channels, tensor.pixels, tensor.format)
            order = np.moveaxis(value.places(), axis, 0).reshape(channels, pixels)
            call = gather(x.blank(), order.astype(np.int32), tensor.channels)
        self.step(name, call, x, Place(number))
        return Located(number, value.shape, axis)

    def constant(self, op: Op, name: str, type_: TypeName, shape: tuple[int, ...], axis: int) -> _Planes:
        """A constant of the Network, repeated to `shape`, as planes along `axis`."""
        real = self.candidate.network.tensors[name]
        values = np.broadcast_to(real.numpy(), shape)
        planes = np.ascontiguousarray(np.moveaxis(values, axis, 0)).reshape(shape[axis], -1)
        format_ = None
        if type_ == "s8":
            # A part of a concatenation is stored in the format of the whole.
            quantizer = self.candidate.quantizers[op.name] if op.kind == "cat" else constant_quantizer(real)
            format_ = _format(quantizer)
            data = pack_quads(quantise(planes * np.float32(1 / format_.scale), format_.zero_point))
        else:
            data = planes.astype(TYPES[type_])
        number = self.new(name, type_, *planes.shape, format_, data)
        return _Planes(Place(number), type_, planes.shape[0], planes.shape[1], format_)

    def operand(self, op: Op, name: str, type_: TypeName, shape: tuple[int, ...], axis: int) -> _Planes:
        """One side of an add or mul whose output has `shape`: whole planes, or one pixel of every channel if it has no more."""
        own = self.shape(name)
        gate = tuple(size if at == axis else 1 for at, size in enumerate(shape))
        wanted = gate if own == gate else shape
        if name not in self.candidate.network.shapes:
            return self.constant(op, name, type_, wanted, axis)
        if own == wanted:
            return self.planes(name, type_, axis)
        value = self.located(name, type_)
        repeated = replace(value, shape=shape, numbers=np.broadcast_to(value.places(), shape))
        found = self.in_place(self.moved(f"{op.name}/{name}", repeated, axis), axis)
        assert found is not None
        return found

    def output(self) -> int:
        """The number of the tensor that the Program returns: fp32, in the order of the model's own output."""
        name = self.candidate.network.output
        value = self.located(name, "f32")
        found = self.in_place(value, 0)
        tensor = self.tensors[value.tensor]
        if found is not None and found.place.offset == 0 and found.channels * found.pixels == tensor.channels * tensor.pixels:
            return value.tensor
        return self.moved(f"{name}/output", value, 0).tensor

    # Ops

    def view(self, op: Op, change: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> None:
        """An op that only counts the elements of its input in another way."""
        value = self.located(op.inputs[0], self.type(op))
        self.stored[op.name] = Located(value.tensor, self.shape(op.name), 0, change(value.places()))

    def layer(self, op: Op, x: _Planes, packed: Packed, size: tuple[int, int], axis: int, **geometry: Any) -> None:
        """A convolution or linear op with its packed weights; the one that ends a network writes fp32."""
        type_ = self.type(op)
        is_layer = op.name in self.candidate.plan
        real = type_ == "s8" and output_type(self.candidate.network, op.name, "int8", is_layer) == "fp32"
        y = self.add(op.name, "f32" if real else type_, self.shape(op.name), axis, None if real else self.format(op.name, type_))
        call = layer(packed, x.blank(), size, **_activation(op.activation), y=y.format, **geometry)
        self.step(op.name, call, x, y.place)


def _format(quantizer: Quantizer) -> Quantization:
    return Quantization(quantizer.scale, quantizer.zero_point)


def _activation(activation: Activation) -> dict[str, Any]:
    return {"activation": activation.name, "constants": activation.constants}


def _pack(
    lowering: _Lowering, op: Op, weight: torch.Tensor, x: _Planes, groups: int = 1, geometry: Geometry | None = None
) -> Packed:
    """The weights of a Layer as its Option says; `weight` has the shape that the kernel sees."""
    candidate = lowering.candidate
    option = candidate.plan[op.name]
    bias = candidate.network.tensors[f"{op.name}.bias"].numpy()
    structure: PackedStructure = "dense" if option.structure == "channel" else option.structure
    ends = op.name == candidate.network.output
    depthwise = groups > 1 and weight.shape[1] == 1 and len(weight) == groups and not (ends and x.type == "s8")
    if x.format is None:
        dtype = _FLOATS[option.bits]
        if depthwise:
            return pack_depthwise_float(weight[:, 0].numpy(), bias, dtype)
        if (structure, dtype) == ("dense", "fp32") and geometry is not None and takes_winograd(geometry):
            return pack_winograd(weight.numpy(), bias)
        return pack_float(weight.numpy(), bias, structure, dtype, groups)
    scale = candidate.scales[op.name]
    integers = codes(weight, scale.view(-1, *[1] * (weight.dim() - 1)), option.bits).numpy().astype(np.int64)
    scales = scale.double().numpy() * x.format.scale
    if depthwise:
        return pack_depthwise_integer(integers[:, 0], bias, scales, x.format.zero_point)
    return pack_integer(integers, bias, scales, structure, x.format.zero_point, "int4" if option.bits == 4 else "int8", groups)


def _conv2d(lowering: _Lowering, op: Op) -> None:
    x = lowering.planes(op.inputs[0], lowering.type(op), 0)
    weight = lowering.candidate.network.tensors[f"{op.name}.weight"]
    a = op.attributes
    kernel, stride, dilation, groups = (weight.shape[2], weight.shape[3]), a["stride"], a["dilation"], a["groups"]
    columns, height, width = lowering.shape(op.inputs[0])
    rows, out_height, out_width = lowering.shape(op.name)
    geometry = Geometry("conv", columns, rows, height, width, out_height, out_width, kernel, stride, dilation, groups)
    packed = _pack(lowering, op, weight, x, groups, geometry)
    lowering.layer(op, x, packed, (height, width), 0, stride=stride, dilation=dilation, padding=tuple(a["padding"]))


def _linear(lowering: _Lowering, op: Op) -> None:
    shape = lowering.shape(op.inputs[0])
    weight = lowering.candidate.network.tensors[f"{op.name}.weight"]
    axis = len(shape) - 1
    found = _in_memory_order(lowering, op, weight) if math.prod(shape) == shape[-1] else None
    if found is None:
        x = lowering.planes(op.inputs[0], lowering.type(op), axis)
    else:
        x, weight = found
    lowering.layer(op, x, _pack(lowering, op, weight, x), (1, x.pixels), axis)


def _in_memory_order(lowering: _Lowering, op: Op, weight: torch.Tensor) -> tuple[_Planes, torch.Tensor] | None:
    """The whole input of a linear op as one pixel, elements in the order in which they lie, and the weight's columns likewise.

    So a flattened plane need not be moved. None if it need not anyway, or if that would break blocks of weights up.
    """
    option = lowering.candidate.plan[op.name]
    value = lowering.located(op.inputs[0], lowering.type(op))
    if lowering.in_place(value, len(value.shape) - 1) is not None:
        return None
    tensor = lowering.tensors[value.tensor]
    blocks = 1 if option.structure in ("dense", "channel") else _block_columns(option.structure)
    length = math.prod(tensor.shape)
    if blocks > 1 or length > _LONGEST * weight.shape[1]:
        return None
    order = value.places().reshape(-1)
    if tensor.type == "s8":
        channel, pixel = np.divmod(order, tensor.pixels)
        order = (channel // QUAD * tensor.pixels + pixel) * QUAD + channel % QUAD
    columns = torch.zeros(len(weight), length)
    columns[:, torch.from_numpy(order)] = weight
    return _Planes(Place(value.tensor), tensor.type, length, 1, tensor.format), columns


def _block_columns(structure: str) -> int:
    """Columns that a kernel of that structure keeps together, whatever its type."""
    return max(block[1] for (_, name), (_, block) in KERNELS.items() if name == structure)


def _affine(lowering: _Lowering, op: Op) -> None:
    """A depthwise convolution by one pixel. An int8 weight is a sign: its magnitude is in the scale, so nothing is lost."""
    tensors = lowering.candidate.network.tensors
    weight, bias = (tensors[f"{op.name}.{part}"].numpy() for part in ("weight", "bias"))
    type_ = lowering.type(op)
    x = lowering.planes(op.inputs[0], type_, 0)
    if x.format is None:
        packed = pack_depthwise_float(weight[:, None, None], bias, "fp16" if type_ == "f16" else "fp32")
    else:
        signs = np.sign(weight).astype(np.int64)[:, None, None]
        packed = pack_depthwise_integer(signs, bias, np.abs(weight.astype(np.float64)) * x.format.scale, x.format.zero_point)
    lowering.layer(op, x, packed, (1, x.pixels), 0)


def _binary(lowering: _Lowering, op: Op) -> None:
    """add and mul. The kernels take an operand with one pixel a channel as their second."""
    shape, type_ = lowering.shape(op.name), lowering.type(op)
    whole = [name for name in op.inputs if name in lowering.stored and lowering.shape(name) == shape]
    usual = 0 if len(shape) == 3 else len(shape) - 1
    axis = lowering.natural_axis(lowering.located(whole[0], type_)) if whole else usual
    x, x2 = (lowering.operand(op, name, type_, shape, axis) for name in op.inputs)
    if x.pixels < x2.pixels:
        x, x2 = x2, x
    y = lowering.add(op.name, type_, shape, axis, lowering.format(op.name, type_))
    call = elementwise(
        "add" if op.kind == "add" else "mul",
        x.blank(),
        (1, x.pixels),
        x.channels,
        x2=x2.blank(),
        **_activation(op.activation),
        x_format=x.format,
        x2_format=x2.format,
        y_format=y.format,
    )
    lowering.step(op.name, call, x, y.place, x2)


def _cat(lowering: _Lowering, op: Op) -> None:
    """Every part is copied to its channels: those along the axis of the concatenation, whichever it is."""
    shape, type_, axis = lowering.shape(op.name), lowering.type(op), op.attributes["axis"]
    y = lowering.add(op.name, type_, shape, axis, lowering.format(op.name, type_))
    first = 0
    for name in op.inputs:
        if name in lowering.stored:
            x = lowering.planes(name, type_, axis, lanes=True)
        else:
            x = lowering.constant(op, name, type_, lowering.shape(name), axis)
        lane = first % QUAD if type_ == "s8" else 0
        call = elementwise(
            "copy",
            x.blank(),
            (1, x.pixels),
            x.channels,
            x_format=x.format,
            y_format=y.format,
            x_lane=x.lane,
            y_lane=lane,
        )
        lowering.step(op.name, call, x, Place(y.place.tensor, (first - lane) * x.pixels * TYPES[type_].itemsize))
        first += x.channels


def _slice(lowering: _Lowering, op: Op) -> None:
    a = op.attributes
    part = (slice(None),) * a["axis"] + (slice(a["start"], a["stop"]),)
    lowering.view(op, lambda numbers: numbers[part])


def _reshape(lowering: _Lowering, op: Op) -> None:
    lowering.view(op, lambda numbers: numbers.reshape(lowering.shape(op.name)))


def _permute(lowering: _Lowering, op: Op) -> None:
    lowering.view(op, lambda numbers: numbers.transpose(op.attributes["axes"]))


def _elementwise_activation(lowering: _Lowering, op: Op) -> None:
    type_ = lowering.type(op)
    axis = lowering.natural_axis(lowering.located(op.inputs[0], type_))
    x = lowering.planes(op.inputs[0], type_, axis)
    y = lowering.add(op.name, type_, lowering.shape(op.name), axis, lowering.format(op.name, type_))
    call = elementwise(
        "activation",
        x.blank(),
        (1, x.pixels),
        x.channels,
        **_activation(op.activation),
        x_format=x.format,
        y_format=y.format,
    )
    lowering.step(op.name, call, x, y.place)


def _pool(lowering: _Lowering, op: Op) -> None:
    geometry = {name: value for name, value in op.attributes.items() if name != "kernel"}
    _pooled(lowering, op, "max_pool" if op.kind == "max_pool" else "avg_pool", op.attributes["kernel"], **geometry)


def _pooled(lowering: _Lowering, op: Op, kind: Literal["max_pool", "avg_pool"], kernel: Sequence[int], **geometry: Any) -> None:
    type_ = lowering.type(op)
    x = lowering.planes(op.inputs[0], type_, 0)
    height, width = lowering.shape(op.inputs[0])[1:]
    format_ = x.format if kind == "max_pool" else lowering.format(op.name, type_)
    y = lowering.add(op.name, type_, lowering.shape(op.name), 0, format_)
    size = (kernel[0], kernel[1])
    call = pool(kind, x.blank(), (height, width), x.channels, size, x_format=x.format, y_format=y.format, **geometry)
    lowering.step(op.name, call, x, y.place)


def _adaptive_avg_pool(lowering: _Lowering, op: Op) -> None:
    type_, counts = lowering.type(op), tuple(op.attributes["size"])
    height, width = lowering.shape(op.inputs[0])[1:]
    if counts == (1, 1):
        x = lowering.planes(op.inputs[0], type_, 0)
        y = lowering.add(op.name, type_, lowering.shape(op.name), 0, lowering.format(op.name, type_))
        call = elementwise("global_pool", x.blank(), (height, width), x.channels, x_format=x.format, y_format=y.format)
        lowering.step(op.name, call, x, y.place)
        return
    windows = [adaptive_windows(size, count) for size, count in zip((height, width), counts, strict=True)]
    rows, columns = (regular(side) for side in windows)
    if rows is not None and columns is not None:
        _pooled(lowering, op, "avg_pool", (rows[0], columns[0]), stride=(rows[1], columns[1]))
    else:
        _unequal_windows(lowering, op, windows)


def _unequal_windows(lowering: _Lowering, op: Op, windows: Sequence[Sequence[tuple[int, int]]]) -> None:
    """An adaptive pool as a matrix over pixels: they become the channels, and the channels the pixels."""
    channels, height, width = lowering.shape(op.inputs[0])
    inside = np.zeros((len(windows[0]), len(windows[1]), height, width), np.int64)
    for i, (top, bottom) in enumerate(windows[0]):
        for j, (left, right) in enumerate(windows[1]):
            inside[i, j, top:bottom, left:right] = 1
    matrix = inside.reshape(-1, height * width)
    type_ = lowering.type(op)
    value = lowering.located(op.inputs[0], type_)
    flat = replace(value, shape=(channels, height * width), numbers=value.places().reshape(channels, -1))
    x = lowering.in_place(lowering.moved(f"{op.name}/pixels", flat, 1), 1)
    assert x is not None
    counts, bias = matrix.sum(1), np.zeros(len(matrix))
    if x.format is None:
        packed = pack_float(matrix / counts[:, None], bias, "dense", "fp16" if type_ == "f16" else "fp32")
    else:
        packed = pack_integer(matrix, bias, x.format.scale / counts, "dense", x.format.zero_point)
    y = lowering.add(op.name, type_, (channels, len(matrix)), 1, lowering.format(op.name, type_))
    lowering.step(op.name, layer(packed, x.blank(), (1, channels), y=y.format), x, y.place)
    numbers = lowering.stored[op.name].places().reshape(lowering.shape(op.name))
    lowering.stored[op.name] = Located(y.place.tensor, lowering.shape(op.name), 0, numbers)


def _pad(lowering: _Lowering, op: Op) -> None:
    type_ = lowering.type(op)
    x = lowering.planes(op.inputs[0], type_, 0)
    format_ = lowering.format(op.name, type_)
    fill = float(op.attributes["value"])
    if x.format is not None and format_ is not None:
        fill = float(quantise(np.float32(fill) * np.float32(1 / format_.scale), format_.zero_point))
        if x.format != format_:
            number = lowering.new(f"{op.name}/inside", type_, x.channels, x.pixels, format_)
            call = elementwise("copy", x.blank(), (1, x.pixels), x.channels, x_format=x.format, y_format=format_)
            lowering.step(op.name, call, x, Place(number))
            x = replace(x, place=Place(number), format=format_)
    top, left, bottom, right = op.attributes["padding"]
    numbers = np.arange(x.channels * x.pixels, dtype=np.int32).reshape(lowering.shape(op.inputs[0]))
    padded = np.pad(numbers, ((0, 0), (top, bottom), (left, right)), constant_values=-1)
    y = lowering.add(op.name, type_, lowering.shape(op.name), 0, format_)
    lowering.step(op.name, gather(x.blank(), padded.reshape(x.channels, -1), x.channels, fill), x, y.place)


_RULES: dict[str, Callable[[_Lowering, Op], None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "affine": _affine,
    "add": _binary,
    "mul": _binary,
    "cat": _cat,
    "slice": _slice,
    "activation": _elementwise_activation,
    "max_pool": _pool,
    "avg_pool": _pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "pad": _pad,
    "reshape": _reshape,
    "permute": _permute,
}
