from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from autocompress.api import Prepared
from autocompress.compressors.candidate import Candidate
from autocompress.evaluators.error_table import base
from autocompress.evaluators.evaluator import FIRST, PlanEvaluator, first_samples, spread
from autocompress.evaluators.score import BEATEN, HOPELESS, Score
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan


@pytest.fixture
def evaluator(tiny: Prepared) -> PlanEvaluator:
    """One of its own: nothing is remembered."""
    made = tiny.evaluator
    return PlanEvaluator(made.network, made.groups, made.database, made.quantizers, made.samples, made.correcting)


def test_a_plan_is_computed_once_and_remembered(
    evaluator: PlanEvaluator, tiny: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, known = tiny.profile.space.uniform(Option("block4x4", 0.5, 8)), base(tiny.profile.space)
    expected = evaluator.loss(plan)
    evaluator.remember({known: Score(0.25, (0.5, 0.25), 48, 48)})
    monkeypatch.setattr(evaluator, "candidate", lambda plan: pytest.fail("computed again"))
    assert (evaluator.loss(plan), evaluator.loss(known)) == (expected, 0.25)


@pytest.mark.parametrize("count", [1, 4, 10])
def test_the_first_samples_are_taken_evenly(count: int) -> None:
    samples = spread(torch.arange(float(count)))
    assert samples[: first_samples(count)].tolist() == list(range(0, count, FIRST))
    assert sorted(samples.tolist()) == list(range(count))


def test_a_hopeless_plan_is_stopped_after_the_first_samples(
    evaluator: PlanEvaluator, tiny: Prepared, random_plan: Callable[[int], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tiny.profile.space.uniform(Option("dense", 0.0, 8)), tiny.profile.space.uniform(Option("block4x4", 0.7, 8))
    computed: list[int] = []
    part = PlanEvaluator._part

    def watched(self: PlanEvaluator, candidate: Candidate, plan: Plan, number: int, *correction: Any) -> torch.Tensor:
        computed.append(number)
        return part(self, candidate, plan, number, *correction)

    monkeypatch.setattr(PlanEvaluator, "_part", watched)
    rival = evaluator.score(good)
    count = len(evaluator.samples)
    assert rival.whole and rival.inputs == count and computed == [0, 1, 2]
    stopped = evaluator.score(bad, rival)
    assert computed[3:] == [0, 1], "the other samples were computed"
    assert not stopped.whole and stopped.inputs == first_samples(count)
    assert stopped.partial[0] > HOPELESS * rival.partial[0]
    assert stopped.loss == pytest.approx(stopped.partial[0] * rival.loss / rival.partial[0])
    assert evaluator.score(bad, rival) is stopped and len(computed) == 5, "computed again"
    # Without a rival, or beside a worse one, all samples count.
    whole = evaluator.score(bad, replace(rival, partial=(stopped.partial[0], rival.loss)))
    assert whole.whole and whole.partial[0] == stopped.partial[0]
    assert evaluator.loss(bad) == whole.loss


def test_only_the_best_are_computed_on_more(tiny: Prepared, random_plan: Callable[[int], Plan], evaluator: PlanEvaluator) -> None:
    made = tiny.evaluator
    fixed = (made.network, made.groups, made.database, made.quantizers, made.samples, made.correcting)
    judged = PlanEvaluator(*fixed, more=tiny.held_out)
    ordinary, more = len(made.samples), len(tiny.held_out)
    plan, other = random_plan(1), random_plan(2)
    rival, whole = judged.score(plan), judged.score(other)
    assert rival.whole and rival.samples == ordinary + more and len(rival.partial) == 3
    # Ordinary samples alone are what the error table is made of, and what scores where there are no more.
    assert rival.partial[:2] == pytest.approx(evaluator.score(plan).partial, rel=1e-5)
    assert judged.ordinary_loss(plan) == pytest.approx(rival.partial[1], rel=1e-5)
    only_more = PlanEvaluator(*fixed[:4], tiny.held_out, made.correcting).loss(plan)
    assert rival.loss == pytest.approx((ordinary * rival.partial[1] + more * only_more) / (ordinary + more), rel=1e-4)
    # One that is a little worse than beaten on the ordinary samples stops there, a little better one goes on.
    for excess, stops in ((1.001, True), (0.999, False)):
        judged.forget_scores()
        beaten = replace(rival, partial=(whole.partial[0], whole.partial[1] / (BEATEN * excess), rival.loss))
        score = judged.score(other, beaten)
        assert score.whole is not stops and len(score.partial) == (2 if stops else 3)
        assert score.partial == pytest.approx(whole.partial[: len(score.partial)], rel=1e-5)
        if stops:
            assert score.inputs == ordinary
            assert score.loss == pytest.approx(BEATEN * excess * rival.loss, rel=1e-5)


def test_the_loss_is_that_of_all_samples(evaluator: PlanEvaluator, random_plan: Callable[[int], Plan]) -> None:
    plan = random_plan(1)
    score = evaluator.score(plan)
    count = len(evaluator.samples)
    first, other = slice(0, score_count := first_samples(count)), slice(score_count, None)
    assert 0 < score_count < count
    parts = [
        PlanEvaluator(
            evaluator.network,
            evaluator.groups,
            evaluator.database,
            evaluator.quantizers,
            evaluator.samples[part],
            evaluator.correcting,
        ).loss(plan)
        for part in (first, other)
    ]
    assert score.partial == pytest.approx((parts[0], score.loss), rel=1e-4)
    assert score.loss == pytest.approx((score_count * parts[0] + (count - score_count) * parts[1]) / count, rel=1e-4)


def test_nothing_is_projected_from_a_loss_of_zero() -> None:
    perfect = Score(0.0, (0.0, 0.0), 8, 8)
    assert perfect.beats([1e-9]) and perfect.projected([0.5]) == 0.5
    assert not Score(0.2, (0.1, 0.2), 8, 8).beats([float("nan")]), "a network that overflows is computed whole"
