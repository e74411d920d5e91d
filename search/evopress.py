"""EvoPressSampler: the evolutionary search of EvoPress (Sieberling et al., ICML 2025), on our latencies and evaluator.

The best Plan so far has offspring, each by few level switches: one Layer becomes slower by a level, another one faster until
the Plan is within the budget. The best of all is the next parent. The paper scores most offspring on few samples; here every
evaluation is a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..spaces.option import Option
from ..spaces.plan import Plan
from .problem import Problem
from .proposing import Finished, ProposingSampler

#: Offspring of one parent: the paper's fastest setting.
OFFSPRING = 16
#: Most switches of an offspring: the least of two numbers drawn from 1 to it.
SWITCHES = 3
#: Offspring that were evaluated before that are thrown away before one is accepted.
ATTEMPTS = 50


class EvoPressSampler(ProposingSampler):
    """(1+lambda) evolution with level switches, from the best of the baselines within the budget.

    Levels of a Layer are its Options that no other one beats in both time and error, by time.
    """

    def __init__(self, problem: Problem, budget_ms: float, seed: int) -> None:
        super().__init__(problem, budget_ms, seed)
        self._names = [layer.name for layer in problem.space.layers if len(problem.space.options[layer.name]) > 1]
        self._levels: dict[tuple[object, ...], list[Option]] = {}

    def propose(self, history: Sequence[Finished], rng: np.random.Generator) -> tuple[Plan, str | None]:
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
        fitting = [(one.loss, one.number, one.plan) for one in whole if self._problem.latency.ms(one.plan) <= self._budget_ms]
        return min(fitting, key=lambda one: one[:2])[2] if fitting else self._problem.fastest().plan

    def _offspring(self, parent: Plan, rng: np.random.Generator) -> Plan:
        plan = parent
        for _ in range(int(rng.integers(1, SWITCHES + 1, size=2).min())):
            plan = self._switched(plan, rng)
        return plan

    def _switched(self, plan: Plan, rng: np.random.Generator) -> Plan:
        """One Layer a level slower, others, one after the other, faster until the budget is met; `plan` where none can."""
        order = [str(name) for name in rng.permutation(self._names)]
        raised = next((name for name in order if self._step(plan, name, 1) != plan), None)
        if raised is None:
            return plan
        changed = self._step(plan, raised, 1)
        for name in order[::-1]:
            while name != raised and self._problem.latency.ms(changed) > self._budget_ms:
                faster = self._step(changed, name, -1)
                if faster == changed:
                    break
                changed = faster
        return changed if self._problem.latency.ms(changed) <= self._budget_ms else plan

    def _step(self, plan: Plan, layer: str, direction: int) -> Plan:
        """`plan` with one Layer a level slower (1) or faster (-1)."""
        kept = self._problem.latency.kept(plan)
        times = self._problem.latency.layers_microseconds(kept)[layer]
        levels = self._layer_levels(layer, kept)
        own = times[plan[layer]]
        slower = [option for option in levels if times[option] > own]
        faster = [option for option in levels if times[option] < own]
        if direction > 0:
            return self._problem.space.changed(plan, layer, slower[0]) if slower else plan
        return self._problem.space.changed(plan, layer, faster[-1]) if faster else plan

    def _layer_levels(self, layer: str, kept: Mapping[str, int]) -> list[Option]:
        key = (layer, *self._problem.latency.deciding(layer, kept))
        if key not in self._levels:
            errors, times = self._problem.errors.errors[layer], self._problem.latency.layers_microseconds(kept)[layer]
            levels: list[Option] = []
            for option in sorted(self._problem.space.options[layer], key=lambda option: (times[option], errors[option])):
                if not levels or errors[option] < errors[levels[-1]]:
                    levels.append(option)
            self._levels[key] = levels
        return self._levels[key]
