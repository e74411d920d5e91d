from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from autocompress.api import Prepared
from autocompress.compressors.candidate import Value
from autocompress.compressors.recovery import StatisticsCorrection, dense_moments
from autocompress.evaluators.error_table import base
from autocompress.evaluators.evaluator import PlanEvaluator
from autocompress.evaluators.loss import divergence, memory_format
from autocompress.evaluators.prefix_cache import PrefixCache
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan


@pytest.fixture(scope="module")
def evaluator(tiny: Prepared) -> PlanEvaluator:
    """One of its own: nothing is remembered."""
    made = tiny.evaluator
    return PlanEvaluator(made.network, made.groups, made.database, made.quantizers, made.samples, made.correcting)


def without_cache(evaluator: PlanEvaluator, plan: Plan) -> float:
    """The loss of a Plan that removes no channels, in one go."""
    inputs, count = torch.cat([evaluator.correcting, evaluator.samples]), len(evaluator.correcting)
    inputs = inputs.contiguous(memory_format=memory_format(inputs))
    with torch.inference_mode():
        correction = StatisticsCorrection(dense_moments(evaluator.dense, inputs[:count]), count)
        return divergence(evaluator.dense_outputs, evaluator.candidate(plan).run(inputs, correction)[count:])


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

    def watched(cache: PrefixCache, plan: Plan) -> tuple[int, dict[str, Value]]:
        found = longest(cache, plan)
        starts.append(found[0])
        return found

    monkeypatch.setattr(PrefixCache, "longest", watched)
    cached = [evaluator.loss(plan) for plan in plans]
    monkeypatch.setattr(PrefixCache, "longest", lambda cache, plan: (-1, {}))
    fresh = PlanEvaluator(
        evaluator.network, evaluator.groups, evaluator.database, evaluator.quantizers, evaluator.samples, evaluator.correcting
    )
    assert cached == [fresh.loss(plan) for plan in plans]
    assert sum(start >= 0 for start in starts) > 10, "the cache was hardly used"
    assert len(set(cached)) > 20


def test_the_loss_is_that_of_the_whole_network(tiny: Prepared, evaluator: PlanEvaluator) -> None:
    dense = base(tiny.profile.space)
    int8 = tiny.profile.space.uniform(Option("block4x4", 0.5, 8))
    for plan in (dense, int8):
        assert evaluator.loss(plan) == without_cache(evaluator, plan)


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
    cache.store(position, plans[0], values)
    cache.store(position, plans[1], values)
    assert cache.longest(plans[0])[0] == position  # now used more recently than the second
    cache.store(position, plans[2], values)
    assert [cache.longest(plan)[0] for plan in plans[:3]] == [position, -1, position]
    too_small = PrefixCache(network, max_bytes=size - 1)
    too_small.store(position, plans[0], values)
    assert too_small.longest(plans[0]) == (-1, {})


def test_nothing_is_kept_away_from_a_cut(tiny: Prepared) -> None:
    cache = PrefixCache(tiny.profile.network, 10**9)
    elsewhere = next(position for position in range(len(tiny.profile.network.ops)) if position not in cache.cuts)
    cache.store(elsewhere, base(tiny.profile.space), {})
    assert cache.longest(base(tiny.profile.space)) == (-1, {})


def test_a_plan_is_computed_once_and_remembered(
    evaluator: PlanEvaluator, tiny: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, known = tiny.profile.space.uniform(Option("block4x4", 0.5, 8)), base(tiny.profile.space)
    expected = evaluator.loss(plan)
    fresh = PlanEvaluator(
        evaluator.network, evaluator.groups, evaluator.database, evaluator.quantizers, evaluator.samples, evaluator.correcting
    )
    fresh.remember({known: 0.25})
    assert fresh.loss(plan) == expected
    monkeypatch.setattr(fresh, "_outputs", lambda plan: pytest.fail("computed again"))
    assert (fresh.loss(plan), fresh.loss(known)) == (expected, 0.25)
