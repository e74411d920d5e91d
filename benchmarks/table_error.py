"""Whether the table adds up: predicted against measured time of whole networks on this computer, for random mixed Plans.

    python benchmarks/table_error.py --measure      rows of exactly these Plans, into the host's table
    python benchmarks/table_error.py --score        the Plans end to end; prints the errors
    python benchmarks/table_error.py --score --write

Ten Plans of each network: every Layer gets an Option of the Space at random, mostly in one data type, and some Groups lose
channels. Weights are pruned by magnitude, since times depend on structure and not on values. Rows are those of `autocompress
bench`, Plans run as model.acm in the C runtime on the same CPU. Both parts go on where they were stopped.

Besides the sum of the rows, the end-to-end line (a + b x sum) is scored: fitted on half of the networks, for the others.
With --write the result goes to results/benchmarks/table_error.json. Needs an idle machine, timm and the extra `demo`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
import types
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from autocompress.compressors.candidate import Candidate
from autocompress.compressors.pruning import magnitude_mask, to_matrix, to_weight
from autocompress.compressors.quantization import Quantizer, largest_code, round_to_grid, to_half
from autocompress.deployment.program import program
from autocompress.deployment.verify import OpRow, op_rows
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.files import write_json
from autocompress.kernels.artifact import write_artifact
from autocompress.kernels.bench import Settings, measure
from autocompress.kernels.devices import this_machine
from autocompress.kernels.jobs import has_kernel
from autocompress.kernels.remote import StepTiming, run_on_device
from autocompress.kernels.table import LatencyTable, RowKey
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
TITLE = "error of the sum of rows, and of the line fitted on other networks: median, 95th percentile, bias"
#: Rounds in which each Plan is timed, milliseconds of runs in each, and the fewest runs.
ROUNDS, ROUND_MS, FEWEST = 5, 200.0, 15


def timm_model(name: str) -> torch.nn.Module:
    """A timm network with random weights."""
    # timm imports torchvision, whose PyPI wheel registers CUDA operators on import and fails beside a CPU-only torch.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    import timm

    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model(name)
    return model.eval()


#: Name -> (model, input shape).
NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, int, int]]] = {
    "fashion-mnist": (lambda: load_network("mobilenet"), (1, 28, 28)),
    "fashion-mnist-resnet": (lambda: load_network("resnet"), (1, 28, 28)),
    "efficientnet-lite0": (load_model, (3, 224, 224)),
    "mobilenetv4-conv-small": (lambda: timm_model("mobilenetv4_conv_small"), (3, 224, 224)),
}


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


@dataclass(frozen=True)
class Timed:
    """A Plan from end to end.

    Attributes:
        plan, kernels: hashes of the Plan and of the kernels' sources.
        ms, low_ms, high_ms: median of a run, 10th and 90th percentile.
        steps: (name, kernel, microseconds) of each.
    """

    network: str
    seed: int
    plan: str
    kernels: str
    ms: float
    low_ms: float
    high_ms: float
    steps: tuple[tuple[str, str, float], ...]


def timed(subject: Subject, seed: int, table: LatencyTable) -> Timed:
    """Run one Plan in the C runtime, in rounds: that with the fastest median counts, since in the others the clock was slower.

    Rows are timed again beside a slower clock, too.
    """
    plan = subject.plan(seed)
    repeat = max(FEWEST, round(ROUND_MS / subject.latency(table)(plan).ms))
    made = program(subject.candidate(plan))
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder) / "model.acm"
        write_artifact(made, path)
        inputs = np.random.default_rng(0).standard_normal((1, *made.input_shape)).astype(np.float32)
        rounds = [run_on_device(table.target, table.core, path, inputs, made.output_shape, repeat=repeat) for _ in range(ROUNDS)]
    whole = min((done.whole for done in rounds if done.whole is not None), key=lambda timing: timing.microseconds)
    ms = (whole.microseconds / 1e3, whole.low / 1e3, whole.high / 1e3)
    # Steps are timed in runs of their own: the fastest of those.
    steps = min((done.steps for done in rounds), key=lambda steps: math.fsum(step.microseconds for step in steps))
    rows = tuple((step.name, step.kernel, step.microseconds) for step in steps)
    return Timed(subject.name, seed, plan.key, kernels_hash(), *ms, rows)


@dataclass(frozen=True)
class Line:
    """The end-to-end line of a device: time of a network = intercept_ms + slope x sum of its rows."""

    intercept_ms: float = 0.0
    slope: float = 1.0

    def ms(self, sum_us: float) -> float:
        """Milliseconds of a network whose rows sum up to that."""
        return self.intercept_ms + self.slope * sum_us / 1e3


def fit_line(sums_us: Sequence[float], measured_ms: Sequence[float]) -> Line:
    """The line with the least squared relative error; its intercept is not negative, since no rows take no less than no time.

    Args:
        sums_us: of the rows of some networks, all positive.
        measured_ms: of the same networks end to end, all positive.
    """
    sums, measured = np.asarray(sums_us) / 1e3, np.asarray(measured_ms)
    columns = np.stack([1 / measured, sums / measured], axis=1)
    ones = np.ones(len(measured))
    if len(measured) > 1:
        intercept, slope = np.linalg.lstsq(columns, ones, rcond=None)[0]
        if intercept >= 0 and slope > 0:
            return Line(float(intercept), float(slope))
    return Line(0.0, float(columns[:, 1].sum() / np.square(columns[:, 1]).sum()))


@dataclass(frozen=True)
class Scored:
    """A Plan's sum of rows beside its time."""

    timed: Timed
    sum_ms: float
    ops: tuple[OpRow, ...]

    def error(self, line: Line) -> float:
        """(predicted - measured) / measured."""
        return line.ms(self.sum_ms * 1e3) / self.timed.ms - 1


