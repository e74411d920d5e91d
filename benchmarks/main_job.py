"""How long the main job takes, what it needs and what it finds: twice, the second time with the layer database of the first.

    python benchmarks/main_job.py [-- autocompress options]

Writes results/benchmarks/main_job.json. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import idle

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "main_job.json"


def run(options: list[str], folder: Path, study: str) -> dict[str, Any]:
    """One search in a process of its own; seconds, peak memory and what its reports say."""
    environment = {**os.environ, "AUTOCOMPRESS_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "autocompress", *options, "--study", study, "--results", str(folder / "results")]
    begin = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    seconds = time.perf_counter() - begin
    result = json.loads((folder / "results" / study / "result.json").read_text(encoding="utf-8"))
    everything = [*result["points"], *result["baselines"]]
    best = next(point for point in everything if point["trial"] == result["best"])
    rivals = [point for point in result["baselines"] if point["feasible"] and point["trial"] != best["trial"]]
    phases = result["provenance"]["seconds"]
    useful = (
        phases["layer database"]
        + phases["activation ranges"]  # a part of the database
        + phases["error table"]
        + phases["evaluating trials"]
        + phases["finalists"]
        + phases["evaluation"]
    )
    return {
        "command": "autocompress " + " ".join(options),
        "seconds": round(seconds, 1),
        # Of the largest child so far: the first run builds the database and is the larger one.
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "phases": phases,
        "overhead": round(1 - useful / seconds, 3),
        "trials": len(everything),
        "data": result["provenance"]["data"],
        "latency_source": result["latency_source"],
        "budget_ms": result["budget_ms"],
        "dense_ms": result["dense_ms"],
        "best": {name: best[name] for name in ("trial", "name", "latency_ms", "search_loss", "loss", "metric", "size_bytes")},
        "baselines_within_budget": {
            point["name"]: {"loss": point["loss"], "metric": point["metric"], "times_the_best_loss": point["loss"] / best["loss"]}
            for point in rivals
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("options", nargs="*", default=["--target", "pixel7", "--budget", "5ms"], help="options for autocompress")
    options = parser.parse_args().options
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: run(options, Path(folder), name) for name in ("first", "second")}
    value = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{idle.cpu()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        "runs": runs,
    }
    RESULT.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()
