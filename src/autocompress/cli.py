"""The command line. Everything heavy is imported inside the commands, so that help and errors come at once."""

from __future__ import annotations

import json
import gc
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import __version__
from .errors import UserError
from .progress import Phases, Terminal
from .settings import Budget, SearchSettings, parse_objectives, parse_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .api import Prepared, Profile
    from .kernels.bench import Outcome
    from .reports.verified import Verified
    from .spaces.plan import Plan
    from .tasks.task import Task

DEFAULT_TASK, DEFAULT_TARGET = "efficientnet-lite0", "pixel7"

app = typer.Typer(
    name="autocompress",
    epilog="Run without a command, it searches: autocompress --target pixel7 --budget 5ms",
    no_args_is_help=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

TaskOption = Annotated[
    str,
    typer.Option(
        "--task", help="NAME (see `autocompress tasks`), package.module:function or path/file.py:function.", metavar="TASK"
    ),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder with data for the task, such as labelled photographs.", metavar="FOLDER")
]
TargetOption = Annotated[str, typer.Option("--target", help="NAME (see `autocompress targets`) or TOML file.", metavar="TARGET")]
CoreOption = Annotated[str | None, typer.Option("--core", help="Core of the target; its fastest one by default.", metavar="CORE")]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="local, ssh://USER@HOST[:PORT] or adb://SERIAL; as the target says by default.", metavar="URL"),
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder that holds the studies.", metavar="FOLDER")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to stdout and everything else to stderr.")]
StudyArgument = Annotated[str, typer.Argument(help="Name of a study, or its folder.", metavar="STUDY")]


@app.callback(invoke_without_command=True)
def search(
    context: typer.Context,
    task: TaskOption = DEFAULT_TASK,
    target: TargetOption = DEFAULT_TARGET,
    budget: Annotated[
        str | None,
        typer.Option(help="Latency: 5ms, 800us or 2x. Without one the whole front is searched.", metavar="TIME"),
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", help="Most bytes of weights: 4MB, 500KB or 1.5MiB.", metavar="SIZE")
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="What shall be small beside the loss: latency, size, or latency,size. One that has a budget is kept within it.",
            metavar="NAMES",
        ),
    ] = "latency",
    trials: Annotated[int, typer.Option(help="Finished trials that the study shall hold, baselines included.")] = 150,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no new trial begins.")] = None,
    seed: Annotated[int, typer.Option(help="One worker with one seed gives one result.")] = 0,
    sampler: Annotated[str, typer.Option(help="ours, tpe, nsga2, nsga3, random or gp; within a budget also spdy or evopress.")] = "ours",
    study: Annotated[str | None, typer.Option(help="Name; by default from task, target and budget.", metavar="NAME")] = None,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage, as sqlite:///study.db or postgresql://…, to share a study.", metavar="URL")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Continue the study if it exists.")] = True,
    samples: Annotated[
        int | None, typer.Option(help="Calibration inputs that score each trial; by default 32, and up to 128 of small networks.")
    ] = None,
    method: Annotated[str, typer.Option(help="How layers are compressed: obs, or magnitude as a plain baseline.")] = "obs",
    pessimism: Annotated[
        float,
        typer.Option(help="Quantile of the latency's error that must fit: 0.5 the median, 0.9 holds in nine of ten cases."),
    ] = 0.5,
    finetune_: Annotated[
        float | None, typer.Option("--finetune", help="Minutes of training for the best network.", metavar="MINUTES")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Run the best plans on local, ssh://USER@HOST[:PORT] or adb://SERIAL, and tighten the budget until they fit there.",
            metavar="URL",
        ),
    ] = None,
    data: DataOption = None,
    core: CoreOption = None,
    results: ResultsOption = Path("results"),
    json_: JsonOption = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Search for the best compressed network that fits a latency budget, and a size, on an ARM phone.

    Examples:

      autocompress --target pixel7 --budget 5ms

      autocompress --task my_model.py:task --target pixel7 --budget 2x --trials 300

      autocompress --task fashion-mnist --target pixel7           (no budget: the whole front)

      autocompress --target pixel7 --budget 5ms --max-size 4MB    (both hold)

      autocompress --target pixel7 --objective size --max-size 3MB
    """
    if version:
        typer.echo(f"autocompress {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    settings = SearchSettings(
        budget=Budget.parse(budget) if budget is not None else None,
        trials=trials,
        timeout=timeout,
        seed=seed,
        sampler=sampler,
        study=study,
        storage=storage,
        resume=resume,
        results=results,
        core=core,
        search_samples=samples,
        method=method,
        pessimism=pessimism,
        finetune=finetune_,
        max_size=parse_size(max_size) if max_size is not None else None,
        objectives=parse_objectives(objective),
        device=device,
    )
    _search(task, data, target, settings, json_)


def _search(task: str, data: Path | None, target: str, settings: SearchSettings, as_json: bool) -> None:
    console = Console(stderr=as_json)
    from .kernels.targets import load_target

    device = load_target(target)
    phases = Phases(Terminal(console))
    with phases.phase("task"):
        from .api import run_search
        from .attached import verify_best
        from .outcome import conclude, read_front
        from .tasks.loader import load_task

        loaded = load_task(task, data)
    origin = {"task": task, "data": str(data) if data else None, "target": target}
    try:
        done = verify_best(run_search(loaded, device, settings, phases, origin))
        result = conclude(done)
    except KeyboardInterrupt:
        console.print("stopped; finished trials are kept. The same command goes on from here.")
        raise typer.Exit(130) from None
    from .reports.terminal import print_summary

    print_summary(result, console, done.folder)
    if as_json:
        typer.echo(read_front(done.folder))


@app.command()
def resume(
    study: StudyArgument,
    trials: Annotated[int | None, typer.Option(help="Finished trials that the study shall hold in all.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no new trial begins.")] = None,
    results: ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Continue a study with the settings it was begun with.

    Example: autocompress resume efficientnet-lite0-pixel7-5ms --trials 300
    """
    _resume(_study_folder(study, results), trials, timeout, None, json_)


