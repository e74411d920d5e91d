"""The search from end to end: Task -> Network -> Space -> database and table -> Study -> front, report, best network."""

from __future__ import annotations

import datetime
import gc
import json
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import optuna
import torch

from . import __version__
from .compressors.channel_order import order_channels
from .compressors.database import LayerDatabase
from .compressors.distillation import TEMPERATURE
from .compressors.input_statistics import InputStatistics, collect, collect_activations
from .compressors.quantization import Quantizer, choose_quantizer, load_quantizers, save_quantizers
from .compressors.reconstruction import Method
from .errors import UserError
from .evaluators.error_table import ErrorTable, measure_errors
from .evaluators.evaluator import FIRST, PlanEvaluator, spread
from .evaluators.latency import LatencyEvaluator
from .evaluators.loss import divergence, memory_format, outputs
from .evaluators.recovery import Recovery
from .evaluators.score import BEATEN, HOPELESS, Score
from .files import write_json
from .kernels.bench import device_url
from .kernels.devices import open_transport
from .kernels.line import Line
from .kernels.table import LatencyTable
from .kernels.targets import Target
from .progress import Phases, Update
from .search.baselines import baselines
from .search.journal import folder_lock, open_journal
from .search.parameters import Parameters
from .search.problem import Objective, Problem, size_text
from .search.study import (
    Evaluated,
    check_sampler,
    enqueue_baselines,
    evaluated,
    fail_stale_trials,
    open_storage,
    open_study,
    run_trials,
)
from .samples import BATCH, CORRECTING, calibration_inputs, inputs_for, split_calibration, split_samples, split_scoring
from .memory import keep_freed_memory
from .settings import Budget, SearchSettings
from .spaces.capture import capture
from .spaces.groups import find_groups
from .spaces.layers import Layer, find_layers
from .spaces.network import Network
from .spaces.plan import Plan
from .spaces.space import Space, build_space, removable
from .tasks.task import Task, task_fingerprint

#: The file of a study's settings.
SETTINGS = "settings.json"
#: Calibration inputs on which activation ranges are found.
RANGE_SAMPLES = 64


@dataclass(frozen=True)
class Profile:
    """A captured task on a target: everything that is known without calibration."""

    network: Network
    layers: tuple[Layer, ...]
    space: Space
    latency: LatencyEvaluator


@dataclass(frozen=True)
class Prepared:
    """A task on a target with its layer database: any Plan of its Space can be scored and written.

    Attributes:
        held_out: calibration inputs that score no trial and decide between the best ones.
        key: hash of the task.
    """

    task: Task
    target: Target
    profile: Profile
    evaluator: PlanEvaluator
    held_out: torch.Tensor
    key: str

    @cached_property
    def recovered(self) -> Recovery:
        """Makes the networks of Plans as they are used: corrected on all inputs that correct or score trials."""
        return Recovery(self.evaluator, torch.cat([self.evaluator.correcting, self.evaluator.samples]))

    @cached_property
    def _held_out_dense(self) -> torch.Tensor:
        return outputs(self.evaluator.dense.run, self.held_out)

    def held_out_loss(self, plan: Plan) -> float:
        """The loss of a Plan's network, as it is used, on inputs that scored no trial."""
        return divergence(self._held_out_dense, outputs(self.recovered(plan).run, self.held_out))


@dataclass(frozen=True)
class Begun:
    """An open study, and what its numbers depend on; `origin` and `fingerprint` as in Search."""

    settings: SearchSettings
    origin: Mapping[str, Any]
    budget_ms: float | None
    folder: Path
    study: optuna.Study
    fingerprint: Mapping[str, Any]


@dataclass(frozen=True)
class Attached:
    """What the device of a search said.

    Attributes:
        device: its URL.
        limit_ms: predicted time that Plans may take, so that the measured one is within the budget.
        bias: measured / predicted of the Plan that was farthest above its prediction, at least 1.
        measured_ms: of the Plans that ran.
        evaluation_seconds: time spent in scoring the trials that followed.
    """

    device: str
    limit_ms: float
    bias: float
    measured_ms: Mapping[Plan, float]
    evaluation_seconds: float


