"""Reuse of layer outputs: Plans that agree on the first Layers share what these compute.

A network is cut where few numbers are alive (between blocks); for the Plans seen last, the tensors at the cuts are
kept, for each part of the inputs by itself. The next Plan starts at the last cut before which it agrees with one of them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..compressors.candidate import Value
from ..spaces.network import INPUT, Network
from ..spaces.option import Option
from ..spaces.plan import Plan

#: A cut is made only where at most this share of the largest number of live values is alive,
CUT_SIZE = 0.3
#: and only after this share of the network's work since the last cut.
CUT_WORK = 0.03

Prefix = tuple[int, int, tuple[Option, ...]]


@dataclass(frozen=True)
class Cut:
    """A network in the middle of its work on one part of the inputs.

    Attributes:
        position: of the op that was computed last; -1 before the first one.
        values: the tensors that are alive.
        gains, shifts: the statistics correction of the Layers so far, where it is being found.
    """

    position: int
    values: Mapping[str, Value]
    gains: Mapping[str, torch.Tensor] = field(default_factory=dict)
    shifts: Mapping[str, torch.Tensor] = field(default_factory=dict)


class PrefixCache:
    """Tensors at the cuts of a Network, for the Plans seen last.

    Args:
        max_bytes: memory bound; the least recently used prefixes go first.
    """

    def __init__(self, network: Network, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[Prefix, Cut] = OrderedDict()
        self.cuts = _cuts(network)
        self._layers_before: dict[int, tuple[str, ...]] = {}
        layers: list[str] = []
        for position, op in enumerate(network.ops):
            if op.kind in ("conv2d", "linear"):
                layers.append(op.name)
            if position in self.cuts:
                self._layers_before[position] = tuple(layers)

    def clear(self) -> None:
        """Give all memory back."""
        self._entries.clear()
        self._bytes = 0

    def longest(self, plan: Plan, part: int) -> Cut | None:
        """The last cut that is known of this part of the inputs; None when nothing fits."""
        for position in sorted(self.cuts, reverse=True):
            key = self._key(position, plan, part)
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        return None

    def store(self, cut: Cut, plan: Plan, part: int) -> None:
        """Keep what is alive of a Plan's network in a cut, if there is one at that position."""
        if cut.position not in self.cuts:
            return
        key = self._key(cut.position, plan, part)
        if key in self._entries:
            return
        values = {name: cut.values[name] for name in self.cuts[cut.position]}
        self._entries[key] = Cut(cut.position, values, dict(cut.gains), dict(cut.shifts))
        self._bytes += _size(values)
        while self._bytes > self._max_bytes:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= _size(dropped.values)

    def _key(self, position: int, plan: Plan, part: int) -> Prefix:
        return part, position, tuple(plan[layer] for layer in self._layers_before[position])


def _size(values: Mapping[str, Value]) -> int:
    return sum(value.data.numel() * value.data.element_size() for value in values.values())


def _cuts(network: Network) -> dict[int, tuple[str, ...]]:
    """Positions of ops after which to cut, with the tensors that are alive there."""
    last_use = {name: position for position, op in enumerate(network.ops) for name in op.inputs}
    last_use[network.output] = len(network.ops)
    alive: dict[str, int] = {INPUT: math.prod(network.shapes[INPUT])}
    sizes: list[int] = []
    names: list[tuple[str, ...]] = []
    work: list[float] = []
    for position, op in enumerate(network.ops):
        outputs = math.prod(network.shapes[op.name])
        alive[op.name] = outputs
        alive = {name: size for name, size in alive.items() if last_use.get(name, -1) > position}
        sizes.append(sum(alive.values()))
        names.append(tuple(alive))
        weight = network.tensors.get(f"{op.name}.weight")
        macs = weight.numel() / max(1, weight.shape[0]) * outputs if weight is not None else 0.0
        work.append(macs + 100.0 * outputs)  # a value written costs about as much as 100 multiply-accumulates
    limit, step = CUT_SIZE * max(sizes, default=0), CUT_WORK * sum(work)
    cuts: dict[int, tuple[str, ...]] = {}
    since = 0.0
    for position in range(len(network.ops) - 1):
        since += work[position]
        if since >= step and sizes[position] <= limit:
            cuts[position] = names[position]
            since = 0.0
    return cuts
