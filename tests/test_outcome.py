from __future__ import annotations

from autocompress.outcome import FINALISTS, LUCK, finalists
from autocompress.search.study import Evaluated
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan


def trial(number: int, loss: float, baseline: str | None = None, plan: int | None = None) -> Evaluated:
    """A trial of a Plan of its own, or of the Plan of another trial."""
    own = Plan.of({f"layer{number if plan is None else plan}": Option("dense", 0.0, 8)})
    return Evaluated(number, own, loss, 1.0, 0.0, baseline, 0)


def test_the_best_trials_are_finalists_best_first_and_equal_plans_once() -> None:
    trials = [trial(number, 2.0 - number / 100) for number in range(20)]
    twice = [*trials, trial(20, 1.81, plan=19)]
    assert [one.number for one in finalists(twice)] == list(range(19, 19 - FINALISTS, -1))
    assert finalists([]) == []


def test_good_baselines_are_finalists_too() -> None:
    trials = [trial(number, 1.0 + number / 1000) for number in range(20)]
    good, bad = trial(20, 0.99 * LUCK, "int8 dense"), trial(21, 1.01 * LUCK, "uniform channel 0.5 int8")
    chosen = finalists([bad, good, *trials])
    assert [one.number for one in chosen] == [*range(FINALISTS), 20]
