"""StudyResult: everything that a report shows, as one value that is stored beside the study."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from ..errors import UserError
from ..files import write_json

SCHEMA = 1
LatencySource = Literal["modelled", "measured"]
Objective = Literal["latency", "size"]
#: Columns of `StudyResult.dense_ms`.
DenseType = Literal["fp32", "fp16", "int8"]

Row = TypeVar("Row", "Point", "HistoryRow", "LayerRow", "OpRow")


@dataclass(frozen=True)
class Point:
    """One evaluated trial.

    Attributes:
        trial: number of the Optuna trial.
        latency_ms: predicted or measured latency: its median, or the quantile that the study's pessimism asks for.
        latency_median_ms, latency_low_ms, latency_high_ms: its median, 10th and 90th percentile, where they are known.
        search_loss: loss on the data that the search uses; `search_inputs` of them were computed.
        loss, metric: on the evaluation data, which the search never sees; None where not evaluated.
        size_bytes: size of the compressed weights.
        on_front: no other evaluated trial is at least as good in search loss and in all objectives.
        feasible: within all budgets; True everywhere when there is none.
        plan: path of the plan file, relative to the study folder.
        name: for baselines, as `int8 dense`; None for what the search proposed.
    """

    trial: int
    latency_ms: float
    search_loss: float
    size_bytes: int
    on_front: bool
    feasible: bool
    plan: str
    loss: float | None = None
    metric: float | None = None
    search_inputs: int | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    latency_median_ms: float | None = None
    name: str | None = None


@dataclass(frozen=True)
class HistoryRow:
    """One completed trial, in the order of completion; `seconds` is how long its evaluation took."""

    trial: int
    search_loss: float
    latency_ms: float
    feasible: bool
    seconds: float
    size_bytes: int | None = None


@dataclass(frozen=True)
class LayerRow:
    """One Layer of the best Plan.

    Attributes:
        op: what the Layer is, as `conv 3x3 s2`, `depthwise 5x5` or `linear`.
        option: the chosen Option as text; `structure`, `sparsity` and `bits` are its parts.
        ms: time of the Layer under the chosen Option.
        share: that time as a share of the Plan's total, in [0, 1].
        dense_int8_ms: time of the Layer when dense int8; None where the target has no such kernel.
        runner_up: the best other Option as text; None where the Layer has no other.
        runner_up_delta_ms, runner_up_delta_loss: what taking the runner-up would add (negative: save) in time and in predicted
            search loss, all other Layers unchanged.
    """

    name: str
    op: str
    option: str
    structure: str
    sparsity: float
    bits: int
    ms: float
    share: float
    dense_int8_ms: float | None = None
    runner_up: str | None = None
    runner_up_delta_ms: float | None = None
    runner_up_delta_loss: float | None = None


@dataclass(frozen=True)
class OpRow:
    """Time of what is not a Layer in the best Plan: pools, additions, conversions between data types."""

    name: str
    ms: float


@dataclass(frozen=True)
class FineTuning:
    """What fine-tuning did to the best Plan's network.

    Attributes:
        minutes: time spent in training.
        steps: batches trained on.
        improved: whether the trained network was better on held-out calibration data, and so took the place of the other.
        held_out_before, held_out: loss on these data of the network before, and of the one that was chosen.
        loss_before, metric_before: on the evaluation data; the best Point has those after.
    """

    minutes: float
    steps: int
    improved: bool
    held_out_before: float
    held_out: float
    loss_before: float
    metric_before: float


@dataclass(frozen=True)
class StudyResult:
    """A finished or stopped study, ready to be shown.

    Attributes:
        study: its name, also that of its folder.
        latency_note: the scored error of the latency model or the spread of the measurement, as a sentence beside the numbers.
        pessimism: the quantile that every latency is: 0.5 is the median.
        budget_ms: the latency constraint; None without one.
        max_size_bytes: the size constraint; None without one.
        objectives: what shall be small beside the loss; those without a constraint are minimised.
        dense_ms: latency of the uncompressed network by data type; None where the target has no such kernels.
        loss_name: as `soft KL to dense`. Lower is better.
        metric_name: `agreement`, `top1`, or a function's name. Higher is better; the first two are shares in [0, 1].
        points: every evaluated trial that the search proposed.
        baselines: evaluated trials that have a name; they count for the front too.
        best: trial number of the chosen Point, which may be a baseline; None when nothing is feasible.
        layers, other_ops: where the time of the best Plan goes; empty when there is no best.
        finetuned: what fine-tuning did to the best; None where there was none.
        provenance: JSON values to show, in order; a nested mapping is a section of its own. Usual keys: `autocompress`, `torch`,
            `optuna`, `seed`, `sampler`, `trials`, `table` {source, fingerprint}, `data` {search, evaluation}, `machine`, `date`,
            `seconds` {phase: s}.
    """

    study: str
    task: str
    target: str
    latency_source: LatencySource
    latency_note: str
    budget_ms: float | None
    dense_ms: Mapping[DenseType, float | None]
    loss_name: str
    metric_name: str
    points: tuple[Point, ...]
    baselines: tuple[Point, ...]
    best: int | None
    history: tuple[HistoryRow, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    other_ops: tuple[OpRow, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    pessimism: float = 0.5
    finetuned: FineTuning | None = None
    max_size_bytes: int | None = None
    objectives: tuple[Objective, ...] = ("latency",)

    def __post_init__(self) -> None:
        if self.latency_source not in get_args(LatencySource):
            raise ValueError(f"latency_source is {self.latency_source!r}, not one of {get_args(LatencySource)}")
        if any(point.name is None for point in self.baselines):
            raise ValueError("every baseline needs a name")
        if self.best is not None and self.best not in {point.trial for point in self.everything}:
            raise ValueError(f"best trial {self.best} is not among the points and baselines")

    @property
    def everything(self) -> tuple[Point, ...]:
        """Baselines and points by trial, each trial once; a baseline keeps its name when it is listed as a point too."""
        by_trial = {point.trial: point for point in (*self.points, *self.baselines)}
        return tuple(by_trial[trial] for trial in sorted(by_trial))

    @property
    def front(self) -> tuple[Point, ...]:
        """The non-dominated points and baselines, fastest first, or smallest first where size alone is the objective."""
        return tuple(sorted((point for point in self.everything if point.on_front), key=self.cost))

    def cost(self, point: Point) -> float:
        """What the first objective says of a point: milliseconds, or bytes."""
        return point.latency_ms if "latency" in self.objectives else point.size_bytes

    @property
    def bounded(self) -> bool:
        """Whether there is a budget of latency or of size."""
        return self.budget_ms is not None or self.max_size_bytes is not None

    @property
    def minimised(self) -> tuple[Objective, ...]:
        """The objectives that have no budget."""
        limits = {"latency": self.budget_ms, "size": self.max_size_bytes}
        return tuple(objective for objective in self.objectives if limits[objective] is None)

    @property
    def best_point(self) -> Point | None:
        return next((point for point in self.everything if point.trial == self.best), None)

    @property
    def best_baseline(self) -> Point | None:
        """The baseline of least evaluation loss within the budgets, apart from the best; of objectives without a budget it has no
        more than the best.
        """
        slowest, largest = math.inf, math.inf
        if self.best_point is not None:
            slowest = self.best_point.latency_ms if "latency" in self.minimised else math.inf
            largest = self.best_point.size_bytes if "size" in self.minimised else math.inf
        rivals = [
            (point.loss, point.trial, point)
            for point in self.baselines
            if point.feasible and point.loss is not None and point.trial != self.best
            if point.latency_ms <= slowest and point.size_bytes <= largest
        ]
        return min(rivals, key=lambda rival: rival[:2])[2] if rivals else None

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(value: Any) -> StudyResult:
        """Read what `to_json` wrote.

        Raises:
            UserError: another schema version, or not a result at all.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise UserError(f"not a study result of schema {SCHEMA}: run the study again with this version of autocompress")
        fields = {name: item for name, item in value.items() if name != "schema"}
        try:
            for name, row in (("points", Point), ("baselines", Point)):
                fields[name] = _rows(row, fields[name])
            fields["history"] = _rows(HistoryRow, fields["history"])
            fields["layers"] = _rows(LayerRow, fields["layers"])
            fields["other_ops"] = _rows(OpRow, fields["other_ops"])
            if fields.get("finetuned") is not None:
                fields["finetuned"] = FineTuning(**fields["finetuned"])
            if "objectives" in fields:
                fields["objectives"] = tuple(fields["objectives"])
            return StudyResult(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"damaged study result ({error}): resume the study to write it again") from error

    def save(self, path: Path) -> None:
        """Write `path`, usually `result.json` in the study folder, atomically.

        Raises:
            UserError: the folder cannot be written.
            ValueError: a number is NaN or infinite.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> StudyResult:
        """Read what `save` wrote.

        Raises:
            UserError: no such file, or it is cut off or of another schema.
        """
        try:
            return StudyResult.from_json(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}. Finish the study first, with resume") from error
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): resume the study to write it again") from error


def _rows(kind: type[Row], values: list[dict[str, Any]]) -> tuple[Row, ...]:
    return tuple(kind(**value) for value in values)
