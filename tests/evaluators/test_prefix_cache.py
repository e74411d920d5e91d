from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from autocompress.api import Prepared
from autocompress.compressors.candidate import Value
from autocompress.compressors.recovery import StatisticsCorrection, dense_moments, fold
from autocompress.evaluators.error_table import base
from autocompress.evaluators.evaluator import PlanEvaluator
from autocompress.evaluators.loss import divergence, memory_format, outputs
from autocompress.evaluators.prefix_cache import Cut, PrefixCache
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan


@pytest.fixture(scope="module")
def evaluator(tiny: Prepared) -> PlanEvaluator:
    """One of its own: nothing is remembered."""
    made = tiny.evaluator
    return PlanEvaluator(made.network, made.groups, made.database, made.quantizers, made.samples, made.correcting)


def without_cache(evaluator: PlanEvaluator, plan: Plan) -> float:
    """The loss of a Plan that removes no channels, in one go."""
    correcting = evaluator.correcting.contiguous(memory_format=memory_format(evaluator.correcting))
    candidate = evaluator.candidate(plan)
    with torch.inference_mode():
        correction = StatisticsCorrection(dense_moments(evaluator.dense, correcting))
        candidate.run(correcting, correction)
        return divergence(evaluator.dense_outputs, outputs(fold(candidate, correction).run, evaluator.samples))


def neighbours(tiny: Prepared, random_plan: Callable[[int], Plan]) -> list[Plan]:
    """Random Plans, each with variants that agree with it up to ever later Layers."""
    space, plans = tiny.profile.space, []
    for seed in range(4):
        plan = random_plan(seed)
        plans.append(plan)
        for layer in reversed(space.layers):
            options = space.options[layer.name]
            choice = options[(options.index(plan[layer.name]) + 1) % len(options)]
            plan = space.consistent({**plan, layer.name: choice})
            plans.append(plan)
    return plans


def test_losses_with_and_without_the_cache_are_identical(
    tiny: Prepared, evaluator: PlanEvaluator, random_plan: Callable[[int], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = neighbours(tiny, random_plan)
    starts = []
    longest = PrefixCache.longest

    def watched(cache: PrefixCache, plan: Plan, part: int) -> Cut | None:
        found = longest(cache, plan, part)
        starts.append(found is not None)
        return found

    monkeypatch.setattr(PrefixCache, "longest", watched)
    cached = [evaluator.loss(plan) for plan in plans]
    monkeypatch.setattr(PrefixCache, "longest", lambda cache, plan, part: None)
    fresh = PlanEvaluator(
        evaluator.network, evaluator.groups, evaluator.database, evaluator.quantizers, evaluator.samples, evaluator.correcting
    )
    assert cached == [fresh.loss(plan) for plan in plans]
    assert sum(starts) > 30, "the cache was hardly used"
    assert len(set(cached)) > 20


def test_the_loss_is_that_of_the_whole_network(tiny: Prepared, evaluator: PlanEvaluator) -> None:
    dense = base(tiny.profile.space)
    int8 = tiny.profile.space.uniform(Option("block4x4", 0.5, 8))
    for plan in (dense, int8):
        assert evaluator.loss(plan) == pytest.approx(without_cache(evaluator, plan), rel=1e-5)


def test_the_oldest_prefixes_make_room(tiny: Prepared) -> None:
    network, space = tiny.profile.network, tiny.profile.space
    whole = PrefixCache(network, 10**9)
    assert whole.cuts
    position = min(whole.cuts)
    values = {name: Value(torch.zeros(2, *network.shapes[name])) for name in whole.cuts[position]}
    size = sum(value.data.numel() * 4 for value in values.values())
    first = space.layers[0].name
    plans = [space.consistent({**base(space), first: option}) for option in space.options[first] if option.structure == "dense"]
    assert len(plans) >= 3
    cache = PrefixCache(network, max_bytes=2 * size)
    gains = {first: torch.ones(1)}
    cut = Cut(position, values, gains)
    cache.store(cut, plans[0], 1)
    cache.store(cut, plans[1], 1)
    gains["later"] = torch.ones(1)
    assert cache.longest(plans[0], 1) == Cut(position, values, {first: gains[first]})  # now used more recently than the second
    assert cache.longest(plans[0], 0) is None, "another part of the inputs"
    cache.store(cut, plans[2], 1)
    assert [cache.longest(plan, 1) is not None for plan in plans[:3]] == [True, False, True]
    too_small = PrefixCache(network, max_bytes=size - 1)
    too_small.store(cut, plans[0], 0)
    assert too_small.longest(plans[0], 0) is None


def test_nothing_is_kept_away_from_a_cut(tiny: Prepared) -> None:
    cache = PrefixCache(tiny.profile.network, 10**9)
    elsewhere = next(position for position in range(len(tiny.profile.network.ops)) if position not in cache.cuts)
    cache.store(Cut(elsewhere, {}), base(tiny.profile.space), 0)
    assert cache.longest(base(tiny.profile.space), 0) is None
