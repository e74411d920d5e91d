from __future__ import annotations

import pytest
import torch

from autocompress.compressors.distillation import TEMPERATURE, attention_loss, feature_loss, response_loss
from autocompress.evaluators.loss import divergence


def test_the_loss_of_plans_is_the_response_loss_at_its_temperature() -> None:
    dense, other = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    assert divergence(dense, other) == float(response_loss(dense, other, TEMPERATURE))
    assert divergence(dense, other) != pytest.approx(float(response_loss(dense, other, 1.0)), rel=1e-2)


def test_a_high_temperature_compares_logits() -> None:
    """Hinton et al., section 2.1: in the limit, half of the mean squared difference of centred logits."""
    dense, other = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centred = (dense - dense.mean(1, keepdim=True)) - (other - other.mean(1, keepdim=True))
    assert float(response_loss(dense, other, 1e3)) == pytest.approx(float(centred.square().mean(1).mean() / 2), rel=1e-2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_feature_loss_is_a_share_of_the_variance(scale: float) -> None:
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * scale + 5 * scale
    assert float(feature_loss(x, x)) == 0.0
    assert float(feature_loss(x, x.mean(0, keepdim=True).expand_as(x))) == pytest.approx(1.0, rel=1e-4)


def test_attention_compares_where_not_how_much() -> None:
    x = torch.randn(4, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    assert float(attention_loss(x, -3 * x)) == pytest.approx(0.0, abs=1e-10)
    assert float(attention_loss(x, torch.cat([x, x], 1))) == pytest.approx(0.0, abs=1e-10)
    assert float(attention_loss(x, x.flip(2))) > 0.01
