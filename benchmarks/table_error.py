"""Whether the table adds up: predicted against measured time of whole networks on this computer, for random mixed Plans.

    python benchmarks/table_error.py --write
    python benchmarks/table_error.py smoke      two Plans of one small network: does it run?

Ten Plans of each network: every Layer gets an Option of the Space at random, mostly in one data type, and some Groups lose
channels. Weights are pruned by magnitude and are random but for the built-in tasks', since times depend on structure and not on
values. First those rows of just these Plans that the host's table lacks are measured, as `autocompress bench` does. Then the
Plans run as model.acm in the C runtime on the same CPU, in rounds of all Plans one after the other. As for rows, the time of a
Plan is that of its fastest round, and Plans whose two fastest rounds differ by more than 3 % run in more of them.

Errors are those of the plain sum of the rows, and of the end-to-end line (a + b x sum) that is fitted on two of the networks and
scored on the two that were kept aside. With --write the result goes to results/benchmarks/table_error.json, which belongs to the
repository. Needs timm and the extra `demo`.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import idle
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, TaskID, track
from rich.table import Table

from autocompress.compressors.candidate import Candidate
from autocompress.compressors.pruning import magnitude_mask, to_matrix, to_weight
from autocompress.compressors.quantization import Quantizer, largest_code, round_to_grid, to_half
from autocompress.deployment.program import program
from autocompress.deployment.verify import OpRow, op_rows
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.files import write_json
from autocompress.kernels.artifact import write_artifact
from autocompress.kernels.bench import Settings, Update, measure
from autocompress.kernels.jobs import has_kernel
from autocompress.kernels.line import Line, fit_line
from autocompress.kernels.remote import Round, fastest_round, rounds_agree, run_on_device
from autocompress.kernels.table import LatencyTable, RowKey, unsteady_keys
from autocompress.kernels.targets import load_target
from autocompress.kernels.toolchain import kernels_hash
from autocompress.spaces.capture import capture
from autocompress.spaces.groups import Group, find_groups
from autocompress.spaces.layers import find_layers
from autocompress.spaces.network import INPUT, Network
from autocompress.spaces.option import BLOCKS, Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.remove_channels import remove_channels
from autocompress.spaces.space import Space, build_space, removable
from autocompress.tasks.efficientnet_lite0 import load_model
from autocompress.tasks.fashion_mnist import load_network

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "table_error.json"
#: Share of a Plan's Layers that keep to its main data type, and of its Groups that may lose channels.
LOYAL, PRUNED = 0.75, 0.3
MAIN_BITS = (8, 8, 16, 32)
TITLE = "error of the sum of rows, and of the fitted line: median, 95th percentile, bias"
#: Plans of each network, and rounds at most.
PLANS, MOST_ROUNDS = 10, 10
#: Milliseconds of runs in a round, and the fewest runs.
ROUND_MS, FEWEST = 200.0, 20


def timm_model(name: str, **settings: int) -> torch.nn.Module:
    """A timm network with random weights; `settings` are timm's own."""
    # timm imports torchvision, whose PyPI wheel registers CUDA operators on import and fails beside a CPU-only torch.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    import timm

    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model(name, **settings)
    return model.eval()


#: Name -> (model, input shape).
NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, int, int]]] = {
    "fashion-mnist": (lambda: load_network("mobilenet"), (1, 28, 28)),
    "efficientnet-lite0": (load_model, (3, 224, 224)),
    "fashion-mnist-resnet": (lambda: load_network("resnet"), (1, 28, 28)),
    "mobilenetv4-conv-small": (lambda: timm_model("mobilenetv4_conv_small"), (3, 224, 224)),
}
#: Networks on whose Plans no line is fitted.
ASIDE = frozenset({"fashion-mnist-resnet", "mobilenetv4-conv-small"})


