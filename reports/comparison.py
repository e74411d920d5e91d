"""Comparison: samplers side by side, as values: what each study evaluated, and what its finalist is worth."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import statistics
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .result import LatencySource

SCHEMA = 1
#: The sampler with which the others are compared, where it takes part.
OURS = "ours"
#: Losses below this one count as it in ratios and geometric means.
LEAST_LOSS = 1e-9


@dataclass(frozen=True)
class Step:
    """One evaluation of a study; `baseline` is the baseline's name, None for what the sampler proposed."""

    trial: int
    latency_ms: float
    search_loss: float
    baseline: str | None = None


@dataclass(frozen=True)
class Final:
    """The Plan that a search ends with after so many evaluations: its finalist, on search data and on evaluation data.

    Attributes:
        name: a baseline's name, if it is one.
    """

    evaluations: int
    trial: int
    latency_ms: float
    search_loss: float
    loss: float
    metric: float
    name: str | None = None


@dataclass(frozen=True)
class Run:
    """One study: a sampler under a seed.

    Attributes:
        study: name of its folder.
        steps: its evaluations, in order.
        finals: after as many evaluations as were asked for, fewest first; left out where nothing met the budget by then.
    """

    sampler: str
    seed: int
    study: str
    steps: tuple[Step, ...]
    finals: tuple[Final, ...]


@dataclass(frozen=True)
class Row:
    """A line of the table of final losses, over all seeds.

    Attributes:
        search_losses, losses, metrics, hypervolumes: one for each seed; best search loss within the budget, then the
            finalist's loss and metric on evaluation data.
        search_ratio, ratio: geometric means over seeds of this line's loss over the reference sampler's at the same seed; None
            for the reference itself.
        within: share of the sampler's proposals that met the budget; None for a baseline.
    """

    name: str
    search_losses: tuple[float, ...]
    losses: tuple[float, ...]
    metrics: tuple[float, ...]
    hypervolumes: tuple[float, ...]
    search_ratio: float | None
    ratio: float | None
    within: float | None


