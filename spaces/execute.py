"""Execute a Network, or one op of it, with torch: the reference for every kernel and the engine of the evaluators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .network import INPUT, Activation, Network, Op

#: Samples that are padded at a time.
PADDED = 8
#: Kinds of ops that never return (a view of) an input.
FRESH = ("conv2d", "linear", "affine", "add", "mul")

#: Called with a tensor, whether it may be overwritten, and the activation's constants.
_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "none": lambda x, own: x,
    "relu": lambda x, own: F.relu(x, inplace=own),
    # The gradient of hardtanh is one fused pass, that of clamp four.
    "clamp": lambda x, own, low, high: x.clamp_(low, high) if own else _clamp(x, low, high),
    "hardswish": lambda x, own: F.hardswish(x, inplace=own),
    "hardsigmoid": lambda x, own: F.hardsigmoid(x, inplace=own),
    "silu": lambda x, own: F.silu(x, inplace=own),
    "sigmoid": lambda x, own: x.sigmoid_() if own else x.sigmoid(),
    "gelu": lambda x, own: F.gelu(x),
    "gelu_tanh": lambda x, own: F.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x, own, slope: F.leaky_relu(x, slope, inplace=own),
    "tanh": lambda x, own: x.tanh_() if own else x.tanh(),
    "elu": lambda x, own, alpha: F.elu(x, alpha, inplace=own),
}


def _clamp(x: Tensor, low: float, high: float) -> Tensor:
    return F.hardtanh(x, low, high) if x.requires_grad else x.clamp(low, high)


def apply_activation(activation: Activation, x: Tensor, own: bool = False) -> Tensor:
    """`activation` of every element of `x`; `x` itself where there is none.

    Args:
        own: `x` may be overwritten, which it is where no gradient is wanted: fresh memory costs a page fault for every page.
    """
    return _ACTIVATIONS[activation.name](x, own and not x.requires_grad, *activation.constants)


def run_op(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    """The output of `op`, its fused activation included.

    Args:
        inputs: one tensor per input of `op`, shape (batch, ...); a constant may have batch 1.
        tensors: holds `<op>.weight` and `<op>.bias` for a convolution, linear or affine op.

    Returns:
        Shape (batch, ...), float32; channels_last where `inputs` are. Under autocast, convolutions and linear layers multiply in
        half precision, and add the bias in float32.
    """
    return apply_activation(op.activation, _RULES[op.kind](op, inputs, tensors), own=op.kind in FRESH)


def run(
    network: Network,
    x: Tensor,
    observe: Callable[[Op, tuple[Tensor, ...], Tensor], None] | None = None,
) -> Tensor:
    """The output of `network` for a batch `x` of shape (batch, *network.shapes["input"]).

    A tensor is freed after its last use. `observe(op, inputs, output)` is called after every op, in order.
    """
    uses = Counter(name for op in network.ops for name in op.inputs)
    uses[network.output] += 1
    values = {INPUT: x}
    for op in network.ops:
        inputs = tuple(values[name] if name in values else network.tensors[name].unsqueeze(0) for name in op.inputs)
        output = run_op(op, inputs, network.tensors)
        if observe is not None:
            observe(op, inputs, output)
        for name in op.inputs:
            uses[name] -= 1
            if uses[name] == 0:
                values.pop(name, None)
        values[op.name] = output
    return values[network.output]


def _conv2d(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    x, attributes = inputs[0], op.attributes
    top, left, bottom, right = attributes["padding"]
    padding = (top, left)
    if (top, left) != (bottom, right):
        # torch pads both sides alike. A padded copy of a few samples at a time stays in cache.
        if len(x) > PADDED:
            return torch.cat([_conv2d(op, [part], tensors) for part in torch.split(x, PADDED)])
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    weight, bias = tensors[f"{op.name}.weight"], tensors[f"{op.name}.bias"]
    geometry = attributes["stride"], padding, attributes["dilation"], attributes["groups"]
    if not torch.is_autocast_enabled("cpu"):
        return F.conv2d(x, weight, bias, *geometry)
    # Few products go into an output of groups: there half precision costs digits, and on CPUs time.
    with torch.autocast("cpu", enabled=attributes["groups"] == 1):
        return F.conv2d(x, weight, None, *geometry) + bias[:, None, None]


def _linear(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    x, weight, bias = inputs[0], tensors[f"{op.name}.weight"], tensors[f"{op.name}.bias"]
    return F.linear(x, weight) + bias if torch.is_autocast_enabled("cpu") else F.linear(x, weight, bias)


def _affine(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    x = inputs[0]
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return x * tensors[f"{op.name}.weight"].reshape(shape) + tensors[f"{op.name}.bias"].reshape(shape)


def _add(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    return inputs[0] + inputs[1]


def _mul(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    return inputs[0] * inputs[1]


def _cat(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    batch = max(x.shape[0] for x in inputs)
    return torch.cat([x.expand(batch, *x.shape[1:]) for x in inputs], op.attributes["axis"] + 1)


def _slice(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    start, stop = op.attributes["start"], op.attributes["stop"]
    return inputs[0].narrow(op.attributes["axis"] + 1, start, stop - start)


def _activation(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    return inputs[0]


def _max_pool(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    a = op.attributes
    return F.max_pool2d(inputs[0], a["kernel"], a["stride"], a["padding"], a["dilation"], a["ceil_mode"])


def _avg_pool(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    a = op.attributes
    return F.avg_pool2d(inputs[0], a["kernel"], a["stride"], a["padding"], a["ceil_mode"], a["count_include_pad"], a["divisor"])


def _adaptive_avg_pool(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    return F.adaptive_avg_pool2d(inputs[0], op.attributes["size"])


def _pad(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    top, left, bottom, right = op.attributes["padding"]
    return F.pad(inputs[0], (left, right, top, bottom), value=op.attributes["value"])


def _reshape(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    return inputs[0].reshape(inputs[0].shape[0], *op.attributes["shape"])


def _permute(op: Op, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
    return inputs[0].permute(0, *(axis + 1 for axis in op.attributes["axes"]))


_RULES: dict[str, Callable[[Op, Sequence[Tensor], Mapping[str, Tensor]], Tensor]] = {
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
