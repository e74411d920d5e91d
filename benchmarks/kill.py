"""Kill a search at random moments until it is done, and compare with one that was left alone.

    python benchmarks/kill.py [--kills 20] [--seed 0] [-- autocompress options]

The killed search must end with the same trials and the same front; otherwise the exit code is 1.
Writes results/benchmarks/kill.json, which keeps the last run of every command.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from autocompress.files import write_json
from autocompress.search.journal import open_journal

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "kill.json"


def command(options: list[str], results: Path) -> list[str]:
    return [sys.executable, "-m", "autocompress", *options, "--study", "study", "--results", str(results)]


def finished(results: Path) -> list[dict[str, Any]]:
    """Parameters and values of the finished trials, in order."""
    path = results / "study" / "study.journal"
    if not path.exists():
        return []
    storage = open_journal(path)
    if not storage.get_all_studies():
        return []
    study = optuna.load_study(study_name="study", storage=storage)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [{"params": trial.params, "values": trial.values} for trial in trials]


def front(results: Path) -> list[tuple[float, float]]:
    """Latency and search loss of the front's points."""
    value = json.loads((results / "study" / "front.json").read_text(encoding="utf-8"))
    points = [*value["points"], *value["baselines"]]
    return sorted((point["latency_ms"], point["search_loss"]) for point in points if point["on_front"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    default = ["--task", "fashion-mnist-resnet", "--target", "pixel7", "--budget", "1.5x", "--trials", "200"]
    parser.add_argument("options", nargs="*", default=default)
    arguments = parser.parse_args()
    random_ = random.Random(arguments.seed)
    kills, lost, after = 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        environment = {**os.environ, "AUTOCOMPRESS_CACHE": str(Path(folder) / "cache-alone")}
        begin = time.perf_counter()
        subprocess.run(command(arguments.options, alone), env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        environment["AUTOCOMPRESS_CACHE"] = str(Path(folder) / "cache-killed")
        while kills < arguments.kills:
            before = finished(killed)
            process = subprocess.Popen(
                command(arguments.options, killed), env=environment, stdout=subprocess.DEVNULL, start_new_session=True
            )
            delay = random_.uniform(0.05, 1.0) * seconds / 6  # so that 20 kills strike in every phase
            try:
                process.wait(delay)
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            kills += 1
            now = finished(killed)
            lost += now[: len(before)] != before
            after.append({"seconds": round(delay, 1), "finished_trials": len(now)})
            print(f"kill {kills}: after {delay:.1f} s, {len(now)} finished trials", flush=True)
        subprocess.run(command(arguments.options, killed), env=environment, check=True, stdout=subprocess.DEVNULL)
        value = {
            "date": datetime.date.today().isoformat(),
            "command": "autocompress " + " ".join(arguments.options),
            "kills": after,
            "kills_that_lost_a_finished_trial": lost,
            "same_trials": finished(killed) == finished(alone),
            "same_front": front(killed) == front(alone),
            "trials": len(finished(alone)),
        }
    runs = json.loads(RESULT.read_text(encoding="utf-8"))["runs"] if RESULT.exists() else []
    write_json(RESULT, {"runs": [*(run for run in runs if run["command"] != value["command"]), value]})
    print(json.dumps(value, indent=2))
    if lost or not value["same_trials"] or not value["same_front"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
