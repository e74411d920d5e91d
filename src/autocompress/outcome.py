"""What a search leaves behind: the front on evaluation data, reports, and the best network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from .api import Prepared, Search, provenance
from .compressors.candidate import Candidate
from .deployment.onnx import to_onnx
from .deployment.program import program
from .deployment.weights import save_weights
from .errors import UserError
from .memory import return_freed_memory
from .evaluators.latency import describe
from .evaluators.loss import divergence, loss_name, memory_format, metric, metric_name, outputs
from .finetuning import finetune_plan
from .kernels.artifact import write_artifact
from .progress import Update
from .reports.folder import write_reports
from .reports.result import DenseType, FineTuning, HistoryRow, LayerRow, OpRow, Point, StudyResult
from .search.problem import Objective
from .search.study import Evaluated, eligible, evaluated, front
from .spaces.option import Bits, Option
from .spaces.plan import Plan
from .tasks.task import evaluation_data

#: The file of a network that the C runtime runs.
MODEL = "model.acm"
#: The file of a network's weights.
WEIGHTS = "weights.safetensors"
#: Inputs on which a network on a device is compared with the evaluated one.
VERIFIED_SAMPLES = 8
#: Best trials by search loss among which inputs that the search did not use decide.
FINALISTS = 6
#: How many times as high as the best search loss that of a baseline may be for it to be one of them, too.
LUCK = 1.5


class CandidateModule(nn.Module):
    """A Candidate as a torch module, for metrics that are functions of a model."""

    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        self.candidate = candidate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.candidate.run(x.contiguous(memory_format=memory_format(x)))


@dataclass(frozen=True)
class Judged:
    """A Plan on the evaluation data."""

    loss: float
    metric: float


class EvaluationJudge:
    """Judges Plans on the evaluation data, which no search sees."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        try:
            self._inputs, _ = evaluation_data(prepared.task)
        except UserError:
            # Only the task's own metric understands its evaluation data: the loss is then told on held-out calibration inputs.
            self._inputs = prepared.held_out
        self._dense = outputs(prepared.evaluator.dense.run, self._inputs)

    def judged(self, plan: Plan) -> Judged:
        """Loss and metric of a Plan."""
        return self.judged_network(self._prepared.recovered(plan))

    def judged_network(self, candidate: Candidate) -> Judged:
        """Loss and metric of a network."""
        compressed = outputs(candidate.run, self._inputs)
        value = metric(self._prepared.task, CandidateModule(candidate), self._dense, compressed)
        return Judged(divergence(self._dense, compressed), value)


def conclude(search: Search) -> StudyResult:
    """Judge the front, the baselines and the best Plan on evaluation data, and write everything under the study's folder.

    Raises:
        UserError: no trial is finished, the metric fails, or the folder cannot be written.
    """
    trials = evaluated(search.study, search.problem)
    if not trials:
        raise UserError(f"study {search.folder.name} has no finished trial yet: run it again with more --timeout or --trials.")
    on_front = front(eligible(trials, search.problem, search.budget_ms), search.problem.objectives)
    search.prepared.evaluator.forget()
    return_freed_memory()
    with search.phases.phase("finalists") as update:
        best = choose_best(search, trials, update)
    with search.phases.phase("evaluation") as update:
        judge = EvaluationJudge(search.prepared)
        wanted = [t for t in trials if t.number in on_front or t.baseline is not None or t.number == best]
        judged = _judge(judge, wanted, update)
    plans = {trial.number: trial.plan for trial in trials}
    finetuned, candidate = None, None
    if best is not None and search.settings.finetune is not None:
        finetuned, judged[best], candidate = _finetune(search, judge, plans[best], judged[best])
    with search.phases.phase("report"):
        result = replace(_result(search, trials, on_front, best, judged), finetuned=finetuned)
        _write(search, result, plans, candidate)
    return result


def _finetune(
    search: Search, judge: EvaluationJudge, plan: Plan, before: Judged
) -> tuple[FineTuning, Judged, Candidate]:
    """Train the network of the best Plan: what that did, and the network that is left, judged."""
    settings = search.settings
    assert settings.finetune is not None
    return_freed_memory()
    with search.phases.phase("fine-tuning") as update:
        found = finetune_plan(
            search.prepared, plan, settings.finetune, search.folder / "finetune", update
        )
    after = judge.judged_network(found.candidate) if found.improved else before
    row = FineTuning(
        minutes=found.minutes,
        steps=found.steps,
        improved=found.improved,
        held_out_before=found.loss_before,
        held_out=found.loss_after,
        loss_before=before.loss,
        metric_before=before.metric,
    )
    return row, after, found.candidate


