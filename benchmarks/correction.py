"""What shrinking the statistics correction gains: every baseline within a budget, corrected on few and on many inputs.

    python benchmarks/correction.py [--task efficientnet-lite0] [--data FOLDER] [--budget 5ms] [--inputs 24,40,96]

Losses are on evaluation inputs. Not shrunk is the same correction with all differences between moments taken for true.
Writes results/benchmarks/correction.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console

from autocompress.api import feasible_budget, measured_problem, prepare
from autocompress.compressors import recovery
from autocompress.evaluators.evaluator import PlanEvaluator
from autocompress.evaluators.loss import divergence, outputs
from autocompress.evaluators.recovery import Recovery
from autocompress.files import write_json
from autocompress.kernels.targets import load_target
from autocompress.progress import Phases, Terminal
from autocompress.reports.comparison import geometric_mean
from autocompress.samples import calibration_inputs, split_calibration, split_samples
from autocompress.search.baselines import baselines
from autocompress.settings import Budget, SearchSettings
from autocompress.spaces.plan import Plan
from autocompress.tasks.loader import load_task
from autocompress.tasks.task import evaluation_data

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "correction.json"


def loss(evaluator: PlanEvaluator, plan: Plan, correcting: torch.Tensor, inputs: torch.Tensor, shrunk: bool) -> float:
    """The loss of a Plan's network on `inputs`, corrected on others."""
    with mock.patch.object(recovery, "_certainty", recovery._certainty if shrunk else lambda *_: 1.0):
        return divergence(outputs(evaluator.dense.run, inputs), outputs(Recovery(evaluator, correcting)(plan).run, inputs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="efficientnet-lite0")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--target", default="pixel7")
    parser.add_argument("--budget", default="5ms")
    parser.add_argument("--inputs", default="24,40,96", help="how many inputs correct")
    asked = parser.parse_args()
    task, target, settings = load_task(asked.task, asked.data), load_target(asked.target), SearchSettings()
    phases = Phases(Terminal(Console(stderr=True)))
    prepared = prepare(task, target, settings, phases)
    evaluator = prepared.evaluator
    budget_ms = feasible_budget(Budget.parse(asked.budget), prepared.profile, target)
    problem = measured_problem(prepared, settings, phases)
    plans = {name: plan for name, plan in baselines(problem, budget_ms).items() if problem.fits(plan, budget_ms)}
    inputs = evaluation_data(task)[0]
    reconstruction, _ = split_calibration(calibration_inputs(task, evaluator.network))
    dense, rows = outputs(evaluator.dense.run, inputs), []
    for name, plan in plans.items():
        uncorrected = divergence(dense, outputs(evaluator.candidate(plan).run, inputs))
        for count in map(int, asked.inputs.split(",")):
            correcting = split_samples(reconstruction, count)[0]
            row: dict[str, Any] = {"plan": name, "inputs": count, "uncorrected": uncorrected}
            row |= {key: loss(evaluator, plan, correcting, inputs, key == "shrunk") for key in ("shrunk", "not_shrunk")}
            rows.append(row)
            print(json.dumps(row), flush=True)
    value = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "task": asked.task,
        "evaluation_inputs": len(inputs),
        "not_shrunk_over_shrunk": {
            count: geometric_mean([row["not_shrunk"] / row["shrunk"] for row in rows if row["inputs"] == count])
            for count in dict.fromkeys(row["inputs"] for row in rows)
        },
        "rows": rows,
    }
    write_json(RESULT, value)
    print(json.dumps(value["not_shrunk_over_shrunk"]))


if __name__ == "__main__":
    main()
