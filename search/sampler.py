"""PlanSampler: proposes whole Plans within the budget, as an Optuna sampler.

First it solves the knapsack under random coefficients on the error table, shared by neighbouring Layers (SPDY's idea: every
point of that space is feasible); then it improves the best Plan by swaps that keep the latency (EvoPress, ICML 2025). All
along, the error table's rows are refitted to the losses observed. A proposal depends on the seed and on the finished
trials alone, so a study that was killed goes on exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from ..spaces.option import Option
from ..spaces.plan import Plan
from .parameters import Parameters
from .problem import Problem

#: Trials that explore coefficients before swaps begin.
EXPLORATION = 40
#: Share of later trials that still explore.
LATER_EXPLORATION = 0.25
#: Share of trials at a smaller budget, and the smallest one as a share of the budget.
BELOW_BUDGET, SMALLEST_BUDGET = 0.1, 0.6
#: Neighbouring Layers of one kind that share a coefficient.
SHARING = 4
#: Spread of the logarithm of the shared coefficients, and of each Layer's own on top.
SHARED_SPREAD, OWN_SPREAD = 0.5, 0.3
#: Best Plans from which swaps start.
ELITE = 4
#: Weight of the prior (every coefficient is 1) against one observed loss, when coefficients are fitted.
PRIOR = 0.3
#: Attempts at a Plan that has not been evaluated before one is sought in small steps,
ATTEMPTS = 6
#: and the number of these before a repeated one is accepted.
STEPS = 200


class PlanSampler(BaseSampler):
    """Proposes Plans within the budget.

    Args:
        budget_ms: latency of every proposal; None spreads proposals over all latencies (multi-objective studies).
        seed: with it, proposals depend on the finished trials alone.
    """

    def __init__(self, problem: Problem, budget_ms: float | None, seed: int) -> None:
        self._problem = problem
        self._budget_ms = budget_ms
        self._seed = seed
        self._parameters = Parameters(problem.space)
        self._independent = RandomSampler(seed)
        self._plans: dict[int, Plan | None] = {}
        self._latencies: dict[Plan, float] = {}

    def reseed_rng(self) -> None:
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._parameters.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        history = self._history(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        rng = np.random.default_rng([self._seed, len(history)])
        return self._parameters.of(self.propose(history, rng))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _history(self, trials: Sequence[FrozenTrial]) -> list[tuple[Plan, float]]:
        """Plans and losses of the finished trials that are of this Space."""
        found = []
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.number not in self._plans:
                self._plans[trial.number] = self._parameters.plan_of(trial.params)
            plan = self._plans[trial.number]
            if plan is not None and math.isfinite(trial.values[0]):
                found.append((plan, trial.values[0]))
        return found

    def propose(self, history: Sequence[tuple[Plan, float]], rng: np.random.Generator) -> Plan:
        """The next Plan to evaluate.

        Args:
            history: Plans and their losses, oldest first.
        """
        seen = {plan for plan, _ in history}
        coefficients = fit_coefficients(self._problem, history)
        budget = self._some_budget(rng)
        explore = len(history) < EXPLORATION or rng.random() < LATER_EXPLORATION
        plan: Plan | None = None
        for attempt in range(ATTEMPTS):
            # Later attempts reach further, so that something new is found.
            reach = 1.5**attempt
            if explore or self._budget_ms is None:
                plan = self._explored(coefficients, budget, reach, rng) or plan
            else:
                plan = self._swapped(history, coefficients, budget, round(reach), rng) or plan
                explore = attempt >= ATTEMPTS // 2
            if plan is not None and plan not in seen:
                return plan
        return self._unseen(plan or self._problem.fastest().plan, seen, budget, rng)

    def _unseen(self, plan: Plan, seen: set[Plan], budget: float, rng: np.random.Generator) -> Plan:
        """A Plan within the budget that was not evaluated, few random changes away; `plan` itself where there is none."""
        names = [layer.name for layer in self._problem.space.layers if len(self._problem.space.options[layer.name]) > 1]
        found = plan
        for _ in range(STEPS if names else 0):
            changed = self._neighbour(found, names[int(rng.integers(len(names)))], rng)
            if self._problem.latency.ms(changed) <= budget:
                if changed not in seen:
                    return changed
                found = changed
        return plan

    def _some_budget(self, rng: np.random.Generator) -> float:
        """The budget, or now and then a smaller one, so that the front below it is known too; without a budget a latency between
        the fastest Plan's and the dense base Plan's.
        """
        fastest = self._problem.fastest().ms
        if self._budget_ms is None:
            return float(rng.uniform(fastest, self._problem.latency.ms(self._problem.base)))
        if rng.random() < BELOW_BUDGET:
            return float(rng.uniform(max(fastest, SMALLEST_BUDGET * self._budget_ms), self._budget_ms))
        return self._budget_ms

    def _explored(self, coefficients: Mapping[str, float], budget: float, reach: float, rng: np.random.Generator) -> Plan | None:
        layers = self._problem.space.layers
        shared: dict[tuple[bool, int], float] = {}
        drawn = {}
        for index, layer in enumerate(layers):
            key = (layer.depthwise, index // SHARING)
            if key not in shared:
                shared[key] = rng.normal(0.0, SHARED_SPREAD * reach)
            drawn[layer.name] = coefficients[layer.name] * math.exp(shared[key] + rng.normal(0.0, OWN_SPREAD * reach))
        proposal = self._problem.solve(budget, drawn)
        # The solver rounds times up: what that leaves is spent.
        return self._settled(proposal.plan, drawn, budget, rng) if proposal else None

    def _swapped(
        self,
        history: Sequence[tuple[Plan, float]],
        coefficients: Mapping[str, float],
        budget: float,
        changes: int,
        rng: np.random.Generator,
    ) -> Plan | None:
        """One of the best Plans with some Layers changed and the time that this frees, or needs, settled by others."""
        fitting = sorted((loss, index) for index, (plan, loss) in enumerate(history) if self._ms(plan) <= budget)[:ELITE]
        if not fitting:
            return None
        plan = history[fitting[int(rng.integers(len(fitting)))][1]][0]
        space = self._problem.space
        names = [layer.name for layer in space.layers if len(space.options[layer.name]) > 1]
        for name in rng.choice(names, size=min(len(names), changes + 1), replace=False):
            plan = self._neighbour(plan, str(name), rng)
        return self._settled(plan, coefficients, budget, rng)

    def _ms(self, plan: Plan) -> float:
        if plan not in self._latencies:
            self._latencies[plan] = self._problem.latency.ms(plan)
        return self._latencies[plan]

    def _neighbour(self, plan: Plan, layer: str, rng: np.random.Generator) -> Plan:
        """`plan` with one Layer moved to one of the Options that are nearest in time."""
        times = self._times(plan, layer)
        others = sorted((abs(times[option] - times[plan[layer]]), option) for option in times if option != plan[layer])[:6]
        option = others[int(rng.integers(len(others)))][1]
        return self._with(plan, layer, option)

    def _times(self, plan: Plan, layer: str) -> dict[Option, float]:
        kept = self._problem.latency.kept(plan)
        return {o: self._problem.latency.layer_microseconds(layer, o, kept) for o in self._problem.space.options[layer]}

    def _with(self, plan: Plan, layer: str, option: Option) -> Plan:
        """`plan` with one Option changed; a Group whose channel share this changes follows as a whole."""
        changes, space = {layer: option}, self._problem.space
        group = space.group_of(layer)
        if group is not None and "channel" in (option.structure, plan[layer].structure):
            for span in group.producers:
                if span.op != layer:
                    bits = plan[span.op].bits
                    removes = option.structure == "channel"
                    share = option.sparsity
                    changes[span.op] = space.channel_option(span.op, share, bits) if removes else Option("dense", 0.0, bits)
        return space.consistent({**plan, **changes})

    def _settled(self, plan: Plan, coefficients: Mapping[str, float], budget: float, rng: np.random.Generator) -> Plan | None:
        """`plan` brought within the budget, and up to it, by the steps that cost least expected loss per time.

        Options of other Layers are tried in random order, so that equal starts lead to different Plans.
        """
        errors = self._problem.errors.errors
        for _ in range(len(plan)):
            over = self._problem.latency.ms(plan) - budget
            best: tuple[float, str, Option] | None = None
            for name in rng.permutation([layer.name for layer in self._problem.space.layers])[:16]:
                times = self._times(plan, name)
                for option, time in times.items():
                    if "channel" in (option.structure, plan[name].structure):
                        continue
                    faster = times[plan[name]] - time
                    worse = coefficients[name] * (errors[name][option] - errors[name][plan[name]])
                    if (over > 0) != (faster > 0) or (over <= 0 and worse >= 0):
                        continue
                    if over <= 0 and -faster > -over * 1e3:
                        continue
                    value = worse / faster if over > 0 else worse
                    if best is None or value < best[0]:
                        best = value, name, option
            if best is None:
                break
            changed = plan.replace({best[1]: best[2]})
            if over <= 0 and self._problem.latency.ms(changed) > budget:
                break
            plan = changed
            if over <= 0:
                break
        return plan if self._problem.latency.ms(plan) <= budget else None


def fit_coefficients(problem: Problem, history: Sequence[tuple[Plan, float]]) -> dict[str, float]:
    """Factors on the rows of the error table, one per Layer, that explain the observed losses; 1 without observations.

    Ridge regression towards one common factor, on losses scaled by the expected one, so that good Plans count as much as bad.
    """
    layers = [layer.name for layer in problem.space.layers]
    if not history:
        return dict.fromkeys(layers, 1.0)
    errors = problem.errors.errors
    rows = np.array([[errors[name][plan[name]] for name in layers] for plan, _ in history])
    losses = np.array([loss for _, loss in history])
    expected = np.maximum(rows.sum(1), 1e-9)
    common = float(np.exp(np.median(np.log(np.maximum(losses, 1e-9) / expected))))
    scaled = rows / expected[:, None]
    target = np.clip(losses / expected / common, 0.1, 10.0) - 1.0
    gram: npt.NDArray[np.float64] = scaled.T @ scaled + PRIOR * np.eye(len(layers)) / len(layers)
    change = np.linalg.solve(gram, scaled.T @ target)
    return dict(zip(layers, np.clip(1.0 + change, 0.2, 5.0).tolist(), strict=True))