def choose_best(search: Search, trials: list[Evaluated], update: Update) -> int | None:
    """The trial to recommend: where all objectives have budgets, of the best feasible ones and good baselines the one of least
    loss on inputs which no trial was scored on, of those that ran on the device, if there is one; else the knee of the
    front. None when no trial is feasible.
    """
    minimised = search.problem.minimised(search.budget_ms)
    within = [trial for trial in trials if search.fits(trial)]
    if minimised:
        numbers = front(within, minimised)
        return _knee([trial for trial in within if trial.number in numbers], minimised) if within else None
    if search.attached is not None:
        within = [trial for trial in within if trial.plan in search.attached.measured_ms]
    chosen = finalists(within)
    if len(chosen) < 2:
        return chosen[0].number if chosen else None
    # On the inputs that chose them the finalists look better than they are.
    scores = {}
    for done, trial in enumerate(chosen):
        update(done, len(chosen), f"trial {trial.number}")
        scores[trial.number] = search.prepared.held_out_loss(trial.plan)
    update(len(chosen), len(chosen), "done")
    return min(scores, key=lambda number: (scores[number], number))


def finalists(feasible: Sequence[Evaluated]) -> list[Evaluated]:
    """The trials among which inputs that the search did not use decide, best search loss first; equal Plans stand once."""
    by_plan: dict[Plan, Evaluated] = {}
    for trial in sorted((trial for trial in feasible if trial.whole), key=lambda trial: (trial.loss, trial.number)):
        by_plan.setdefault(trial.plan, trial)
    best = list(by_plan.values())
    # Baselines were not chosen for their loss: no luck is in it.
    return best[:FINALISTS] + [
        trial for trial in best[FINALISTS:] if trial.baseline is not None and trial.loss <= LUCK * best[0].loss
    ]


def _knee(trials: list[Evaluated], objectives: Sequence[Objective]) -> int:
    """The front's point farthest below the plane through its extremes, all axes scaled to [0, 1]."""
    columns = [[trial.ms if objective == "latency" else float(trial.size) for trial in trials] for objective in objectives]
    columns.append([trial.loss for trial in trials])
    scaled = [[(value - min(column)) / max(max(column) - min(column), 1e-12) for value in column] for column in columns]
    ordered = sorted(zip(map(sum, zip(*scaled, strict=True)), trials, strict=True), key=lambda one: (one[0], one[1].ms))
    return ordered[0][1].number


def _judge(judge: EvaluationJudge, trials: list[Evaluated], update: Update) -> dict[int, Judged]:
    """Loss and metric on evaluation data, by trial number; equal Plans are computed once."""
    by_plan: dict[Plan, Judged] = {}
    for done, trial in enumerate(trials):
        update(done, len(trials), f"trial {trial.number}")
        if trial.plan not in by_plan:
            by_plan[trial.plan] = judge.judged(trial.plan)
    update(len(trials), len(trials), "done")
    return {trial.number: by_plan[trial.plan] for trial in trials}


def _result(
    search: Search, trials: list[Evaluated], on_front: set[int], best: int | None, judged: dict[int, Judged]
) -> StudyResult:
    latency, space = search.prepared.profile.latency, search.prepared.profile.space
    points = []
    for trial in trials:
        told = latency(trial.plan)
        points.append(
            Point(
                trial=trial.number,
                latency_ms=told.ms,
                search_loss=trial.loss,
                search_inputs=trial.score.inputs if trial.score is not None else None,
                size_bytes=trial.size,
                on_front=trial.number in on_front,
                feasible=search.fits(trial),
                plan=plan_path(trial.number),
                loss=judged[trial.number].loss if trial.number in judged else None,
                metric=judged[trial.number].metric if trial.number in judged else None,
                latency_median_ms=told.median_ms,
                latency_low_ms=told.low_ms,
                latency_high_ms=told.high_ms,
                name=trial.baseline,
            )
        )
    types: tuple[tuple[DenseType, Bits], ...] = (("fp32", 32), ("fp16", 16), ("int8", 8))
    dense = {name: Option("dense", 0.0, bits) for name, bits in types}
    dense_ms = {
        name: latency(space.uniform(option)).ms if all(option in options for options in space.options.values()) else None
        for name, option in dense.items()
    }
    best_plan = next((trial.plan for trial in trials if trial.number == best), None)
    layers, others = _layer_rows(search, best_plan) if best_plan is not None else ((), ())
    story = provenance(search)
    story["trials"] = len(trials)
    story["stopped early"] = sum(not trial.whole for trial in trials)
    story["seconds"] = {**story["seconds"], "evaluating trials": round(search.evaluation_seconds, 1)}
    return StudyResult(
        study=search.folder.name,
        task=search.prepared.task.name,
        target=search.prepared.target.name,
        latency_source=latency.source,
        latency_note=latency.note,
        pessimism=latency.table.pessimism,
        budget_ms=search.budget_ms,
        dense_ms=dense_ms,
        loss_name=loss_name(search.prepared.evaluator.dense_outputs),
        metric_name=metric_name(search.prepared.task),
        points=tuple(point for point in points if point.name is None),
        baselines=tuple(point for point in points if point.name is not None),
        best=best,
        history=tuple(
            HistoryRow(t.number, t.loss, t.ms, search.fits(t), t.seconds, t.size) for t in trials
        ),
        max_size_bytes=search.problem.max_bytes,
        objectives=search.problem.objectives,
        layers=layers,
        other_ops=others,
        provenance=story,
    )