@dataclass(frozen=True)
class Comparison:
    """Samplers on one task, target and budget, all with the same baselines, evaluator and seeds.

    Attributes:
        fastest_ms: latency of the fastest Plan there is.
        trials: evaluations of each study, baselines included.
        baselines: those within the budget, on search data and on evaluation data.
        provenance: what the numbers depend on.
    """

    name: str
    task: str
    target: str
    latency_source: LatencySource
    latency_note: str
    budget_ms: float
    fastest_ms: float
    trials: int
    loss_name: str
    metric_name: str
    samplers: tuple[str, ...]
    seeds: tuple[int, ...]
    baselines: tuple[Final, ...]
    runs: tuple[Run, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> tuple[float, float]:
        """Latency in ms and search loss at which hypervolumes end: the budget, and the largest loss of a baseline within it."""
        return self.budget_ms, max((final.search_loss for final in self.baselines), default=0.0)

    @property
    def compared_with(self) -> str:
        """The sampler with which the others are compared."""
        return OURS if OURS in self.samplers else self.samplers[0]

    def of(self, sampler: str) -> list[Run]:
        """The runs of a sampler, by seed."""
        return sorted((run for run in self.runs if run.sampler == sampler), key=lambda run: run.seed)

    def best(self, run: Run) -> list[float | None]:
        """Least search loss within the budget after each evaluation; None before there is one."""
        found: list[float | None] = []
        least: float | None = None
        for step in run.steps:
            if step.latency_ms <= self.budget_ms and (least is None or step.search_loss < least):
                least = step.search_loss
            found.append(least)
        return found

    def hypervolumes(self, run: Run) -> list[float]:
        """After each evaluation, the share of the rectangle between the reference and (fastest Plan's latency, no loss) that
        holds only points which some evaluated Plan beats in both latency and search loss.
        """
        last_ms, last_loss = self.reference
        whole = (last_ms - self.fastest_ms) * last_loss
        front: list[tuple[float, float]] = []
        found: list[float] = []
        volume = 0.0
        for step in run.steps:
            point = (step.latency_ms, step.search_loss)
            inside = point[0] < last_ms and point[1] < last_loss
            if inside and not any(other[0] <= point[0] and other[1] <= point[1] for other in front):
                front = [other for other in front if not (point[0] <= other[0] and point[1] <= other[1])]
                insort(front, point)
                volume = _area(front, last_ms, last_loss)
            found.append(volume / whole if whole > 0 else 0.0)
        return found

    def rows(self, evaluations: int | None = None) -> list[Row]:
        """The table of final losses after so many evaluations (all of them by default): samplers, then the plain solver and the
        best uniform baseline.
        """
        count = evaluations or self.trials
        rows = [self._sampler_row(sampler, count) for sampler in self.samplers]
        return rows + [self._baseline_row(final, count) for final in _table_baselines(self.baselines)]

    def _sampler_row(self, sampler: str, count: int) -> Row:
        runs = self.of(sampler)
        proposals = [step for run in runs for step in run.steps[:count] if step.baseline is None]
        finals = {run.seed: final for run in runs for final in run.finals if final.evaluations == count}
        searched = self._least(sampler, count)
        others = {run.seed: final for run in self.of(self.compared_with) for final in run.finals if final.evaluations == count}
        is_reference = sampler == self.compared_with
        return Row(
            sampler,
            tuple(searched.values()),
            tuple(final.loss for final in finals.values()),
            tuple(final.metric for final in finals.values()),
            tuple(self.hypervolumes(run)[min(count, len(run.steps)) - 1] for run in runs if run.steps),
            None if is_reference else _ratio(searched, self._least(self.compared_with, count)),
            None if is_reference else _ratio(_losses(finals), _losses(others)),
            sum(step.latency_ms <= self.budget_ms for step in proposals) / len(proposals) if proposals else None,
        )

    def _baseline_row(self, final: Final, count: int) -> Row:
        others = {run.seed: other for run in self.of(self.compared_with) for other in run.finals if other.evaluations == count}
        return Row(
            final.name or "",
            (final.search_loss,),
            (final.loss,),
            (final.metric,),
            (),
            _ratio(dict.fromkeys(self.seeds, final.search_loss), self._least(self.compared_with, count)),
            _ratio(dict.fromkeys(self.seeds, final.loss), _losses(others)),
            None,
        )

    def _least(self, sampler: str, count: int) -> dict[int, float]:
        """Least search loss within the budget after so many evaluations, by seed."""
        found = {}
        for run in self.of(sampler):
            least = self.best(run)[:count]
            if least and least[-1] is not None:
                found[run.seed] = least[-1]
        return found

    def to_json(self) -> dict[str, Any]:
        """The content of compare.json, schema 1: latencies in ms, curves with one value for each evaluation."""
        value = {name: getattr(self, name) for name in ("name", "task", "target", "latency_source", "latency_note")}
        return {
            "schema": SCHEMA,
            **value,
            "budget_ms": self.budget_ms,
            "fastest_ms": self.fastest_ms,
            "trials": self.trials,
            "loss": self.loss_name,
            "metric": self.metric_name,
            "samplers": list(self.samplers),
            "seeds": list(self.seeds),
            "compared_with": self.compared_with,
            "hypervolume_reference": {"latency_ms": self.reference[0], "search_loss": self.reference[1]},
            "table": [dataclasses.asdict(row) for row in self.rows()],
            "baselines": [dataclasses.asdict(final) for final in self.baselines],
            "runs": [
                {**dataclasses.asdict(run), "best_search_loss": self.best(run), "hypervolume": self.hypervolumes(run)}
                for run in self.runs
            ],
            "provenance": dict(self.provenance),
        }

    def to_csv(self) -> str:
        """All evaluations as CSV, one a row; the cell of the best loss is empty before anything met the budget."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = ("trial", "baseline", "latency_ms", "search_loss", "feasible", "best_search_loss", "hypervolume")
        writer.writerow(("sampler", "seed", "evaluation", *columns))
        for run in self.runs:
            curves = zip(run.steps, self.best(run), self.hypervolumes(run), strict=True)
            for number, (step, best, volume) in enumerate(curves, start=1):
                feasible = str(step.latency_ms <= self.budget_ms).lower()
                values = (step.trial, step.baseline, step.latency_ms, step.search_loss, feasible, best, volume)
                writer.writerow((run.sampler, run.seed, number, *values))
        return text.getvalue()


def geometric_mean(losses: Sequence[float]) -> float:
    """Of at least one loss."""
    return math.exp(statistics.fmean(math.log(max(loss, LEAST_LOSS)) for loss in losses))


def over_seeds(curves: Sequence[Sequence[float | None]], pick: Callable[[list[float]], float]) -> list[float | None]:
    """`pick` of the curves' values after each evaluation; None where some curve has none yet."""
    found: list[float | None] = []
    for values in zip(*curves, strict=False):
        known = [value for value in values if value is not None]
        found.append(pick(known) if len(known) == len(values) else None)
    return found


def _losses(finals: Mapping[int, Final]) -> dict[int, float]:
    return {seed: final.loss for seed, final in finals.items()}


def _ratio(losses: Mapping[int, float], others: Mapping[int, float]) -> float | None:
    """Geometric mean over common seeds of one loss over the other."""
    common = [seed for seed in losses if seed in others]
    if not common:
        return None
    return geometric_mean([losses[seed] for seed in common]) / geometric_mean([others[seed] for seed in common])


def _table_baselines(baselines: Sequence[Final]) -> list[Final]:
    """Those that are neither uniform nor dense, and of the uniform ones the best by search loss."""
    uniform = [final for final in baselines if (final.name or "").startswith("uniform")]
    others = [final for final in baselines if final not in uniform and "dense" not in (final.name or "")]
    return others + sorted(uniform, key=lambda final: final.search_loss)[:1]


def _area(front: Sequence[tuple[float, float]], last_ms: float, last_loss: float) -> float:
    """The area that a front, by latency, dominates up to the reference."""
    ends = [ms for ms, _ in front[1:]] + [last_ms]
    return math.fsum((end - ms) * (last_loss - loss) for (ms, loss), end in zip(front, ends, strict=True))
