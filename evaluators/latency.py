"""Latency of a Plan: the sum of its ops' table rows and conversions, on the target's fitted end-to-end line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch

from ..kernels.geometry import Geometry, KernelOp
from ..kernels.table import LatencyTable, Share, Source
from ..spaces.datatypes import DataType, conversions, data_types
from ..spaces.groups import Group
from ..spaces.layers import Layer, find_layers
from ..spaces.network import INPUT, Network, Op
from ..spaces.option import ACTIVATIONS, Bits, Option, Structure
from ..spaces.plan import Plan
from ..spaces.remove_channels import remove_channels
from ..spaces.space import kept_channels
from .views import is_view, leading_axes

#: Bits of an element, by data type.
TYPE_BITS: dict[DataType, Bits] = {"fp32": 32, "fp16": 16, "int8": 8}
#: Activations that only bound their input.
_BOUNDS = frozenset({"none", "relu", "clamp"})
#: Assignments of data types to Layers, and numbers of channels that Groups keep, whose consequences are kept.
_REMEMBERED = 1000

Key = TypeVar("Key")
Value = TypeVar("Value")
#: Tensor, its type, the type it is converted to.
Conversion = tuple[str, DataType, DataType]


@dataclass(frozen=True)
class OpLatency:
    """What one op of a Plan, or one conversion, adds to its time, in microseconds.

    Attributes:
        microseconds: what counts: the median, or the quantile that the table's pessimism asks for.
        low, high: 10th and 90th percentile.
    """

    name: str
    op: str
    microseconds: float
    median: float
    low: float
    high: float
    source: Source


@dataclass(frozen=True)
class PlanLatency:
    """Latency of a Plan in milliseconds, and where it goes.

    Errors of a network's rows are taken as equal (`core_model.Calibration`), so quantiles are the sums of the rows' quantiles.

    Attributes:
        ms: what searches and budgets count: the median, or the quantile that the table's pessimism asks for.
        low_ms, high_ms: 10th and 90th percentile.
    """

    ms: float
    median_ms: float
    low_ms: float
    high_ms: float
    ops: tuple[OpLatency, ...]


@dataclass(frozen=True)
class _Typing:
    """What the data types of a Plan's Layers, the key, decide: the type of every op, and the conversions."""

    key: tuple[DataType, ...]
    types: Mapping[str, DataType]
    conversions: tuple[Conversion, ...]


class _Found(dict[Key, Value]):
    """Values by key, each found when it is first asked for."""

    def __init__(self, find: Callable[[Key], Value]) -> None:
        self._find = find

    def __missing__(self, key: Key) -> Value:
        self[key] = value = self._find(key)
        return value


