"""Which calibration inputs do what: some reconstruct Layers and correct statistics, others score Plans and decide between the best.

More inputs tell more, and cost more: of small networks, where an input costs little, more are taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .spaces.network import Network
from .tasks.task import Task, input_batches, scoring_count

#: Inputs that the network computes at a time where moments of the whole set are not needed at once.
BATCH = 32
#: Calibration inputs that are used at most, that score a trial, that score the best trials too, on which statistics are corrected when a
#: trial is scored, and that decide between finalists: of a large network, and at most of a small one.
CALIBRATION, SCORING, SCORING_BEST, CORRECTING, HELD_OUT = (512, 8192), (32, 512), (64, 512), (24, 96), (128, 1024)
#: Numbers that a network computes for one input, from which on it is large: those of EfficientNet-Lite0.
LARGE = 7_000_000


def inputs_for(network: Network, least: int, most: int) -> int:
    """How many inputs to compute: `least` of a large network, more of a smaller one, as long as they cost no more, up to `most`."""
    each = sum(math.prod(shape) for shape in network.shapes.values())
    return max(least, min(most, least * LARGE // each))


def calibration_inputs(task: Task, network: Network) -> torch.Tensor:
    """The calibration inputs of a task that are used, the first ones; shape (inputs, ...)."""
    return torch.cat(list(input_batches(task.calibration, BATCH, inputs_for(network, *CALIBRATION))))


def split_calibration(calibration: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs on which Layers are reconstructed, and the last ones, which score Plans.

    They are different inputs, since reconstruction fits the compressed weights to those it sees: on these a Plan looks far better
    than it is. The last ones are of other sources where a task's inputs are ordered by source.
    """
    count = scoring_count(len(calibration))
    return (calibration[:-count], calibration[-count:]) if count else (calibration, calibration)


@dataclass(frozen=True)
class ScoringInputs:
    """Inputs on which nothing was reconstructed, by what they are for.

    Attributes:
        trials: score every trial.
        best: score the best trials too; there may be none.
        finalists: decide between the best; where nothing is left for it, those that score trials.
    """

    trials: torch.Tensor
    best: torch.Tensor
    finalists: torch.Tensor


def split_scoring(scoring: torch.Tensor, network: Network, asked: int | None) -> ScoringInputs:
    """Who gets which of the inputs that score Plans: of those that score no trial the best trials get a half at most.

    Args:
        asked: how many shall score trials; None for as many as suit the network, but of few a third at most.
    """
    least, most = SCORING
    count = asked if asked is not None else max(least, min(inputs_for(network, least, most), len(scoring) // 3))
    trials, others = split_samples(scoring, count)
    if len(trials) == len(scoring):
        return ScoringInputs(trials, scoring[:0], trials)
    best, finalists = split_samples(others, min(inputs_for(network, *SCORING_BEST), len(others) // 2))
    return ScoringInputs(trials, best, split_samples(finalists, inputs_for(network, *HELD_OUT))[0])


def split_samples(inputs: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` inputs, evenly spread, and the others: all again where there are none."""
    chosen = torch.zeros(len(inputs), dtype=torch.bool)
    chosen[torch.linspace(0, len(inputs) - 1, min(count, len(inputs))).round().long()] = True
    rest = inputs[~chosen]
    return inputs[chosen], rest if len(rest) else inputs
