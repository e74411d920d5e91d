"""Our sampler against the others at equal numbers of evaluations: tasks x budgets x seeds, judged on data that no search saw.

    python benchmarks/search.py [--tasks ...] [--budgets 1.5x,2x,3x] [--samplers ...] [--seeds 5] [--trials 300]
        [--data FOLDER]

Every (task, budget) is what `autocompress compare` runs, with a folder of its own under --results; it can be stopped, and goes on
from there. Writes results/benchmarks/search.json after each; what it says of other tasks and budgets stays. With --trials 500
it also says what our sampler has after FEW evaluations and another after MANY.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any

from rich.console import Console

from autocompress.comparison import ComparisonSettings, compare
from autocompress.files import write_json
from autocompress.kernels.targets import load_target
from autocompress.progress import Phases, Terminal
from autocompress.reports.comparison import LEAST_LOSS, OURS, Comparison, geometric_mean
from autocompress.settings import Budget, SearchSettings
from autocompress.tasks.loader import load_task

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "search.json"
#: Evaluations after which finalists are judged.
CHECKPOINTS = (50, 100, 300, 500)
#: Ours after so few evaluations against others after so many.
FEW, MANY = 50, 500


def losses(comparison: Comparison) -> list[dict[str, Any]]:
    """For each number of evaluations and each row of the table: losses by seed and their ratio to ours."""
    counts = sorted({final.evaluations for run in comparison.runs for final in run.finals})
    return [
        {
            "evaluations": count,
            "sampler": row.name,
            "search_losses": row.search_losses,
            "losses": row.losses,
            "metrics": row.metrics,
            "search_ratio": row.search_ratio,
            "ratio": row.ratio,
            "proposals_within_budget": row.within,
        }
        for count in counts
        for row in comparison.rows(count)
    ]


def summary(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each rival: its loss over ours on evaluation data, geometric mean over all tasks, budgets and seeds, and the worst of
    the geometric means over seeds. Uniform baselines are one rival, whichever is the best of a cell.
    """
    ratios: dict[tuple[int, str], list[tuple[float, str]]] = {}
    for cell in cells:
        for row in cell["rows"]:
            if row["ratio"] is not None:
                name = "uniform" if row["sampler"].startswith("uniform") else row["sampler"]
                ratios.setdefault((row["evaluations"], name), []).append((row["ratio"], f"{cell['task']} {cell['budget']}"))
    return [
        {
            "evaluations": count,
            "rival": name,
            "cells": len(found),
            "ratio": geometric_mean([ratio for ratio, _ in found]),
            "worst_ratio": min(found)[0],
            "worst_at": min(found)[1],
        }
        for (count, name), found in sorted(ratios.items())
    ]


def head_start(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each rival with MANY evaluations: its loss on evaluation data over that of ours with FEW, geometric mean over tasks,
    budgets and seeds, and the worst of the geometric means over seeds.
    """
    ratios: dict[str, list[tuple[float, str]]] = {}
    for cell in cells:
        rows = {(row["evaluations"], row["sampler"]): row for row in cell["rows"]}
        ours = rows.get((FEW, OURS))
        for (count, name), row in rows.items():
            if ours is not None and count == MANY and name != OURS and name in cell["samplers"]:
                found = [theirs / max(own, LEAST_LOSS) for own, theirs in zip(ours["losses"], row["losses"], strict=True)]
                ratios.setdefault(name, []).append((geometric_mean(found), f"{cell['task']} {cell['budget']}"))
    return [
        {
            "rival": f"{name} after {MANY}, {OURS} after {FEW}",
            "cells": len(found),
            "ratio": geometric_mean([ratio for ratio, _ in found]),
            "worst_ratio": min(found)[0],
            "worst_at": min(found)[1],
        }
        for name, found in sorted(ratios.items())
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="fashion-mnist,fashion-mnist-resnet,efficientnet-lite0")
    parser.add_argument("--budgets", default="1.5x,2x,3x")
    parser.add_argument("--samplers", default="ours,tpe,nsga2,random,spdy,evopress")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--target", default="pixel7")
    parser.add_argument("--data", type=Path, help="folder of photographs for efficientnet-lite0")
    parser.add_argument("--results", type=Path, default=Path("results/search-benchmark"))
    parser.add_argument("--output", type=Path, default=RESULT)
    asked = parser.parse_args()
    console = Console()
    cells = json.loads(asked.output.read_text(encoding="utf-8"))["cells"] if asked.output.exists() else []
    for name in asked.tasks.split(","):
        task = load_task(name, asked.data if name == "efficientnet-lite0" else None)
        for budget in asked.budgets.split(","):
            study = f"{name}-{budget}"
            console.rule(study)
            search = SearchSettings(budget=Budget.parse(budget), trials=asked.trials, study=study, results=asked.results)
            settings = ComparisonSettings(search, tuple(asked.samplers.split(",")), asked.seeds, CHECKPOINTS)
            phases = Phases(Terminal(console))
            comparison, _ = compare(task, load_target(asked.target), settings, phases, {"task": name})
            cells = [cell for cell in cells if (cell["task"], cell["budget"]) != (name, budget)]
            cells.append(
                {
                    "task": name,
                    "budget": budget,
                    "date": datetime.date.today().isoformat(),
                    "trials": asked.trials,
                    "seeds": asked.seeds,
                    "samplers": asked.samplers.split(","),
                    "budget_ms": comparison.budget_ms,
                    "latency_source": comparison.latency_source,
                    "rows": losses(comparison),
                }
            )
            value = {
                "machine": f"{platform.system()} {platform.machine()}",
                "python": platform.python_version(),
                "ratio": "a rival's loss on evaluation data over ours: above 1 ours is better",
                "summary": summary(cells),
                "head_start": head_start(cells),
                "cells": cells,
            }
            write_json(asked.output, value)
    print(json.dumps([*summary(cells), *head_start(cells)], indent=2))


if __name__ == "__main__":
    main()