class LatencyEvaluator:
    """Latencies of Plans of one Network on one target.

    Args:
        network: the captured, uncompressed network.
        groups: those whose channels may be removed.
    """

    def __init__(self, network: Network, groups: Sequence[Group], table: LatencyTable) -> None:
        self.network = network
        self.table = table
        self.layers = {layer.name: layer for layer in find_layers(network)}
        self._leaders = {group.name: group.producers[0].op for group in groups}
        self._groups = {group.name: group for group in groups}
        self._channels = {name: _channels(shape, self._last_axis(name)) for name, shape in network.shapes.items()}
        self._leading = leading_axes(network)
        self._shares = self._channel_shares()
        self._touching = {group.name: self._ops_touching(group) for group in groups}
        read = {INPUT: (INPUT,), **{op.name: (op.name, *op.inputs) for op in network.ops}}
        self._deciding = {name: [group.name for group in self.groups_of(tensors)] for name, tensors in read.items()}
        self._neighbours = {
            name: sorted({other for op in touching for other in self._deciding[op.name]} - {name})
            for name, touching in self._touching.items()
        }
        self._affected = {name: self._ops_affected(network.op(name)) for name in self.layers}
        self._decisive = {name: self._types_affecting(name) for name in self.layers}
        self._detours: dict[tuple[str, ...], float] = {}
        self._rows: dict[tuple[object, ...], OpLatency] = {}
        self._layer_times: dict[tuple[object, ...], Mapping[Option, float]] = {}
        self._times: dict[frozenset[tuple[str, int]], Mapping[str, Mapping[Option, float]]] = {}
        self._rests: dict[tuple[object, ...], list[float]] = {}
        self._coupled: dict[tuple[object, ...], tuple[float, ...]] = {}
        self._typings: dict[tuple[DataType, ...], _Typing] = {}
        self._last: tuple[Plan, _Typing] | None = None
        self._summed: set[OpLatency] = set()

    def _last_axis(self, name: str) -> bool:
        """Whether the channels of a tensor are its last axis: those of a linear over tokens."""
        return name != INPUT and len(self.network.shapes[name]) != 3

    def _channel_shares(self) -> dict[str, dict[str, float]]:
        """For every tensor, how many of its channels go when one channel of each Group goes; found by removing some."""
        bare = replace(self.network, tensors={name: tensor.to("meta") for name, tensor in self.network.tensors.items()})
        shares: dict[str, dict[str, float]] = {name: {} for name in self.network.shapes}
        for group in self._groups.values():
            kept = torch.arange(1)
            smaller = remove_channels(bare, [group], {group.name: kept})
            for name, shape in smaller.shapes.items():
                gone = self._channels[name] - _channels(shape, self._last_axis(name))
                if gone:
                    shares[name][group.name] = gone / (group.channels - 1)
        return shares

    def _ops_touching(self, group: Group) -> list[Op]:
        """Ops that read or write a Group's channels, its producers left out."""
        producers = {span.op for span in group.producers}
        touched = {name for name, shares in self._shares.items() if group.name in shares}
        return [op for op in self.network.ops if op.name not in producers and touched.intersection((op.name, *op.inputs))]

    def _ops_affected(self, layer: Op) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
        """Ops whose data type may follow a Layer's (itself included), and ops whose conversions then change."""
        changed = {layer.name}
        for op in self.network.ops:
            if op.name not in self.layers and changed.intersection(op.inputs):
                changed.add(op.name)
        typed = tuple(op for op in self.network.ops if op.name in changed)
        tensors = changed.union(*(op.inputs for op in typed))
        return typed, tuple(op for op in self.network.ops if op.name in changed or tensors.intersection(op.inputs))

    def _types_affecting(self, layer: str) -> tuple[str, ...]:
        """Ops whose data types decide what conversions change with a Layer's."""
        _, reading = self._affected[layer]
        names = {name for op in reading for name in (op.name, *op.inputs) if name in self.network.shapes and name != INPUT}
        return tuple(sorted(names))

    def deciding(self, layer: str, kept: Mapping[str, int]) -> tuple[int | None, ...]:
        """What the time of a Layer's Option depends on: the channels kept of the Groups that it reads and writes."""
        return tuple([kept.get(group) for group in self._deciding[layer]])

    def groups_of(self, tensors: Iterable[str]) -> tuple[Group, ...]:
        """The Groups whose channels some of these tensors hold."""
        names = {group for tensor in tensors for group in self._shares.get(tensor, ())}
        return tuple(group for name, group in self._groups.items() if name in names)

    def channels(self, tensor: str, kept: Mapping[str, int]) -> int:
        """Channels of a tensor when only `kept[group]` channels of some Groups remain."""
        gone = 0.0
        if kept:
            for group, share in self._shares[tensor].items():
                if group in kept:
                    gone += share * (self._groups[group].channels - kept[group])
        return self._channels[tensor] - round(gone)

    def kept(self, plan: Mapping[str, Option]) -> dict[str, int]:
        """Channels that a Plan keeps of each Group it removes channels of."""
        leaders = [(group, plan[leader]) for group, leader in self._leaders.items()]
        return {
            group: kept_channels(self._groups[group].channels, option.sparsity)
            for group, option in leaders
            if option.structure == "channel"
        }

    def free(self, op: Op, type_: DataType) -> bool:
        """Whether an op that is no Layer takes no time when it computes in a type."""
        return is_view(op, type_, self._leading)

    def supports(self, layer: Layer, structure: Structure, bits: Bits) -> bool:
        """Whether the table has a kernel for a Layer in that structure and weight format."""
        return self.table.supports(self.layer_geometry(layer.name, {}), "dense" if structure == "channel" else structure, bits)

    def layer_geometry(self, name: str, kept: Mapping[str, int]) -> Geometry:
        """Geometry of a Layer when Groups keep only so many channels."""
        layer = self.layers[name]
        inputs, outputs = self.layer_channels(name, kept)
        return Geometry(
            op="depthwise" if layer.depthwise else ("conv" if layer.kind == "conv2d" else "linear"),
            in_channels=inputs,
            out_channels=outputs,
            in_height=layer.in_size[0],
            in_width=layer.in_size[1],
            out_height=layer.out_size[0],
            out_width=layer.out_size[1],
            kernel=layer.kernel,
            stride=layer.stride,
            dilation=layer.dilation,
            groups=inputs if layer.depthwise else layer.groups,
        )

    def layer_channels(self, name: str, kept: Mapping[str, int]) -> tuple[int, int]:
        """Input and output channels of a Layer when Groups keep only so many channels."""
        return self.channels(self.network.op(name).inputs[0], kept), self.channels(name, kept)

    def layers_microseconds(self, kept: Mapping[str, int]) -> Mapping[str, Mapping[Option, float]]:
        """Times by Layer and Option, when Groups keep only so many channels."""
        key = frozenset(kept.items())
        times = self._times.get(key)
        if times is None:
            if len(self._times) >= _REMEMBERED:
                self._times.clear()
            own = dict(kept)
            times = self._times[key] = _Found(lambda name: self._options_of(name, own))
        return times

    def _options_of(self, layer: str, kept: Mapping[str, int]) -> Mapping[Option, float]:
        key = (layer, *self.deciding(layer, kept))
        if key not in self._layer_times:
            self._layer_times[key] = _Found(lambda option: self._layer(layer, option, kept).microseconds)
        return self._layer_times[key]

    def alone_microseconds(self, layer: Layer, option: Option) -> float:
        """Time of one Layer under an Option, all other Layers dense; a `channel` Option shrinks its own outputs."""
        kept: dict[str, int] = {}
        if option.structure == "channel":
            group = next(g for g in self._groups.values() if any(span.op == layer.name for span in g.producers))
            kept[group.name] = kept_channels(group.channels, option.sparsity)
        return self.layers_microseconds(kept)[layer.name][option]

    def coupled_microseconds(
        self, group: Group, shares: Sequence[float], plan: Plan, kept: Mapping[str, int]
    ) -> tuple[float, ...]:
        """For each share of a Group's channels removed, the time of all ops that touch these and do not produce them.

        Args:
            plan: whose Options and data types the ops have.
            kept: channels that the other Groups keep.
        """
        types, touching = self._typing(plan).types, self._touching[group.name]
        choices = tuple([plan[op.name] if op.name in self.layers else types[op.name] for op in touching])
        key = (group.name, *shares, choices, *[kept.get(name) for name in self._neighbours[group.name]])
        if key not in self._coupled:
            others = {name: count for name, count in kept.items() if name != group.name}
            found = []
            for share in shares:
                around = {**others, group.name: kept_channels(group.channels, share)} if share else others
                rows = [self._row(op, choice, around) for op, choice in zip(touching, choices, strict=True)]
                found.append(math.fsum([row.microseconds for row in rows if row is not None]))
            self._coupled[key] = tuple(found)
        return self._coupled[key]

    def _row(self, op: Op, choice: Option | DataType, kept: Mapping[str, int]) -> OpLatency | None:
        """What a Layer takes under an Option, or another op in a data type; None for one that costs nothing."""
        if isinstance(choice, Option):
            return self._layer(op.name, choice, kept)
        return None if self.free(op, choice) else self._other(op, choice, kept)

    def _typing(self, plan: Plan) -> _Typing:
        if self._last is not None and self._last[0] is plan:
            return self._last[1]
        key = tuple([ACTIVATIONS[option.bits] for _, option in plan.options])
        if key not in self._typings:
            if len(self._typings) >= _REMEMBERED:
                self._typings.clear()
            types = data_types(self.network, plan)
            self._typings[key] = _Typing(key, types, tuple(conversions(self.network, plan, types)))
        self._last = plan, self._typings[key]
        return self._last[1]

    def _layer(self, name: str, option: Option, kept: Mapping[str, int]) -> OpLatency:
        key = (name, option, *[kept.get(group) for group in self._deciding[name]])
        if key not in self._rows:
            structure, sparsity = ("dense", 0.0) if option.structure == "channel" else (option.structure, option.sparsity)
            shares = [self.table.share(self.layer_geometry(name, kept), structure, sparsity, option.bits)]
            if (bend := self.bend_geometry(self.network.op(name), kept)) is not None:
                shares.append(self.table.share(bend, "dense", 0.0, max(8, option.bits)))
            self._rows[key] = _op_latency(name, describe(self.layers[name]), shares)
        return self._rows[key]

    def _other(self, op: Op, type_: DataType, kept: Mapping[str, int]) -> OpLatency:
        key = (op.name, type_, *[kept.get(group) for group in self._deciding[op.name]])
        if key not in self._rows:
            shares = [self.table.share(self.other_geometry(op, kept), "dense", 0.0, TYPE_BITS[type_])]
            if op.kind != "activation" and (bend := self.bend_geometry(op, kept)) is not None:
                shares.append(self.table.share(bend, "dense", 0.0, TYPE_BITS[type_]))
            self._rows[key] = _op_latency(op.name, op.kind, shares)
        return self._rows[key]

    def _conversion(self, conversion: Conversion, kept: Mapping[str, int]) -> OpLatency:
        tensor, source, destination = conversion
        key = (conversion, *[kept.get(group) for group in self._deciding[tensor]])
        if key not in self._rows:
            narrows = TYPE_BITS[destination] < TYPE_BITS[source]
            geometry = self.conversion_geometry("convert" if narrows else "widen", tensor, kept)
            # Rows are keyed by the narrower side; the wider one is fp32 there.
            share = self.table.share(geometry, "dense", 0.0, min(TYPE_BITS[source], TYPE_BITS[destination]))
            self._rows[key] = _op_latency(f"{tensor}: {source} to {destination}", "convert", [share])
        return self._rows[key]

    def _ops(self, kept: Mapping[str, int], typing: _Typing, plan: Mapping[str, Option]) -> list[OpLatency]:
        """Every op that takes time, in order, then conversions; of Layers those of `plan`."""
        rows: list[OpLatency] = []
        for op in self.network.ops:
            if op.name in plan:
                rows.append(self._layer(op.name, plan[op.name], kept))
            elif op.name not in self.layers and not self.free(op, typing.types[op.name]):
                rows.append(self._other(op, typing.types[op.name], kept))
        rows += [self._conversion(conversion, kept) for conversion in typing.conversions]
        return rows

    def __call__(self, plan: Plan) -> PlanLatency:
        """The latency of a whole Plan, with where it goes."""
        rows = self._ops(self.kept(plan), self._typing(plan), plan)
        self._summed.update(rows)
        columns = zip(*((row.microseconds, row.median, row.low, row.high) for row in rows), strict=True)
        ms, median, low, high = (self.table.total_ms(math.fsum(column)) for column in columns)
        return PlanLatency(ms, median, low, high, tuple(rows))

    def ms(self, plan: Plan) -> float:
        """The latency of a whole Plan in milliseconds."""
        kept, typing = self.kept(plan), self._typing(plan)
        layers = self.layers_microseconds(kept)
        key = typing.key, frozenset(kept.items())
        rest = self._rests.get(key)
        if rest is None:
            if len(self._rests) >= _REMEMBERED:
                self._rests.clear()
            rest = self._rests[key] = [row.microseconds for row in self._ops(kept, typing, {})]
        return self.table.total_ms(math.fsum([layers[layer][option] for layer, option in plan.options] + rest))

    def detours(self, plan: Plan, options: Mapping[str, Sequence[Option]]) -> dict[str, dict[DataType, float]]:
        """By Layer and data type, the microseconds of conversions that are added when that Layer alone computes in that type.

        They are those of whole tensors, whatever channels the Plan removes: a price for leaving its type, not a time.

        Args:
            options: whose types are of interest, by Layer.
        """
        types = self._typing(plan).types
        choices = dict(plan)
        found: dict[str, dict[DataType, float]] = {}
        for layer, own in plan.items():
            typed, reading = self._affected[layer]
            for type_, other in {ACTIVATIONS[option.bits]: option for option in options[layer]}.items():
                key = (layer, type_, *[types[name] for name in self._decisive[layer]])
                if key not in self._detours:
                    choices[layer] = other
                    changed = data_types(self.network, choices, typed, types)
                    before = self._conversions_microseconds(conversions(self.network, plan, types, reading))
                    after = self._conversions_microseconds(conversions(self.network, choices, changed, reading))
                    self._detours[key] = after - before
                    choices[layer] = own
                found.setdefault(layer, {})[type_] = self._detours[key]
        return found

    def _conversions_microseconds(self, needed: Iterable[Conversion]) -> float:
        return math.fsum([self.conversion_microseconds(conversion, {}) for conversion in needed])

    def conversion_microseconds(self, conversion: Conversion, kept: Mapping[str, int]) -> float:
        """Time of one conversion of a tensor when Groups keep only so many channels."""
        return self._conversion(conversion, kept).microseconds

    def other_microseconds(self, op: Op, type_: DataType, kept: Mapping[str, int]) -> float:
        """Time of an op that is no Layer, in a type, when Groups keep only so many channels."""
        return 0.0 if self.free(op, type_) else self._other(op, type_, kept).microseconds

    @property
    def source(self) -> Source:
        """`measured` when all times are that were in the latency of a Plan until now; searches ask for others too, to compare."""
        return "modelled" if self._modelled() or not self._summed else "measured"

    @property
    def note(self) -> str:
        """How far the latencies of the Plans until now can be trusted, in a sentence or two."""
        modelled = self._modelled()
        return self.table.note_on(len(self._summed) - modelled, modelled)

    def _modelled(self) -> int:
        return sum(row.source == "modelled" for row in self._summed)

    def conversion_geometry(self, op: Literal["convert", "widen"], tensor: str, kept: Mapping[str, int]) -> Geometry:
        """Geometry of a conversion of a tensor when Groups keep only so many channels."""
        return self._plane(op, tensor, tensor, kept)

    def other_geometry(self, op: Op, kept: Mapping[str, int]) -> Geometry:
        """Geometry of an op that is no Layer when Groups keep only so many channels."""
        computed = [name for name in op.inputs if name in self.network.shapes]
        first = max(computed, key=lambda name: math.prod(self.network.shapes[name]), default=op.name)
        if op.kind == "adaptive_avg_pool" and tuple(op.attributes["size"]) == (1, 1):
            return self._plane("global_pool", first, op.name, kept)
        if op.kind in ("max_pool", "avg_pool", "adaptive_avg_pool"):
            plane = self._plane("pool", first, op.name, kept)
            kernel = op.attributes.get("kernel", (-(-plane.in_height // plane.out_height), -(-plane.in_width // plane.out_width)))
            return replace(plane, kernel=tuple(kernel), stride=tuple(op.attributes.get("stride", kernel)))
        if op.kind == "affine":
            plane = self._plane("depthwise", first, op.name, kept)
            return replace(plane, groups=plane.in_channels)
        if op.kind in ("add", "mul"):
            smallest = min(computed, key=lambda name: math.prod(self.network.shapes[name]), default=first)
            plane = self._plane("add" if op.kind == "add" else "mul", first, op.name, kept)
            if len(op.inputs) > len(computed) or math.prod(self.network.shapes[smallest]) < math.prod(self.network.shapes[first]):
                return replace(plane, in_height=1, in_width=1)
            return plane
        kinds: dict[str, KernelOp] = {"activation": "activation", "permute": "gather", "pad": "gather"}
        if op.kind == "slice" and op.attributes["axis"] != self._leading[op.inputs[0]]:
            return self._plane("gather", first, op.name, kept)
        return self._plane(kinds.get(op.kind, "copy"), first, op.name, kept)

    def bend_geometry(self, op: Op, kept: Mapping[str, int]) -> Geometry | None:
        """Geometry of the activation fused into an op if it bends, so that it costs as much as one on its own; else None.

        Rows do not tell the activation: they are of one that only bounds, which costs as much as none.
        """
        return None if op.activation.name in _BOUNDS else self._plane("activation", op.name, op.name, kept)

    def _plane(self, kind: KernelOp, source: str, result: str, kept: Mapping[str, int]) -> Geometry:
        in_height, in_width = self._size(source)
        out_height, out_width = self._size(result)
        return Geometry(
            op=kind,
            in_channels=self.channels(source, kept),
            out_channels=self.channels(result, kept),
            in_height=in_height,
            in_width=in_width,
            out_height=out_height,
            out_width=out_width,
        )

    def _size(self, tensor: str) -> tuple[int, int]:
        shape = self.network.shapes[tensor]
        if self._last_axis(tensor) or (tensor == INPUT and len(shape) != 3):
            return 1, math.prod(shape[:-1])
        return shape[1], shape[2]


def _op_latency(name: str, op: str, shares: Sequence[Share]) -> OpLatency:
    columns = zip(*((share.counted, share.median, share.low, share.high) for share in shares), strict=True)
    source: Source = "modelled" if any(share.source == "modelled" for share in shares) else "measured"
    counted, median, low, high = (math.fsum(column) for column in columns)
    return OpLatency(name, op, counted, median, low, high, source)


def describe(layer: Layer) -> str:
    """A Layer in a few words: `conv 3x3 s2`, `depthwise 5x5`, `linear`."""
    if layer.kind == "linear":
        return "linear"
    stride = f" s{max(layer.stride)}" if max(layer.stride) > 1 else ""
    return f"{'depthwise' if layer.depthwise else 'conv'} {layer.kernel[0]}x{layer.kernel[1]}{stride}"


def _channels(shape: tuple[int, ...], last_axis: bool) -> int:
    return shape[-1 if last_axis else 0] if shape else 1