@dataclass(frozen=True)
class Search:
    """A finished search, as the writers of reports and artifacts need it.

    Attributes:
        origin: how the search was asked for, as `autocompress resume` needs it.
        fingerprint: what the study's numbers depend on.
        evaluation_seconds: time spent in scoring trials.
        attached: what the device said, if one was attached.
    """

    settings: SearchSettings
    origin: Mapping[str, Any]
    prepared: Prepared
    budget_ms: float | None
    problem: Problem
    study: optuna.Study
    folder: Path
    fingerprint: Mapping[str, Any]
    phases: Phases
    evaluation_seconds: float
    attached: Attached | None = None

    def fits(self, trial: Evaluated) -> bool:
        """Whether a trial is within the budgets, its time as it was measured, if it was."""
        measured = {} if self.attached is None else self.attached.measured_ms
        return replace(trial, ms=measured.get(trial.plan, trial.ms)).within(self.budget_ms, self.problem.max_bytes)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Python looks for no cycles in what is made here: capture makes a million objects that stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def profile(
    task: Task, target: Target, core: str | None = None, pessimism: float = 0.5, line: Line | None = None
) -> Profile:
    """Capture a task's model and price it on a target; needs no data.

    Args:
        pessimism: the quantile of the latency's error that counts, as in SearchSettings.
        line: the end-to-end line; by default the one fitted for the target.

    Raises:
        UserError: the model cannot be captured, the target has no such core, or pessimism is out of range.
    """
    network = capture(task.model, task.example_input)
    layers = find_layers(network)
    if not layers:
        raise UserError(f"the model of task {task.name} has no convolution or linear layer: there is nothing to compress.")
    groups = removable(find_groups(network))
    latency = LatencyEvaluator(network, groups, LatencyTable.for_target(target, core, pessimism, line))
    return Profile(network, layers, build_space(layers, groups, latency.supports, latency.alone_microseconds), latency)


def prepare(
    task: Task, target: Target, settings: SearchSettings, phases: Phases, line: Line | None = None
) -> Prepared:
    """Capture a task and build, or reuse, its layer database; `line` as for `profile`.

    Raises:
        UserError: the model cannot be captured, its data is unusable, or the cache cannot be written.
    """
    keep_freed_memory()
    with phases.phase("capture"), _without_collection():
        found = profile(task, target, settings.core, settings.pessimism, line)
    return prepare_profile(task, target, settings, phases, found, task_key(task))


def run_search(
    task: Task, target: Target, settings: SearchSettings, phases: Phases, origin: Mapping[str, Any] | None = None
) -> Search:
    """Search until the study holds the trials that were asked for. An interrupted search is continued by the same call.

    Args:
        origin: how task, data and target were named, for `autocompress resume`.

    Raises:
        UserError: bad settings or data; what was finished before is kept.
    """
    check_sampler(settings.sampler, not settings.minimised)
    if settings.method not in get_args(Method):
        raise UserError(f"unknown method {settings.method!r}: use one of {', '.join(get_args(Method))}.")
    if settings.device is not None:
        open_transport(device_url(target, settings.device))
    keep_freed_memory()
    folder = settings.results / (settings.study or study_name(task, target, settings))
    with phases.phase("capture"), _without_collection():
        found = profile(task, target, settings.core, settings.pessimism, line_of_study(folder))
    budget_ms = feasible_budget(settings.budget, found, target, settings.max_size)
    with folder_lock(folder):
        key = task_key(task)
        begun = begin_study(task, target, settings, found, key, budget_ms, folder, origin or {})
        prepared = prepare_profile(task, target, settings, phases, found, key)
        return search_begun(begun, prepared, measured_problem(prepared, settings, phases), phases)


def study_name(task: Task, target: Target, settings: SearchSettings) -> str:
    """The name of a study that was given none."""
    limits = [str(settings.budget)] if settings.budget else []
    if settings.max_size is not None:
        limits.append(size_text(settings.max_size).replace(" ", ""))
    parts = [task.name, target.name, *(limits or ["front"])]
    if settings.objectives != ("latency",):
        parts += settings.objectives
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)).strip("._-") or "study"


def line_of_study(folder: Path) -> Line | None:
    """The end-to-end line that a study was begun with: it keeps it, whatever is verified later. None for a new study."""
    try:
        return Line(**json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["line"])
    except (OSError, ValueError, TypeError, KeyError):
        # A new study, or settings that a search with all its options mends: the study itself knows whether its table is another.
        return None


def feasible_budget(budget: Budget | None, found: Profile, target: Target, max_size: int | None = None) -> float | None:
    """A budget in milliseconds; None without one.

    Args:
        max_size: most bytes of the network's weights.

    Raises:
        UserError: no Plan can meet it, or the size, or both at once.
    """
    if budget is None and max_size is None:
        return None
    nothing = ErrorTable(0.0, {name: dict.fromkeys(options, 0.0) for name, options in found.space.options.items()})
    free = Problem(found.space, found.latency, nothing, max_size)
    if budget is None:
        budget_ms = None
    elif budget.ms is not None:
        budget_ms = budget.ms
    else:
        assert budget.speedup is not None
        budget_ms = free.latency.ms(free.base) / budget.speedup
    free.check_budget(budget_ms, target.name)
    return budget_ms


