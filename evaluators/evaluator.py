"""PlanEvaluator: the loss of a Plan, computed as the network will be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch

from ..compressors.candidate import Candidate
from ..compressors.database import LayerDatabase
from ..compressors.quantization import Quantizer
from ..compressors.recovery import Moments, StatisticsCorrection, dense_moments
from ..spaces.groups import Group
from ..spaces.layers import find_layers
from ..spaces.network import INPUT, Network
from ..spaces.option import Option
from ..spaces.plan import Plan
from ..spaces.remove_channels import remove_channels
from .loss import divergence, memory_format, outputs
from .prefix_cache import PrefixCache


class PlanEvaluator:
    """Losses of Plans: how far outputs for some inputs are from the dense network's, after statistics correction on others.

    On the inputs on which it was found a correction looks better than it is, for some Plans more than for others, and a search
    finds those (docs/methods.md).

    Args:
        network: the captured, uncompressed network.
        groups: those whose channels may be removed.
        database: holds every (Layer, Option) that the Plans use.
        quantizers: of every tensor of the network.
        samples: inputs that score Plans, shape (samples, ...).
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
    ) -> None:
        self.network = network
        self.groups = tuple(groups)
        self.database = database
        self.quantizers = quantizers
        self.samples, self.correcting = samples, correcting
        inputs = torch.cat([correcting, samples])
        self._inputs = inputs.contiguous(memory_format=memory_format(inputs))
        self.dense = dense_candidate(network)
        self._cache = PrefixCache(network, prefix_bytes)
        self._losses: dict[Plan, float] = {}

    @cached_property
    def dense_outputs(self) -> torch.Tensor:
        """What the uncompressed network gives for the samples."""
        return outputs(self.dense.run, self.samples)

    @cached_property
    def _moments(self) -> dict[str, Moments]:
        with torch.inference_mode():
            return dense_moments(self.dense, self._inputs[: len(self.correcting)])

    def candidate(self, plan: Plan) -> Candidate:
        """The network that a Plan means, before any correction."""
        stitched = self.database.weights(self.network, self.groups, plan)
        whole = replace(self.network, tensors={**self.network.tensors, **stitched.tensors})
        groups = [group for group in self.groups if group.name in stitched.kept]
        rows = kept_rows(groups, stitched.kept, self.network)
        scales = {name: _subset(scale, rows.get(name)) for name, scale in stitched.scales.items()}
        return Candidate.of(plan, remove_channels(whole, groups, stitched.kept), self.quantizers, scales)

    def loss(self, plan: Plan) -> float:
        """The loss of a Plan; each Plan is computed once."""
        if plan not in self._losses:
            with torch.inference_mode():
                self._losses[plan] = divergence(self.dense_outputs, self._outputs(plan))
        return self._losses[plan]

    def remember(self, losses: Mapping[Plan, float]) -> None:
        """Losses that were computed before, on the same samples: they are not computed again."""
        self._losses.update(losses)

    def forget(self) -> None:
        """Give back the memory of everything but losses."""
        self._cache.clear()

    def _outputs(self, plan: Plan) -> torch.Tensor:
        """What the network that a Plan means gives for the samples, after its statistics correction."""
        candidate = self.candidate(plan)
        correct = StatisticsCorrection(self.kept_moments(self._moments, plan), len(self.correcting))
        start, values = self._cache.longest(plan)
        if start < 0:
            values = {INPUT: candidate.input_value(self._inputs)}
        last_use = {name: op.name for op in candidate.network.ops for name in op.inputs}
        for position, op in enumerate(candidate.network.ops[start + 1 :], start + 1):
            values[op.name] = candidate.step(op, values, correct)
            for name in op.inputs:
                if last_use[name] == op.name and name != candidate.network.output:
                    values.pop(name, None)
            self._cache.store(position, plan, values)
        return candidate.finish(values[candidate.network.output])[len(self.correcting) :]

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
            name: Moments(_subset(value.mean, rows.get(name)), _subset(value.variance, rows.get(name)))
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
