"""Parameters: a Plan as the parameters of an Optuna trial, three for each Layer: structure, sparsity, bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution

from ..spaces.option import Option
from ..spaces.plan import Plan
from ..spaces.space import Space


class Parameters:
    """The parameters of trials about one Space.

    Attributes:
        distributions: of every parameter by its name, `LAYER.structure`, `LAYER.sparsity` or `LAYER.bits`; a parameter with one
            value is none.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.distributions: dict[str, CategoricalDistribution] = {}
        for layer in space.layers:
            options = space.options[layer.name]
            choices: dict[str, list[Any]] = {
                "structure": list(dict.fromkeys(option.structure for option in options)),
                "sparsity": sorted({option.sparsity for option in options if option.sparsity}),
                "bits": sorted({option.bits for option in options}, reverse=True),
            }
            for name, values in choices.items():
                if len(values) > 1:
                    self.distributions[f"{layer.name}.{name}"] = CategoricalDistribution(values)

    def of(self, plan: Plan) -> dict[str, Any]:
        """The values that stand for a Plan of the Space; sparsity only where something is removed."""
        values: dict[str, Any] = {}
        for layer, option in plan.items():
            values[f"{layer}.structure"] = option.structure
            if option.structure != "dense":
                values[f"{layer}.sparsity"] = option.sparsity
            values[f"{layer}.bits"] = option.bits
        return {name: value for name, value in values.items() if name in self.distributions}

    def plan(self, suggest: Callable[[str, CategoricalDistribution], Any]) -> Plan:
        """The Plan that values stand for.

        A combination which a Layer does not offer means the nearest one of the same structure: by bits, then by sparsity.

        Args:
            suggest: gives a parameter's value; asked in a fixed order, for sparsity only where something is removed.
        """

        def value(name: str, otherwise: Any) -> Any:
            distribution = self.distributions.get(name)
            return otherwise if distribution is None else suggest(name, distribution)

        choices: dict[str, Option] = {}
        for layer in self.space.layers:
            options = self.space.options[layer.name]
            structure = value(f"{layer.name}.structure", options[0].structure)
            of_structure = [option for option in options if option.structure == structure]
            sparsity = 0.0 if structure == "dense" else value(f"{layer.name}.sparsity", of_structure[0].sparsity)
            bits = value(f"{layer.name}.bits", options[0].bits)
            choices[layer.name] = min(
                of_structure,
                key=lambda option: (abs(math.log2(option.bits / bits)), abs(option.sparsity - sparsity)),
            )
        return self.space.consistent(choices)

    def plan_of(self, values: Mapping[str, Any]) -> Plan | None:
        """The Plan of a finished trial's values, or None for a trial that is not of this Space (a foreign one)."""
        for name, value in values.items():
            if name not in self.distributions or value not in self.distributions[name].choices:
                return None
        try:
            return self.plan(lambda name, _: values[name])
        except KeyError:
            return None