@dataclass(frozen=True)
class Subject:
    """A network whose Plans are timed."""

    name: str
    network: Network
    groups: tuple[Group, ...]
    space: Space

    @staticmethod
    def of(name: str) -> Subject:
        build, shape = NETWORKS[name]
        network = capture(build(), torch.zeros(1, *shape))
        groups = removable(find_groups(network))
        target = load_target("host")
        # The analytic model's Space: the same one whatever has been measured.
        latency = LatencyEvaluator(network, groups, LatencyTable(target, target.core()))
        space = build_space(
            find_layers(network),
            groups,
            lambda layer, structure, bits: (
                latency.supports(layer, structure, bits)
                and has_kernel(latency.layer_geometry(layer.name, {}), "dense" if structure == "channel" else structure, bits)
            ),
            latency.alone_microseconds,
        )
        return Subject(name, network, groups, space)

    def latency(self, table: LatencyTable) -> LatencyEvaluator:
        return LatencyEvaluator(self.network, self.groups, table)

    def plan(self, seed: int) -> Plan:
        """A random Plan, the same on every machine."""
        chooser = random.Random(f"{self.name} {seed}")
        main = chooser.choice(MAIN_BITS)
        pruned = {group.name for group in self.groups if chooser.random() < PRUNED}
        choices = {}
        for layer in self.space.layers:
            group = self.space.group_of(layer.name)
            channels = group is not None and group.name in pruned
            offered = [
                option
                for option in self.space.options[layer.name]
                if option.structure == "dense" or (option.structure == "channel") == channels
            ]
            bits = main if chooser.random() < LOYAL else chooser.choice(sorted({option.bits for option in offered}))
            near = min({option.bits for option in offered}, key=lambda own: (abs(math.log2(own / bits)), own))
            choices[layer.name] = chooser.choice([option for option in offered if option.bits == near])
        return self.space.consistent(choices)

    def candidate(self, plan: Plan) -> Candidate:
        """The network of a Plan, pruned by magnitude and rounded to the nearest."""
        kept = self.latency(LatencyTable(load_target("host"), load_target("host").core())).kept(plan)
        network = remove_channels(self.network, self.groups, {name: torch.arange(count) for name, count in kept.items()})
        tensors, scales = dict(network.tensors), {}
        for name, option in plan.items():
            groups = network.op(name).attributes.get("groups", 1)
            tensors[f"{name}.weight"], scale = compressed(tensors[f"{name}.weight"], option, groups)
            if scale is not None:
                scales[name] = scale
        quantizers = dict.fromkeys([INPUT, *(op.name for op in network.ops)], Quantizer(0.05, 0))
        return Candidate.of(plan, replace(network, tensors=tensors), quantizers, scales)