def begin_study(
    task: Task,
    target: Target,
    settings: SearchSettings,
    found: Profile,
    key: str,
    budget_ms: float | None,
    folder: Path,
    origin: Mapping[str, Any],
) -> Begun:
    """Open the study in a folder that this process has locked, or make it; `key` as in Prepared.

    Raises:
        UserError: the study was made with something else, is damaged, or may not be continued.
    """
    space, table = found.space, found.latency.table
    fingerprint = {
        "task": f"{task.name} {key}",
        "table": f"{target.name} {table.core.name} {table.fingerprint}",
        "option set": space.fingerprint,
        "budget": None if budget_ms is None else round(budget_ms, 6),
        "max size": settings.max_size,
        "objectives": ",".join(settings.objectives),
        "search samples": f"{settings.search_samples or 'as many as suit the network'}, 1 of {FIRST} first, more of the best",
        "temperature": TEMPERATURE,
        "method": settings.method,
        "version": __version__,
    }
    storage = open_storage(settings.storage) if settings.storage else open_journal(folder / "study.journal")
    study = open_study(storage, folder.name, fingerprint, len(settings.minimised))
    if study.get_trials(deepcopy=False) and not settings.resume:
        raise UserError(f"study {folder.name} exists. Drop --no-resume to continue it, or choose another name with --study.")
    fail_stale_trials(study)
    write_json(folder / SETTINGS, {**settings.to_json(), **origin, "line": asdict(table.line)})
    return Begun(settings, origin, budget_ms, folder, study, fingerprint)


def measured_problem(prepared: Prepared, settings: SearchSettings, phases: Phases) -> Problem:
    """The choice of a Plan under the measured error table."""
    space, evaluator, database = prepared.profile.space, prepared.evaluator, prepared.evaluator.database
    counts = f"{len(evaluator.correcting)}-{len(evaluator.samples)}"
    with phases.phase("error table") as update:
        errors = measure_errors(
            space,
            lambda layer, option: database.errors[layer][option],
            lambda group, share: database.channels(group, share).error,
            evaluator.ordinary_loss,
            database.folder / f"losses-{space.fingerprint}-{counts}.json",
            f"{prepared.key} {space.fingerprint} {settings.method} {counts} {TEMPERATURE:g} {__version__}",
            update,
        )
    # A run that finds the table made knows no score of it: trials shall not depend on which run made it.
    evaluator.forget_scores()
    objectives = cast(tuple[Objective, ...], settings.objectives)
    return Problem(space, prepared.profile.latency, errors, settings.max_size, objectives)


def search_begun(begun: Begun, prepared: Prepared, problem: Problem, phases: Phases, phase: str = "trials") -> Search:
    """Search until a study holds the trials that were asked for."""
    settings, study, budget_ms, evaluator = begun.settings, begun.study, begun.budget_ms, prepared.evaluator
    plans = baselines(problem, budget_ms)
    parameters = Parameters(problem.space)
    enqueue_baselines(study, {name: parameters.of(plan) for name, plan in plans.items()})
    evaluator.remember({trial.plan: trial.score for trial in evaluated(study, problem) if trial.score is not None})
    clock = _Stopwatch(evaluator)
    with phases.phase(phase) as update:
        run_trials(
            study, problem, clock.score, settings.sampler, budget_ms, settings.trials, settings.timeout, settings.seed, update
        )
    return Search(
        settings, begun.origin, prepared, budget_ms, problem, study, begun.folder, begun.fingerprint, phases, clock.seconds
    )


def more_trials(search: Search, limit_ms: float, trials: int, update: Update) -> float:
    """Search on within another limit until the study holds so many finished trials; the seconds spent in scoring them."""
    settings, clock = search.settings, _Stopwatch(search.prepared.evaluator)
    left = None if settings.timeout is None else max(0.0, settings.timeout - search.phases.seconds.get("trials", 0.0))
    run_trials(search.study, search.problem, clock.score, settings.sampler, limit_ms, trials, left, settings.seed, update)
    return clock.seconds


def task_key(task: Task) -> str:
    """A short hash of a task's model, data and metric."""
    return task_fingerprint(task)[:16]


