"""Searched networks of the ResNet class on this computer, against the int8 networks of LiteRT, ExecuTorch and ONNX Runtime.

    python benchmarks/searched.py --write

For each network the rows of its Space are measured here, as `autocompress bench --target host` does. The dense int8 network, with
the product's own calibration and correction, is written for every peer with the same codes and formats, and timed, in the ways of
benchmarks/peers.py. Then a search on target `host` gets the time of the fastest peer whose outputs are right, divided by SPEEDUP,
as its budget, with this computer attached: its best Plans run here, and the search goes on until they keep the budget. The best
one is fine-tuned for MINUTES. What comes out is timed beside all peers in one process, in turns; fine-tuning changes no time.
Agreement is with the dense fp32 network on evaluation inputs, which neither saw.

A network with random weights would not do: there is nothing that it is right about; so ResNet-18 is trained first
(resnet18_task.py). Needs the environment of benchmarks/peers.py.
"""

from __future__ import annotations

import collections
import datetime
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import idle
import numpy as np
import peers
from numpy.typing import NDArray
from peer_runtimes import Model
from resnet18_task import resnet18
from rich.console import Console

from autocompress.api import Prepared, prepare, run_search
from autocompress.attached import verify_best
from autocompress.compressors.candidate import Candidate
from autocompress.errors import UserError
from autocompress.evaluators.loss import outputs
from autocompress.evaluators.needed_rows import needed_rows
from autocompress.files import write_json
from autocompress.finetuning import finetune_plan
from autocompress.kernels.bench import Settings, measure
from autocompress.kernels.targets import Target, load_target
from autocompress.kernels.toolchain import kernels_hash
from autocompress.outcome import choose_best
from autocompress.progress import Phases, Terminal
from autocompress.search.study import evaluated
from autocompress.settings import Budget, SearchSettings
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan
from autocompress.tasks.loader import load_task
from autocompress.tasks.task import Task, evaluation_data

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "searched.json"
#: How many times as fast as the fastest peer's int8 network the searched one shall be.
SPEEDUP = 1.5
#: Trials of a search, minutes of fine-tuning, and evaluation inputs whose answers are compared.
TRIALS, MINUTES, COMPARED = 100, 5.0, 2000
#: How many fewer answers than with our int8 network a peer may share with the fp32 network, as a share, and count as right.
STRAY = 0.02
#: The searched network, that one before it was fine-tuned, and our own dense int8 one.
SEARCHED, ONE_SHOT, DENSE = "searched", "searched, one-shot", peers.OURS


#: Name -> Task.
TASKS: dict[str, Callable[[], Task]] = {
    "fashion-mnist-resnet": lambda: load_task("fashion-mnist-resnet"),
    "resnet18": resnet18,
}


def searched(
    task: Task, target: Target, budget_ms: float, results: Path, phases: Phases
) -> tuple[Candidate, Candidate, dict[str, Any]]:
    """The network that a search within the budget returns, before and after fine-tuning, and what to tell of it.

    Raises:
        UserError: no Plan keeps the budget here.
    """
    settings = SearchSettings(Budget(ms=budget_ms), TRIALS, results=results, device="local")
    search = verify_best(run_search(task, target, settings, phases))
    trials = evaluated(search.study, search.problem)
    best = choose_best(search, trials, lambda *_: None)
    if best is None or search.attached is None:
        raise UserError(f"{task.name}: no Plan runs within {budget_ms:.4g} ms here.")
    trial = next(trial for trial in trials if trial.number == best)
    options = collections.Counter(f"{option.structure} {option.bits} bit" for option in trial.plan.values())
    told = {"trial": best, "predicted_ms": trial.ms, "bias": search.attached.bias, "layers": dict(options.most_common())}
    one_shot = search.prepared.recovered(trial.plan)
    with phases.phase("fine-tuning") as update:
        trained = finetune_plan(search.prepared, trial.plan, MINUTES, results, update)
    told["fine-tuning"] = {"minutes": round(trained.minutes, 2), "loss": [trained.loss_before, trained.loss_after]}
    return one_shot, trained.candidate, told


