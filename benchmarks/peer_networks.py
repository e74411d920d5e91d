"""Candidates as .tflite files, as far as benchmarks/peers.py needs it. Needs the extra `peers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ai_edge_litert.schema_py_generated as schema
import numpy as np
from numpy.typing import NDArray
from peer_runtimes import TfliteFile

from autocompress.compressors.candidate import Candidate
from autocompress.compressors.quantization import Quantizer
from autocompress.errors import UserError
from autocompress.spaces.datatypes import MOVES
from autocompress.spaces.network import INPUT, Activation, Op

_FUSED = {
    Activation("none"): schema.ActivationFunctionType.NONE,
    Activation("relu"): schema.ActivationFunctionType.RELU,
    Activation("clamp", (0.0, 6.0)): schema.ActivationFunctionType.RELU6,
}
#: XNNPACK holds a bias as a 32 bit integer in units of input scale times weight scale: it may have this magnitude.
_LARGEST_BIAS = 2.0**30


@dataclass(frozen=True)
class _Stored:
    """A tensor of the file; its format if it is int8."""

    number: int
    format: Quantizer | None


@dataclass
class _Writer:
    candidate: Candidate
    file: TfliteFile = field(default_factory=TfliteFile)
    stored: dict[str, _Stored] = field(default_factory=dict)

    @property
    def integer(self) -> bool:
        return next(iter(self.candidate.plan.values())).bits == 8

    def shape(self, name: str) -> tuple[int, ...]:
        """In a batch of one, channels last."""
        shape = self.candidate.network.shapes[name]
        return (1, *shape[1:], shape[0]) if len(shape) == 3 else (1, *shape)

    def new(self, name: str, shape: Sequence[int], format_: Quantizer | None) -> _Stored:
        if format_ is None:
            return _Stored(self.file.tensor(name, shape, "float32"), None)
        return _Stored(self.file.tensor(name, shape, "int8", format_.scale, format_.zero_point), format_)

    def output(self, op: Op) -> _Stored:
        """The tensor of an op's output; ops that only move values keep their input's format."""
        format_ = self.candidate.quantizers[op.name] if self.integer else None
        if op.kind in MOVES:
            format_ = self.stored[op.inputs[0]].format
        self.stored[op.name] = self.new(op.name, self.shape(op.name), format_)
        return self.stored[op.name]

    def inputs(self, op: Op) -> list[_Stored]:
        return [self.stored[name] for name in op.inputs]

    def parameters(self, op: Op, order: Callable[[NDArray[Any]], NDArray[Any]], axis: int) -> list[int]:
        """Weight and bias of a Layer, the former rearranged; `axis` of that is its output channels."""
        weight, bias = (self.candidate.network.tensors[f"{op.name}.{part}"].numpy() for part in ("weight", "bias"))
        x = self.stored[op.inputs[0]].format
        names = f"{op.name}.weight", f"{op.name}.bias"
        if x is None:
            return [self.file.constant(names[0], order(weight)), self.file.constant(names[1], bias)]
        codes, scale = weight_codes(self.candidate, op.name, x.scale)
        units = scale * x.scale
        return [
            self.file.constant(names[0], order(codes), scale, axis),
            self.file.constant(names[1], np.rint(bias / units).astype(np.int32), units),
        ]

    def version(self, real: int, integer: int) -> int:
        """Of an op."""
        return integer if self.integer else real


def weight_codes(candidate: Candidate, layer: str, input_scale: float) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Weights of an int8 Layer, in their own shape, and their scale for each output channel."""
    weight, bias = (candidate.network.tensors[f"{layer}.{part}"].numpy() for part in ("weight", "bias"))
    scale = np.maximum(candidate.scales[layer].double().numpy(), abs(bias) / (input_scale * _LARGEST_BIAS))
    return np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8), scale


def tflite(candidate: Candidate) -> bytes:
    """A Candidate whose Layers are all dense fp32, or all dense int8, as a .tflite file with fp32 input and output.

    Raises:
        UserError: an op that this writer does not know.
    """
    writer, network = _Writer(candidate), candidate.network
    x = writer.stored[INPUT] = writer.new(INPUT, writer.shape(INPUT), None)
    if writer.integer:
        writer.stored[INPUT] = writer.new(f"{INPUT}/int8", writer.shape(INPUT), candidate.quantizers[INPUT])
        writer.file.op("QUANTIZE", 1, [x.number], writer.stored[INPUT].number, schema.QuantizeOptionsT())
    for op in network.ops:
        if op.kind not in _RULES or op.activation not in _FUSED:
            raise UserError(
                f"{op.name}: {op.kind} with {op.activation.name} is not written for LiteRT. Add it to peer_networks.py"
            )
        _RULES[op.kind](writer, op)
    y = writer.stored[network.output]
    if writer.integer:
        codes, y = y, writer.new(f"{network.output}/fp32", writer.shape(network.output), None)
        writer.file.op("DEQUANTIZE", 2, [codes.number], y.number, schema.DequantizeOptionsT())
    return writer.file.content(x.number, y.number)


