"""One rule per accepted aten op: how a call of it becomes ops of a Network.

A rule gets the Builder and the call's Arguments, and returns the value (or list of values) of the call. Shapes and axes
of the arguments include the batch axis; those of the ops do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .builder import BATCH, Builder, Ref, Refused, per_sample
from .network import Activation

_FLOAT_MAX = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Arguments:
    """Arguments of one call by the names of its schema, and the traced shape of its (first) result, batch included."""

    values: Mapping[str, Any]
    shape: tuple[int, ...]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def ref(self, name: str) -> Ref:
        value = self.values[name]
        if not isinstance(value, Ref):
            raise Refused(f"its `{name}` must depend on the model's input")
        return value

    def constant(self, name: str) -> Tensor:
        value = self.values[name]
        if not isinstance(value, Tensor):
            raise Refused(f"its `{name}` must be a parameter or a constant")
        return value

    def operand(self, name: str) -> Ref | Tensor:
        """A value, a constant or a Python number."""
        value = self.values[name]
        return value if isinstance(value, Ref) else torch.as_tensor(value, dtype=torch.float32)

    def pair(self, name: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        """A height and a width; `default` stands in for an empty list."""
        value = self.values[name]
        sizes = [value] if isinstance(value, int) else list(value)
        if not sizes and default is not None:
            return default
        return (int(sizes[0]), int(sizes[-1]))

    def axis(self, name: str, rank: int) -> int:
        """A per-sample axis of a value with `rank` of them."""
        axis = int(self.values[name]) % (rank + 1)
        if axis == 0:
            raise Refused("it uses the batch axis")
        return axis - 1


def _image(b: Builder, x: Ref) -> Ref:
    """A sequence of shape (channels, length) as an image of height 1."""
    if len(x.shape) != 2:
        raise Refused(f"its input has {len(x.shape)} axes beside the batch, not 2")
    return b.reshape(x, (x.shape[0], 1, x.shape[1]))


def _sequence(b: Builder, x: Ref) -> Ref:
    return b.reshape(x, (x.shape[0], x.shape[2]))


def _plane(x: Ref) -> Ref:
    if len(x.shape) != 3:
        raise Refused(f"its input has {len(x.shape)} axes beside the batch, not channels, height and width")
    return x


def _convolve(
    b: Builder,
    x: Ref,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    groups: int,
) -> Ref:
    if isinstance(padding, str):
        total = [0, 0] if padding == "valid" else [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        sides = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        sides = (padding[0], padding[1], padding[0], padding[1])
    return b.emit(
        "conv2d",
        [x],
        {"weight": weight, "bias": torch.zeros(weight.shape[0]) if bias is None else bias},
        stride=stride,
        padding=sides,
        dilation=dilation,
        groups=groups,
    )


def _bias(a: Arguments) -> Tensor | None:
    return None if a["bias"] is None else a.constant("bias")


def _conv2d(b: Builder, a: Arguments) -> Ref:
    padding = a["padding"] if isinstance(a["padding"], str) else a.pair("padding")
    x = _plane(a.ref("input"))
    return _convolve(b, x, a.constant("weight"), _bias(a), a.pair("stride"), padding, a.pair("dilation"), a["groups"])


def _conv1d(b: Builder, a: Arguments) -> Ref:
    padding = a["padding"] if isinstance(a["padding"], str) else (0, a.pair("padding")[1])
    stride, dilation = (1, a.pair("stride")[1]), (1, a.pair("dilation")[1])
    weight = a.constant("weight").unsqueeze(2)
    return _sequence(b, _convolve(b, _image(b, a.ref("input")), weight, _bias(a), stride, padding, dilation, a["groups"]))


def _matrix(b: Builder, x: Ref, weight: Tensor, bias: Tensor | None) -> Ref:
    """x @ weight.T + bias over the last axis; `weight` has shape (out, in)."""
    if weight.dim() != 2:
        raise Refused("it multiplies with a constant that is not a matrix")
    bias = torch.zeros(weight.shape[0]) if bias is None else bias.expand(weight.shape[0])
    return b.emit("linear", [x], {"weight": weight, "bias": bias})


def _linear(b: Builder, a: Arguments) -> Ref:
    return _matrix(b, a.ref("input"), a.constant("weight"), _bias(a))


def _matmul(b: Builder, a: Arguments) -> Ref:
    other = "other" if "other" in a.values else "mat2"
    return _matrix(b, a.ref("self"), a.constant(other).mT, None)


def _addmm(b: Builder, a: Arguments) -> Ref:
    bias = a.constant("self") * a["beta"]
    if bias.dim() > 1 and bias.shape[0] != 1:
        raise Refused("it adds a matrix that may differ between the samples of a batch")
    return _matrix(b, a.ref("mat1"), a.constant("mat2").mT * a["alpha"], bias.reshape(-1))


def _batch_norm(b: Builder, a: Arguments) -> Ref:
    if a.values.get("training", False):
        raise Refused("it normalises with the statistics of the batch; give the layer running statistics and call model.eval()")
    mean, variance = a.constant("running_mean").double(), a.constant("running_var").double()
    scale = (variance + a["eps"]).rsqrt()
    if a["weight"] is not None:
        scale = scale * a.constant("weight").double()
    shift = -mean * scale
    if a["bias"] is not None:
        shift = shift + a.constant("bias").double()
    return b.affine(a.ref("input"), scale, shift)


def _native_batch_norm(b: Builder, a: Arguments) -> list[Ref]:
    return [_batch_norm(b, a)]


def _add(b: Builder, a: Arguments) -> Ref:
    return b.combine("add", a.operand("self"), _scaled(b, a.operand("other"), a.values.get("alpha", 1)))


def _sub(b: Builder, a: Arguments) -> Ref:
    return b.combine("add", a.operand("self"), _scaled(b, a.operand("other"), -a["alpha"]))


def _rsub(b: Builder, a: Arguments) -> Ref:
    return b.combine("add", a.operand("other"), _scaled(b, a.operand("self"), -a["alpha"]))


def _mul(b: Builder, a: Arguments) -> Ref:
    return b.combine("mul", a.operand("self"), a.operand("other"))


def _div(b: Builder, a: Arguments) -> Ref:
    if isinstance(a["other"], Ref):
        raise Refused("it divides by a value that depends on the model's input")
    return b.combine("mul", a.operand("self"), 1.0 / torch.as_tensor(a["other"], dtype=torch.float64))


def _neg(b: Builder, a: Arguments) -> Ref | Tensor:
    return _scaled(b, a.ref("self"), -1)


def _square(b: Builder, a: Arguments) -> Ref:
    if a.values.get("exponent", 2) != 2:
        raise Refused("the only accepted power is 2")
    return b.combine("mul", a.ref("self"), a.ref("self"))


def _scaled(b: Builder, x: Ref | Tensor, factor: float) -> Ref | Tensor:
    if factor == 1:
        return x
    return x * factor if isinstance(x, Tensor) else b.combine("mul", x, torch.tensor(float(factor)))


def _cat(b: Builder, a: Arguments) -> Ref:
    rank = len(a.shape) - 1
    values = [value if isinstance(value, Ref) else per_sample(value, rank) for value in a["tensors"]]
    return b.emit("cat", values, axis=a.axis("dim", rank))


def _cut(b: Builder, x: Ref, axis: int, start: int, stop: int) -> Ref:
    return x if (start, stop) == (0, x.shape[axis]) else b.emit("slice", [x], axis=axis, start=start, stop=stop)


def _slice(b: Builder, a: Arguments) -> Ref:
    x, step = a.ref("self"), int(a["step"])
    rank = len(x.shape)
    length = (BATCH, *x.shape)[int(a["dim"]) % (rank + 1)]
    start, stop, _ = slice(a["start"], a["end"]).indices(length)
    if (start, stop, step) == (0, length, 1):
        return x
    axis = a.axis("dim", rank)
    x = _cut(b, x, axis, start, stop)
    if step == 1:
        return x
    if rank != 3 or axis == 0:
        raise Refused("steps above 1 are accepted along height and width only")
    stride = (step, 1) if axis == 1 else (1, step)
    return b.emit("max_pool", [x], kernel=(1, 1), stride=stride, padding=(0, 0), dilation=(1, 1), ceil_mode=False)


def _select(b: Builder, a: Arguments) -> Ref:
    x = a.ref("self")
    axis = a.axis("dim", len(x.shape))
    index = int(a["index"]) % x.shape[axis]
    return b.reshape(_cut(b, x, axis, index, index + 1), a.shape[1:])


def _pieces(b: Builder, x: Ref, axis: int, sizes: Sequence[int]) -> list[Ref]:
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [_cut(b, x, axis, stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]


def _split(b: Builder, a: Arguments) -> list[Ref]:
    x = a.ref("self")
    axis = a.axis("dim", len(x.shape))
    length = x.shape[axis]
    if "split_sizes" in a.values:
        return _pieces(b, x, axis, a["split_sizes"])
    size = a["split_size"] if "split_size" in a.values else math.ceil(length / a["chunks"])
    return _pieces(b, x, axis, [min(size, length - start) for start in range(0, length, size)])


def _unbind(b: Builder, a: Arguments) -> list[Ref]:
    x = a.ref("self")
    axis = a.axis("dim", len(x.shape))
    return [b.reshape(piece, a.shape[1:]) for piece in _pieces(b, x, axis, [1] * x.shape[axis])]


def _mean(b: Builder, a: Arguments) -> Ref:
    x = a.ref("self")
    rank = len(x.shape)
    axes = {int(axis) % (rank + 1) for axis in a["dim"] or range(rank + 1)}
    if 0 in axes or 1 in axes or rank not in (2, 3):
        raise Refused("the accepted means are over height and width, or over the length of a sequence")
    image = _image(b, x) if rank == 2 else x
    height, width = image.shape[1] if 2 in axes or rank == 2 else 1, image.shape[2] if rank in axes else 1
    return b.reshape(_average(b, image, (height, width), (height, width), (0, 0), False, True, None), a.shape[1:])


def _average(
    b: Builder,
    x: Ref,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Ref:
    if kernel == x.shape[1:] and padding == (0, 0) and divisor is None:
        return b.emit("adaptive_avg_pool", [x], size=(1, 1))
    return b.emit(
        "avg_pool",
        [x],
        kernel=kernel,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor=divisor,
    )


def _avg_pool2d(b: Builder, a: Arguments) -> Ref:
    kernel = a.pair("kernel_size")
    stride, padding = a.pair("stride", kernel), a.pair("padding")
    x, divisor = _plane(a.ref("self")), a["divisor_override"]
    return _average(b, x, kernel, stride, padding, a["ceil_mode"], a["count_include_pad"], divisor)


def _avg_pool1d(b: Builder, a: Arguments) -> Ref:
    kernel = (1, a.pair("kernel_size")[1])
    stride, padding = (1, a.pair("stride", kernel)[1]), (0, a.pair("padding")[1])
    x = _image(b, a.ref("self"))
    return _sequence(b, _average(b, x, kernel, stride, padding, a["ceil_mode"], a["count_include_pad"], None))


def _max_pool2d(b: Builder, a: Arguments) -> Ref:
    kernel = a.pair("kernel_size")
    return b.emit(
        "max_pool",
        [_plane(a.ref("self"))],
        kernel=kernel,
        stride=a.pair("stride", kernel),
        padding=a.pair("padding"),
        dilation=a.pair("dilation"),
        ceil_mode=a["ceil_mode"],
    )


def _max_pool2d_with_indices(b: Builder, a: Arguments) -> list[Ref]:
    return [_max_pool2d(b, a)]


def _max_pool1d(b: Builder, a: Arguments) -> Ref:
    kernel = (1, a.pair("kernel_size")[1])
    return _sequence(
        b,
        b.emit(
            "max_pool",
            [_image(b, a.ref("self"))],
            kernel=kernel,
            stride=(1, a.pair("stride", kernel)[1]),
            padding=(0, a.pair("padding")[1]),
            dilation=(1, a.pair("dilation")[1]),
            ceil_mode=a["ceil_mode"],
        ),
    )


def _adaptive_avg_pool2d(b: Builder, a: Arguments) -> Ref:
    x = _plane(a.ref("self"))
    size = (a.shape[2], a.shape[3])
    return x if size == x.shape[1:] else b.emit("adaptive_avg_pool", [x], size=size)


def _adaptive_avg_pool1d(b: Builder, a: Arguments) -> Ref:
    x = _image(b, a.ref("self"))
    return _sequence(b, b.emit("adaptive_avg_pool", [x], size=(1, a.shape[2])))


def _adaptive_max_pool2d(b: Builder, a: Arguments) -> list[Ref]:
    x = _plane(a.ref("self"))
    if x.shape[1] % a.shape[2] or x.shape[2] % a.shape[3]:
        raise Refused("adaptive max pooling is accepted when the output size divides the input size")
    kernel = (x.shape[1] // a.shape[2], x.shape[2] // a.shape[3])
    return [b.emit("max_pool", [x], kernel=kernel, stride=kernel, padding=(0, 0), dilation=(1, 1), ceil_mode=False)]


def _reshape(b: Builder, a: Arguments) -> Ref:
    if a.shape[0] != BATCH:
        raise Refused("it uses the batch axis")
    return b.reshape(a.ref("self"), a.shape[1:])


def _expand(b: Builder, a: Arguments) -> Ref:
    x = a.ref("self")
    if len(a.shape) != len(x.shape) + 1:
        raise Refused("it uses the batch axis")
    return Ref(x.name, a.shape[1:])


def _permuted(b: Builder, x: Ref, order: Sequence[int]) -> Ref:
    """`order` is of all axes, the batch included."""
    if order[0] != 0:
        raise Refused("it moves the batch axis")
    axes = tuple(axis - 1 for axis in order[1:])
    return x if axes == tuple(range(len(axes))) else b.emit("permute", [x], axes=axes)


def _permute(b: Builder, a: Arguments) -> Ref:
    x = a.ref("self")
    return _permuted(b, x, [int(axis) % (len(x.shape) + 1) for axis in a["dims"]])


def _transpose(b: Builder, a: Arguments) -> Ref:
    x = a.ref("self")
    order = list(range(len(x.shape) + 1))
    first, second = int(a["dim0"]), int(a["dim1"])
    order[first], order[second] = order[second], order[first]
    return _permuted(b, x, order)


def _channel_shuffle(b: Builder, a: Arguments) -> Ref:
    x, groups = a.ref("self"), int(a["groups"])
    split = b.reshape(x, (groups, x.shape[0] // groups, *x.shape[1:]))
    return b.reshape(b.emit("permute", [split], axes=(1, 0, *range(2, len(split.shape)))), a.shape[1:])


def _pixel_shuffle(b: Builder, a: Arguments) -> Ref:
    x, r = _plane(a.ref("self")), int(a["upscale_factor"])
    channels, height, width = x.shape
    split = b.reshape(x, (channels // (r * r), r, r, height, width))
    return b.reshape(b.emit("permute", [split], axes=(0, 3, 1, 4, 2)), a.shape[1:])


def _pixel_unshuffle(b: Builder, a: Arguments) -> Ref:
    x, r = _plane(a.ref("self")), int(a["downscale_factor"])
    channels, height, width = x.shape
    split = b.reshape(x, (channels, height // r, r, width // r, r))
    return b.reshape(b.emit("permute", [split], axes=(0, 2, 4, 1, 3)), a.shape[1:])


def _pad(b: Builder, a: Arguments) -> Ref:
    x = a.ref("self")
    if a.values.get("mode", "constant") != "constant":
        raise Refused(f"padding mode {a['mode']} is not accepted, only constant is")
    value = float(a["value"] or 0.0)
    sides = [int(side) for side in a["pad"]]
    if min(sides, default=0) < 0:
        raise Refused("negative padding is not accepted: slice instead")
    around = [(sides[i], sides[i + 1]) for i in range(0, len(sides), 2)][::-1]
    around = [(0, 0)] * (len(x.shape) + 1 - len(around)) + around
    if around[0] != (0, 0):
        raise Refused("it pads the batch axis")
    for axis, (before, after) in enumerate(around[1:]):
        if (before or after) and (axis == 0 or len(x.shape) not in (2, 3)):
            ends = [torch.full((*x.shape[:axis], size, *x.shape[axis + 1 :]), value) for size in (before, after)]
            parts: list[Ref | Tensor] = [ends[0]] * bool(before) + [x] + [ends[1]] * bool(after)
            x = b.emit("cat", parts, axis=axis)
    if len(x.shape) == 2 and around[2] != (0, 0):
        padding = (0, around[2][0], 0, around[2][1])
        return _sequence(b, b.emit("pad", [_image(b, x)], padding=padding, value=value))
    if len(x.shape) == 3 and around[2:] != [(0, 0), (0, 0)]:
        padding = (around[2][0], around[3][0], around[2][1], around[3][1])
        return b.emit("pad", [x], padding=padding, value=value)
    return x


def _identity(b: Builder, a: Arguments) -> Ref:
    return a.ref("self")


def _dropout(b: Builder, a: Arguments) -> Ref:
    if a["train"] and a["p"] > 0:
        raise Refused("it drops values at random: call model.eval() first")
    return a.ref("input")


def _nothing(b: Builder, a: Arguments) -> None:
    return None


def _activate(b: Builder, a: Arguments, name: str, *constants: float) -> Ref:
    return b.emit("activation", [a.ref("self")], activation=Activation(name, tuple(float(c) for c in constants)))


def _clamp(b: Builder, a: Arguments) -> Ref:
    low = next((a[name] for name in ("min", "min_val") if a.values.get(name) is not None), -_FLOAT_MAX)
    high = next((a[name] for name in ("max", "max_val") if a.values.get(name) is not None), _FLOAT_MAX)
    if low == 0 and high == _FLOAT_MAX:
        return _activate(b, a, "relu")
    return _activate(b, a, "clamp", low, high)


def _gelu(b: Builder, a: Arguments) -> Ref:
    return _activate(b, a, "gelu_tanh" if a["approximate"] == "tanh" else "gelu")


def _elu(b: Builder, a: Arguments) -> Ref:
    if (a["scale"], a["input_scale"]) != (1, 1):
        raise Refused("scaled forms of elu (selu) are not accepted")
    return _activate(b, a, "elu", a["alpha"])


Rule = Callable[[Builder, Arguments], Any]
RULES: dict[str, Rule] = {
    "aten.conv2d.default": _conv2d,
    "aten.conv2d.padding": _conv2d,
    "aten.conv1d.default": _conv1d,
    "aten.conv1d.padding": _conv1d,
    "aten.linear.default": _linear,
    "aten.matmul.default": _matmul,
    "aten.mm.default": _matmul,
    "aten.addmm.default": _addmm,
    "aten.batch_norm.default": _batch_norm,
    "aten._native_batch_norm_legit_no_training.default": _native_batch_norm,
    "aten.add.Tensor": _add,
    "aten.add.Scalar": _add,
    "aten.sub.Tensor": _sub,
    "aten.sub.Scalar": _sub,
    "aten.rsub.Scalar": _rsub,
    "aten.mul.Tensor": _mul,
    "aten.mul.Scalar": _mul,
    "aten.div.Tensor": _div,
    "aten.div.Scalar": _div,
    "aten.neg.default": _neg,
    "aten.square.default": _square,
    "aten.pow.Tensor_Scalar": _square,
    "aten.cat.default": _cat,
    "aten.slice.Tensor": _slice,
    "aten.select.int": _select,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split,
    "aten.chunk.default": _split,
    "aten.unbind.int": _unbind,
    "aten.mean.dim": _mean,
    "aten.avg_pool1d.default": _avg_pool1d,
    "aten.avg_pool2d.default": _avg_pool2d,
    "aten.max_pool1d.default": _max_pool1d,
    "aten.max_pool2d.default": _max_pool2d,
    "aten.max_pool2d_with_indices.default": _max_pool2d_with_indices,
    "aten.adaptive_avg_pool1d.default": _adaptive_avg_pool1d,
    "aten.adaptive_avg_pool2d.default": _adaptive_avg_pool2d,
    "aten.adaptive_max_pool2d.default": _adaptive_max_pool2d,
    "aten.view.default": _reshape,
    "aten.reshape.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.flatten.using_ints": _reshape,
    "aten.unflatten.int": _reshape,
    "aten.squeeze.default": _reshape,
    "aten.squeeze.dim": _reshape,
    "aten.squeeze.dims": _reshape,
    "aten.unsqueeze.default": _reshape,
    "aten.expand.default": _expand,
    "aten.permute.default": _permute,
    "aten.transpose.int": _transpose,
    "aten.channel_shuffle.default": _channel_shuffle,
    "aten.pixel_shuffle.default": _pixel_shuffle,
    "aten.pixel_unshuffle.default": _pixel_unshuffle,
    "aten.pad.default": _pad,
    "aten.constant_pad_nd.default": _pad,
    "aten.clone.default": _identity,
    "aten.alias.default": _identity,
    "aten.detach.default": _identity,
    "aten.contiguous.default": _identity,
    "aten.lift_fresh_copy.default": _identity,
    "aten._to_copy.default": _identity,
    "aten.dropout.default": _dropout,
    "aten.feature_dropout.default": _dropout,
    "aten._assert_tensor_metadata.default": _nothing,
    "aten.clamp.default": _clamp,
    "aten.clamp_min.default": _clamp,
    "aten.clamp_max.default": _clamp,
    "aten.hardtanh.default": _clamp,
    "aten.relu6.default": lambda b, a: _activate(b, a, "clamp", 0, 6),
    "aten.relu.default": lambda b, a: _activate(b, a, "relu"),
    "aten.leaky_relu.default": lambda b, a: _activate(b, a, "leaky_relu", a["negative_slope"]),
    "aten.hardswish.default": lambda b, a: _activate(b, a, "hardswish"),
    "aten.hardsigmoid.default": lambda b, a: _activate(b, a, "hardsigmoid"),
    "aten.silu.default": lambda b, a: _activate(b, a, "silu"),
    "aten.sigmoid.default": lambda b, a: _activate(b, a, "sigmoid"),
    "aten.tanh.default": lambda b, a: _activate(b, a, "tanh"),
    "aten.gelu.default": _gelu,
    "aten.elu.default": _elu,
}
