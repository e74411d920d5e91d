"""What fine-tuning gains: a search, then so many minutes of training for its best network, judged on data that neither saw.

    python benchmarks/finetune.py --task efficientnet-lite0 --data FOLDER --budget 1.5x --minutes 15
    python benchmarks/finetune.py --task fashion-mnist-resnet --budget 2x --minutes 10

Writes results/benchmarks/finetune.json; what it says of other tasks and budgets stays. Run it on an otherwise idle machine:
minutes are those of the clock.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import idle
from rich.console import Console

from autocompress.api import run_search
from autocompress.compressors.candidate import Candidate
from autocompress.evaluators.loss import divergence, metric, outputs
from autocompress.files import write_json
from autocompress.finetuning import finetune_plan
from autocompress.kernels.targets import load_target
from autocompress.outcome import CandidateModule, choose_best
from autocompress.progress import Phases, Terminal
from autocompress.search.study import evaluated
from autocompress.settings import Budget, SearchSettings
from autocompress.tasks.loader import load_task
from autocompress.tasks.task import evaluation_data

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "finetune.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="efficientnet-lite0")
    parser.add_argument("--data", type=Path, help="folder of photographs for efficientnet-lite0")
    parser.add_argument("--target", default="pixel7")
    parser.add_argument("--budget", default="1.5x")
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--minutes", type=float, default=15.0)
    asked = parser.parse_args()
    console = Console()
    task, phases = load_task(asked.task, asked.data), Phases(Terminal(console))
    inputs, labels = evaluation_data(task)
    with tempfile.TemporaryDirectory() as folder:
        settings = SearchSettings(Budget.parse(asked.budget), asked.trials, results=Path(folder))
        search = run_search(task, load_target(asked.target), settings, phases)
        trials = evaluated(search.study, search.problem)
        best = choose_best(search, trials, lambda *_: None)
        trial = next(trial for trial in trials if trial.number == best)
        prepared = search.prepared
        dense = outputs(prepared.evaluator.dense.run, inputs)

        def told(candidate: Candidate) -> dict[str, float]:
            found = outputs(candidate.run, inputs)
            return {
                "loss": divergence(dense, found),
                "agreement": float((dense.argmax(1) == found.argmax(1)).float().mean()),
                "metric": metric(task, CandidateModule(candidate), dense, found),
            }

        before = told(prepared.recovered(trial.plan))
        console.print(f"before: {before}")
        with phases.phase("fine-tuning") as update:
            trained = finetune_plan(prepared, trial.plan, asked.minutes, Path(folder), update)
        after = told(trained.candidate)
    row: dict[str, Any] = {
        "task": asked.task,
        "budget": asked.budget,
        "latency_ms": trial.ms,
        "latency_source": prepared.profile.latency.source,
        "trials": asked.trials,
        "date": datetime.date.today().isoformat(),
        "machine": f"{idle.cpu()}, {len(os.sched_getaffinity(0))} cores",
        "evaluation_inputs": len(inputs),
        "metric": task.metric if isinstance(task.metric, str) else "the task's own",
        "labelled": labels is not None,
        "minutes": round(trained.minutes, 2),
        "batches": trained.steps,
        "judges_loss": {"before": trained.loss_before, "after": trained.loss_after},
        "dense": told(prepared.evaluator.dense),
        "before": before,
        "after": after,
    }
    rows = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []
    key = (row["task"], row["budget"])
    write_json(RESULT, {"rows": [*(other for other in rows if (other["task"], other["budget"]) != key), row]})
    console.print_json(json.dumps(row))


if __name__ == "__main__":
    main()