def _conv2d(writer: _Writer, op: Op) -> None:
    a, (x,) = op.attributes, writer.inputs(op)
    weight = writer.candidate.network.tensors[f"{op.name}.weight"]
    depthwise = a["groups"] > 1
    if depthwise and (weight.shape[1] != 1 or len(weight) != a["groups"]):
        raise UserError(f"{op.name}: a grouped convolution is not written for LiteRT. Add it to peer_networks.py")
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    number, options.padding = _padded(writer, op, x, tuple(weight.shape[2:]), a["padding"])
    options.strideH, options.strideW = a["stride"]
    options.dilationHFactor, options.dilationWFactor = a["dilation"]
    options.fusedActivationFunction = _FUSED[op.activation]
    if depthwise:
        options.depthMultiplier = 1
        parameters = writer.parameters(op, lambda w: np.ascontiguousarray(w.transpose(1, 2, 3, 0)), 3)
    else:
        parameters = writer.parameters(op, lambda w: np.ascontiguousarray(w.transpose(0, 2, 3, 1)), 0)
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    writer.file.op(name, writer.version(1, 3), [number, *parameters], writer.output(op).number, options)


def _padded(writer: _Writer, op: Op, x: _Stored, kernel: Sequence[int], padding: Sequence[int]) -> tuple[int, int]:
    """The number of an op's input, and the padding that LiteRT has a word for; other zeros are put around it by an op.

    Args:
        padding: top, left, bottom, right.
    """
    dilation, strides = op.attributes["dilation"], op.attributes["stride"]
    sizes, counts = (writer.candidate.network.shapes[name][1:] for name in (op.inputs[0], op.name))
    windows = [dilation[i] * (kernel[i] - 1) + 1 for i in range(2)]
    # What the last window reads beyond the end: the padding after it may be longer.
    needed = [max(0, (counts[i] - 1) * strides[i] + windows[i] - sizes[i]) for i in range(2)]
    if not any(padding):
        return x.number, schema.Padding.VALID
    if all(counts[i] == -(-sizes[i] // strides[i]) and padding[i] == needed[i] // 2 for i in range(2)):
        return x.number, schema.Padding.SAME
    pads = np.array([[0, 0], [padding[0], padding[2]], [padding[1], padding[3]], [0, 0]], np.int32)
    channels, height, width = writer.candidate.network.shapes[op.inputs[0]]
    shape = (1, height + int(pads[1].sum()), width + int(pads[2].sum()), channels)
    wide = writer.new(f"{op.name}/padded", shape, x.format)
    amounts = writer.file.constant(f"{op.name}/padding", pads)
    writer.file.op("PAD", writer.version(1, 2), [x.number, amounts], wide.number, schema.PadOptionsT())
    return wide.number, schema.Padding.VALID


def _max_pool(writer: _Writer, op: Op) -> None:
    a, (x,) = op.attributes, writer.inputs(op)
    options = schema.Pool2DOptionsT()
    # Zeros around it are as good as nothing: what is pooled here is a ReLU's output.
    source = next(each for each in writer.candidate.network.ops if each.name == op.inputs[0])
    if _FUSED[source.activation] == schema.ActivationFunctionType.NONE or a["dilation"] != (1, 1):
        raise UserError(f"{op.name}: such a pool is not written for LiteRT. Add it to peer_networks.py")
    number, options.padding = _padded(writer, op, x, a["kernel"], (*a["padding"], *a["padding"]))
    options.strideH, options.strideW = a["stride"]
    options.filterHeight, options.filterWidth = a["kernel"]
    writer.file.op("MAX_POOL_2D", writer.version(1, 2), [number], writer.output(op).number, options)


def _adaptive_avg_pool(writer: _Writer, op: Op) -> None:
    if op.attributes["size"] != (1, 1):
        raise UserError(f"{op.name}: only global pooling is written for LiteRT. Add it to peer_networks.py")
    options = schema.ReducerOptionsT()
    options.keepDims = True
    axes = writer.file.constant(f"{op.name}/axes", np.array([1, 2], np.int32))
    writer.file.op("MEAN", writer.version(1, 2), [writer.inputs(op)[0].number, axes], writer.output(op).number, options)


def _reshape(writer: _Writer, op: Op) -> None:
    if any(size != 1 for size in writer.candidate.network.shapes[op.inputs[0]][1:]):
        raise UserError(f"{op.name}: only single pixels are flattened for LiteRT. Add it to peer_networks.py")
    options = schema.ReshapeOptionsT()
    options.newShape = list(writer.shape(op.name))
    shape = writer.file.constant(f"{op.name}/shape", np.array(options.newShape, np.int32))
    writer.file.op("RESHAPE", 1, [writer.inputs(op)[0].number, shape], writer.output(op).number, options)


def _linear(writer: _Writer, op: Op) -> None:
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = _FUSED[op.activation]
    numbers = [writer.inputs(op)[0].number, *writer.parameters(op, lambda w: w, 0)]
    writer.file.op("FULLY_CONNECTED", writer.version(1, 4), numbers, writer.output(op).number, options)


def _add(writer: _Writer, op: Op) -> None:
    options = schema.AddOptionsT()
    options.fusedActivationFunction = _FUSED[op.activation]
    numbers = [each.number for each in writer.inputs(op)]
    writer.file.op("ADD", writer.version(1, 2), numbers, writer.output(op).number, options)


_RULES: dict[str, Callable[[_Writer, Op], None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "add": _add,
    "max_pool": _max_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "reshape": _reshape,
}
