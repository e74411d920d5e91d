"""The joint search against searches along one axis alone: weights removed, channels removed, or bits, at equal latency.

    python benchmarks/axes.py --write [--tasks ...] [--budgets 1.5x,2x] [--seeds 3] [--trials 100] [--data FOLDER]

Each axis is the whole Space without the Options that are not on it, searched by our sampler with as many evaluations as the joint
search, from the same error table, with baselines of its own. Weights or channels are removed at one number of bits, int8 or fp16.
Losses are on evaluation data that no search saw, of the finalist that held-out inputs choose.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from rich.console import Console

from autocompress.api import feasible_budget, measured_problem, prepare
from autocompress.errors import UserError
from autocompress.files import write_json
from autocompress.kernels.targets import load_target
from autocompress.outcome import EvaluationJudge, Judged, finalists
from autocompress.progress import Phases, Terminal
from autocompress.reports.comparison import geometric_mean
from autocompress.search.baselines import baselines
from autocompress.search.parameters import Parameters
from autocompress.search.problem import Problem
from autocompress.search.study import enqueue_baselines, evaluated, open_study, run_trials
from autocompress.settings import Budget, SearchSettings
from autocompress.spaces.option import BLOCKS, Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.space import Space
from autocompress.tasks.loader import load_task

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "axes.json"
JOINT = "joint"
#: Which Options an axis has.
AXES: dict[str, Callable[[Option], bool]] = {
    JOINT: lambda option: True,
    "weights, int8": lambda option: option.structure in ("dense", *BLOCKS) and option.bits == 8,
    "weights, fp16": lambda option: option.structure in ("dense", *BLOCKS) and option.bits == 16,
    "channels, int8": lambda option: option.structure in ("dense", "channel") and option.bits == 8,
    "channels, fp16": lambda option: option.structure in ("dense", "channel") and option.bits == 16,
    "bits": lambda option: option.structure == "dense",
}


def along(space: Space, axis: Callable[[Option], bool]) -> Space:
    """A Space without the Options that are off an axis; a Layer with none on it stays dense, its Group too."""
    options = {}
    for layer, offered in space.options.items():
        on = tuple(option for option in offered if axis(option))
        options[layer] = on or tuple(option for option in offered if option.structure == "dense")
    for group in space.groups:
        producers = [span.op for span in group.producers]
        shares = set.intersection(*({o.sparsity for o in options[name] if o.structure == "channel"} for name in producers))
        for name in producers:
            options[name] = tuple(o for o in options[name] if o.structure != "channel" or o.sparsity in shares)
    return replace(space, options=options)


class Cell:
    """One task at one budget: searches along any axis, judged alike."""

    def __init__(self, name: str, data: Path | None, target: str, budget: str, phases: Phases) -> None:
        task, settings = load_task(name, data), SearchSettings(budget=Budget.parse(budget))
        self.prepared = prepare(task, load_target(target), settings, phases)
        found = self.prepared.profile
        budget_ms = feasible_budget(settings.budget, found, self.prepared.target)
        assert budget_ms is not None
        self.budget_ms = budget_ms
        self.whole = measured_problem(self.prepared, settings, phases)
        self._phases = phases
        self._judge = EvaluationJudge(self.prepared)
        self._held_out: dict[Plan, float] = {}
        self._judged: dict[Plan, Judged] = {}

    def search(self, name: str, trials: int, seed: int) -> dict[str, Any] | None:
        """What a search along an axis ends with; None where nothing on it is fast enough."""
        space = along(self.prepared.profile.space, AXES[name])
        problem = Problem(space, self.prepared.profile.latency, self.whole.errors)
        if problem.fastest().ms > self.budget_ms:
            return None
        study = open_study(InMemoryStorage(), f"{name} {seed}", {}, 0)
        enqueue_baselines(study, {one: Parameters(space).of(plan) for one, plan in baselines(problem, self.budget_ms).items()})
        with self._phases.phase(f"{name}, seed {seed}") as update:
            score = self.prepared.evaluator.score
            run_trials(study, problem, score, "ours", self.budget_ms, trials, None, seed, update)
        return self._best(study, problem)

    def _best(self, study: optuna.Study, problem: Problem) -> dict[str, Any]:
        chosen = finalists([trial for trial in evaluated(study, problem) if trial.within(self.budget_ms, None)])
        for trial in chosen:
            if trial.plan not in self._held_out:
                self._held_out[trial.plan] = self.prepared.held_out_loss(trial.plan)
        best = min(chosen, key=lambda trial: (self._held_out[trial.plan], trial.number))
        if best.plan not in self._judged:
            self._judged[best.plan] = self._judge.judged(best.plan)
        judged = self._judged[best.plan]
        return {"ms": best.ms, "search_loss": best.loss, "loss": judged.loss, "metric": judged.metric}


def row(cell: Cell, trials: int, seeds: int) -> list[dict[str, Any]]:
    """For each axis what its searches end with, and its loss over the joint search's: geometric mean over seeds."""
    found = {name: [cell.search(name, trials, seed) for seed in range(seeds)] for name in AXES}
    joint = _losses(found[JOINT])
    rows = []
    for name, ends in found.items():
        losses = _losses(ends)
        ratio = geometric_mean([loss / ours for loss, ours in zip(losses, joint, strict=True)]) if losses else None
        rows.append({"axis": name, "ratio": ratio, "searches": [end for end in ends if end is not None]})
    return rows


def _losses(ends: Sequence[dict[str, Any] | None]) -> list[float]:
    return [float(end["loss"]) for end in ends if end is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="fashion-mnist,fashion-mnist-resnet,efficientnet-lite0")
    parser.add_argument("--budgets", default="1.5x,2x")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--target", default="pixel7")
    parser.add_argument("--data", type=Path, help="folder of photographs for efficientnet-lite0")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}; its other tasks and budgets stay")
    asked = parser.parse_args()
    console = Console()
    cells = json.loads(RESULT.read_text(encoding="utf-8"))["cells"] if RESULT.exists() else []
    for name in asked.tasks.split(","):
        for budget in asked.budgets.split(","):
            console.rule(f"{name} {budget}")
            data = asked.data if name == "efficientnet-lite0" else None
            try:
                cell = Cell(name, data, asked.target, budget, Phases(Terminal(console)))
            except UserError as error:
                console.print(str(error))
                continue
            rows = row(cell, asked.trials, asked.seeds)
            for told in rows:
                console.print(f"  {told['axis']:16} loss over the joint search's: {told['ratio'] or 'not possible'}")
            cells = [other for other in cells if (other["task"], other["budget"]) != (name, budget)]
            cells.append(
                {
                    "task": name,
                    "budget": budget,
                    "date": datetime.date.today().isoformat(),
                    "trials": asked.trials,
                    "seeds": asked.seeds,
                    "budget_ms": cell.budget_ms,
                    "latency_source": cell.prepared.profile.latency.source,
                    "axes": rows,
                }
            )
            if asked.write:
                machine = f"{platform.system()} {platform.machine()}"
                write_json(RESULT, {"machine": machine, "python": platform.python_version(), "cells": cells})


if __name__ == "__main__":
    main()
