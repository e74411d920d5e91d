"""Scores of Plans whose loss is known at once, and histories of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autocompress.evaluators.score import Score
from autocompress.search.proposing import Finished, ProposingSampler
from autocompress.search.study import Scoring
from autocompress.spaces.plan import Plan


def at_once(loss: Callable[[Plan], float]) -> Scoring:
    """Nothing is saved by stopping: no Plan is."""

    def score(plan: Plan, rival: Score | None) -> Score:
        value = loss(plan)
        return Score(value, (value,), 1, 1)

    return score


def grown(
    sampler: ProposingSampler, history: Sequence[Finished], loss: Callable[[Plan], float], count: int, seed: int = 0
) -> list[Finished]:
    """`history` with so many proposals of the sampler's own."""
    history = list(history)
    for _ in range(count):
        plan, note = sampler.next_plan(history, np.random.default_rng([seed, len(history)]))
        history.append(Finished(len(history), plan, loss(plan), None, note))
    return history
