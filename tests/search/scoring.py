"""Scores of Plans whose loss is known at once."""

from __future__ import annotations

from collections.abc import Callable

from autocompress.evaluators.score import Score
from autocompress.search.study import Scoring
from autocompress.spaces.plan import Plan


def at_once(loss: Callable[[Plan], float]) -> Scoring:
    """Nothing is saved by stopping: no Plan is."""

    def score(plan: Plan, rival: Score | None) -> Score:
        value = loss(plan)
        return Score(value, (value,), 1, 1)

    return score