def _layer_rows(search: Search, plan: Plan) -> tuple[tuple[LayerRow, ...], tuple[OpRow, ...]]:
    """Where the time of a Plan goes, and for each Layer the Option that comes second.

    The runner-up is the other Option with the least expected loss plus time, time counted at what the solver pays for a
    millisecond around this Plan's latency.
    """
    problem, latency = search.problem, search.prepared.profile.latency
    total = latency(plan)
    price = _loss_per_ms(search, total.ms)
    here, alone = latency.layers_microseconds(latency.kept(plan)), latency.layers_microseconds({})
    int8 = problem.space.uniform(Option("dense", 0.0, 8))
    rows, others = [], []
    for row in total.ops:
        if row.name not in plan:
            others.append(OpRow(row.name, row.microseconds / 1e3))
            continue
        option, errors = plan[row.name], problem.errors.errors[row.name]
        rivals = []
        for other in problem.space.options[row.name]:
            if other != option and "channel" not in (other.structure, option.structure):
                ms = (here[row.name][other] - row.microseconds) / 1e3
                rivals.append((errors[other] - errors[option] + price * ms, errors[other] - errors[option], ms, other))
        second = min(rivals, key=lambda rival: rival[0]) if rivals else None
        layer, whole = latency.layers[row.name], alone[row.name][int8[row.name]]
        rows.append(
            LayerRow(
                name=row.name,
                op=describe(layer),
                option=str(option),
                structure=option.structure,
                sparsity=option.sparsity,
                bits=option.bits,
                ms=row.microseconds / 1e3,
                share=row.microseconds / 1e3 / total.ms,
                dense_int8_ms=whole / 1e3 if int8[row.name].bits == 8 else None,
                runner_up=str(second[3]) if second else None,
                runner_up_delta_ms=second[2] if second else None,
                runner_up_delta_loss=second[1] if second else None,
            )
        )
    return tuple(rows), tuple(others)


def _loss_per_ms(search: Search, ms: float) -> float:
    """Expected loss that the solver pays for a millisecond around a latency."""
    below, above = search.problem.solve(ms * 0.97), search.problem.solve(ms * 1.03)
    if below is None or above is None or above.ms <= below.ms:
        return 0.0
    return max(0.0, (below.expected - above.expected) / (above.ms - below.ms))


def plan_path(trial: int) -> str:
    """Where a trial's Plan is, relative to the study's folder."""
    return f"plans/{trial:05d}.json"


def _write(search: Search, result: StudyResult, plans: dict[int, Plan], best: Candidate | None) -> None:
    """Everything under the study's folder; `best` is the best Plan's network if it was trained."""
    folder = search.folder
    for number, plan in plans.items():
        if not (folder / plan_path(number)).exists():
            plan.save(folder / plan_path(number))
    if result.best is not None:
        write_network(search.prepared, best or search.prepared.recovered(plans[result.best]), folder / "best")
    write_reports(result, folder)


def write_network(prepared: Prepared, candidate: Candidate, folder: Path, integer: bool = False) -> None:
    """Write a network's Plan, its weights, its ONNX model and its model file into `folder`; `integer` as for `to_onnx`."""
    candidate.plan.save(folder / "plan.json")
    save_weights(candidate, folder / WEIGHTS)
    to_onnx(candidate, folder / "model.onnx", integer)
    write_artifact(program(candidate, {"task": prepared.task.name, "target": prepared.target.name}), folder / MODEL)


def read_front(folder: Path) -> str:
    """The text of a study's front.json.

    Raises:
        UserError: there is none.
    """
    try:
        return json.dumps(json.loads((folder / "front.json").read_text(encoding="utf-8")), indent=2)
    except (OSError, ValueError) as error:
        raise UserError(f"study {folder.name} has no front yet ({error}): resume it first.") from error
