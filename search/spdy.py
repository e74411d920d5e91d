"""SpdySampler: the search of SPDY (Frantar and Alistarh, ICML 2022), on our error table, latencies and solver.

A Plan is the knapsack's solution at the budget under one sensitivity coefficient for each Layer, from 0 to 1. First
coefficients are drawn at random; then a local search draws some of the best ones' again, fewer and fewer at a time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..spaces.plan import Plan
from .baselines import PLAIN_SOLVER
from .problem import Problem
from .proposing import Finished, ProposingSampler
from .solver import Floats

#: Random draws before the local search, misses in a row after which it draws fewer coefficients again. The paper's search is of
#: 600 and more evaluations and takes 100 for both; these are for some hundred.
RANDOM_DRAWS, PATIENCE = 8, 8
#: Share of the coefficients that the local search draws again at first.
RESAMPLED = 0.1
#: Draws before a solution that was evaluated already is accepted; each draws one more coefficient again than the one before.
ATTEMPTS = 10
#: Resolution of the knapsack, as in the paper.
STEPS = 10_000


@dataclass(frozen=True)
class _State:
    """Where the search is: the best coefficients, None before any; how many to draw again, None for all."""

    coefficients: Floats | None
    count: int | None


class SpdySampler(ProposingSampler):
    """Random coefficients, then local search around the best ones; ones everywhere, the plain solver's, begin among these.

    A proposal's coefficients are its trial's note. When one coefficient at a time brings nothing any more, where the paper
    ends, the local search begins again around the same ones.
    """

    def __init__(self, problem: Problem, budget_ms: float, seed: int) -> None:
        super().__init__(problem, seed)
        self._budget_ms = budget_ms
        self._layers = [layer.name for layer in problem.space.layers]

    def next_plan(self, history: Sequence[Finished], rng: np.random.Generator) -> tuple[Plan, str | None]:
        seen = {one.plan for one in history}
        state = self._state(history)
        plan, coefficients = self._drawn(state, 0, rng)
        for attempt in range(1, ATTEMPTS):
            if plan not in seen:
                break
            plan, coefficients = self._drawn(state, attempt, rng)
        return plan, json.dumps([round(value, 6) for value in coefficients.tolist()], separators=(",", ":"))

    def _state(self, history: Sequence[Finished]) -> _State:
        """What the finished trials make of the search."""
        first = max(1, round(RESAMPLED * len(self._layers)))
        best, least = None, np.inf
        draws, misses, count = 0, 0, first
        for one in history:
            if one.baseline == PLAIN_SOLVER:
                best, least = np.ones(len(self._layers)), one.loss
            if one.note is None:
                continue
            draws += 1
            better = one.loss < least
            if better:
                best, least = np.array(json.loads(one.note)), one.loss
            if draws > RANDOM_DRAWS:
                misses = 0 if better else misses + 1
                if misses == PATIENCE:
                    misses, count = 0, count - 1 or first
        return _State(best, None if draws < RANDOM_DRAWS else count)

    def _drawn(self, state: _State, more: int, rng: np.random.Generator) -> tuple[Plan, Floats]:
        """Coefficients of the next step, so many more of them drawn again, and their Plan."""
        coefficients = rng.random(len(self._layers))
        if state.coefficients is not None and state.count is not None:
            chosen = rng.integers(len(self._layers), size=state.count + more)  # as the authors do, one may be drawn twice
            changed = state.coefficients.copy()
            changed[chosen] = coefficients[chosen]
            coefficients = changed
        proposal = self._problem.solve(self._budget_ms, dict(zip(self._layers, coefficients.tolist(), strict=True)), steps=STEPS)
        return proposal.plan if proposal else self._problem.refuge(self._budget_ms), coefficients
