"""Candidate: the network that a Plan means, and how it is computed.

Numbers are simulated in float32. An int8 tensor is held in *units*: integers (code minus zero point) times one scale. A
Layer that reads and writes int8 has both scales folded into its weights, so that only a rounding and a clamp, which also
does the activation's clipping, follow the convolution.

Where weights want gradients, roundings pass them straight through: fine-tuning trains the network that is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..spaces.datatypes import MOVES, DataType, data_types, output_type
from ..spaces.execute import apply_activation, run_op
from ..spaces.network import INPUT, Activation, Network, Op
from ..spaces.plan import Plan
from .quantization import Quantizer, half_through, round_between

#: Called with (op, output before the activation, in real numbers divided by `scale`, scale); returns what goes on.
Correct = Callable[[Op, torch.Tensor, float], torch.Tensor]


@dataclass(frozen=True)
class Value:
    """A tensor while the network runs: real numbers are `data * scale`.

    `type` says how it is stored; `data` of an int8 tensor holds integers.
    """

    data: torch.Tensor
    scale: float = 1.0
    type: DataType = "fp32"

    @property
    def real(self) -> torch.Tensor:
        return self.data if self.scale == 1.0 else self.data * self.scale


@dataclass(frozen=True)
class Candidate:
    """The network that a Plan means: removed channels are gone, weights hold the values that the kernels will use.

    Attributes:
        plan: the Plan.
        network: the compressed network; weights of integer Layers are integers times their scale.
        types: the type each op computes in.
        quantizers: of every tensor that may be stored in int8, `input` included.
        scales: per output channel weight scales of the Layers with 8 or 4 bits.
    """

    plan: Plan
    network: Network
    types: Mapping[str, DataType]
    quantizers: Mapping[str, Quantizer]
    scales: Mapping[str, torch.Tensor]

    @staticmethod
    def of(plan: Plan, network: Network, quantizers: Mapping[str, Quantizer], scales: Mapping[str, torch.Tensor]) -> Candidate:
        return Candidate(plan, network, data_types(network, plan), quantizers, scales)

    def input_value(self, x: torch.Tensor) -> Value:
        """The network's input, as the first ops find it."""
        return Value(x)

    def step(self, op: Op, inputs: Mapping[str, Value], correct: Correct | None = None) -> Value:
        """Compute one op.

        Args:
            inputs: at least the computed tensors that the op reads, shape (batch, ...); constants come from the network.
            correct: for a Layer, may change the output before its activation (statistics correction).
        """
        type_ = self.types[op.name]
        values = [self._fetch(op, name, inputs) for name in op.inputs]
        if op.name in self.plan:
            return self._layer(op, values[0], correct)
        if type_ != "int8":
            return _rounded(run_op(op, [value.real for value in values], self.network.tensors), type_)
        if op.kind in MOVES:
            return replace(values[0], data=run_op(op, [values[0].data], self.network.tensors))
        return self._integer(op, values)

    def finish(self, value: Value) -> torch.Tensor:
        """The network's output in real numbers."""
        return value.real

    def run(self, x: torch.Tensor, correct: Correct | None = None) -> torch.Tensor:
        """Compute the whole network. `x` has shape (batch, ...)."""
        last_use = {name: op.name for op in self.network.ops for name in op.inputs}
        values = {INPUT: self.input_value(x)}
        for op in self.network.ops:
            values[op.name] = self.step(op, values, correct)
            for name in op.inputs:
                if last_use[name] == op.name and name != self.network.output:
                    values.pop(name, None)
        return self.finish(values[self.network.output])

    def _fetch(self, op: Op, name: str, inputs: Mapping[str, Value]) -> Value:
        type_ = self.types[op.name]
        if name in inputs:
            return _converted(inputs[name], type_, self.quantizers.get(name))
        constant = self.network.tensors[name].unsqueeze(0)
        if type_ == "int8" and op.kind in ("add", "mul"):
            return integer_constant(constant)
        # A part of a concatenation takes the format of the whole.
        return _converted(Value(constant), type_, None)

    def _integer(self, op: Op, values: Sequence[Value]) -> Value:
        """An op without weights from int8 to int8, with the factors and the order of operations of kernels/csrc/ac_kernels.h."""
        quantizer = self.quantizers[op.name]
        bounds = clipping(op.activation, quantizer)
        unit = 1.0 if bounds is None else quantizer.scale
        bare = replace(op, attributes={**op.attributes, "activation": Activation()})
        first, factor = values[0].data, values[0].scale / unit
        if op.kind == "mul":
            y = first.mul(values[1].data).mul_(factor * values[1].scale)
        elif op.kind in ("avg_pool", "adaptive_avg_pool"):
            y = run_op(bare, [first], {}).mul_(factor)
        elif op.kind == "affine":
            weight, bias = f"{op.name}.weight", f"{op.name}.bias"
            y = run_op(bare, [first], {weight: self.network.tensors[weight] * factor, bias: self.network.tensors[bias] / unit})
        elif op.kind == "pad":
            value = op.attributes["value"] / unit
            y = run_op(replace(bare, attributes={**bare.attributes, "value": value}), [first * factor], {})
        else:
            y = run_op(bare, [value.data * (value.scale / unit) for value in values], {})
        if bounds is None:
            return _quantized(apply_activation(op.activation, y), quantizer)
        return Value(round_between(y, *bounds), quantizer.scale, "int8")

    def _layer(self, op: Op, value: Value, correct: Correct | None) -> Value:
        type_ = self.types[op.name]
        stored = output_type(self.network, op.name, type_, is_layer=True)
        weight, bias = self.network.tensors[f"{op.name}.weight"], self.network.tensors[f"{op.name}.bias"]
        quantizer = self.quantizers[op.name] if stored == "int8" else None
        scale = quantizer.scale if quantizer is not None else 1.0
        folded = {f"{op.name}.weight": weight * (value.scale / scale), f"{op.name}.bias": bias / scale}
        bare = replace(op, attributes={**op.attributes, "activation": Activation()})
        y = run_op(bare, [value.data], folded)
        if correct is not None:
            y = correct(op, y, scale)
        if quantizer is None:
            y = apply_activation(op.activation, y, own=True)
            return Value(half_through(y, own=True) if stored == "fp16" else y, 1.0, stored)
        bounds = clipping(op.activation, quantizer)
        if bounds is None:
            return _quantized(apply_activation(op.activation, y.mul_(scale), own=True), quantizer)
        return Value(round_between(y, *bounds), scale, "int8")


