"""Groups: Layers whose channels can only be removed together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .network import INPUT, Network, Op


@dataclass(frozen=True)
class Span:
    """Where a Group's channels lie in one op: channel c is `offset + c * repeat` up to `+ repeat` of its channels.

    `repeat` is above 1 behind a flatten, where one channel becomes height * width features.
    """

    op: str
    offset: int = 0
    repeat: int = 1


@dataclass(frozen=True)
class Group:
    """Channels that are removed together.

    Attributes:
        name: the first producer's; with the offset where that has channels of another Group before these.
        channels: how many there are.
        producers: Layers (depthwise ones included) whose output channels these are, with where they lie in the output.
        consumers: Layers that read them as input channels, with where they lie in the input. Depthwise Layers of the
            chain are producers only.
        members: other ops with one parameter per channel (affine), with where the channels lie.
        frozen: why the channels cannot be removed (they are the network's output, or a reshape mixes them), else "".
    """

    name: str
    channels: int
    producers: tuple[Span, ...]
    consumers: tuple[Span, ...]
    members: tuple[Span, ...] = ()
    frozen: str = ""


@dataclass
class Channels:
    """A run of channels of unknown Group, joined to others with which it must be removed; one per producer at first."""

    length: int
    frozen: str = ""
    joined: Channels | None = None
    producers: list[Span] = field(default_factory=list)
    consumers: list[Span] = field(default_factory=list)
    members: list[Span] = field(default_factory=list)

    def root(self) -> Channels:
        """The run that stands for all that are joined to this one."""
        while self.joined is not None:
            self = self.joined
        return self

    @property
    def name(self) -> str:
        """The Group's name; empty where no Layer produces these channels (the network's input)."""
        producers = self.root().producers
        if not producers:
            return ""
        op, offset = producers[0].op, producers[0].offset
        return f"{op}.{offset}" if offset else op


@dataclass(frozen=True)
class Layout:
    """Where the channels of one tensor are: along `axis`, as runs of channels which each take `repeat` places a channel."""

    axis: int
    runs: tuple[tuple[Channels, int], ...]

    def freeze(self, reason: str) -> None:
        for channels, _ in self.runs:
            root = channels.root()
            root.frozen = root.frozen or reason

    def spans(self, op: str) -> list[tuple[Channels, Span]]:
        """Every run, with where it lies in `op`."""
        found, offset = [], 0
        for channels, repeat in self.runs:
            found.append((channels.root(), Span(op, offset, repeat)))
            offset += channels.length * repeat
        return found


def find_groups(network: Network) -> tuple[Group, ...]:
    """All Groups of `network`, in the order of their first producers: every Layer is a producer in at least one."""
    return group_layouts(network)[0]


def group_layouts(network: Network) -> tuple[tuple[Group, ...], dict[str, Layout]]:
    """The Groups of `network`, and where they lie in each of its tensors (constants with a value per channel included)."""
    layouts = _Finder(network).layouts
    first_use = [(name, position) for position, op in enumerate(network.ops) for name in (*op.inputs, op.name)]
    order = dict(reversed(first_use))
    roots = {id(channels.root()): channels.root() for layout in layouts.values() for channels, _ in layout.runs}
    found = []
    for root in roots.values():
        for spans in (root.producers, root.consumers, root.members):
            spans.sort(key=lambda span: order[span.op])
        if root.producers:
            spans_of = (tuple(root.producers), tuple(root.consumers), tuple(root.members))
            found.append(Group(root.name, root.length, *spans_of, root.frozen))
    return tuple(sorted(found, key=lambda group: order[group.producers[0].op])), layouts


class _Finder:
    """Walks the ops in order, giving every tensor its Layout and joining channels that meet elementwise."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layouts: dict[str, Layout] = {INPUT: self.fresh(INPUT, 0, "they are the network's input")}
        for op in network.ops:
            self.layouts[op.name] = self.visit(op)
        self.layouts[network.output].freeze("they are the network's output")

    def fresh(self, name: str, axis: int, frozen: str = "") -> Layout:
        return Layout(axis, ((Channels(self.network.shapes[name][axis], frozen), 1),))

    def mixed(self, op: Op, reason: str) -> Layout:
        """Freeze what `op` reads; its output starts anew, frozen."""
        for name in op.inputs:
            if name in self.layouts:
                self.layouts[name].freeze(f"{op.name} {reason}")
        return self.fresh(op.name, 0, f"{op.name} {reason}")

    def visit(self, op: Op) -> Layout:
        if op.kind == "conv2d":
            return self.convolution(op)
        if op.kind == "linear":
            return self.linear(op)
        if op.kind in ("add", "mul"):
            return self.elementwise(op)
        if op.kind == "cat":
            return self.concatenation(op)
        source = self.layouts[op.inputs[0]]
        if op.kind == "affine" and source.axis == 0:
            for channels, span in source.spans(op.name):
                channels.members.append(span)
        elif op.kind in ("max_pool", "avg_pool", "adaptive_avg_pool", "pad") and source.axis != 0:
            return self.mixed(op, "pools or pads along their axis")
        elif op.kind == "slice" and op.attributes["axis"] == source.axis:
            return self.channel_slice(op, source)
        elif op.kind == "permute":
            return Layout(op.attributes["axes"].index(source.axis), source.runs)
        elif op.kind == "reshape":
            return self.reshape(op, source)
        return source

    def convolution(self, op: Op) -> Layout:
        source, groups = self.layouts[op.inputs[0]], op.attributes["groups"]
        weight = self.network.tensors[f"{op.name}.weight"]
        reason = ""
        if source.axis != 0:
            source.freeze(f"{op.name} convolves along their axis")
        elif groups == 1:
            for channels, span in source.spans(op.name):
                channels.consumers.append(span)
        elif groups == self.network.shapes[op.inputs[0]][0]:
            multiplier = weight.shape[0] // groups
            layout = Layout(0, tuple((channels, repeat * multiplier) for channels, repeat in source.runs))
            for channels, span in layout.spans(op.name):
                channels.producers.append(span)
            return layout
        else:
            reason = f"{op.name} is a grouped convolution"
            source.freeze(reason)
        return self.produced(op, 0, reason)

    def linear(self, op: Op) -> Layout:
        source = self.layouts[op.inputs[0]]
        last = len(self.network.shapes[op.name]) - 1
        if source.axis == last:
            for channels, span in source.spans(op.name):
                channels.consumers.append(span)
        else:
            source.freeze(f"{op.name} is applied along another axis")
        return self.produced(op, last, "")

    def produced(self, op: Op, axis: int, frozen: str) -> Layout:
        layout = self.fresh(op.name, axis, frozen)
        layout.runs[0][0].producers.append(Span(op.name))
        return layout

    def elementwise(self, op: Op) -> Layout:
        shapes, layouts = [], []
        for name in op.inputs:
            if name in self.layouts:
                shapes.append(self.network.shapes[name])
                layouts.append(self.layouts[name])
            else:
                shapes.append(tuple(self.network.tensors[name].shape))
        axis = layouts[0].axis
        if any(layout.axis != axis for layout in layouts):
            return self.mixed(op, "combines tensors whose channels lie along different axes")
        length = self.network.shapes[op.name][axis]
        wide = []
        for name, shape in zip(op.inputs, shapes, strict=True):
            if shape[axis] != length:
                if name in self.layouts:
                    self.layouts[name].freeze(f"{op.name} broadcasts them over other channels")
            elif name in self.layouts:
                wide.append(self.layouts[name])
        if not wide:
            return self.fresh(op.name, axis, f"{op.name} adds them from a constant")
        if not self.join(wide):
            return self.mixed(op, "combines channels which lie in different orders")
        for name, shape in zip(op.inputs, shapes, strict=True):
            if name not in self.layouts and shape[axis] == length:
                self.layouts[name] = Layout(axis, wide[0].runs)
                for channels, span in wide[0].spans(name):
                    channels.members.append(span)
        return wide[0]

    def join(self, layouts: Sequence[Layout]) -> bool:
        """Join the channels of tensors that meet elementwise; False where their runs differ in length."""
        first = layouts[0]
        for other in layouts[1:]:
            if [(c.length, r) for c, r in first.runs] != [(c.length, r) for c, r in other.runs]:
                return False
        for other in layouts[1:]:
            for (kept, _), (joined, _) in zip(first.runs, other.runs, strict=True):
                self.unite(kept.root(), joined.root())
        return True

    def unite(self, kept: Channels, joined: Channels) -> None:
        if kept is joined:
            return
        kept.frozen = kept.frozen or joined.frozen
        kept.producers += joined.producers
        kept.consumers += joined.consumers
        kept.members += joined.members
        joined.joined = kept

    def concatenation(self, op: Op) -> Layout:
        axis = op.attributes["axis"]
        variable = [self.layouts[name] for name in op.inputs if name in self.layouts]
        if all(layout.axis == axis for layout in variable):
            runs: list[tuple[Channels, int]] = []
            for name in op.inputs:
                if name in self.layouts:
                    runs += self.layouts[name].runs
                else:
                    runs.append((Channels(self.network.tensors[name].shape[axis], f"{op.name} adds them from a constant"), 1))
            return Layout(axis, tuple(runs))
        return self.mixed(op, "concatenates along another axis")

    def channel_slice(self, op: Op, source: Layout) -> Layout:
        start, stop = op.attributes["start"], op.attributes["stop"]
        runs, offset = [], 0
        for channels, repeat in source.runs:
            end = offset + channels.length * repeat
            if start <= offset and end <= stop:
                runs.append((channels, repeat))
            offset = end
        if sum(channels.length * repeat for channels, repeat in runs) == stop - start:
            return Layout(source.axis, tuple(runs))
        return self.mixed(op, "takes a part of them")

    def reshape(self, op: Op, source: Layout) -> Layout:
        before, after = self.network.shapes[op.inputs[0]], self.network.shapes[op.name]
        ahead, length, behind = math.prod(before[: source.axis]), before[source.axis], math.prod(before[source.axis + 1 :])
        for axis, size in enumerate(after):
            repeat, rest = divmod(size, length)
            if math.prod(after[:axis]) == ahead and rest == 0 and repeat > 0 and behind % repeat == 0:
                return Layout(axis, tuple((channels, r * repeat) for channels, r in source.runs))
        return self.mixed(op, "mixes them with another axis")
