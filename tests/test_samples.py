from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autocompress.api import Prepared
from autocompress.samples import (
    CALIBRATION,
    HELD_OUT,
    LARGE,
    SCORING,
    calibration_inputs,
    inputs_for,
    split_calibration,
    split_samples,
    split_scoring,
)
from autocompress.spaces.network import Network


def network_of(tiny: Prepared, numbers: int) -> Network:
    """A network that computes so many numbers for one input."""
    return replace(tiny.profile.network, shapes={"input": (numbers - 1,), "output": (1,)})


@pytest.mark.parametrize(
    ("numbers", "expected"), [(10 * LARGE, 32), (LARGE, 32), (LARGE // 2, 64), (LARGE // 4, 128), (LARGE // 1000, 128), (1, 128)]
)
def test_small_networks_compute_more_inputs(tiny: Prepared, numbers: int, expected: int) -> None:
    assert inputs_for(network_of(tiny, numbers), 32, 128) == expected


def test_the_first_calibration_inputs_are_used(tiny: Prepared) -> None:
    inputs = torch.arange(float(CALIBRATION[1] + 5)).view(-1, 1)
    task = tiny.task
    object.__setattr__(given := replace(task), "calibration", inputs)
    assert torch.equal(calibration_inputs(given, network_of(tiny, LARGE)), inputs[: CALIBRATION[0]])
    assert torch.equal(calibration_inputs(given, network_of(tiny, 2)), inputs[: CALIBRATION[1]])


def test_what_scores_did_not_reconstruct_and_does_not_decide(tiny: Prepared) -> None:
    reconstruction, scoring = split_calibration(torch.arange(512.0))
    assert reconstruction.tolist() == list(range(384)) and scoring.tolist() == list(range(384, 512))
    split = split_scoring(scoring, network_of(tiny, LARGE), None)
    assert (len(split.trials), len(split.best)) == (SCORING[0], 48)
    assert sorted([*split.trials.tolist(), *split.best.tolist(), *split.finalists.tolist()]) == scoring.tolist()


@pytest.mark.parametrize(
    ("count", "numbers", "asked", "expected"),
    [
        (1700, 2, None, (512, 512, 676)),
        (4000, 2, None, (512, 512, HELD_OUT[1])),
        (4000, LARGE, None, (32, 64, HELD_OUT[0])),
        (150, 2, None, (50, 50, 50)),
        (48, 2, None, (32, 8, 8)),
        (600, 2, 7, (7, 296, 297)),
        (33, LARGE, None, (32, 0, 1)),
        (32, LARGE, None, (32, 0, 32)),
        (20, LARGE, 99, (20, 0, 20)),
    ],
)
def test_how_many_inputs_score_what(
    tiny: Prepared, count: int, numbers: int, asked: int | None, expected: tuple[int, int, int]
) -> None:
    split = split_scoring(torch.arange(float(count)), network_of(tiny, numbers), asked)
    assert (len(split.trials), len(split.best), len(split.finalists)) == expected


def test_samples_are_spread_and_none_is_left_without_others() -> None:
    chosen, others = split_samples(torch.arange(9.0), 3)
    assert chosen.tolist() == [0, 4, 8] and others.tolist() == [1, 2, 3, 5, 6, 7]
    chosen, others = split_samples(torch.arange(3.0), 5)
    assert chosen.tolist() == others.tolist() == [0, 1, 2]
