"""Samplers side by side: the same task, baselines, evaluator and seeds for each, as ordinary studies in one folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from .api import (
    Prepared,
    Search,
    begin_study,
    feasible_budget,
    line_of_study,
    measured_problem,
    prepare_profile,
    profile,
    provenance,
    search_begun,
    task_key,
)
from .compressors.reconstruction import Method
from .errors import UserError
from .evaluators.loss import loss_name, metric_name
from .files import write_json
from .memory import keep_freed_memory
from .kernels.targets import Target
from .outcome import EvaluationJudge, Judged, finalists
from .progress import Phases, Update
from .reports.comparison import Comparison, Final, Run, Step
from .reports.folder import write_comparison
from .search.journal import folder_lock
from .search.study import Evaluated, check_sampler, evaluated
from .settings import SearchSettings
from .spaces.plan import Plan
from .tasks.task import Task

#: What was judged, in a comparison's folder.
JUDGED = "judged.json"


@dataclass(frozen=True)
class ComparisonSettings:
    """What a comparison is asked for.

    Attributes:
        search: of each study; its sampler, seed and study name are set for each. It needs a budget.
        samplers: names, each once.
        seeds: how many; they are 0, 1, 2 and so on.
        checkpoints: numbers of evaluations after which the finalist is judged too, beside the last one.
    """

    search: SearchSettings
    samplers: tuple[str, ...]
    seeds: int
    checkpoints: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.search.budget is None:
            raise UserError("a comparison needs a budget: add --budget, such as --budget 2x.")
        if self.search.max_size is not None or self.search.objectives != ("latency",):
            raise UserError("a comparison is about latency: drop the size and the objectives.")
        if not self.samplers:
            raise UserError("there is no sampler to compare: name some, such as --samplers ours,tpe,random.")
        for sampler in self.samplers:
            check_sampler(sampler, True)
            if self.samplers.count(sampler) > 1:
                raise UserError(f"sampler {sampler} is named twice: name each one once; --seeds repeats it.")
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds} leaves nothing to do: ask for at least 1.")
        if self.search.storage is not None:
            raise UserError("a comparison keeps its studies in its own folder: drop the storage.")
        if self.search.method not in get_args(Method):
            raise UserError(f"unknown method {self.search.method!r}: use one of {', '.join(get_args(Method))}.")

    @property
    def ends(self) -> tuple[int, ...]:
        """Numbers of evaluations after which finalists are judged."""
        return tuple(sorted({count for count in (*self.checkpoints, self.search.trials) if count <= self.search.trials}))

    @property
    def studies(self) -> list[tuple[str, int]]:
        """(sampler, seed) in the order in which they run: seed by seed, so that what is finished compares all samplers."""
        return [(sampler, seed) for seed in range(self.seeds) for sampler in self.samplers]


class _Judge:
    """Scores of Plans on inputs that no trial was scored on; kept in a file, since a finalist costs more than a trial."""

    def __init__(self, prepared: Prepared, store: Path, fingerprint: Mapping[str, Any]) -> None:
        self._prepared = prepared
        self._store = store
        self._fingerprint = dict(fingerprint)
        self._held_out: dict[str, float] = {}
        self._judged: dict[str, Judged] = {}
        self._evaluation = EvaluationJudge(prepared)
        self._load()

    def _load(self) -> None:
        if not self._store.exists():
            return
        try:
            value = json.loads(self._store.read_text(encoding="utf-8"))
            if value["fingerprint"] == self._fingerprint:
                self._held_out = {str(key): float(loss) for key, loss in value["held out"].items()}
                self._judged = {str(key): Judged(float(loss), float(metric)) for key, (loss, metric) in value["evaluation"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"the file {self._store} is damaged ({error}). Remove it: its plans will be judged again.") from error

    def _save(self) -> None:
        evaluation = {key: [judged.loss, judged.metric] for key, judged in self._judged.items()}
        write_json(self._store, {"fingerprint": self._fingerprint, "held out": self._held_out, "evaluation": evaluation})

    def held_out_loss(self, plan: Plan) -> float:
        """As the ordinary search scores finalists."""
        if plan.key not in self._held_out:
            self._held_out[plan.key] = self._prepared.held_out_loss(plan)
            self._save()
        return self._held_out[plan.key]

    def judged(self, plan: Plan) -> Judged:
        """Loss and metric on evaluation data."""
        if plan.key not in self._judged:
            self._judged[plan.key] = self._evaluation.judged(plan)
            self._save()
        return self._judged[plan.key]


def comparison_name(task: Task, target: Target, settings: SearchSettings) -> str:
    """The name of a comparison that was given none."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", f"compare-{task.name}-{target.name}-{settings.budget}").strip("._-")


