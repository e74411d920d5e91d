from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autocompress.api import Prepared
from autocompress.evaluators.evaluator import PlanEvaluator
from autocompress.evaluators.loss import divergence, outputs, typical_divergence
from autocompress.spaces.option import Option


@given(st.integers(0, 1000), st.sampled_from([(7, 5), (6, 3, 2), (9, 1)]), st.floats(0.01, 3.0))
def test_typical_divergence_is_never_above_the_mean(seed: int, shape: tuple[int, ...], noise: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(shape, generator=generator)
    compressed = dense + noise * torch.randn(shape, generator=generator)
    # The squared error is a share of the variance of all samples, each sample's own one of that: the mean is their sum.
    share = 1 if len(shape) == 2 and shape[1] > 1 else shape[0]
    assert 0 < typical_divergence(dense, compressed) * share <= divergence(dense, compressed) * (1 + 1e-4) + 1e-6


def test_typical_divergence_of_equal_samples_is_their_divergence() -> None:
    dense, compressed = torch.tensor([[1.0, 2.0, 0.5]]).repeat(4, 1), torch.tensor([[0.5, 2.5, 0.0]]).repeat(4, 1)
    assert typical_divergence(dense, compressed) == pytest.approx(divergence(dense, compressed), rel=1e-4)


def test_one_hard_sample_does_not_decide_the_typical_divergence() -> None:
    dense = torch.eye(5) * 4
    good, with_one_hard = dense + 0.01 * torch.arange(5), dense + 0.01 * torch.arange(5)
    with_one_hard[0] = torch.tensor([0.0, 0.0, 0.0, 0.0, 9.0])
    assert divergence(dense, with_one_hard) > 100 * divergence(dense, good)
    assert typical_divergence(dense, with_one_hard) < 20 * typical_divergence(dense, good)


def test_evaluator_with_more_inputs_is_one_on_all_of_them(tiny: Prepared) -> None:
    plan = tiny.profile.space.uniform(Option("block4x4", 0.5, 8))
    evaluator = tiny.evaluator
    both = torch.cat([evaluator.samples, tiny.held_out])
    alone = PlanEvaluator(evaluator.network, evaluator.groups, evaluator.database, evaluator.quantizers, both)
    more = evaluator.with_more(tiny.held_out)
    assert more.loss(plan) == pytest.approx(alone.loss(plan), rel=1e-3)
    expected = typical_divergence(more.dense_outputs, outputs(more.recovered(plan).run, both))
    assert more.typical_loss(plan) == pytest.approx(expected, rel=2e-2)
    assert evaluator.loss(plan) == pytest.approx(
        PlanEvaluator(evaluator.network, evaluator.groups, evaluator.database, evaluator.quantizers, evaluator.samples).loss(
            plan
        ),
        rel=1e-5,
    )