def prepare_profile(
    task: Task, target: Target, settings: SearchSettings, phases: Phases, found: Profile, key: str
) -> Prepared:
    """Order the channels of a captured task, and build, or reuse, its layer database; `key` as in Prepared."""
    network = found.network
    reconstruction, scoring = split_calibration(calibration_inputs(task, network))
    inputs = split_scoring(scoring, network, settings.search_samples)
    batches = [batch.contiguous(memory_format=memory_format(batch)) for batch in torch.split(reconstruction, BATCH)]
    with phases.phase("layer database") as update:
        found = reordered(found, settings.cache / "orders" / f"{key}-{found.space.fingerprint}.json")
        database = build_database(found, batches, f"{key} {len(reconstruction)}", settings, update)
    phases.display.note(f"layer database: {database.size_bytes / 1e6:.0f} MB in {database.folder}")
    for name in database.evicted:
        phases.display.note(f"removed the layer database {name}, used longest ago, to make room")
    with phases.phase("activation ranges"):
        store = database.folder / f"ranges-{RANGE_SAMPLES}.json"
        quantizers = load_quantizers(store)
        if quantizers is None:
            quantizers = find_quantizers(found.network, batches[: -(-RANGE_SAMPLES // BATCH)])
            save_quantizers(store, quantizers)
    correcting, _others = split_samples(reconstruction, inputs_for(network, *CORRECTING))
    evaluator = PlanEvaluator(
        found.network, found.space.groups, database, quantizers, spread(inputs.trials), correcting, more=inputs.best
    )
    return Prepared(task, target, found, evaluator, inputs.finalists, key)


def reordered(found: Profile, store: Path | None = None) -> Profile:
    """The same network with its channels in the order that suits the blocks of the Space; a file may keep the order."""
    structures = {name: {option.structure for option in options} for name, options in found.space.options.items()}
    return replace(found, network=order_channels(found.network, structures, store))


class _Stopwatch:
    """Scores, and how long they took in all."""

    def __init__(self, evaluator: PlanEvaluator) -> None:
        self._evaluator = evaluator
        self.seconds = 0.0

    def score(self, plan: Plan, rival: Score | None) -> Score:
        begin = time.perf_counter()
        try:
            return self._evaluator.score(plan, rival)
        finally:
            self.seconds += time.perf_counter() - begin


def build_database(
    found: Profile, batches: Sequence[torch.Tensor], fingerprint: str, settings: SearchSettings, update: Any
) -> LayerDatabase:
    """The database with every Option of the Space, made or completed."""

    def statistics(layers: Sequence[Layer]) -> Mapping[str, InputStatistics]:
        return collect(found.network, layers, batches)

    return LayerDatabase.build(
        settings.cache / "layers",
        found.network,
        found.layers,
        found.space.groups,
        found.space.options,
        statistics,
        fingerprint,
        cast(Method, settings.method),
        update,
    )


def find_quantizers(network: Network, batches: Sequence[torch.Tensor]) -> dict[str, Quantizer]:
    """The int8 format of every tensor, from its spread on calibration data."""
    return {name: choose_quantizer(spread) for name, spread in collect_activations(network, batches).items()}


def machine() -> str:
    """The machine in a few words."""
    return f"{platform.system()} {platform.machine()}, torch with {torch.get_num_threads()} threads"


def provenance(search: Search) -> dict[str, Any]:
    """What a report says about how its numbers came about."""
    prepared = search.prepared
    latency = prepared.profile.latency
    line = latency.table.line
    attached: dict[str, Any] = {}
    if search.attached is not None:
        attached["device"] = {
            "url": search.attached.device,
            "verified": f"{len(search.attached.measured_ms)} networks ran there, at most {search.attached.bias:.3f} x as long as predicted",
            "searched within": f"{search.attached.limit_ms:.6g} ms",
        }
    return {
        "autocompress": __version__,
        "torch": torch.__version__,
        "optuna": optuna.__version__,
        "seed": search.settings.seed,
        "sampler": search.settings.sampler,
        "table": {
            "source": latency.source,
            "core": latency.table.core.name,
            "fingerprint": latency.table.fingerprint,
            "line": f"{line.intercept_ms * 1e3:.1f} us + {line.slope:.4f} x sum of rows ({line.source})",
            "note": latency.note,
        },
        **attached,
        "data": {
            "search": f"{len(prepared.evaluator.samples)} calibration inputs score each trial, corrected on "
            f"{len(prepared.evaluator.correcting)} others; one of {FIRST} of them those with more than {HOPELESS:g} times the loss, "
            f"on these, of a trial that is no slower, and {len(prepared.evaluator.more)} more inputs those with at most {BEATEN:g} times it",
            "finalists": f"{len(prepared.held_out)} more calibration inputs decide between the best trials",
        },
        "machine": machine(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": {name: round(seconds, 1) for name, seconds in search.phases.seconds.items()},
        "fingerprint": dict(search.fingerprint),
    }
