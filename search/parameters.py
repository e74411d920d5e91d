"""Parameters: a Plan as the parameters of an Optuna trial, three for each Layer: structure, sparsity, bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from ..spaces.option import Option
from ..spaces.plan import Plan
from ..spaces.space import Space


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The distribution of every parameter; a parameter with one value is none."""
    found: dict[str, BaseDistribution] = {}
    for layer in space.layers:
        options = space.options[layer.name]
        choices: dict[str, list[Any]] = {
            "structure": list(dict.fromkeys(option.structure for option in options)),
            "sparsity": sorted({option.sparsity for option in options if option.sparsity}),
            "bits": sorted({option.bits for option in options}, reverse=True),
        }
        for name, values in choices.items():
            if len(values) > 1:
                found[f"{layer.name}.{name}"] = CategoricalDistribution(values)
    return found


def to_parameters(space: Space, plan: Plan) -> dict[str, Any]:
    """The parameter values that stand for a Plan of this Space; sparsity only where something is removed."""
    known = distributions(space)
    values: dict[str, Any] = {}
    for layer, option in plan.items():
        values[f"{layer}.structure"] = option.structure
        if option.structure != "dense":
            values[f"{layer}.sparsity"] = option.sparsity
        values[f"{layer}.bits"] = option.bits
    return {name: value for name, value in values.items() if name in known}


def to_plan(space: Space, suggest: Callable[[str, CategoricalDistribution], Any]) -> Plan:
    """The Plan that parameter values stand for.

    A combination which a Layer does not offer means the nearest one of the same structure: by bits, then by sparsity.

    Args:
        suggest: gives a parameter's value; asked in a fixed order, for sparsity only where something is removed.
    """
    known = distributions(space)

    def value(name: str, otherwise: Any) -> Any:
        distribution = known.get(name)
        return suggest(name, distribution) if isinstance(distribution, CategoricalDistribution) else otherwise

    choices: dict[str, Option] = {}
    for layer in space.layers:
        options = space.options[layer.name]
        structure = value(f"{layer.name}.structure", options[0].structure)
        of_structure = [option for option in options if option.structure == structure]
        sparsity = 0.0 if structure == "dense" else value(f"{layer.name}.sparsity", of_structure[0].sparsity)
        bits = value(f"{layer.name}.bits", options[0].bits)
        choices[layer.name] = min(
            of_structure,
            key=lambda option: (abs(math.log2(option.bits / bits)), abs(option.sparsity - sparsity)),
        )
    return space.consistent(choices)


def plan_of(space: Space, parameters: Mapping[str, Any]) -> Plan | None:
    """The Plan of a finished trial's parameters, or None for a trial that is not of this Space (a foreign one)."""
    known = distributions(space)
    for name, value in parameters.items():
        distribution = known.get(name)
        if not isinstance(distribution, CategoricalDistribution) or value not in distribution.choices:
            return None
    try:
        return to_plan(space, lambda name, _: parameters[name])
    except KeyError:
        return None
