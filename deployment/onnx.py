"""Write a Candidate as an ONNX file that computes what the evaluators computed.

The file holds float32 ops of the standard ONNX domain. Where the Candidate rounds, a float tensor is rounded: to fp16 by a pair
of casts, to int8 by plain arithmetic, which every runtime computes faithfully, at float speed. With `integer` the latter is a
QuantizeLinear/DequantizeLinear pair: runtimes recognise this form and compute in integers, which may move a value by one code
where it falls between two. In a deep int8 network such moves spread: outputs differ by a part of the rounding noise that
they have anyway, as they do between two float implementations.

Weights are stored in the format of their Option: int8 and int4 codes with a scale for each output channel, float16, or float32.
Biases are float32, but with `integer` int32 in an int8 linear op that ends the network.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from ..compressors.candidate import Candidate, integer_constant
from ..compressors.quantization import Quantizer, codes, to_half
from ..files import replacing
from ..spaces.datatypes import MOVES, DataType, output_type
from ..spaces.execute import run_op
from ..spaces.network import INPUT, Activation, Op
from ..spaces.option import precision

#: The first opset with int4 tensors, and the file format that goes with it.
OPSET, IR_VERSION = 21, 10

INPUT_NAME, OUTPUT_NAME, BATCH_NAME = "input", "output", "batch"

_NOTE = "Written by autocompress."
_INTEGER_NOTE = (
    f"{_NOTE} ONNX Runtime on x86 processors without VNNI clips sums of int8 products to 16 bits, which ruins "
    "int8 networks, unless the session option session.x64quantprecision is 1; ARM processors are not concerned."
)

#: Runtimes hold a bias as a 32 bit integer in units of input scale times weight scale: it may have this magnitude.
_LARGEST_BIAS = 2.0**30
#: Weight scale of a channel that has neither weights nor a bias.
_SMALLEST_SCALE = 1e-12


def to_onnx(candidate: Candidate, path: Path, integer: bool = False) -> None:
    """Write `candidate` to `path`, atomically: input `input` and output `output`, float32, with a free dimension `batch`.

    The properties `autocompress.version`, `autocompress.plan` (the Plan's key), `autocompress.weights` and
    `autocompress.activations` (how many Layers, or ops, have which type) say where the file comes from.

    Args:
        integer: write int8 Layers in the form that runtimes compute in integers. On ARM, ONNX Runtime does so faithfully. On an
            x86 processor without VNNI it does only with the session option `session.x64quantprecision` set to 1: by default it
            clips sums of products there, and the outputs are useless.

    Raises:
        UserError: the file cannot be written.
    """
    content = to_model(candidate, integer).SerializeToString(deterministic=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def to_model(candidate: Candidate, integer: bool = False) -> onnx.ModelProto:
    """The ONNX model of `candidate`, checked; `integer` as for `to_onnx`."""
    network, version = candidate.network, importlib.metadata.version("autocompress")
    writer = _Writer(candidate, integer)
    writer.write()
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_NAME, *network.shapes[tensor]])
        for name, tensor in ((INPUT_NAME, INPUT), (OUTPUT_NAME, network.output))
    ]
    graph = helper.make_graph(writer.nodes, "autocompress", ends[:1], ends[1:], writer.initializers)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="autocompress",
        producer_version=version,
        doc_string=_INTEGER_NOTE if integer else _NOTE,
    )
    properties = {
        "autocompress.version": version,
        "autocompress.plan": candidate.plan.key,
        "autocompress.weights": _summary(precision(option.bits) for option in candidate.plan.values()),
        "autocompress.activations": _summary(candidate.types.values()),
    }
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass(frozen=True)
class _Stored:
    """A float32 tensor of the graph: `type` says to which values it has been rounded, for int8 with `quantizer`."""

    name: str
    type: DataType
    quantizer: Quantizer | None = None


class _Writer:
    """The ONNX graph under construction: nodes in topological order, and the constants that they read."""

    def __init__(self, candidate: Candidate, integer: bool) -> None:
        self.candidate = candidate
        self.integer = integer
        self.network = candidate.network
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.stored = {INPUT: _Stored(INPUT_NAME, "fp32")}
        self._taken = {INPUT_NAME, OUTPUT_NAME}
        self._read: dict[tuple[str, DataType], _Stored] = {}

    def write(self) -> None:
        """Append the whole network."""
        for op in self.network.ops:
            self.stored[op.name] = self._op(op)
        output = self.stored[self.network.output].name
        self.nodes.append(helper.make_node("Identity", [output], [OUTPUT_NAME], name=self._unique(OUTPUT_NAME)))

    def node(self, owner: str, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node that belongs to the op or tensor `owner`; return the name of its output."""
        name = self._unique(f"{owner}/{kind}")
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: npt.ArrayLike, data_type: npt.DTypeLike = np.float32) -> str:
        """Store a constant; return its name."""
        array = np.ascontiguousarray(value, data_type).reshape(np.shape(value))
        self.initializers.append(numpy_helper.from_array(array, self._unique(name)))
        return self.initializers[-1].name

    def real(self, name: str, value: Tensor) -> str:
        """Store a float32 constant, or a float16 one that is read as float32; return the name of the float32 tensor."""
        if value.dtype == torch.float16:
            return self.node(name, "Cast", self.constant(name, value.numpy(), np.float16), to=TensorProto.FLOAT)
        return self.constant(name, value.numpy())

    def weight(self, op: Op) -> str:
        """The weight of a convolution as it is, or that of a linear op transposed: its float32 tensor's name."""
        name = f"{op.name}.weight"
        weight, axis = self.network.tensors[name], 0
        option = self.candidate.plan.get(op.name)
        scale = None
        if option is not None and option.bits <= 8:
            scale = self._weight_scale(op).view(-1, *[1] * (weight.dim() - 1))
            weight = codes(weight, scale, option.bits)
        elif option is not None and option.bits == 16:
            weight = to_half(weight).half()
        if op.kind == "linear":
            weight, axis = weight.T, 1
        if scale is None or option is None:
            return self.real(name, weight)
        if option.bits == 4:
            # Widened before it is scaled: ONNX Runtime has integer kernels for int8 weights only, and widens them once, at load.
            self.initializers.append(_int4(self._unique(name), weight))
            stored = self.node(name, "Cast", self.initializers[-1].name, to=TensorProto.INT8)
        else:
            stored = self.constant(name, weight.numpy(), np.int8)
        if not self.integer:
            step = self.constant(f"{name}/scale", (scale.T if op.kind == "linear" else scale).numpy())
            return self.node(name, "Mul", self.node(name, "Cast", stored, to=TensorProto.FLOAT), step)
        steps = self.constant(f"{name}/scale", scale.flatten().numpy())
        # Zero points are zero anyway, but ONNX Runtime's optimiser invents a scalar where they are left out, and then fails.
        zero_points = self.constant(f"{name}/zero_point", np.zeros(scale.numel()), np.int8)
        return self.node(name, "DequantizeLinear", stored, steps, zero_points, axis=axis)

    def bias(self, op: Op) -> str:
        """The bias of a Layer, shape (channels,)."""
        name = f"{op.name}.bias"
        bias = self.network.tensors[name]
        ends = self.integer and op.kind == "linear" and op.name == self.network.output and self.candidate.types[op.name] == "int8"
        quantizer = self.read(op.inputs[0], "int8").quantizer if ends else None
        if quantizer is None:
            return self.real(name, bias)
        # No QuantizeLinear follows the linear op that ends a network: there ONNX Runtime computes in integers only if it finds
        # the bias in the integers' own units. Elsewhere it converts biases by itself, and the file keeps them exact.
        unit = self._weight_scale(op) * quantizer.scale
        stored = self.constant(name, (bias / unit).round().numpy(), np.int32)
        steps = self.constant(f"{name}/scale", unit.numpy())
        zero_points = self.constant(f"{name}/zero_point", np.zeros(len(bias)), np.int32)
        return self.node(name, "DequantizeLinear", stored, steps, zero_points, axis=0)

    def _weight_scale(self, op: Op) -> Tensor:
        """Scales of the output channels, shape (channels,): the Candidate's, but large enough for the bias.

        A channel whose weights nearly vanish beside its bias would make the bias overflow in a runtime that stores it as an
        integer: it gets a coarser grid, on which its weights' error stays below a millionth of the bias per input.
        """
        scale = self.candidate.scales[op.name].clamp(min=_SMALLEST_SCALE)
        quantizer = self.read(op.inputs[0], "int8").quantizer
        if quantizer is None or not self.integer:
            return scale
        return torch.maximum(scale, self.network.tensors[f"{op.name}.bias"].abs() / (quantizer.scale * _LARGEST_BIAS))

    def read(self, name: str, type_: DataType) -> _Stored:
        """The tensor `name` as an op of type `type_` reads it; converted at most once to each type."""
        if (name, type_) not in self._read:
            self._read[name, type_] = self._converted(name, type_)
        return self._read[name, type_]

    def _converted(self, name: str, type_: DataType) -> _Stored:
        if name not in self.stored:
            value = self.network.tensors[name].unsqueeze(0)
            if type_ == "int8" and any(name in op.inputs and op.kind in ("add", "mul") for op in self.network.ops):
                value = integer_constant(value).real
            return _Stored(self.real(name, value.half() if type_ == "fp16" else value), type_)
        source, quantizer = self.stored[name], self.candidate.quantizers.get(name)
        if source.type == type_:
            return source
        if type_ == "int8" and quantizer is not None:
            return _Stored(self._quantized(name, source.name, quantizer), "int8", quantizer)
        if type_ == "fp16":
            return _Stored(self._halved(name, source.name), "fp16")
        return source

    def _op(self, op: Op) -> _Stored:
        type_ = self.candidate.types[op.name]
        inputs = [self.read(name, type_) for name in op.inputs]
        type_ = output_type(self.network, op.name, type_, op.name in self.candidate.plan)
        quantizer = None
        if type_ == "int8":
            quantizer = inputs[0].quantizer if op.kind in MOVES else self.candidate.quantizers[op.name]
        result = _RULES[op.kind](self, op, [value.name for value in inputs])
        if quantizer is None or not _saturates(op.activation, quantizer):
            result = _activate(self, op.name, op.activation, result)
        if quantizer is not None:
            result = self._quantized(op.name, result, quantizer)
        elif type_ == "fp16" and op.kind not in MOVES:
            result = self._halved(op.name, result)
        return _Stored(result, type_, quantizer)

    def _quantized(self, owner: str, name: str, quantizer: Quantizer) -> str:
        if not self.integer:
            step = self.constant(f"{owner}/step", quantizer.scale)
            low = self.constant(f"{owner}/low", -128.0 - quantizer.zero_point)
            high = self.constant(f"{owner}/high", 127.0 - quantizer.zero_point)
            units = self.node(owner, "Round", self.node(owner, "Div", name, step))
            return self.node(owner, "Mul", self.node(owner, "Clip", units, low, high), step)
        scale = self.constant(f"{owner}/scale", quantizer.scale)
        zero_point = self.constant(f"{owner}/zero_point", quantizer.zero_point, np.int8)
        stored = self.node(owner, "QuantizeLinear", name, scale, zero_point)
        return self.node(owner, "DequantizeLinear", stored, scale, zero_point)

    def _halved(self, owner: str, name: str) -> str:
        return self.node(owner, "Cast", self.node(owner, "Cast", name, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)

    def _unique(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


def _summary(types: Any) -> str:
    """As `40 int8, 2 fp32`."""
    return ", ".join(f"{count} {name}" for name, count in Counter(types).most_common())


def _int4(name: str, values: Tensor) -> TensorProto:
    """A tensor of integers from -8 to 7, two in a byte, the first in the low half."""
    nibbles = values.contiguous().numpy().astype(np.int8).view(np.uint8).ravel() & 15
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    packed = nibbles[::2] | nibbles[1::2] << 4
    return TensorProto(name=name, data_type=TensorProto.INT4, dims=values.shape, raw_data=packed.tobytes())


def _saturates(activation: Activation, quantizer: Quantizer) -> bool:
    """Whether the range of the codes does the clipping of `activation`, which then would only keep runtimes from fusing."""
    if activation.name == "relu":
        bounds = (0.0, float("inf"))
    elif activation.name == "clamp":
        bounds = (activation.constants[0], activation.constants[1])
    else:
        return False
    low, high = -128 - quantizer.zero_point, 127 - quantizer.zero_point
    return bounds[0] / quantizer.scale < low + 0.5 and bounds[1] / quantizer.scale > high - 0.5


def _activate(writer: _Writer, owner: str, activation: Activation, x: str) -> str:
    name, constants = activation.name, activation.constants
    if name == "none":
        return x
    if name == "clamp":
        low, high = (writer.constant(f"{owner}/{end}", value) for end, value in zip(("low", "high"), constants, strict=True))
        return writer.node(owner, "Clip", x, low, high)
    if name == "silu":
        return writer.node(owner, "Mul", x, writer.node(owner, "Sigmoid", x))
    kind, attributes = _ACTIVATIONS[name]
    return writer.node(owner, kind, x, **attributes, **({"alpha": constants[0]} if constants else {}))


_ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "relu": ("Relu", {}),
    "hardswish": ("HardSwish", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "sigmoid": ("Sigmoid", {}),
    "gelu": ("Gelu", {"approximate": "none"}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "leaky_relu": ("LeakyRelu", {}),
    "tanh": ("Tanh", {}),
    "elu": ("Elu", {}),
}


def _conv2d(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    return writer.node(
        op.name,
        "Conv",
        inputs[0],
        writer.weight(op),
        writer.bias(op),
        strides=op.attributes["stride"],
        pads=op.attributes["padding"],
        dilations=op.attributes["dilation"],
        group=op.attributes["groups"],
    )


def _linear(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    return writer.node(op.name, "Add", writer.node(op.name, "MatMul", inputs[0], writer.weight(op)), writer.bias(op))


def _affine(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    shape = (1, -1) + (1,) * (len(writer.network.shapes[op.name]) - 1)
    factor, shift = (
        writer.constant(f"{op.name}.{part}", writer.network.tensors[f"{op.name}.{part}"].reshape(shape).numpy())
        for part in ("weight", "bias")
    )
    return writer.node(op.name, "Add", writer.node(op.name, "Mul", inputs[0], factor), shift)


def _add(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    return writer.node(op.name, "Add", *inputs)


def _mul(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    return writer.node(op.name, "Mul", *inputs)


def _cat(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    parts = []
    for name, part in zip(op.inputs, inputs, strict=True):
        if name not in writer.stored:
            # Concat does not broadcast: a constant is repeated for every sample.
            batch = writer.node(op.name, "Shape", INPUT_NAME, start=0, end=1)
            rest = writer.constant(f"{op.name}/shape", tuple(writer.network.tensors[name].shape), np.int64)
            part = writer.node(op.name, "Expand", part, writer.node(op.name, "Concat", batch, rest, axis=0))
        parts.append(part)
    return writer.node(op.name, "Concat", *parts, axis=op.attributes["axis"] + 1)


def _slice(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    a = op.attributes
    bounds = {"starts": a["start"], "ends": a["stop"], "axes": a["axis"] + 1}
    return writer.node(
        op.name, "Slice", inputs[0], *(writer.constant(f"{op.name}/{key}", [value], np.int64) for key, value in bounds.items())
    )


def _activation(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    return inputs[0]


def _max_pool(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    a = op.attributes
    x, beyond = inputs[0], _beyond(writer, op, a["dilation"])
    if beyond != (0, 0):
        x = _padded(writer, op, x, (0, 0, *beyond), float(np.finfo(np.float32).min))
    pads = (*a["padding"], *a["padding"])
    return writer.node(op.name, "MaxPool", x, kernel_shape=a["kernel"], strides=a["stride"], pads=pads, dilations=a["dilation"])


def _avg_pool(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    a = op.attributes
    beyond, pads = _beyond(writer, op, (1, 1)), (*a["padding"], *a["padding"])
    window = {"kernel_shape": a["kernel"], "strides": a["stride"]}
    if beyond == (0, 0) and a["divisor"] is None:
        return writer.node(op.name, "AveragePool", inputs[0], **window, pads=pads, count_include_pad=int(a["count_include_pad"]))
    # Means over whole windows, zeros included, then a factor for each window: what a divisor or windows cut short mean in
    # torch has no ONNX attribute, or one that versions of ONNX understand differently.
    pads = (pads[0], pads[1], pads[2] + beyond[0], pads[3] + beyond[1])
    mean = writer.node(op.name, "AveragePool", _padded(writer, op, inputs[0], pads, 0.0), **window)
    ones = torch.ones(1, 1, *writer.network.shapes[op.inputs[0]][1:])
    whole = F.avg_pool2d(F.pad(ones, (pads[1], pads[3], pads[0], pads[2])), a["kernel"], a["stride"])
    return writer.node(op.name, "Mul", mean, writer.constant(f"{op.name}/factor", (run_op(op, [ones], {}) / whole).numpy()))


def _beyond(writer: _Writer, op: Op, dilation: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns by which the last windows of a pool with `ceil_mode` reach beyond the padded input."""
    a = op.attributes
    sizes, counts = writer.network.shapes[op.inputs[0]][1:], writer.network.shapes[op.name][1:]
    height, width = (
        max(0, (counts[i] - 1) * a["stride"][i] + dilation[i] * (a["kernel"][i] - 1) + 1 - sizes[i] - 2 * a["padding"][i])
        for i in range(2)
    )
    return height, width


def _adaptive_avg_pool(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    sizes, counts = writer.network.shapes[op.inputs[0]][1:], op.attributes["size"]
    if counts == (1, 1):
        return writer.node(op.name, "GlobalAveragePool", inputs[0])
    if sizes[0] % counts[0] == 0 and sizes[1] % counts[1] == 0:
        kernel = (sizes[0] // counts[0], sizes[1] // counts[1])
        return writer.node(op.name, "AveragePool", inputs[0], kernel_shape=kernel, strides=kernel)
    # Windows of unequal sizes: a matrix product along each axis.
    rows, columns = (
        F.adaptive_avg_pool1d(torch.eye(size).unsqueeze(0), count)[0] for size, count in zip(sizes, counts, strict=True)
    )
    wide = writer.node(op.name, "MatMul", writer.constant(f"{op.name}/rows", rows.T.numpy()), inputs[0])
    return writer.node(op.name, "MatMul", wide, writer.constant(f"{op.name}/columns", columns.numpy()))


def _pad(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    return _padded(writer, op, inputs[0], op.attributes["padding"], op.attributes["value"])


def _padded(writer: _Writer, op: Op, x: str, padding: Sequence[int], value: float) -> str:
    """`x` with `padding` (top, left, bottom, right) around its last two axes."""
    others = [0] * (len(writer.network.shapes[op.inputs[0]]) - 1)
    pads = writer.constant(f"{op.name}/pads", [*others, *padding[:2], *others, *padding[2:]], np.int64)
    return writer.node(op.name, "Pad", x, pads, writer.constant(f"{op.name}/value", value), mode="constant")


def _reshape(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    # 0 keeps the batch.
    return writer.node(op.name, "Reshape", inputs[0], writer.constant(f"{op.name}/shape", [0, *op.attributes["shape"]], np.int64))


def _permute(writer: _Writer, op: Op, inputs: Sequence[str]) -> str:
    return writer.node(op.name, "Transpose", inputs[0], perm=[0, *(axis + 1 for axis in op.attributes["axes"])])


_RULES: dict[str, Callable[[_Writer, Op, Sequence[str]], str]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "affine": _affine,
    "add": _add,
    "mul": _mul,
    "cat": _cat,
    "slice": _slice,
    "activation": _activation,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "pad": _pad,
    "reshape": _reshape,
    "permute": _permute,
}
