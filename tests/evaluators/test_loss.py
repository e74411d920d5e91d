from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autocompress.api import Prepared
from autocompress.evaluators.evaluator import PlanEvaluator
from autocompress.evaluators.loss import divergence
from autocompress.spaces.option import Option


@given(st.integers(0, 1000), st.floats(0.01, 3.0), st.floats(-50, 50))
def test_soft_divergence_is_zero_for_equal_distributions_alone(seed: int, noise: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn((7, 5), generator=generator)
    assert divergence(dense, dense + shift) == pytest.approx(0, abs=1e-4)  # a constant changes no probability
    assert divergence(dense, dense + noise * torch.randn((7, 5), generator=generator)) > 0


def test_soft_divergence_is_the_divergence_at_temperature_four_times_sixteen() -> None:
    dense, compressed = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    likely = math.e / (math.e + 1)  # of the scores 1 and 0
    assert divergence(dense, compressed) == pytest.approx(16 * (2 * likely - 1))


def test_outputs_that_are_no_class_scores_have_a_squared_error() -> None:
    dense = torch.tensor([[[1.0], [2.0]], [[3.0], [6.0]]])
    assert divergence(dense, dense + 1) == pytest.approx(4 / 10)


def test_what_scores_a_plan_corrects_nothing(tiny: Prepared) -> None:
    plan = tiny.profile.space.uniform(Option("block4x4", 0.5, 8))
    evaluator = tiny.evaluator
    fixed = (evaluator.network, evaluator.groups, evaluator.database, evaluator.quantizers)
    count = len(evaluator.samples) // 2
    first, second = (
        PlanEvaluator(*fixed, samples, evaluator.correcting) for samples in (evaluator.samples[:count], evaluator.samples[count:])
    )
    mean = (count * first.loss(plan) + (len(evaluator.samples) - count) * second.loss(plan)) / len(evaluator.samples)
    assert evaluator.loss(plan) == pytest.approx(mean, rel=1e-4)