def scored(subject: Subject, found: Timed, table: LatencyTable) -> Scored:
    told = subject.latency(table)(subject.plan(found.seed))
    steps = tuple(StepTiming(*step) for step in found.steps)
    return Scored(found, math.fsum(op.microseconds for op in told.ops) / 1e3, op_rows(steps, told.ops))


def figures(errors: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile of the errors' magnitude, and the median error."""
    sizes = np.abs(errors)
    return {
        "median": round(float(np.median(sizes)), 4),
        "p95": round(float(np.percentile(sizes, 95)), 4),
        "bias": round(float(np.median(errors)), 4),
    }


def held_out_errors(plans: Sequence[Scored]) -> dict[str, list[float]]:
    """Errors of every network's Plans on the lines fitted on every half of the networks that leaves it out."""
    names = list(dict.fromkeys(plan.timed.network for plan in plans))
    errors: dict[str, list[float]] = {name: [] for name in names}
    for half in combinations(names, len(names) // 2):
        line = line_of([plan for plan in plans if plan.timed.network in half])
        for plan in plans:
            if plan.timed.network not in half:
                errors[plan.timed.network].append(plan.error(line))
    return errors


def line_of(plans: Sequence[Scored]) -> Line:
    return fit_line([plan.sum_ms * 1e3 for plan in plans], [plan.timed.ms for plan in plans])


def by_kernel(plans: Sequence[Scored]) -> list[dict[str, Any]]:
    """Shares of a network's measured time: of each kernel's steps, measured and predicted, the largest difference first.

    The rows of an op of several steps count for the last one.
    """
    measured: dict[str, float] = defaultdict(float)
    predicted: dict[str, float] = defaultdict(float)
    for plan in plans:
        for op in plan.ops:
            name, whole = op.kernel or "no step", plan.timed.ms * 1e3 * len(plans)
            measured[name] += (op.measured or 0.0) / whole
            predicted[name] += (op.predicted or 0.0) / whole
    rows = [{"kernel": name, "measured": round(measured[name], 5), "predicted": round(predicted[name], 5)} for name in measured]
    return sorted(rows, key=lambda row: -abs(row["predicted"] - row["measured"]))


def report(plans: Sequence[Scored], console: Console) -> dict[str, Any]:
    """Print the errors; return them."""
    own, line = Line(), line_of(plans)
    held_out = held_out_errors(plans)
    networks = {}
    shown = Table("network", "plans", "sum", "p95", "bias", "line", "p95", "bias", "ms", title=TITLE)
    groups: dict[str, list[Scored]] = {name: [plan for plan in plans if plan.timed.network == name] for name in held_out}
    for name, mine in [*groups.items(), ("all", list(plans))]:
        others = held_out[name] if name in held_out else [error for errors in held_out.values() for error in errors]
        told = {"plans": len(mine), "sum": figures([plan.error(own) for plan in mine]), "held_out_line": figures(others)}
        networks[name] = told
        columns = [f"{told[which][key]:+.1%}" for which in ("sum", "held_out_line") for key in ("median", "p95", "bias")]
        times = [plan.timed.ms for plan in mine]
        shown.add_row(name, str(len(mine)), *columns, f"{min(times):.2f} to {max(times):.2f}")
    console.print(shown)
    console.print(f"line of all: {line.intercept_ms * 1e3:.1f} us + {line.slope:.4f} x sum")
    fitted = figures([plan.error(line) for plan in plans])
    console.print(f"on it: median {fitted['median']:.1%}, 95th percentile {fitted['p95']:.1%}")
    return {
        "networks": networks,
        "line": {**asdict(line), **fitted},
        "plans": [
            {
                "network": plan.timed.network,
                "plan": plan.timed.plan,
                "sum_ms": round(plan.sum_ms, 5),
                "measured_ms": round(plan.timed.ms, 5),
                "low_ms": round(plan.timed.low_ms, 5),
                "high_ms": round(plan.timed.high_ms, 5),
            }
            for plan in plans
        ],
    }


def show_kernels(plans: Sequence[Scored], console: Console) -> None:
    """Where the differences come from: a kernel's share of the measured time of its networks, and of the predicted."""
    for name in dict.fromkeys(plan.timed.network for plan in plans):
        mine = [plan for plan in plans if plan.timed.network == name]
        shown = Table("kernel", "measured", "predicted", "difference", title=name)
        for row in by_kernel(mine)[:14]:
            measured, predicted = row["measured"], row["predicted"]
            shown.add_row(row["kernel"], f"{measured:.2%}", f"{predicted:.2%}", f"{predicted - measured:+.2%}")
        console.print(shown)


def load(path: Path) -> dict[tuple[str, int], Timed]:
    """Plans that were timed before, of today's kernels."""
    if not path.exists():
        return {}
    values = json.loads(path.read_text(encoding="utf-8"))
    plans = [Timed(**{**value, "steps": tuple(map(tuple, value["steps"]))}) for value in values]
    return {(plan.network, plan.seed): plan for plan in plans if plan.kernels == kernels_hash()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure the rows")
    parser.add_argument("--score", action="store_true", help="time the Plans and compare")
    parser.add_argument("--again", action="store_true", help="also what is there already")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--kernels", action="store_true", help="show the differences by kernel")
    parser.add_argument("--plans", type=int, default=10, help="of each network")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--tries", type=int, default=5, help="as for autocompress bench")
    parser.add_argument("--timings", type=Path, default=RESULT.parent.parent / "table_error" / "timings.json")
    arguments = parser.parse_args()
    console = Console()
    torch.set_num_threads(1)
    subjects = {name: Subject.of(name) for name in arguments.networks}
    target = load_target("host")
    if arguments.measure:
        keys = needed(list(subjects.values()), arguments.plans)
        console.print(f"{len(keys)} rows")
        settings = Settings(tries=arguments.tries, again=arguments.again)
        with Progress(console=console) as progress:
            task = progress.add_task("rows", total=len(keys))
            done = measure(
                target, target.core(), keys, settings, lambda n, total, _: progress.update(task, completed=n, total=total)
            )
        console.print(f"{done.measured} measured, {done.present} there before, {done.unsteady} unsteady")
        if done.refused or done.missing:
            raise SystemExit(f"rows that cannot be measured: {done.refused} {done.missing}")
    if not arguments.score:
        return
    table = LatencyTable.for_target(target)
    wanted = [(name, seed) for name in subjects for seed in range(arguments.plans)]
    known = {} if arguments.again else load(arguments.timings)
    # Round by round, so that no network has all its Plans in one hour's clock.
    todo = sorted((pair for pair in wanted if pair not in known), key=lambda pair: pair[1])
    for name, seed in track(todo, "plans", console=console):
        known[name, seed] = timed(subjects[name], seed, table)
        write_json(arguments.timings, [asdict(plan) for plan in known.values()])
    plans = [scored(subjects[name], known[name, seed], table) for name, seed in wanted]
    modelled = sum(row.source == "modelled" for row in table.rows.values())
    if modelled:
        raise SystemExit(f"{modelled} rows of these Plans are not measured: run --measure first.")
    value = report(plans, console)
    if arguments.kernels:
        show_kernels(plans, console)
    if arguments.write:
        about = {"machine": machine(), "date": date.today().isoformat(), "kernels": kernels_hash(), "rows": len(table.rows)}
        shares = {name: by_kernel([plan for plan in plans if plan.timed.network == name]) for name in subjects}
        write_json(RESULT, {**about, **value, "shares_by_kernel": shares})


def machine() -> str:
    info = this_machine()
    return f"{info.product or info.machine}, {len(os.sched_getaffinity(0))} CPUs"


if __name__ == "__main__":
    main()
