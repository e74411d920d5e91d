"""PlanSampler: proposes whole Plans within the budget, as an Optuna sampler.

It solves the knapsack under coefficients on the rows of the error table (SPDY's idea: every point of that space is feasible), and
improves the best Plans by swaps that keep the latency (EvoPress, ICML 2025), of which it takes the most promising. The
coefficients are drawn from what the observed losses say of them (Thompson sampling; `beliefs.py`). A proposal depends on the
seed and on the finished trials alone, so a study that was killed goes on exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from ..spaces.option import Option
from ..spaces.plan import Plan
from .beliefs import believe
from .parameters import Parameters
from .problem import Problem

#: Trials that solve the knapsack before swaps begin, and share of later trials that still do.
SOLVED_FIRST, SOLVED_LATER = 12, 0.25
#: Share of trials at a smaller budget, and the smallest one as a share of the budget.
BELOW_BUDGET, SMALLEST_BUDGET = 0.1, 0.6
#: Best Plans from which swaps start, and swaps that are thought of before the most promising one is taken.
ELITE, THOUGHTS = 4, 12
#: Layers, drawn at random, among which a step towards the budget is sought.
TRIED = 16
#: Options faster and slower than a Layer's own that a swap may take.
NEAR = 2
#: Attempts at a Plan that has not been evaluated before one is sought in small steps,
ATTEMPTS = 6
#: and the number of these before a repeated one is accepted.
STEPS = 200


@dataclass(frozen=True)
class _Choices:
    """A Layer's Options when Groups keep so many channels: microseconds of each, and those that no other one beats, by time."""

    times: Mapping[Option, float]
    useful: tuple[Option, ...]


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
        self._known: dict[tuple[object, ...], _Choices] = {}

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
        beliefs = believe(self._problem, history)
        budget = self._some_budget(rng)
        solve = self._budget_ms is None or len(history) < SOLVED_FIRST or rng.random() < SOLVED_LATER
        plan: Plan | None = None
        for attempt in range(ATTEMPTS):
            # Later attempts reach further, so that something new is found.
            coefficients = beliefs.draw(rng, 1.5**attempt)
            if solve:
                plan = self._solved(coefficients, budget, rng) or plan
            else:
                plan = self._swapped(history, seen, coefficients, budget, rng) or plan
                solve = attempt >= ATTEMPTS // 2
            if plan is not None and plan not in seen:
                return plan
        return self._unseen(plan or self._problem.fastest().plan, seen, budget, rng)

    def _unseen(self, plan: Plan, seen: set[Plan], budget: float, rng: np.random.Generator) -> Plan:
        """A Plan within the budget that was not evaluated, few random changes away; `plan` itself where there is none."""
        names = [layer.name for layer in self._problem.space.layers if len(self._problem.space.options[layer.name]) > 1]
        found = plan
        for _ in range(STEPS if names else 0):
            name = names[int(rng.integers(len(names)))]
            options = self._problem.space.options[name]
            changed = self._with(found, name, options[int(rng.integers(len(options)))])
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

    def _solved(self, coefficients: Mapping[str, float], budget: float, rng: np.random.Generator) -> Plan | None:
        proposal = self._problem.solve(budget, coefficients)
        # The solver rounds times up: what that leaves is spent.
        return self._settled(proposal.plan, coefficients, budget, rng) if proposal else None

    def _swapped(
        self,
        history: Sequence[tuple[Plan, float]],
        seen: Collection[Plan],
        coefficients: Mapping[str, float],
        budget: float,
        rng: np.random.Generator,
    ) -> Plan | None:
        """One of the best Plans with a Layer or two changed and the time that this frees, or needs, settled by others: of some
        such Plans that were not evaluated the one that promises most.
        """
        fitting = sorted((loss, index) for index, (plan, loss) in enumerate(history) if self._ms(plan) <= budget)[:ELITE]
        names = [layer.name for layer in self._problem.space.layers if len(self._problem.space.options[layer.name]) > 1]
        best: tuple[float, Plan] | None = None
        for _ in range(THOUGHTS if fitting and names else 0):
            loss, index = fitting[int(rng.integers(len(fitting)))]
            parent = changed = history[index][0]
            for name in rng.choice(names, size=min(len(names), int(rng.integers(1, 3))), replace=False):
                changed = self._neighbour(changed, str(name), rng)
            settled = self._settled(changed, coefficients, budget, rng)
            if settled is None or settled in seen:
                continue
            before, after = (self._problem.expected(plan, coefficients) for plan in (parent, settled))
            # Losses of both in one unit: what is expected to change of what was observed.
            promise = loss * after / max(before, 1e-12)
            if best is None or promise < best[0]:
                best = promise, settled
        return best[1] if best else None

    def _ms(self, plan: Plan) -> float:
        if plan not in self._latencies:
            self._latencies[plan] = self._problem.latency.ms(plan)
        return self._latencies[plan]

    def _neighbour(self, plan: Plan, layer: str, rng: np.random.Generator) -> Plan:
        """`plan` with one Layer moved to an Option little faster or slower than its own."""
        choices = self._choices(layer, self._problem.latency.kept(plan))
        own = choices.times[plan[layer]]
        at = sum(choices.times[option] < own for option in choices.useful)
        near = [option for option in choices.useful[max(0, at - NEAR) : at + NEAR + 1] if option != plan[layer]]
        return self._with(plan, layer, near[int(rng.integers(len(near)))]) if near else plan

    def _choices(self, layer: str, kept: Mapping[str, int]) -> _Choices:
        key = (layer, *self._problem.latency.deciding(layer, kept))
        if key not in self._known:
            errors = self._problem.errors.errors[layer]
            options = self._problem.space.options[layer]
            times = {option: self._problem.latency.layer_microseconds(layer, option, kept) for option in options}
            useful: list[Option] = []
            for option in sorted(times, key=lambda option: (times[option], errors[option])):
                if not useful or errors[option] < errors[useful[-1]]:
                    useful.append(option)
            self._known[key] = _Choices(times, tuple(useful))
        return self._known[key]

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
        errors, latency = self._problem.errors.errors, self._problem.latency
        names = [layer.name for layer in self._problem.space.layers]
        kept = latency.kept(plan)  # steps leave the channels alone
        for _ in range(len(plan)):
            over = latency.ms(plan) - budget
            best: tuple[float, str, Option] | None = None
            for position in rng.permutation(len(names))[:TRIED]:
                name = names[position]
                own = plan[name]
                if own.structure == "channel":
                    continue
                choices = self._choices(name, kept)
                for option in choices.useful:
                    faster = choices.times[own] - choices.times[option]
                    worse = coefficients[name] * (errors[name][option] - errors[name][own])
                    if option.structure == "channel" or (over > 0) != (faster > 0) or (over <= 0 and worse >= 0):
                        continue
                    if over <= 0 and -faster > -over * 1e3:
                        continue
                    value = worse / faster if over > 0 else worse
                    if best is None or value < best[0]:
                        best = value, name, option
            if best is None:
                break
            changed = plan.replace({best[1]: best[2]})
            if over <= 0 and latency.ms(changed) > budget:
                break
            plan = changed
            if over <= 0:
                break
        return plan if latency.ms(plan) <= budget else None