def with_fp32(ways: Mapping[str, Callable[[NDArray[np.float32]], Model]], prepared: Prepared) -> dict[str, dict[str, float]]:
    """Agreement of each runtime with the dense fp32 network on evaluation inputs, and top-1 accuracy where these have labels."""
    inputs, labels = evaluation_data(prepared.task)
    inputs = inputs[:COMPARED]
    wanted = outputs(prepared.evaluator.dense.run, inputs).double().numpy()
    told = {}
    for way, load in ways.items():
        found = peers.outputs(load, inputs.numpy())
        told[way] = peers.agreement(found, wanted)
        if labels is not None:
            told[way]["top1"] = float(np.mean(found.argmax(1) == labels[:COMPARED].numpy()))
    return told


def row(name: str, seconds: float, folder: Path, console: Console) -> dict[str, Any]:
    """One network."""
    phases = Phases(Terminal(console))
    task, target = TASKS[name](), load_target("host")
    prepared = prepare(task, target, SearchSettings(results=folder), phases)
    with phases.phase("measure") as update:
        measure(target, target.core(), needed_rows(prepared.profile.latency), Settings(), update)
    dense = prepared.recovered(Plan.of({layer.name: Option("dense", 0.0, 8) for layer in prepared.profile.layers}))
    ways = {way: peers.prepare(way, dense) for way in peers.WAYS["int8"]}
    x = evaluation_data(task)[0][0].numpy()
    told = with_fp32(ways, prepared)
    wrong = [way for way in ways if told[way]["same_class"] < told[DENSE]["same_class"] - STRAY]
    with pinned():
        first = fastest(peers.time_ways({way: load(x) for way, load in ways.items()}, seconds))
    budget_ms = first[peers.best(first, wrong)] / SPEEDUP
    one_shot, network, search = searched(task, target, budget_ms, folder, phases)
    own = partial(peers.ours, network)
    told |= with_fp32({SEARCHED: own, ONE_SHOT: partial(peers.ours, one_shot)}, prepared)
    models = {way: load(x) for way, load in ways.items()} | {SEARCHED: own(x)}
    with pinned():
        times = peers.time_ways(models, seconds)
    ms = fastest(times)
    rivals = {way: each for way, each in ms.items() if way != SEARCHED}
    best = {which: peers.best(rivals, but) for which, but in (("all", []), ("right", wrong))}
    return {
        "network": name,
        "budget_ms": round(budget_ms, 5),
        "ms": {way: round(each, 5) for way, each in ms.items()},
        "all_runs_ms": {
            way: [round(float(q), 5) for q in np.percentile([run for turn in turns for run in turn], (10, 50, 90))]
            for way, turns in times.items()
        },
        "agreement": told,
        "wrong": wrong,
        "best": best,
        "times_as_fast": {which: round(ms[way] / ms[SEARCHED], 3) for which, way in best.items()},
        "search": search,
    }


@contextmanager
def pinned() -> Iterator[None]:
    """This thread stays on one core."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def fastest(times: Mapping[str, list[list[float]]]) -> dict[str, float]:
    """The time of each runtime that counts."""
    return {way: idle.fastest_round(turns) for way, turns in times.items()}


def main() -> None:
    arguments = peers.options(__doc__, RESULT, tuple(TASKS))
    console = Console()
    with pinned():
        idle.begin(arguments.busy)
    rows = []
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        for name in arguments.networks:
            rows.append(row(name, arguments.seconds, Path(folder), console))
            show(rows[-1], console)
    result = {
        "machine": f"{idle.cpu()}, {platform.system()}",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in peers.VERSIONS},
        "kernels": kernels_hash(),
        "geometric_means": {
            which: round(statistics.geometric_mean(row["times_as_fast"][which] for row in rows), 3) for which in ("all", "right")
        },
        "networks": rows,
    }
    console.print(result["geometric_means"])
    if arguments.write:
        write_json(RESULT, result)


def show(told: Mapping[str, Any], console: Console) -> None:
    """Print a row."""
    console.print(f"{told['network']}: {told['times_as_fast']} times as fast as {told['best']}; {told['search']}")
    for way, each in told["agreement"].items():
        ms = told["ms"].get(way, told["ms"][SEARCHED])
        top1 = f", top-1 {each['top1']:.1%}" if "top1" in each else ""
        wrong = " WRONG" if way in told["wrong"] else ""
        console.print(f"  {way:18} {ms:8.3f} ms, same answer {each['same_class']:.1%}{top1}, noise {each['noise']:.3f}{wrong}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
