"""PlanSampler: proposes whole Plans within the budget, as an Optuna sampler.

It solves the knapsack under coefficients on the rows of the error table (SPDY's idea: every point of that space is feasible), and
improves the best Plans by swaps that keep the latency (EvoPress, ICML 2025), of which it takes the most promising. The
coefficients are drawn from what the observed losses say of them (Thompson sampling; `beliefs.py`), or are those of the best
solution but for a few: where losses are far from additive they say little, and what led to a good Plan leads to others.
A proposal depends on the seed and on the finished trials alone, so a study that was killed goes on exactly as it would have.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np

from ..spaces.plan import Plan
from .baselines import PLAIN_SOLVER
from .beliefs import Comparisons, believe
from .problem import Limits, Problem
from .proposing import Finished, ProposingSampler
from .settling import Settling

#: Share of trials that keep to the coefficients of the best solution, but for this share of them at most.
LOCAL, REDRAWN = 0.5, 0.1
#: Range of a coefficient that is drawn in its place, as far as the paper of SPDY goes: from free to twice what the table says.
RANGE = (0.0, 2.0)
#: Digits after the point of coefficients that are noted.
DIGITS = 4
#: Share of the other solutions that are sought from a dense Plan, as if nothing had been found; the others from the best Plan.
AFRESH = 0.5
#: and of those the share from the base Plan; the others are from any of `Problem.starts`.
BASE = 0.5
#: Share of trials at a smaller budget, and the smallest one as a share of the budget.
BELOW_BUDGET, SMALLEST_BUDGET = 0.05, 0.6
#: Best Plans from which swaps start, and swaps that are thought of before the most promising one is taken.
ELITE, THOUGHTS = 4, 8
#: Options faster and slower than a Layer's own that a swap may take.
NEAR = 2
#: Attempts at a Plan that has not been evaluated, of which the first are solutions and the others swaps, before one is sought in
#: small steps,
ATTEMPTS, SOLVES = 8, 4
#: and the number of these before a repeated one is accepted.
STEPS = 200


@dataclass(frozen=True)
class _Origin:
    """A solution and its coefficients, by Layer."""

    plan: Plan
    coefficients: Mapping[str, float]


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
        self._comparisons = Comparisons(problem)
        self._settling = Settling(problem, problem.max_bytes is not None or "size" in problem.objectives)

    def next_plan(self, history: Sequence[Finished], rng: np.random.Generator) -> tuple[Plan, str | None]:
        losses = [(one.plan, one.loss) for one in history]
        seen = {one.plan for one in history}
        beliefs = believe(self._problem, losses, self._comparisons)
        budget = self._some_budget(rng)
        origin = self._origin(history, budget) if rng.random() < LOCAL else None
        plan: Plan | None = None
        for attempt in range(ATTEMPTS):
            coefficients: Mapping[str, float] | None = None
            # Later attempts reach further, so that something new is found.
            if attempt >= SOLVES:
                found = self._swapped(losses, seen, beliefs.draw(rng, 1.5**attempt), budget, rng)
            elif origin is not None:
                coefficients = self._redrawn(origin.coefficients, attempt, rng)
                found = self._nearby(origin.plan, coefficients, budget)
            else:
                coefficients = beliefs.draw(rng, 1.5**attempt)
                found = self._solved(losses, coefficients, budget, rng)
            if found is not None and found not in seen:
                return found, None if coefficients is None else _note(coefficients)
            plan = found or plan
            if plan is None and math.isfinite(budget.ms):
                # A latency and a size that were drawn may exclude each other.
                budget = replace(budget, size=self._budget.size)
        return self._unseen(plan or self._problem.refuge(self._budget.ms), seen, budget, rng), None

    def _origin(self, history: Sequence[Finished], budget: Limits) -> _Origin | None:
        """The solution of least loss within a budget, and its coefficients."""
        for one in sorted(history, key=lambda one: one.loss):
            if (one.note is not None or one.baseline == PLAIN_SOLVER) and self._settling.fits(one.plan, budget):
                names = [layer.name for layer in self._problem.space.layers]
                values = [1.0] * len(names) if one.note is None else json.loads(one.note)
                return _Origin(one.plan, dict(zip(names, values, strict=True)))
        return None

    def _redrawn(self, coefficients: Mapping[str, float], more: int, rng: np.random.Generator) -> dict[str, float]:
        """Coefficients of which a few, and so many more, are drawn anew."""
        names = list(coefficients)
        count = min(len(names), more + int(rng.integers(1, 1 + max(1, round(REDRAWN * len(names))))))
        chosen = rng.choice(len(names), size=count, replace=False).tolist()
        return {**coefficients, **{names[number]: round(float(rng.uniform(*RANGE)), DIGITS) for number in chosen}}

    def _nearby(self, plan: Plan, coefficients: Mapping[str, float], budget: Limits) -> Plan | None:
        """The solution under these coefficients that is found from a Plan."""
        found = self._problem.solve(budget.ms, coefficients, start=plan, max_bytes=budget.size)
        return found.plan if found else None

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

    @cached_property
    def _slowest_ms(self) -> float:
        """The latency of the dense base Plan or, where that is too large, of the Plan of least expected loss."""
        problem = self._problem
        best = None if problem.fits(problem.base, None) else problem.solve(math.inf)
        return max(problem.fastest().ms, problem.latency.ms(problem.base) if best is None else best.ms)

    def _some_budget(self, rng: np.random.Generator) -> Limits:
        """The budget, or now and then a smaller one, so that the front below it is known too. Of objectives without one a value
        between those of an extreme Plan and of the dense base Plan, or the best one that fits, for one of them or for both.
        """
        problem, budget = self._problem, self._budget
        if self._minimised:
            drawn = int(rng.integers(3)) if len(self._minimised) == 2 else 2
            if "latency" in self._minimised and drawn != 1:
                budget = replace(budget, ms=float(rng.uniform(problem.fastest().ms, self._slowest_ms)))
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

    def _fitting(self, history: Sequence[tuple[Plan, float]], budget: Limits) -> Iterator[int]:
        """Numbers of the Plans within a budget, that of least loss first."""
        by_loss = sorted(range(len(history)), key=lambda index: history[index][1])
        return (index for index in by_loss if self._settling.fits(history[index][0], budget))

    def _solved(
        self,
        history: Sequence[tuple[Plan, float]],
        coefficients: Mapping[str, float],
        budget: Limits,
        rng: np.random.Generator,
    ) -> Plan | None:
        """The solution under these coefficients. From the best Plan within the budget little changes, and where couplings are
        strong dense Plans lead elsewhere: each finds what the other does not.
        """
        best = next(self._fitting(history, budget), None)
        if best is None or rng.random() < AFRESH:
            starts = self._problem.starts(budget.ms)
            start = starts[0 if rng.random() < BASE else int(rng.integers(len(starts)))]
        else:
            start = history[best][0]
        near = self._problem.near(budget.ms, coefficients, start, max_bytes=budget.size)
        return self._settling.settle(near, coefficients, budget, rng)

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
        fitting = list(islice(self._fitting(history, budget), ELITE))
        names = [layer.name for layer in self._problem.space.layers if len(self._problem.space.options[layer.name]) > 1]
        best: tuple[float, Plan] | None = None
        for _ in range(THOUGHTS if fitting and names else 0):
            parent, loss = history[fitting[int(rng.integers(len(fitting)))]]
            changed = parent
            swapped = [str(name) for name in rng.choice(names, size=min(len(names), int(rng.integers(1, 3))), replace=False)]
            for name in swapped:
                changed = self._settling.neighbour(changed, name, NEAR, rng)
            settled = self._settling.settle(changed, coefficients, budget, rng, but=swapped)
            if settled is None or settled in seen:
                continue
            before, after = (self._problem.expected(plan, coefficients) for plan in (parent, settled))
            # Losses of both in one unit: what is expected to change of what was observed.
            promise = loss * after / max(before, 1e-12)
            if best is None or promise < best[0]:
                best = promise, settled
        return best[1] if best else None


def _note(coefficients: Mapping[str, float]) -> str:
    return json.dumps([round(value, DIGITS) for value in coefficients.values()], separators=(",", ":"))
