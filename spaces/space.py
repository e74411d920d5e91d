"""Space: what may be chosen for every Layer."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import UserError
from .groups import Group
from .layers import Layer
from .option import BITS, BLOCKS, Bits, Option, Structure
from .plan import Plan

#: Shares of weights that block and unstructured options remove, and shares of channels that channel options remove.
WEIGHT_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CHANNEL_LEVELS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)


@dataclass(frozen=True)
class Space:
    """Every Layer's Options.

    Attributes:
        layers: in the Network's order.
        groups: the Groups whose channels may be removed; their producers have `channel` Options, and share the choice.
        options: Options of every Layer, dense ones first.
    """

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    options: Mapping[str, tuple[Option, ...]]

    @property
    def fingerprint(self) -> str:
        """A content hash: equal Spaces have equal fingerprints, on every machine."""
        value = {name: [option.to_json() for option in options] for name, options in self.options.items()}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _offered(self) -> Mapping[str, frozenset[Option]]:
        return {layer: frozenset(options) for layer, options in self.options.items()}

    @cached_property
    def _producers(self) -> Mapping[str, Group]:
        return {span.op: group for group in self.groups for span in group.producers}

    def group_of(self, layer: str) -> Group | None:
        """The prunable Group whose channels `layer` produces, if there is one."""
        return self._producers.get(layer)

    def uniform(self, option: Option) -> Plan:
        """`option` wherever it is offered; elsewhere the dense Option that is nearest in bits, from above if there is one."""
        return Plan.of({layer.name: self._nearest(layer.name, option) for layer in self.layers})

    def _nearest(self, layer: str, option: Option) -> Option:
        if option in self.options[layer]:
            return option
        dense = [other for other in self.options[layer] if other.structure == "dense"]
        return min(dense, key=lambda other: (other.bits < option.bits, abs(other.bits - option.bits)))

    def channel_option(self, layer: str, share: float, bits: Bits) -> Option:
        """The Option of a Group's producer that removes `share` of the channels, at the offered bits nearest to `bits`."""
        offered = [o for o in self.options[layer] if o.structure == "channel" and o.sparsity == share]
        return min(offered, key=lambda option: abs(math.log2(option.bits / bits)))

    def changed(self, plan: Plan, layer: str, option: Option) -> Plan:
        """`plan` with one Option changed; a Group whose channel share this changes follows as a whole."""
        changes = {layer: option}
        group = self.group_of(layer)
        if group is not None and "channel" in (option.structure, plan[layer].structure):
            for span in group.producers:
                if span.op != layer:
                    bits = plan[span.op].bits
                    removes = option.structure == "channel"
                    share = option.sparsity
                    changes[span.op] = self.channel_option(span.op, share, bits) if removes else Option("dense", 0.0, bits)
        return plan.replace(changes)

    def consistent(self, choices: Mapping[str, Option]) -> Plan:
        """The Plan that free choices per Layer stand for: producers of one Group follow the first one's channel choice.

        When the first producer removes channels all do, at the same share and each with its own bits (the nearest that it
        offers there); when it does not, a `channel` choice of another producer means dense at its bits.

        Raises:
            UserError: a Layer has no choice, or one that this Space does not offer.
        """
        for layer in self.layers:
            if layer.name not in choices:
                raise UserError(f"the plan has no option for layer {layer.name}: use a plan made for this network")
            if choices[layer.name] not in self._offered[layer.name]:
                raise UserError(
                    f"layer {layer.name} does not offer {choices[layer.name]}: use a plan made for this task, target and version"
                )
        changed: dict[str, Option] = {}
        for group in self.groups:
            leader = choices[group.producers[0].op]
            for span in group.producers:
                own = choices[span.op]
                if leader.structure == "channel":
                    changed[span.op] = self.channel_option(span.op, leader.sparsity, own.bits)
                elif own.structure == "channel":
                    changed[span.op] = Option("dense", 0.0, own.bits)
        return Plan.of({layer.name: changed.get(layer.name, choices[layer.name]) for layer in self.layers})


def kept_channels(channels: int, sparsity: float) -> int:
    """Channels that remain when a share is removed: a multiple of 4, which the kernels are built for, and at least 4."""
    return min(channels, max(4, round(channels * (1 - sparsity) / 4) * 4))


def removable(groups: Sequence[Group]) -> tuple[Group, ...]:
    """The Groups whose channels may be removed, so that every Layer produces channels of at most one of them."""
    taken: set[str] = set()
    chosen = []
    for group in groups:
        names = {span.op for span in group.producers}
        if not group.frozen and group.consumers and group.channels > 4 and not names & taken:
            chosen.append(group)
            taken |= names
    return tuple(chosen)


def build_space(
    layers: Sequence[Layer],
    groups: Sequence[Group],
    supports: Callable[[Layer, Structure, Bits], bool],
    microseconds: Callable[[Layer, Option], float],
    weight_levels: Sequence[float] = WEIGHT_LEVELS,
    channel_levels: Sequence[float] = CHANNEL_LEVELS,
) -> Space:
    """The Space of what the target's table has, without Options that cannot pay.

    A sparse Option which is not faster than a dense one of 8 or more bits is left out: it loses more and gains nothing
    ("pruned, not faster"). So is fp32 where the same weights are as fast in fp16, and dense 4 bit where it is not faster
    than dense 8 bit.

    Args:
        groups: those whose channels may be removed, as `removable` gives them.
        supports: whether the table has a kernel for (layer, structure, bits).
        microseconds: the table's time of (layer, option).
    """
    producers = {span.op: group for group in groups for span in group.producers}
    options: dict[str, tuple[Option, ...]] = {}
    for layer in layers:
        bits = [b for b in BITS if supports(layer, "dense", b)]
        dense = [Option("dense", 0.0, b) for b in bits]
        times = {option: microseconds(layer, option) for option in dense}
        bar = min((time for option, time in times.items() if option.bits >= 8), default=float("inf"))
        chosen = [option for option in dense if option.bits >= 8 or times[option] < bar]
        for structure in BLOCKS:
            for b in bits:
                if b == 4 or not supports(layer, structure, b):
                    continue
                for sparse in (Option(structure, level, b) for level in weight_levels):
                    half = Option(structure, sparse.sparsity, 16)
                    time = microseconds(layer, sparse)
                    if time < bar and not (b == 32 and supports(layer, structure, 16) and microseconds(layer, half) <= time):
                        chosen.append(sparse)
        if layer.name in producers:
            channels = producers[layer.name].channels
            levels = [s for s in channel_levels if kept_channels(channels, s) < channels]
            channel = [Option("channel", level, b) for b in bits if b != 4 for level in levels]
            fewest = min(b for b in bits if b >= 8)
            chosen += [option for option in channel if option.bits == fewest or microseconds(layer, option) < bar]
        options[layer.name] = tuple(chosen)
    return Space(tuple(layers), tuple(groups), options)
