"""EvoPressSampler: the evolutionary search of EvoPress (Sieberling et al., ICML 2025), on our latencies and evaluator.

The best Plan so far has offspring, each by few level switches: one unit becomes slower by a level, others faster by a level
until the Plan is within the budget (smaller, where it is larger than it may be). The best of all is the next parent. The paper's
levels all take the same time, so that one faster unit makes up for a slower one; ours do not. It scores most offspring on few
samples; here every evaluation is whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..spaces.groups import Group
from ..spaces.layers import Layer
from ..spaces.option import Option
from ..spaces.plan import Plan
from .problem import Objective, Problem
from .proposing import Finished, ProposingSampler

#: Offspring of one parent: the paper's fastest setting.
OFFSPRING = 16
#: Most switches of an offspring: the least of two numbers drawn from 1 to it.
SWITCHES = 3
#: Offspring that were evaluated before that are thrown away before one is accepted.
ATTEMPTS = 50


class EvoPressSampler(ProposingSampler):
    """(1+lambda) evolution with level switches, from the best of the baselines within the budget.

    Units are Groups, whose levels are shares of channels, and Layers, whose levels are the Options (at the Group's share) that no
    other one beats in both time and error, by time. With a largest size there are levels of size too.
    """

    def __init__(self, problem: Problem, budget_ms: float, seed: int) -> None:
        super().__init__(problem, seed)
        self._budget_ms = budget_ms
        space = problem.space
        self._units: list[Layer | Group] = [layer for layer in space.layers if len(space.options[layer.name]) > 1]
        self._units += space.groups
        self._levels: dict[tuple[object, ...], list[Option]] = {}
        self._limited: list[Objective] = ["latency"] if math.isfinite(budget_ms) else []
        if problem.max_bytes is not None:
            self._limited.append("size")

    def next_plan(self, history: Sequence[Finished], rng: np.random.Generator) -> tuple[Plan, str | None]:
        seen = {one.plan for one in history}
        parent = self._parent(history)
        child = self._offspring(parent, rng)
        for _ in range(ATTEMPTS):
            if child not in seen:
                break
            child = self._offspring(parent, rng)
        return child, None

    def _parent(self, history: Sequence[Finished]) -> Plan:
        """The best Plan within the budget of all whole generations."""
        begun = [one for one in history if one.baseline is not None]
        own = [one for one in history if one.baseline is None]
        whole = begun + own[: len(own) // OFFSPRING * OFFSPRING]
        fitting = [(one.loss, one.number, one.plan) for one in whole if self._problem.fits(one.plan, self._budget_ms)]
        return min(fitting, key=lambda one: one[:2])[2] if fitting else self._problem.refuge(self._budget_ms)

    def _offspring(self, parent: Plan, rng: np.random.Generator) -> Plan:
        plan = parent
        for _ in range(int(rng.integers(1, SWITCHES + 1, size=2).min())):
            plan = self._switched(plan, rng)
        return plan

    def _switched(self, plan: Plan, rng: np.random.Generator) -> Plan:
        """One unit a level slower, others faster until the budget is met; `plan` itself where that cannot be."""
        order = [self._units[int(index)] for index in rng.permutation(len(self._units))]
        of = self._limited[int(rng.integers(len(self._limited))) if len(self._limited) > 1 else 0]
        for raised in order:
            changed = self._step(plan, raised, 1, of)
            if self._cost(changed, of) > self._cost(plan, of):
                settled = self._settled(changed, [unit for unit in reversed(order) if unit is not raised])
                return settled if settled is not None else plan
        return plan

    def _settled(self, plan: Plan, units: Sequence[Layer | Group]) -> Plan | None:
        """`plan` with units made faster by a level, one after the other and round after round, until it meets the budget; smaller
        where it is too large.
        """
        while (excess := self._excess(plan)) > 0:
            before = plan
            for unit in units:
                cheaper = self._step(plan, unit, -1, self._exceeded(plan))
                if self._excess(cheaper) < excess:
                    plan, excess = cheaper, self._excess(cheaper)
                if excess <= 0:
                    break
            if plan == before:
                return None
        return plan

    def _cost(self, plan: Plan, of: Objective) -> float:
        """Milliseconds, or bytes."""
        return self._problem.latency.ms(plan) if of == "latency" else self._problem.sizes.bytes(plan)

    def _over(self, plan: Plan, of: Objective) -> float:
        """The share by which a Plan is over a budget."""
        limit = self._budget_ms if of == "latency" else self._problem.max_bytes
        assert limit is not None, "there is a limit for what is limited"
        return max(0.0, self._cost(plan, of) - limit) / limit

    def _excess(self, plan: Plan) -> float:
        return sum(self._over(plan, of) for of in self._limited)

    def _exceeded(self, plan: Plan) -> Objective:
        return max(self._limited, key=lambda of: self._over(plan, of))

    def _step(self, plan: Plan, unit: Layer | Group, direction: int, of: Objective = "latency") -> Plan:
        """`plan` with one unit a level slower, or larger (1), or faster, or smaller (-1); itself at the last level."""
        if isinstance(unit, Group):
            return self._with_share(plan, unit, direction)
        own, kept = plan[unit.name], self._problem.latency.kept(plan)
        levels = self._layer_levels(unit.name, own.sparsity if own.structure == "channel" else 0.0, kept, of)
        costs = self._costs(unit.name, kept, of)
        others = [option for option in levels if direction * (costs(option) - costs(own)) > 0]
        if not others:
            return plan
        return self._problem.space.changed(plan, unit.name, others[0] if direction > 0 else others[-1])

    def _costs(self, layer: str, kept: Mapping[str, int], of: Objective) -> Callable[[Option], float]:
        """Microseconds, or bytes, of a Layer's Options when Groups keep only so many channels."""
        if of == "latency":
            return self._problem.latency.layers_microseconds(kept)[layer].__getitem__
        return lambda option: self._problem.sizes.layer(layer, option, kept)

    def _with_share(self, plan: Plan, group: Group, direction: int) -> Plan:
        """A Group with a level more (1) or fewer (-1) of its channels."""
        leader, space = group.producers[0].op, self._problem.space
        own = plan[leader]
        share = own.sparsity if own.structure == "channel" else 0.0
        offered = {option.sparsity for option in space.options[leader] if option.structure == "channel"}
        others = [other for other in sorted({0.0} | offered) if direction * (share - other) > 0]
        if not others:
            return plan
        new = others[-1] if direction > 0 else others[0]
        option = space.channel_option(leader, new, own.bits) if new else Option("dense", 0.0, own.bits)
        return space.changed(plan, leader, option)

    def _layer_levels(self, layer: str, share: float, kept: Mapping[str, int], of: Objective) -> list[Option]:
        """Levels of a Layer whose Group loses a share of its channels, fastest, or smallest, first."""
        key = (layer, share, of, *self._problem.latency.deciding(layer, kept))
        if key not in self._levels:
            errors, costs = self._problem.errors.errors[layer], self._costs(layer, kept, of)
            options = self._problem.space.options[layer]
            there = [option for option in options if share == (option.sparsity if option.structure == "channel" else 0.0)]
            levels: list[Option] = []
            for option in sorted(there, key=lambda option: (costs(option), errors[option])):
                if not levels or errors[option] < errors[levels[-1]]:
                    levels.append(option)
            self._levels[key] = levels
        return self._levels[key]