def compressed(weight: torch.Tensor, option: Option, groups: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A weight under an Option, and the steps of its rows' grids if they are integers."""
    matrix = to_matrix(weight, groups)
    if option.structure in BLOCKS:
        matrix = matrix * magnitude_mask(matrix, option.structure, option.sparsity, weight.shape[1])
    if option.bits == 16:
        matrix = to_half(matrix)
    if option.bits >= 16:
        return to_weight(matrix, tuple(weight.shape)), None
    scale = matrix.abs().amax(2, keepdim=True).clamp(min=1e-8) / largest_code(option.bits)
    return to_weight(round_to_grid(matrix, scale, option.bits), tuple(weight.shape)), scale.flatten()


def needed(subjects: Sequence[Subject], count: int) -> list[RowKey]:
    """The rows that the Plans ask for, each once."""
    target = load_target("host")
    found: dict[RowKey, None] = {}
    for subject in subjects:
        latency = subject.latency(LatencyTable(target, target.core()))
        for seed in range(count):
            latency(subject.plan(seed))
        found.update(dict.fromkeys(latency.table.rows))
    return list(found)


def measure_rows(keys: Sequence[RowKey], tries: int, console: Console) -> LatencyTable:
    """The host's table with all these rows measured."""
    target = load_target("host")
    with Progress(console=console) as progress:
        task = progress.add_task("rows", total=None)
        done = measure(target, target.core(), keys, Settings(tries=tries), _updating(progress, task))
    console.print(f"{done.measured} rows measured, {done.present} there before, {done.unsteady} unsteady in all")
    if done.refused or done.missing:
        raise SystemExit(f"rows that cannot be measured: {done.refused} {done.missing}")
    return LatencyTable.for_target(target)


def _updating(progress: Progress, task: TaskID) -> Update:
    return lambda count, total, _: progress.update(task, completed=count, total=total)


@dataclass(frozen=True)
class Scored:
    """A Plan's sum of rows beside its time from end to end.

    Attributes:
        plan: hash of the Plan.
        ms: of the fastest round; second_ms, slowest_ms: of the second fastest and of the slowest.
        rounds: how many there were.
        steady: whether the two fastest agree.
        sum_ms: of the rows.
        ops: times of the ops, measured and predicted.
    """

    network: str
    plan: str
    ms: float
    second_ms: float
    slowest_ms: float
    rounds: int
    steady: bool
    sum_ms: float
    ops: tuple[OpRow, ...]

    def error(self, line: Line) -> float:
        """(predicted - measured) / measured."""
        return line.ms(self.sum_ms * 1e3) / self.ms - 1


def timed_round(path: Path, network: Network, repeat: int, table: LatencyTable) -> Round:
    inputs = np.random.default_rng(0).standard_normal((1, *network.shapes[INPUT])).astype(np.float32)
    shape = network.shapes[network.output]
    done = run_on_device(table.target, table.core, path, inputs, shape, repeat=repeat, rounds=1)
    assert done.timed is not None
    return done.timed


def time_plans(subjects: Mapping[str, Subject], count: int, table: LatencyTable, console: Console) -> list[Scored]:
    """Every Plan in rounds, one round of all Plans after the other, until its two fastest agree."""
    plans = {(name, seed): subject.plan(seed) for name, subject in subjects.items() for seed in range(count)}
    found: dict[tuple[str, int], list[Round]] = {key: [] for key in plans}
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        paths = {key: Path(folder) / f"{key[0]}-{key[1]}.acm" for key in plans}
        for (name, seed), plan in track(plans.items(), "networks", console=console):
            write_artifact(program(subjects[name].candidate(plan)), paths[name, seed])
        repeats = {
            (name, seed): max(FEWEST, round(ROUND_MS / subjects[name].latency(table)(plan).ms))
            for (name, seed), plan in plans.items()
        }
        for number in range(MOST_ROUNDS):
            lacking = [key for key in plans if not rounds_agree(found[key])]
            if not lacking:
                break
            for key in track(lacking, f"round {number + 1}", console=console):
                found[key].append(timed_round(paths[key], subjects[key[0]].network, repeats[key], table))
    return [scored(name, subjects[name], plan, found[name, seed], table) for (name, seed), plan in plans.items()]


def scored(name: str, subject: Subject, plan: Plan, rounds: Sequence[Round], table: LatencyTable) -> Scored:
    """A Plan that ran in at least two rounds."""
    best = fastest_round(rounds)
    told = subject.latency(table)(plan)
    if any(op.source != "measured" for op in told.ops):
        raise SystemExit(f"a Plan of {name} needs rows that are not measured.")
    times = sorted(fastest_round([one]).whole.microseconds / 1e3 for one in rounds)
    total = math.fsum(op.median for op in told.ops) / 1e3
    ms = (best.whole.microseconds / 1e3, times[1], times[-1])
    return Scored(name, plan.key, *ms, len(rounds), rounds_agree(rounds), total, op_rows(best.steps, told.ops))


def figures(errors: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile of the errors' magnitude, and the median error."""
    sizes = np.abs(errors)
    return {
        "median": round(float(np.median(sizes)), 4),
        "p95": round(float(np.percentile(sizes, 95)), 4),
        "bias": round(float(np.median(errors)), 4),
    }


def by_kernel(plans: Sequence[Scored]) -> list[dict[str, Any]]:
    """Shares of a network's measured time: of each kernel's steps, measured and predicted, the largest difference first.

    The rows of an op of several steps count for the last one.
    """
    measured: dict[str, float] = defaultdict(float)
    predicted: dict[str, float] = defaultdict(float)
    for plan in plans:
        for op in plan.ops:
            name, whole = op.kernel or "no step", plan.ms * 1e3 * len(plans)
            measured[name] += (op.measured or 0.0) / whole
            predicted[name] += (op.predicted or 0.0) / whole
    rows = [{"kernel": name, "measured": round(measured[name], 5), "predicted": round(predicted[name], 5)} for name in measured]
    return sorted(rows, key=lambda row: -abs(row["predicted"] - row["measured"]))


def report(plans: Sequence[Scored], console: Console) -> dict[str, Any]:
    """Print the errors; return them."""
    fitted = [plan for plan in plans if plan.network not in ASIDE]
    line = fit_line([plan.sum_ms * 1e3 for plan in fitted], [plan.ms for plan in fitted])
    aside = [plan for plan in plans if plan.network in ASIDE]
    groups: dict[str, Sequence[Scored]] = {name: [plan for plan in plans if plan.network == name] for name in NETWORKS}
    groups |= {"kept aside": aside, "all": plans}
    scores = {}
    shown = Table("network", "plans", "sum", "p95", "bias", "line", "p95", "bias", "ms", title=TITLE)
    for name, mine in groups.items():
        if not mine:
            continue
        told = {"sum": figures([plan.error(Line()) for plan in mine]), "line": figures([plan.error(line) for plan in mine])}
        scores[name] = {"plans": len(mine), **told}
        columns = [f"{told[which][key]:+.1%}" for which in ("sum", "line") for key in ("median", "p95", "bias")]
        times = [plan.ms for plan in mine]
        shown.add_row(name, str(len(mine)), *columns, f"{min(times):.2f} to {max(times):.2f}")
    console.print(shown)
    console.print(f"line: {line.intercept_ms * 1e3:.1f} us + {line.slope:.4f} x sum")
    second, slowest = (
        figures([each / plan.ms - 1 for plan, each in zip(plans, times, strict=True)])
        for times in ([plan.second_ms for plan in plans], [plan.slowest_ms for plan in plans])
    )
    unsteady = sum(not plan.steady for plan in plans)
    for rank, spread in (("second fastest", second), ("slowest", slowest)):
        console.print(
            f"{rank} round of a Plan: median {spread['median']:.1%} above its time, 95th percentile {spread['p95']:.1%}"
        )
    console.print(f"{unsteady} Plans whose two fastest rounds disagree")
    return {
        "scores": scores,
        "line": {"intercept_ms": line.intercept_ms, "slope": line.slope, "fitted_on": sorted({plan.network for plan in fitted})},
        "second_round": {"median": second["median"], "p95": second["p95"]},
        "slowest_round": {"median": slowest["median"], "p95": slowest["p95"]},
        "plans_unsteady": unsteady,
        "plans": [
            {
                "network": plan.network,
                "plan": plan.plan,
                "rounds": plan.rounds,
                "steady": plan.steady,
                **{name: round(getattr(plan, name), 5) for name in ("sum_ms", "ms", "second_ms", "slowest_ms")},
            }
            for plan in plans
        ],
    }


def show_kernels(plans: Sequence[Scored], console: Console) -> None:
    """Where the differences come from: a kernel's share of the measured time of its networks, and of the predicted."""
    for name in dict.fromkeys(plan.network for plan in plans):
        shown = Table("kernel", "measured", "predicted", "difference", title=name)
        for row in by_kernel([plan for plan in plans if plan.network == name])[:14]:
            measured, predicted = row["measured"], row["predicted"]
            shown.add_row(row["kernel"], f"{measured:.2%}", f"{predicted:.2%}", f"{predicted - measured:+.2%}")
        console.print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", choices=["all", "smoke"], default="all")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--kernels", action="store_true", help="show the differences by kernel")
    parser.add_argument("--tries", type=int, default=6, help="as for autocompress bench")
    arguments = parser.parse_args()
    smoke = arguments.size == "smoke"
    if smoke and arguments.write:
        parser.error("two Plans are no result: leave out --write, or smoke")
    console, begin = Console(), time.monotonic()
    torch.set_num_threads(1)
    count = 2 if smoke else PLANS
    subjects = {name: Subject.of(name) for name in (["fashion-mnist"] if smoke else NETWORKS)}
    keys = needed(list(subjects.values()), count)
    table = measure_rows(keys, arguments.tries, console)
    plans = time_plans(subjects, count, table, console)
    value = report(plans, console)
    seconds = round(time.monotonic() - begin)
    console.print(f"{seconds} s")
    if arguments.kernels:
        show_kernels(plans, console)
    if arguments.write:
        unsteady = len(unsteady_keys(table.rows) & set(keys))
        about = {
            "machine": f"{idle.cpu()}, {len(os.sched_getaffinity(0))} CPUs",
            "date": date.today().isoformat(),
            "kernels": kernels_hash(),
            "rows": len(keys),
            "rows_unsteady": unsteady,
            "seconds": seconds,
        }
        shares = {name: by_kernel([plan for plan in plans if plan.network == name]) for name in subjects}
        write_json(RESULT, {**about, **value, "shares_by_kernel": shares})


if __name__ == "__main__":
    main()