def constant_quantizer(constant: torch.Tensor) -> Quantizer:
    """The int8 format of a constant that an int8 op reads: all of its range."""
    low, high = min(float(constant.min()), 0.0), max(float(constant.max()), 0.0)
    scale = (high - low) / 255
    return Quantizer(scale, round(-128 - low / scale)) if scale > 0 else Quantizer(1.0, 0)


def integer_constant(constant: torch.Tensor) -> Value:
    """A constant as an int8 add or mul reads it."""
    return _quantized(constant, constant_quantizer(constant))


def clipping(activation: Activation, quantizer: Quantizer) -> tuple[float, float] | None:
    """Range of an int8 output in units, when the activation only clips; None when it bends."""
    low, high = -128.0 - quantizer.zero_point, 127.0 - quantizer.zero_point
    if activation.name == "none":
        return low, high
    if activation.name == "relu":
        return max(low, 0.0), high
    if activation.name == "clamp":
        bottom, top = activation.constants
        return max(low, bottom / quantizer.scale), min(high, top / quantizer.scale)
    return None


def _quantized(real: torch.Tensor, quantizer: Quantizer) -> Value:
    low, high = -128.0 - quantizer.zero_point, 127.0 - quantizer.zero_point
    return Value(round_between(real * (1.0 / quantizer.scale), low, high), quantizer.scale, "int8")


def _rounded(real: torch.Tensor, type_: DataType) -> Value:
    return Value(half_through(real) if type_ == "fp16" else real, 1.0, type_)


def _converted(value: Value, type_: DataType, quantizer: Quantizer | None) -> Value:
    """`value` as an op of type `type_` reads it; without a quantizer at full precision instead of in int8."""
    if value.type == type_:
        return value
    if type_ == "int8" and quantizer is not None:
        return _quantized(value.real, quantizer)
    return _rounded(value.real, "fp32" if type_ == "int8" else type_)
