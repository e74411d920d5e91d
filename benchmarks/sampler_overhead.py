"""Milliseconds a trial that go into the sampler, and into it and Optuna and the journal together; and the time of one whole-front
solve. No network is evaluated.

    python benchmarks/sampler_overhead.py [--task efficientnet-lite0] [--trials 500] [--samplers ours,random,spdy,evopress]

Losses are made up: the error table's sum, with factors and pairwise interactions that the sampler does not know. Run it on an
otherwise idle machine. Writes results/benchmarks/sampler_overhead.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from autocompress.api import feasible_budget, profile
from autocompress.evaluators.error_table import ErrorTable
from autocompress.evaluators.score import Score
from autocompress.files import write_json
from autocompress.kernels.targets import load_target
from autocompress.search.baselines import baselines
from autocompress.search.journal import open_journal
from autocompress.search.parameters import Parameters
from autocompress.search.problem import Problem
from autocompress.search.proposing import ProposingSampler
from autocompress.search.solver import Block, Branch, Front
from autocompress.search.study import enqueue_baselines, open_study, run_trials
from autocompress.settings import Budget
from autocompress.spaces.plan import Plan
from autocompress.spaces.space import Space
from autocompress.tasks.loader import load_task

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "sampler_overhead.json"
#: Layers and options of the front that is solved.
LAYERS, OPTIONS = 54, 60


def made_up_table(space: Space, rng: np.random.Generator) -> ErrorTable:
    """Errors that grow with the square of the removed share, at a scale of its own for each Layer."""
    errors = {}
    for layer in space.layers:
        scale = float(rng.lognormal(-3.0, 1.0))
        errors[layer.name] = {
            option: scale * (option.sparsity**2 * float(rng.uniform(0.8, 1.2)) + 4.0 ** -(option.bits / 4) / 10)
            for option in space.options[layer.name]
        }
    return ErrorTable(0.0, errors)


class Quadratic:
    """A quadratic form of the error table's entries, for Plans."""

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        count = len(problem.space.layers)
        self._problem = problem
        self._factors = rng.lognormal(0.0, 0.5, count)
        self._pairs = np.triu(rng.normal(0.0, 1.0, (count, count)) * (rng.random((count, count)) < 0.1), 1)

    def loss(self, plan: Plan) -> float:
        errors = self._factors * self._problem.errors_of(plan)
        return float(max(1e-6, errors.sum() + errors @ self._pairs @ errors))


def overhead(problem: Problem, sampler: str, budget_ms: float, trials: int) -> dict[str, Any]:
    """Milliseconds a trial of one study: all that is not evaluation, journal included, and what of that is the sampler's own
    (reading the finished trials and proposing a Plan).
    """
    quadratic = Quadratic(problem, np.random.default_rng(1))
    marks: list[float] = []
    sampling: list[float] = []
    sample = ProposingSampler.sample_relative

    def timed(*arguments: Any) -> dict[str, Any]:
        begin = time.perf_counter()
        values = sample(*arguments)
        sampling.append(time.perf_counter() - begin)
        return values

    def score(plan: Plan, rival: Score | None) -> Score:
        marks.append(time.perf_counter())
        loss = quadratic.loss(plan)
        return Score(loss, (loss,), 1, 1)

    plans = baselines(problem, budget_ms)
    parameters = Parameters(problem.space)
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(open_journal(Path(folder) / "study.journal"), "overhead", {}, 0)
        enqueue_baselines(study, {name: parameters.of(plan) for name, plan in plans.items()})
        begin = time.perf_counter()
        with mock.patch.object(ProposingSampler, "sample_relative", timed):
            run_trials(study, problem, score, sampler, budget_ms, trials, None, 0, lambda done, total, what: None)
        seconds = time.perf_counter() - begin
    between = np.diff(marks)[len(plans) :].tolist()
    own = {"mean": statistics.fmean(sampling), "median_of_the_last_50": statistics.median(sampling[-50:])} if sampling else {}
    return {
        "sampler": sampler,
        "trials": trials,
        "sampler_ms": {name: 1e3 * value for name, value in own.items()},
        "ms_a_trial": 1e3 * seconds / trials,
        "median_ms": 1e3 * statistics.median(between),
        "median_ms_of_the_last_50": 1e3 * statistics.median(between[-50:]),
    }


def front_ms(tries: int = 7) -> float:
    """Milliseconds of one solve for all budgets at once, median."""
    rng = np.random.default_rng(0)
    blocks = [
        Block((Branch((np.sort(rng.uniform(1.0, 100.0, OPTIONS))[::-1].copy(),), (np.sort(rng.random(OPTIONS)),)),))
        for _ in range(LAYERS)
    ]
    budget = 0.5 * sum(float(block.branches[0].times[0].max()) for block in blocks)
    times = []
    for _ in range(tries):
        begin = time.perf_counter()
        Front(blocks, budget).curve()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="efficientnet-lite0")
    parser.add_argument("--target", default="pixel7")
    parser.add_argument("--budget", default="1.5x")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--samplers", default="ours,random,spdy,evopress")
    parser.add_argument("--output", type=Path, default=RESULT)
    asked = parser.parse_args()
    target = load_target(asked.target)
    found = profile(load_task(asked.task), target)
    budget_ms = feasible_budget(Budget.parse(asked.budget), found, target)
    assert budget_ms is not None
    problem = Problem(found.space, found.latency, made_up_table(found.space, np.random.default_rng(0)))
    value = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "task": asked.task,
        "layers": len(found.space.layers),
        "options": sum(len(options) for options in found.space.options.values()),
        "budget": asked.budget,
        "studies": [overhead(problem, sampler, budget_ms, asked.trials) for sampler in asked.samplers.split(",")],
        "front": {"layers": LAYERS, "options": OPTIONS, "ms": front_ms()},
    }
    write_json(asked.output, value)
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()
