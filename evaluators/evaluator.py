"""PlanEvaluator: the loss of a Plan, computed as the network will be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch

from ..compressors.candidate import Candidate
from ..compressors.database import LayerDatabase
from ..compressors.quantization import Quantizer
from ..compressors.recovery import Moments, StatisticsCorrection, dense_moments, fold
from ..memory import bound_freed_memory
from ..spaces.groups import Group
from ..spaces.layers import find_layers
from ..spaces.network import INPUT, Network
from ..spaces.option import Option
from ..spaces.plan import Plan
from ..spaces.remove_channels import remove_channels
from .loss import divergence, memory_format, outputs
from .prefix_cache import Cut, PrefixCache
from .score import Score

#: One of so many samples is among the first ones.
FIRST = 4


def first_samples(count: int) -> int:
    """How many of so many samples are the first ones."""
    return -(-count // FIRST)


def spread(samples: torch.Tensor) -> torch.Tensor:
    """Samples in an order whose first ones are taken evenly from all: their neighbours may be much like them."""
    first = torch.arange(len(samples)) % FIRST == 0
    return torch.cat([samples[first], samples[~first]])


class PlanEvaluator:
    """Losses of Plans: how far outputs for some inputs are from the dense network's, after statistics correction on others.

    On the inputs on which it was found a correction looks better than it is, for some Plans more than for others, and a search
    finds those (docs/methods.md). Samples are computed in parts: a Plan that is hopeless on the first ones stops there, and only
    the best go beyond the ordinary ones.

    Args:
        network: the captured, uncompressed network.
        groups: those whose channels may be removed.
        database: holds every (Layer, Option) that the Plans use.
        quantizers: of every tensor of the network.
        samples: inputs that score Plans, shape (samples, ...); the first ones in an order that stands for all (`spread`).
        more: other inputs, shape (inputs, ...), on which the best Plans are scored too; None for none.
        correcting: inputs on which the statistics are corrected, shape (inputs, ...).
        prefix_bytes: memory for what Plans may share.
    """

    def __init__(
        self,
        network: Network,
        groups: Sequence[Group],
        database: LayerDatabase,
        quantizers: Mapping[str, Quantizer],
        samples: torch.Tensor,
        correcting: torch.Tensor,
        prefix_bytes: int = 650_000_000,
        more: torch.Tensor | None = None,
    ) -> None:
        self.network = network
        self.groups = tuple(groups)
        self.database = database
        self.quantizers = quantizers
        self.samples, self.correcting = samples, correcting
        self.more = samples[:0] if more is None else more
        self._scoring = torch.cat([samples, self.more])
        # The parts in which inputs are computed: those that correct, the first samples, the other ones.
        first = first_samples(len(samples))
        parts = [correcting, samples[:first], samples[first:]]
        self._parts = [part.contiguous(memory_format=memory_format(part)) for part in parts if len(part)]
        self.dense = dense_candidate(network)
        self._cache = PrefixCache(network, prefix_bytes)
        self._scores: dict[Plan, Score] = {}

    @cached_property
    def dense_outputs(self) -> torch.Tensor:
        """What the uncompressed network gives for the samples, and for those on which only the best are scored."""
        return outputs(self.dense.run, self._scoring)

    @cached_property
    def _moments(self) -> dict[str, Moments]:
        with torch.inference_mode():
            return dense_moments(self.dense, self._parts[0])

    def candidate(self, plan: Plan) -> Candidate:
        """The network that a Plan means, before any correction."""
        stitched = self.database.weights(self.network, self.groups, plan)
        whole = replace(self.network, tensors={**self.network.tensors, **stitched.tensors})
        groups = [group for group in self.groups if group.name in stitched.kept]
        rows = kept_rows(groups, stitched.kept, self.network)
        scales = {name: _subset(scale, rows.get(name)) for name, scale in stitched.scales.items()}
        return Candidate.of(plan, remove_channels(whole, groups, stitched.kept), self.quantizers, scales)

    def loss(self, plan: Plan) -> float:
        """The loss of a Plan on all samples; each Plan is computed once."""
        return self.score(plan).loss

    def ordinary_loss(self, plan: Plan) -> float:
        """The loss of a Plan on `samples` alone; not remembered."""
        with torch.inference_mode():
            loss = self._computed(plan, None, best=False).partial[-1]
        bound_freed_memory()
        return loss

    def score(self, plan: Plan, rival: Score | None = None) -> Score:
        """How good a Plan is; each one is computed once.

        Args:
            rival: of a Plan that is at least as good in all but loss: where it beats this one on some samples, that is all.
        """
        known = self._scores.get(plan)
        if known is None or (not known.whole and (rival is None or not rival.beats(known.partial))):
            with torch.inference_mode():
                self._scores[plan] = self._computed(plan, rival)
            bound_freed_memory()
        return self._scores[plan]

    def remember(self, scores: Mapping[Plan, Score]) -> None:
        """Scores that were computed before, on the same samples: they are not computed again."""
        self._scores.update(scores)

    def forget_scores(self) -> None:
        """Compute every Plan again when it is asked for next."""
        self._scores.clear()

    def forget(self) -> None:
        """Give back the memory of everything but losses."""
        self._cache.clear()

    def _computed(self, plan: Plan, rival: Score | None, best: bool = True) -> Score:
        """As `score`; the network is corrected first, and then used as it will be.

        Args:
            best: whether it is to be scored where only the best are.
        """
        candidate = self.candidate(plan)
        correction = StatisticsCorrection(self.kept_moments(self._moments, plan))
        self._part(candidate, plan, 0, correction)
        corrected = fold(candidate, correction)
        found, partial = self.dense_outputs[:0], list[float]()
        for own in self._results(corrected, plan, best):
            found = torch.cat([found, own])
            partial.append(divergence(self.dense_outputs[: len(found)], found))
            if rival is not None and rival.beats(partial):
                return Score(rival.projected(partial), tuple(partial), len(found), len(self._scoring))
        return Score(partial[-1], tuple(partial), len(found), len(self._scoring))

    def _results(self, corrected: Candidate, plan: Plan, best: bool) -> Iterator[torch.Tensor]:
        """What a network gives for the first samples, for the other ones, and for those on which only the best are scored."""
        for part in range(1, len(self._parts)):
            yield self._part(corrected, plan, part)
        if best and len(self.more):
            yield outputs(corrected.run, self.more)  # too few Plans come here to keep their prefixes

    def _part(self, candidate: Candidate, plan: Plan, part: int, correction: StatisticsCorrection | None = None) -> torch.Tensor:
        """What a network gives for one part of the inputs; `correction` learns on the way what is not known of it."""
        cut = self._cache.longest(plan, part) or Cut(-1, {INPUT: candidate.input_value(self._parts[part])})
        network, values = candidate.network, dict(cut.values)
        gains, shifts = ({}, {}) if correction is None else (correction.gains, correction.shifts)
        gains.update(cut.gains)
        shifts.update(cut.shifts)
        last_use = {name: op.name for op in network.ops for name in op.inputs}
        for position, op in enumerate(network.ops[cut.position + 1 :], cut.position + 1):
            values[op.name] = candidate.step(op, values, correction)
            for name in op.inputs:
                if last_use[name] == op.name and name != network.output:
                    values.pop(name, None)
            self._cache.store(Cut(position, values, gains, shifts), plan, part)
        return candidate.finish(values[network.output])

    def _kept(self, plan: Plan) -> dict[str, torch.Tensor]:
        """The channels that remain, by name of each Group from which a Plan removes some."""
        leaders = {group: plan[group.producers[0].op] for group in self.groups}
        return {
            group.name: self.database.channels(group, leader.sparsity).kept
            for group, leader in leaders.items()
            if leader.structure == "channel"
        }

    def rows(self, plan: Plan) -> dict[str, torch.Tensor]:
        """Indices of the output channels that remain, for every Layer that loses some under a Plan."""
        return kept_rows(self.groups, self._kept(plan), self.network)

    def kept_moments(self, moments: Mapping[str, Moments], plan: Plan) -> dict[str, Moments]:
        """Moments of the dense network, of the output channels that remain under a Plan."""
        rows = self.rows(plan)
        return {
            name: Moments(value.mean[:, rows[name]], value.variance[:, rows[name]]) if name in rows else value
            for name, value in moments.items()
        }


def dense_candidate(network: Network) -> Candidate:
    """The uncompressed network in fp32."""
    return Candidate.of(Plan.of({layer.name: Option("dense", 0.0, 32) for layer in find_layers(network)}), network, {}, {})


def kept_rows(groups: Sequence[Group], kept: Mapping[str, torch.Tensor], network: Network) -> dict[str, torch.Tensor]:
    """Indices of the output channels that remain, for every Layer that loses some."""
    masks: dict[str, torch.Tensor] = {}
    for group in groups:
        if group.name not in kept:
            continue
        removed = torch.ones(group.channels, dtype=torch.bool)
        removed[kept[group.name]] = False
        for span in group.producers:
            mask = masks.setdefault(span.op, torch.ones(len(network.tensors[f"{span.op}.bias"]), dtype=torch.bool))
            channels = torch.nonzero(removed).flatten() * span.repeat + span.offset
            for extra in range(span.repeat):
                mask[channels + extra] = False
    return {name: torch.nonzero(mask).flatten() for name, mask in masks.items()}


def _subset(values: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    return values if rows is None else values[rows]
