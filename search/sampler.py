"""PlanSampler: proposes whole Plans within the budget, as an Optuna sampler.

It solves the knapsack under coefficients on the rows of the error table (SPDY's idea: every point of that space is feasible), and
improves the best Plans by swaps that keep the latency (EvoPress, ICML 2025), of which it takes the most promising. The
coefficients are drawn from what the observed losses say of them (Thompson sampling; `beliefs.py`). A proposal depends on the
seed and on the finished trials alone, so a study that was killed goes on exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..spaces.option import ACTIVATIONS, Option
from ..spaces.plan import Plan
from .beliefs import believe
from .problem import Limits, Problem
from .proposing import Finished, ProposingSampler
from .solver import Floats

#: Share of solutions that are sought from the dense Plan, as if nothing had been found; the others from the best Plan.
AFRESH = 0.5
#: Linearisations of a solution from the best Plan; steps settle what it is then still off the budget.
ROUNDS = 2
#: Share of trials at a smaller budget, and the smallest one as a share of the budget.
BELOW_BUDGET, SMALLEST_BUDGET = 0.05, 0.6
#: Best Plans from which swaps start, and swaps that are thought of before the most promising one is taken.
ELITE, THOUGHTS = 4, 8
#: Layers, drawn at random, among which a step towards the budget is sought.
TRIED = 16
#: Options faster and slower than a Layer's own that a swap may take.
NEAR = 2
#: Attempts at a Plan that has not been evaluated, of which the first are solutions and the others swaps, before one is sought in
#: small steps,
ATTEMPTS, SOLVES = 6, 2
#: and the number of these before a repeated one is accepted.
STEPS = 200
#: Numbers of channels that Groups keep whose steps are kept.
REMEMBERED = 1000


@dataclass(frozen=True)
class _Choices:
    """A Layer's Options when Groups keep so many channels: microseconds of each, and those that no other one beats, by time,
    with microseconds and error. Beating takes bytes too where size matters.
    """

    times: Mapping[Option, float]
    useful: tuple[tuple[Option, float, float], ...]


@dataclass(frozen=True)
class _Steps:
    """Useful Options of all Layers that keep their channels: number of the Layer, Option, microseconds, error; bytes, where size
    matters.
    """

    layers: npt.NDArray[np.int64]
    options: tuple[Option, ...]
    times: Floats
    errors: Floats
    sizes: npt.NDArray[np.int64]


class PlanSampler(ProposingSampler):
    """Proposes Plans within the budget.

    Args:
        budget_ms: latency of every proposal; None for no limit. Objectives without a budget have proposals spread over all their
            values (multi-objective studies).
        seed: with it, proposals depend on the finished trials alone.
    """

    def __init__(self, problem: Problem, budget_ms: float | None, seed: int) -> None:
        super().__init__(problem, seed)
        largest = math.inf if problem.max_bytes is None else problem.max_bytes
        self._budget = Limits(math.inf if budget_ms is None else budget_ms, largest)
        self._minimised = problem.minimised(budget_ms)
        self._sized = problem.max_bytes is not None or "size" in problem.objectives
        self._costs: dict[Plan, tuple[float, int]] = {}
        self._known: dict[tuple[object, ...], _Choices] = {}
        self._all_steps: dict[frozenset[tuple[str, int]], _Steps] = {}

    def next_plan(self, history: Sequence[Finished], rng: np.random.Generator) -> tuple[Plan, str | None]:
        return self.propose([(one.plan, one.loss) for one in history], rng), None

    def propose(self, history: Sequence[tuple[Plan, float]], rng: np.random.Generator) -> Plan:
        """The next Plan to evaluate.

        Args:
            history: Plans and their losses, oldest first.
        """
        seen = {plan for plan, _ in history}
        beliefs = believe(self._problem, history)
        budget = self._some_budget(rng)
        plan: Plan | None = None
        for attempt in range(ATTEMPTS):
            # Later attempts reach further, so that something new is found.
            coefficients = beliefs.draw(rng, 1.5**attempt)
            if attempt < SOLVES:
                plan = self._solved(history, coefficients, budget, rng) or plan
            else:
                plan = self._swapped(history, seen, coefficients, budget, rng) or plan
            if plan is not None and plan not in seen:
                return plan
            if plan is None and math.isfinite(budget.ms):
                # A latency and a size that were drawn may exclude each other.
                budget = replace(budget, size=self._budget.size)
        return self._unseen(plan or self._problem.refuge(self._budget.ms), seen, budget, rng)

    def _unseen(self, plan: Plan, seen: set[Plan], budget: Limits, rng: np.random.Generator) -> Plan:
        """A Plan within the budget that was not evaluated, few random changes away; `plan` itself where there is none."""
        names = [layer.name for layer in self._problem.space.layers if len(self._problem.space.options[layer.name]) > 1]
        found = plan
        for _ in range(STEPS if names else 0):
            name = names[int(rng.integers(len(names)))]
            options = self._problem.space.options[name]
            changed = self._problem.space.changed(found, name, options[int(rng.integers(len(options)))])
            if self._problem.fits(changed, budget.ms, budget.size):
                if changed not in seen:
                    return changed
                found = changed
        return plan

    def _some_budget(self, rng: np.random.Generator) -> Limits:
        """The budget, or now and then a smaller one, so that the front below it is known too. Of objectives without one a value
        between those of an extreme Plan and of the dense base Plan, for one of them or for both.
        """
        problem, budget = self._problem, self._budget
        if self._minimised:
            drawn = int(rng.integers(3)) if len(self._minimised) == 2 else 2
            if "latency" in self._minimised and drawn != 1:
                budget = replace(budget, ms=float(rng.uniform(problem.fastest().ms, problem.latency.ms(problem.base))))
            if "size" in self._minimised and drawn != 0:
                least = problem.sizes.bytes(problem.smallest(self._budget.ms))
                budget = replace(budget, size=float(rng.uniform(least, max(least, problem.sizes.bytes(problem.base)))))
        elif rng.random() < BELOW_BUDGET:
            objectives = problem.objectives
            if objectives[int(rng.integers(len(objectives))) if len(objectives) > 1 else 0] == "latency":
                budget = replace(budget, ms=float(rng.uniform(max(problem.fastest().ms, SMALLEST_BUDGET * budget.ms), budget.ms)))
            else:
                least = problem.sizes.bytes(problem.smallest(budget.ms))
                budget = replace(budget, size=float(rng.uniform(max(least, SMALLEST_BUDGET * budget.size), budget.size)))
        return budget

    def _solved(
        self,
        history: Sequence[tuple[Plan, float]],
        coefficients: Mapping[str, float],
        budget: Limits,
        rng: np.random.Generator,
    ) -> Plan | None:
        """The solution under these coefficients. From the best Plan within the budget little changes, and where couplings are
        strong the dense Plan leads elsewhere: each finds what the other does not.
        """
        fitting = [(loss, index) for index, (plan, loss) in enumerate(history) if self._fits(plan, budget)]
        if not fitting or rng.random() < AFRESH:
            found = self._problem.solve(budget.ms, coefficients, max_bytes=budget.size)
            return found.plan if found else None
        start = history[min(fitting)[1]][0]
        # Linearised once or twice it may be above the budget, and as the solver rounds times up, it may be below.
        near = self._problem.near(budget.ms, coefficients, start, ROUNDS, max_bytes=budget.size)
        return self._settled(near, coefficients, budget, rng)

    def _swapped(
        self,
        history: Sequence[tuple[Plan, float]],
        seen: Collection[Plan],
        coefficients: Mapping[str, float],
        budget: Limits,
        rng: np.random.Generator,
    ) -> Plan | None:
        """One of the best Plans with a Layer or two changed and the time that this frees, or needs, settled by others: of some
        such Plans that were not evaluated the one that promises most.
        """
        fitting = sorted((loss, index) for index, (plan, loss) in enumerate(history) if self._fits(plan, budget))[:ELITE]
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

    def _fits(self, plan: Plan, budget: Limits) -> bool:
        if plan not in self._costs:
            self._costs[plan] = self._problem.latency.ms(plan), self._problem.sizes.bytes(plan) if self._sized else 0
        ms, size = self._costs[plan]
        return ms <= budget.ms and size <= budget.size

    def _neighbour(self, plan: Plan, layer: str, rng: np.random.Generator) -> Plan:
        """`plan` with one Layer moved to an Option little faster or slower than its own."""
        choices = self._choices(layer, self._problem.latency.kept(plan))
        own = choices.times[plan[layer]]
        at = sum([time < own for _, time, _ in choices.useful])
        near = [option for option, _, _ in choices.useful[max(0, at - NEAR) : at + NEAR + 1] if option != plan[layer]]
        return self._problem.space.changed(plan, layer, near[int(rng.integers(len(near)))]) if near else plan

    def _choices(self, layer: str, kept: Mapping[str, int]) -> _Choices:
        key = (layer, *self._problem.latency.deciding(layer, kept))
        if key not in self._known:
            errors = self._problem.errors.errors[layer]
            all_times = self._problem.latency.layers_microseconds(kept)[layer]
            times = {option: all_times[option] for option in self._problem.space.options[layer]}
            useful: list[tuple[Option, float, float]] = []
            sizes: list[int] = []
            for option in sorted(times, key=lambda option: (times[option], errors[option])):
                size = self._problem.sizes.layer(layer, option, kept) if self._sized else 0
                if not any(e <= errors[option] and s <= size for (_, _, e), s in zip(useful, sizes, strict=True)):
                    useful.append((option, times[option], errors[option]))
                    sizes.append(size)
            self._known[key] = _Choices(times, tuple(useful))
        return self._known[key]

    def _settled(self, plan: Plan, coefficients: Mapping[str, float], budget: Limits, rng: np.random.Generator) -> Plan | None:
        """`plan` brought within the budget, and up to it, by the steps that cost least expected loss per byte, then per time.

        Options of other Layers are tried in random order, so that equal starts lead to different Plans.
        """
        latency = self._problem.latency
        kept = latency.kept(plan)  # steps leave the channels alone
        steps, known = self._steps(kept), latency.layers_microseconds(kept)
        weights = np.array([coefficients[layer] for layer in plan])
        times = np.array([known[layer][option] for layer, option in plan.options])
        errors = weights * np.array([self._problem.errors.errors[layer][option] for layer, option in plan.options])
        movable = np.array([option.structure != "channel" for _, option in plan.options])
        their_errors = weights[steps.layers] * steps.errors
        own = [option for _, option in plan.options]
        sizes = np.array([self._problem.sizes.layer(layer, option, kept) if self._sized else 0 for layer, option in plan.options])
        ms, exact = latency.ms(plan), True
        size = self._problem.sizes.bytes(plan) if self._sized else 0
        for _ in range(len(plan)):
            if ms <= budget.ms and not exact:
                ms, exact = latency.ms(Plan(tuple(zip(plan, own, strict=True)))), True
            over, large = ms - budget.ms, size - budget.size
            tried = np.zeros(len(plan), bool)
            tried[rng.permutation(len(plan))[:TRIED]] = True
            faster = times[steps.layers] - steps.times
            smaller = sizes[steps.layers] - steps.sizes
            worse = their_errors - errors[steps.layers]
            possible = (tried & movable)[steps.layers]
            if large > 0:
                possible &= smaller > 0
            elif over > 0:
                possible &= (faster > 0) & (smaller >= large)
            else:
                slower = (faster <= 0) | math.isinf(budget.ms)
                possible &= slower & (faster >= over * 1e3) & (smaller >= large) & (worse < 0)
            if not possible.any():
                break
            candidates = np.flatnonzero(possible)
            value = worse[candidates]
            if large > 0 or over > 0:
                value = value / (smaller if large > 0 else faster)[candidates]
            step = candidates[int(np.argmin(value))]
            moved, before = int(steps.layers[step]), own[int(steps.layers[step])]
            own[moved] = steps.options[step]
            if over <= 0 and large <= 0:
                if latency.ms(Plan(tuple(zip(plan, own, strict=True)))) > budget.ms:
                    own[moved] = before
                break
            ms, size = ms - self._problem.ms_per_us * float(faster[step]), size - int(smaller[step])
            # Conversions may come or go, and other ops compute in another type: counted when this looks fast enough.
            exact = exact and ACTIVATIONS[before.bits] == ACTIVATIONS[own[moved].bits]
            times[moved], errors[moved], sizes[moved] = steps.times[step], their_errors[step], steps.sizes[step]
        settled = Plan(tuple(zip(plan, own, strict=True)))
        return settled if self._problem.fits(settled, budget.ms, budget.size) else None

    def _steps(self, kept: Mapping[str, int]) -> _Steps:
        key = frozenset(kept.items())
        if key not in self._all_steps:
            if len(self._all_steps) >= REMEMBERED:
                self._all_steps.clear()
            useful = [
                (number, *one)
                for number, layer in enumerate(self._problem.space.layers)
                for one in self._choices(layer.name, kept).useful
                if one[0].structure != "channel"
            ]
            layers, options, times, errors = zip(*useful, strict=True)
            names = [layer.name for layer in self._problem.space.layers]
            chosen = zip(layers, options, strict=True)
            sizes = [self._problem.sizes.layer(names[number], option, kept) if self._sized else 0 for number, option in chosen]
            self._all_steps[key] = _Steps(np.array(layers), options, np.array(times), np.array(errors), np.array(sizes))
        return self._all_steps[key]