@app.command()
def finetune(
    study: StudyArgument,
    minutes: Annotated[float, typer.Option(help="Minutes of training in all, those of earlier calls counted.")] = 10.0,
    results: ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Train the best network of a study towards the dense one, and write it and the report again.

    It stays as fast as it is. It can be stopped at any time, and goes on from there when it is run again.

    Example: autocompress finetune efficientnet-lite0-pixel7-5ms --minutes 15
    """
    _resume(_study_folder(study, results), None, None, minutes, json_)


def _resume(folder: Path, trials: int | None, timeout: float | None, minutes: float | None, as_json: bool) -> None:
    begun = _read_json(folder / "settings.json")
    try:
        settings = SearchSettings(
            budget=Budget.parse(begun["budget"]) if begun["budget"] else None,
            trials=trials if trials is not None else int(begun["trials"]),
            timeout=timeout,
            seed=int(begun["seed"]),
            sampler=begun["sampler"],
            study=folder.name,
            storage=begun["storage"],
            results=folder.parent,
            core=begun["core"],
            search_samples=begun["search_samples"],
            method=begun["method"],
            # Studies of earlier versions do not have these.
            pessimism=float(begun.get("pessimism", 0.5)),
            finetune=minutes if minutes is not None else begun.get("finetune"),
            max_size=begun.get("max_size"),
            objectives=parse_objectives(begun.get("objectives", "latency")),
            device=begun.get("device"),
        )
        task, data, target = begun["task"], begun["data"], begun["target"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'settings.json'} is damaged ({error}): run the search again with all its options.") from error
    _search(task, Path(data) if data else None, target, settings, as_json)


@app.command()
def report(study: StudyArgument, results: ResultsOption = Path("results"), json_: JsonOption = False) -> None:
    """Show a study's results again, and write its report anew; nothing is computed.

    Example: autocompress report efficientnet-lite0-pixel7-5ms
    """
    from .reports.folder import RESULT, write_reports
    from .reports.result import StudyResult
    from .reports.terminal import print_summary

    folder = _study_folder(study, results)
    result = StudyResult.load(folder / RESULT)
    write_reports(result, folder)
    print_summary(result, Console(stderr=json_), folder)
    if json_:
        from .reports.front import front_json

        typer.echo(json.dumps(front_json(result), indent=2))


@app.command()
def compare(
    samplers: Annotated[str, typer.Option(help="Names with commas between; see --sampler.")] = "ours,tpe,nsga2,random,spdy,evopress",
    trials: Annotated[int, typer.Option(help="Evaluations of each study, baselines included.")] = 100,
    seeds: Annotated[int, typer.Option(help="Studies of each sampler.")] = 3,
    budget: Annotated[str, typer.Option(help="Latency: 5ms, 800us or 2x.", metavar="TIME")] = "2x",
    task: TaskOption = DEFAULT_TASK,
    target: TargetOption = DEFAULT_TARGET,
    study: Annotated[
        str | None, typer.Option(help="Name of the folder; by default from task, target and budget.", metavar="NAME")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Calibration inputs that score each trial; by default 32, and up to 128 of small networks.")
    ] = None,
    data: DataOption = None,
    core: CoreOption = None,
    results: ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Compare samplers: the same baselines, evaluations and seeds for each, and a report of what they find.

    It can be stopped at any time, and goes on from there when it is run again; more trials, seeds or samplers can be added.

    Example: autocompress compare --samplers ours,tpe,spdy --task fashion-mnist --budget 2x --trials 100 --seeds 3
    """
    console = Console(stderr=json_)
    from .kernels.targets import load_target

    device = load_target(target)
    phases = Phases(Terminal(console))
    with phases.phase("task"):
        from .comparison import ComparisonSettings
        from .comparison import compare as run_all
        from .tasks.loader import load_task

        search = SearchSettings(
            budget=Budget.parse(budget), trials=trials, study=study, results=results, core=core, search_samples=samples
        )
        names = tuple(name.strip() for name in samplers.split(",") if name.strip())
        settings = ComparisonSettings(search, names, seeds)
        loaded = load_task(task, data)
    origin = {"task": task, "data": str(data) if data else None, "target": target}
    try:
        comparison, folder = run_all(loaded, device, settings, phases, origin)
    except KeyboardInterrupt:
        console.print("stopped; finished trials are kept. The same command goes on from here.")
        raise typer.Exit(130) from None
    from .reports.terminal import print_comparison

    print_comparison(comparison, console, folder)
    if json_:
        typer.echo(json.dumps(comparison.to_json(), indent=2, allow_nan=False))


@app.command()
def studies(results: ResultsOption = Path("results")) -> None:
    """List the studies.

    Example: autocompress studies --results results
    """
    table = Table("study", "task", "target", "budget", "trials", "best", box=None, pad_edge=False)
    found = sorted(path.parent for path in results.glob("*/settings.json"))
    for folder in found:
        begun = _read_json(folder / "settings.json")
        best, trials = "not finished", "-"
        if (folder / "result.json").exists():
            from .reports.result import StudyResult

            result = StudyResult.load(folder / "result.json")
            trials = str(len(result.everything))
            point = result.best_point
            best = f"{point.latency_ms:.2f} ms ({result.latency_source})" if point else "nothing within budget"
        table.add_row(folder.name, begun.get("task"), begun.get("target"), begun.get("budget") or "front", trials, best)
    Console().print(table if found else f"No studies in {results}. Begin one: autocompress --target pixel7 --budget 5ms")


@app.command()
def tasks() -> None:
    """List the built-in tasks."""
    from .tasks.loader import list_tasks

    table = Table("task", "what it is", box=None, pad_edge=False)
    for name, summary in list_tasks().items():
        table.add_row(name, summary)
    Console().print(table)
    Console().print("[dim]Your own: a function that returns an autocompress.Task, as path/file.py:function[/]")


@app.command()
def targets() -> None:
    """List the targets, with their cores and what is measured of them."""
    from .kernels.table import summary
    from .kernels.targets import list_targets, load_target

    table = Table("target", "device", "core", "source", "rows", "date", box=None, pad_edge=False)
    for name in list_targets():
        device = load_target(name)
        for core in sorted(device.cores, key=lambda core: core.name != device.default_core):
            first = core.name == device.default_core
            found = summary(device, core)
            rows = f"{found.measured}" if found.measured else ""
            notes = [f"{found.unsteady} unsteady"] * bool(found.unsteady) + [f"{found.stale} out of date"] * bool(found.stale)
            table.add_row(
                name if first else "",
                device.description if first else "",
                f"{core.name} {core.ghz:g} GHz",
                "measured" if found.measured else "modelled",
                (rows + (f" ({', '.join(notes)})" if notes else "")).strip(),
                found.date,
            )
    console = Console()
    console.print(table)
    console.print("[dim]The first core of a target is its default. Measure one: autocompress bench --target NAME --core CORE[/]")


@app.command()
def bench(
    target: TargetOption = DEFAULT_TARGET,
    device: DeviceOption = None,
    task: TaskOption = DEFAULT_TASK,
    data: DataOption = None,
    core: CoreOption = None,
    cpu: Annotated[int | None, typer.Option(help="Number of the CPU; the last one of the core's kind by default.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Common shapes of all kernels instead of those of a task.")] = False,
    row_ms: Annotated[float, typer.Option(help="Milliseconds in which a row is repeated in a round.")] = 15.0,
    tries: Annotated[int, typer.Option(help="Rounds at most: rows that are unsteady after two are timed again.")] = 6,
    again: Annotated[bool, typer.Option("--again", help="Measure rows again that are measured already.")] = False,
) -> None:
    """Measure a device: the times of all kernels that a task can use, for searches on that target from then on.

    It can be stopped at any time, and goes on from there when it is run again.

    Examples:

      autocompress bench --target pixel7 --task my_model.py:task

      autocompress bench --target my_phone.toml --device ssh://me@phone:8022
    """
    from .kernels.bench import Settings, general_grid, measure
    from .kernels.devices import open_transport
    from .kernels.table import LatencyTable
    from .kernels.targets import load_target

    settings = Settings(device, cpu, row_ms, tries, again)
    console = Console()
    phases = Phases(Terminal(console))
    chosen = load_target(target)
    measured_core = chosen.core(core)
    if device is not None:
        open_transport(device)
    if everything:
        keys = general_grid(LatencyTable.for_target(chosen, core))
    else:
        from .api import profile as make_profile
        from .evaluators.needed_rows import needed_rows
        from .tasks.loader import load_task

        with phases.phase("task"):
            loaded = load_task(task, data)
        with phases.phase("capture"):
            keys = needed_rows(make_profile(loaded, chosen, core).latency)
    try:
        with phases.phase("measure") as update:
            done = measure(chosen, measured_core, keys, settings, update)
    except KeyboardInterrupt:
        console.print("stopped; measured rows are kept. The same command goes on from here.")
        raise typer.Exit(130) from None
    _print_bench(done, chosen.name, measured_core.name, console)


def _print_bench(done: Outcome, target: str, core: str, console: Console) -> None:
    chosen = next(cpu for cpu in done.info.cpus if cpu.index == done.cpu)
    clock = f", {chosen.max_khz / 1e6:.2f} GHz" if chosen.max_khz else ""
    governor = f", governor {chosen.governor}" if chosen.governor else ""
    console.print(f"{done.url}: {done.info.product or done.info.machine}, CPU {done.cpu} ({chosen.model}{clock}{governor})", markup=False)
    console.print(f"[bold green]{done.measured} rows measured[/], {done.present} were there already")
    if done.unsteady:
        console.print(
            f"[yellow]{done.unsteady} rows are marked unsteady:[/] the clock was slow beside them, or another program was busy. "
            "Let the device cool and be, then run the same command: it measures these again."
        )
    if done.missing:
        named = ", ".join(f"{name} ({count})" for name, count in sorted(done.missing.items()))
        console.print(f"[yellow]{sum(done.missing.values())} rows stay modelled:[/] there are no such kernels yet: {named}")
    if done.refused:
        key, reason = done.refused[0]
        console.print(f"[yellow]{len(done.refused)} rows stay modelled:[/] the device refuses them, the first ({key}) since {reason}")
    console.print(f"[dim]Used from now on: autocompress --target {target} --core {core}[/]")


@app.command()
def profile(
    task: TaskOption = DEFAULT_TASK,
    target: TargetOption = DEFAULT_TARGET,
    data: DataOption = None,
    core: CoreOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the latency of every layer of a task, dense, in each data type; needs no search and no calibration.

    Example: autocompress profile --task fashion-mnist --target pixel7
    """
    from .api import profile as make_profile
    from .kernels.targets import load_target
    from .tasks.loader import load_task

    device = load_target(target)
    loaded = load_task(task, data)
    found = make_profile(loaded, device, core)
    columns = _dense_latencies(loaded, found)
    latency = found.latency
    if json_:
        value = {"schema": 1, "task": loaded.name, "target": device.name, "latency_source": latency.source, "dtypes": columns}
        typer.echo(json.dumps(value, indent=2, allow_nan=False))
        return
    shown = Table("layer", "op", "MMACs", *(f"{name} ms" for name in columns), box=None, pad_edge=False)
    for rows in zip(*(column["layers"] for column in columns.values()), strict=True):
        first = rows[0]
        shown.add_row(first["name"], first["op"], f"{first['macs'] / 1e6:.2f}", *(f"{row['ms']:.3f}" for row in rows))
    shown.add_section()
    shown.add_row("whole network", "", "", *(f"[bold]{column['total_ms']:.2f}[/]" for column in columns.values()))
    console = Console()
    console.print(shown)
    console.print(f"[dim]{latency.source} on {device.name} {latency.table.core.name}. {latency.note}[/]")


def _dense_latencies(task: Task, found: Profile) -> dict[str, Any]:
    """The `dtypes` part of the profile's JSON. Ops that are no layers are rows too; `macs` is then 0."""
    from .spaces.option import Option, precision
    from .spaces.plan import Plan

    macs = {layer.name: layer.macs for layer in found.layers}
    columns: dict[str, Any] = {}
    for bits in (32, 16, 8):
        if not all(found.latency.supports(layer, "dense", bits) for layer in found.layers):
            continue
        told = found.latency(Plan.of({layer.name: Option("dense", 0.0, bits) for layer in found.layers}))
        layers = [
            {"name": row.name, "op": row.op, "macs": macs.get(row.name, 0), "ms": row.microseconds / 1e3}
            for row in told.ops
            if row.op != "convert"
        ]
        columns[precision(bits)] = {"total_ms": told.ms, "layers": layers}
    return columns


@app.command()
def export(
    study: StudyArgument,
    trial: Annotated[int, typer.Option(help="Number of the trial, as in front.json.")],
    to: Annotated[Path, typer.Option(help="Folder to write plan, weights, model.onnx and model.acm to.", metavar="FOLDER")],
    integer: Annotated[
        bool, typer.Option("--integer", help="Let ONNX Runtime use its integer kernels; on x86 without VNNI read docs/study.md.")
    ] = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Write the network of any finished trial: plan, weights, ONNX model, and the model file for the C runtime.

    Example: autocompress export efficientnet-lite0-pixel7-5ms --trial 42 --to exported
    """
    from .outcome import write_network

    folder = _study_folder(study, results)
    plan = _trial_plan(folder, trial)
    console = Console()
    prepared = _prepared(folder, console)
    prepared.profile.space.consistent(dict(plan))
    write_network(prepared, prepared.recovered(plan), to, integer)
    console.print(f"wrote plan.json, weights.safetensors, model.onnx and model.acm to {to}", soft_wrap=True)


@app.command()
def verify(
    study: StudyArgument,
    trial: Annotated[int | None, typer.Option(help="Number of the trial, as in front.json; the best one by default.")] = None,
    device: DeviceOption = None,
    cpu: Annotated[int | None, typer.Option(help="Number of the CPU; the last one of the core's kind by default.")] = None,
    repeat: Annotated[int, typer.Option(help="Runs of each round that is timed.", min=1, max=100_000)] = 100,
    times: Annotated[bool, typer.Option("--times/--no-times", help="Time it, or only compare outputs.")] = True,
    results: ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Run a study's network on its device: are the outputs those that were evaluated, and the time the one that was predicted?

    Exit code 1 if an op computes something else than the evaluated network.

    Example: autocompress verify efficientnet-lite0-pixel7-5ms --device adb://
    """
    from .deployment.verify import remember
    from .deployment.verify import verify as compare
    from .deployment.weights import load_weights
    from .outcome import MODEL, VERIFIED_SAMPLES, WEIGHTS
    from .spaces.plan import Plan

    folder = _study_folder(study, results)
    best = folder / "best"
    if trial is None and not (best / "plan.json").exists():
        raise UserError(f"study {folder.name} has no best network: choose a --trial of its front.json.")
    plan = Plan.from_json(_read_json(best / "plan.json")) if trial is None else _trial_plan(folder, trial)
    artifact = best / MODEL if trial is None and (best / MODEL).exists() else None
    console = Console(stderr=json_)
    prepared = _prepared(folder, console)
    prepared.profile.space.consistent(dict(plan))
    latency = prepared.profile.latency
    predicted = latency(plan)
    candidate = prepared.recovered(plan)
    if trial is None:
        # The best network may have been fine-tuned.
        candidate = load_weights(candidate, best / WEIGHTS)
    with Phases(Terminal(console)).phase("verify"):
        found = compare(
            candidate,
            prepared.evaluator.samples[:VERIFIED_SAMPLES],
            predicted,
            latency.source,
            prepared.target,
            prepared.target.core(_read_json(folder / "settings.json")["core"]),
            artifact=artifact,
            device=device,
            cpu=cpu,
            repeat=repeat if times else 0,
        )
    from .reports.verification import print_verification, verified_of

    if json_:
        typer.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        print_verification(found, console)
    timed = verified_of(found, plan)
    if timed is not None:
        _keep_verified(folder, timed)
        line = remember(timed.measured_ms, timed.fingerprint, prepared.task.name, plan, predicted, latency.table)
        if line is not None:
            console.print(
                f"later searches count {line.intercept_ms * 1e3:.1f} us + {line.slope:.3f} x the sum of rows: {line.source}",
                highlight=False,
                soft_wrap=True,
            )
    if not found.agrees:
        raise typer.Exit(1)


def _keep_verified(folder: Path, timed: Verified) -> None:
    """Keep a measured time with a study, and show it in its report."""
    from .reports.folder import RESULT, write_reports
    from .reports.result import StudyResult
    from .reports.verified import add_verified

    add_verified(folder, [timed])
    if (folder / RESULT).exists():
        write_reports(StudyResult.load(folder / RESULT), folder)


def _trial_plan(folder: Path, trial: int) -> Plan:
    from .outcome import plan_path
    from .spaces.plan import Plan

    path = folder / plan_path(trial)
    if not path.exists():
        raise UserError(f"study {folder.name} has no finished trial {trial}: see its front.json for the numbers there are.")
    return Plan.from_json(_read_json(path))


def _prepared(folder: Path, console: Console) -> Prepared:
    """What a study's search worked with, its layer database taken from the cache or built again."""
    from .api import line_of_study, prepare
    from .kernels.targets import load_target
    from .tasks.loader import load_task

    begun = _read_json(folder / "settings.json")
    phases = Phases(Terminal(console))
    with phases.phase("task"):
        loaded = load_task(begun["task"], Path(begun["data"]) if begun["data"] else None)
    settings = SearchSettings(core=begun["core"], search_samples=begun["search_samples"], method=begun["method"])
    return prepare(loaded, load_target(begun["target"]), settings, phases, line_of_study(folder))


@app.command("run")
def run_model(
    model: Annotated[Path, typer.Argument(help="A compressed network, such as model.acm.", metavar="MODEL")],
    input_: Annotated[
        Path, typer.Option("--input", help="NumPy file of one sample, or of several along a first axis.", metavar="FILE.npy")
    ],
    output: Annotated[Path | None, typer.Option("--output", help="NumPy file to write the outputs to.", metavar="FILE.npy")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Time every step on the first sample.")] = False,
    repeat: Annotated[int, typer.Option(help="How often a profile runs the network.")] = 50,
) -> None:
    """Run a compressed network on this machine, and time its steps.

    Example: autocompress run model.acm --input x.npy --output y.npy --profile
    """
    import numpy as np

    from .files import replacing
    from .kernels.runtime import Model

    console = Console()
    with Model(model) as loaded:
        samples = _read_samples(input_, loaded.input_shape)
        single = samples.shape == loaded.input_shape
        batch = samples[None] if single else samples
        outputs = np.stack([loaded.run(sample) for sample in batch])
        times = loaded.profile(batch[0], repeat) if profile else []
        peak_mb = loaded.peak_bytes / 1e6
    if output is not None:
        with replacing(output) as temporary, temporary.open("wb") as file:
            np.save(file, outputs[0] if single else outputs)
        console.print(f"wrote {output}", markup=False, soft_wrap=True)
    else:
        for number, row in enumerate(outputs.reshape(len(outputs), -1)):
            best = int(row.argmax())
            console.print(f"sample {number}: {row.size} outputs from {row.min():.6g} to {row.max():.6g}, the largest is number {best}")
    if profile:
        total = sum(time.microseconds for time in times)
        table = Table("step", "kernel", "us", "share", box=None, pad_edge=False)
        for time in times:
            table.add_row(Text(time.name), time.kernel, f"{time.microseconds:.1f}", f"{time.microseconds / total:.1%}")
        table.add_section()
        table.add_row("whole network", "", f"[bold]{total:.1f}[/]", "")
        console.print(table)
        console.print(f"[dim]medians of {repeat} runs on this machine, one thread; {peak_mb:.2f} MB of memory for activations[/]")


def _read_samples(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array in a NumPy file: one sample of that shape, or several along a first axis."""
    import numpy as np

    try:
        with path.open("rb") as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}): give an array of numbers that numpy.save has written.") from error
    if array.dtype.kind not in "biuf" or array.shape[-len(shape) :] != shape or array.ndim > len(shape) + 1 or array.size == 0:
        raise UserError(
            f"{path} holds {array.dtype} of shape {array.shape}, but this model takes numbers of shape {shape}, "
            "or several such samples: save the input in that shape."
        )
    return array


def _study_folder(study: str, results: Path) -> Path:
    for folder in (results / study, Path(study)):
        if (folder / "settings.json").is_file():
            return folder
    known = ", ".join(sorted(path.parent.name for path in results.glob("*/settings.json"))) or "none"
    raise UserError(f"there is no study {study!r} in {results}: the studies there are: {known}.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}): run the search again with all its options.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: run the search again with all its options.")
    return value


def main() -> NoReturn:
    """Run the command line; bad input ends with one message and exit code 2, Ctrl-C with 130."""
    debug = "--debug" in sys.argv or bool(os.environ.get("AUTOCOMPRESS_DEBUG"))
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app()
    except UserError as error:
        if debug:
            traceback.print_exc()
        console = Console(stderr=True, highlight=False)
        console.print("[bold red]error:[/]", end=" ")
        console.print(str(error), markup=False, soft_wrap=True)
        sys.exit(2)
    gc.freeze()  # else Python looks through everything once more before it ends, which takes a second
    sys.exit(0)