def compare(
    task: Task, target: Target, settings: ComparisonSettings, phases: Phases, origin: Mapping[str, Any] | None = None
) -> tuple[Comparison, Path]:
    """Run every sampler under every seed, judge what each ends with, and write compare.json, compare.csv and compare.html.

    An interrupted comparison is continued by the same call; one with more trials, seeds or samplers goes on from what is there.

    Returns:
        The comparison and its folder.

    Raises:
        UserError: bad settings or data; what was finished before is kept.
    """
    search = settings.search
    keep_freed_memory()
    folder = search.results / (search.study or comparison_name(task, target, search))
    sampler, seed = settings.studies[0]
    with phases.phase("capture"):
        found = profile(task, target, search.core, search.pessimism, line_of_study(folder / f"{sampler}-{seed}"))
    budget_ms = feasible_budget(search.budget, found, target)
    assert budget_ms is not None
    key = task_key(task)
    with ExitStack() as locks:
        locks.enter_context(folder_lock(folder))
        begun = []
        for sampler, seed in settings.studies:
            name = f"{sampler}-{seed}"
            locks.enter_context(folder_lock(folder / name))
            own = replace(search, sampler=sampler, seed=seed, study=name, results=folder)
            begun.append(begin_study(task, target, own, found, key, budget_ms, folder / name, origin or {}))
        prepared = prepare_profile(task, target, search, phases, found, key)
        problem = measured_problem(prepared, search, phases)
        searches = []
        for one in begun:
            phase = f"{one.settings.sampler}, seed {one.settings.seed}"
            searches.append(search_begun(one, prepared, problem, phases, phase))
            prepared.evaluator.forget()
        with phases.phase("finalists") as update:
            comparison = _compared(folder.name, settings, searches, budget_ms, update)
        write_comparison(comparison, folder)
    return comparison, folder


def _compared(
    name: str, settings: ComparisonSettings, searches: Sequence[Search], budget_ms: float, update: Update
) -> Comparison:
    first = searches[0]
    prepared = first.prepared
    judge = _Judge(prepared, first.folder.parent / JUDGED, first.fingerprint)
    total = len(searches) + 1
    runs = []
    for done, search in enumerate(searches):
        update(done, total, f"{search.settings.sampler}, seed {search.settings.seed}")
        runs.append(_run(search, settings, budget_ms, judge))
    update(total - 1, total, "baselines")
    trials = enumerate(evaluated(first.study, first.problem)[: settings.search.trials], start=1)
    within = [
        _final(count, trial, judge) for count, trial in trials if trial.baseline is not None and trial.ms <= budget_ms
    ]
    update(total, total, "done")
    latency = prepared.profile.latency
    story = provenance(first)
    for one_study in ("seed", "sampler"):
        del story[one_study]
    return Comparison(
        name=name,
        task=prepared.task.name,
        target=prepared.target.name,
        latency_source=latency.source,
        latency_note=latency.note,
        budget_ms=budget_ms,
        fastest_ms=first.problem.fastest().ms,
        trials=settings.search.trials,
        loss_name=loss_name(prepared.evaluator.dense_outputs),
        metric_name=metric_name(prepared.task),
        samplers=settings.samplers,
        seeds=tuple(range(settings.seeds)),
        baselines=tuple(within),
        runs=tuple(runs),
        provenance=story,
    )


def _run(search: Search, settings: ComparisonSettings, budget_ms: float, judge: _Judge) -> Run:
    """What one study evaluated, and its finalists."""
    trials = evaluated(search.study, search.problem)[: settings.search.trials]
    finals = []
    for count in settings.ends:
        best = _finalist(trials[:count], budget_ms, judge)
        if best is not None:
            finals.append(_final(count, best, judge))
    steps = tuple(Step(trial.number, trial.ms, trial.loss, trial.baseline) for trial in trials)
    return Run(search.settings.sampler, search.settings.seed, search.folder.name, steps, tuple(finals))


def _final(evaluations: int, trial: Evaluated, judge: _Judge) -> Final:
    judged = judge.judged(trial.plan)
    return Final(evaluations, trial.number, trial.ms, trial.loss, judged.loss, judged.metric, trial.baseline)


def _finalist(trials: list[Evaluated], budget_ms: float, judge: _Judge) -> Evaluated | None:
    """What the ordinary search would recommend after these trials."""
    chosen = finalists([trial for trial in trials if trial.within(budget_ms, None)])
    if len(chosen) < 2:
        return chosen[0] if chosen else None
    return min(chosen, key=lambda trial: (judge.held_out_loss(trial.plan), trial.number))
