from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autocompress.api import Prepared
from autocompress.search.parameters import Parameters
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.space import Space

SEEDS = st.integers(0, 10**9)
often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def space(tiny: Prepared) -> Space:
    return tiny.profile.space


def test_every_layer_with_a_choice_has_parameters(space: Space) -> None:
    known = Parameters(space).distributions
    assert set(known) <= {f"{layer.name}.{kind}" for layer in space.layers for kind in ("structure", "sparsity", "bits")}
    for layer in space.layers:
        for kind in ("structure", "sparsity", "bits"):
            offered = {getattr(option, kind) for option in space.options[layer.name]} - {0.0}
            distribution = known.get(f"{layer.name}.{kind}")
            if len(offered) < 2:
                assert distribution is None
            else:
                assert isinstance(distribution, optuna.distributions.CategoricalDistribution)
                assert set(distribution.choices) == offered


@given(seed=SEEDS)
@often
def test_round_trip_of_consistent_plans(space: Space, random_plan: Callable[[int], Plan], seed: int) -> None:
    plan = random_plan(seed)
    parameters = Parameters(space).of(plan)
    assert Parameters(space).plan(lambda name, _: parameters[name]) == plan
    assert Parameters(space).plan_of(parameters) == plan
    for layer, option in plan.items():
        assert (f"{layer}.sparsity" in parameters) <= (option.structure != "dense")


@given(seed=SEEDS)
@often
def test_any_values_mean_an_offered_plan(space: Space, seed: int) -> None:
    chooser = random.Random(seed)
    asked: dict[str, Any] = {}

    def suggest(name: str, distribution: optuna.distributions.CategoricalDistribution) -> Any:
        asked[name] = chooser.choice(distribution.choices)
        return asked[name]

    plan = Parameters(space).plan(suggest)
    assert list(plan) == [layer.name for layer in space.layers]
    assert space.consistent(dict(plan)) == plan
    for layer, option in plan.items():
        assert option in space.options[layer]
        group = space.group_of(layer)
        structure = asked.get(f"{layer}.structure", option.structure)
        if group is None:
            assert option.structure == structure
    # Writing the values back stands for the same Plan.
    assert Parameters(space).plan_of(Parameters(space).of(plan)) == plan


def test_a_combination_that_is_not_offered_becomes_the_nearest(space: Space) -> None:
    for layer in space.layers:
        if space.group_of(layer.name) is not None:
            continue
        options = space.options[layer.name]
        offered = set(options)
        for structure in {option.structure for option in options} - {"dense"}:
            same = [option for option in options if option.structure == structure]
            for bits in {option.bits for option in options}:
                for sparsity in {option.sparsity for option in options} - {0.0}:
                    if Option(structure, sparsity, bits) in offered:
                        continue
                    values = {
                        f"{layer.name}.structure": structure,
                        f"{layer.name}.sparsity": sparsity,
                        f"{layer.name}.bits": bits,
                    }
                    plan = Parameters(space).plan(lambda name, d, values=values: values.get(name, d.choices[0]))
                    found = plan[layer.name]
                    assert found in same
                    nearest = min(abs(math.log2(option.bits / bits)) for option in same)
                    assert abs(math.log2(found.bits / bits)) == nearest
                    assert abs(found.sparsity - sparsity) == min(abs(o.sparsity - sparsity) for o in same if o.bits == found.bits)
                    return
    pytest.fail("the tiny space offers every combination: nothing was tested")


@pytest.mark.parametrize(
    "change",
    [
        lambda parameters: {},
        lambda parameters: {**parameters, "learning_rate": 0.1},
        lambda parameters: dict(list(parameters.items())[1:]),
        lambda parameters: {**parameters, next(iter(parameters)): "block8x8"},
    ],
    ids=["empty", "another program's", "one missing", "unknown value"],
)
def test_foreign_trials_are_no_plans(
    space: Space, random_plan: Callable[[int], Plan], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    parameters = Parameters(space).of(random_plan(0))
    assert Parameters(space).plan_of(parameters) is not None
    assert Parameters(space).plan_of(change(parameters)) is None
