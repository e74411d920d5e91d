"""The front as data for other programs: front.json and front.csv."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from .result import Point, StudyResult

SCHEMA = 1
FIELDS = ("trial", "latency_ms", "search_loss", "loss", "metric", "size_bytes", "on_front", "feasible", "plan")
#: In front.json only, after the others.
INTERVAL = ("latency_median_ms", "latency_low_ms", "latency_high_ms")


def front_json(result: StudyResult) -> dict[str, Any]:
    """The content of front.json, schema 1: latencies in ms, sizes in bytes, null where a value was not evaluated.

    The best point has a key `finetuned` if it was fine-tuned (see `FineTuning`).
    `line` tells on which end-to-end line latencies are, and what it was fitted on; null for studies of earlier versions.
    `latency_ms` is the quantile `pessimism` of the latency, 0.5 being the median; low and high are the 10th and 90th percentile.
    The front is non-dominated in search loss and all `objectives`; feasible means within both `budget_ms` and `max_size_bytes`.
    """
    return {
        "schema": SCHEMA,
        "task": result.task,
        "target": result.target,
        "latency_source": result.latency_source,
        "line": result.provenance.get("table", {}).get("line"),
        "pessimism": result.pessimism,
        "budget_ms": result.budget_ms,
        "max_size_bytes": result.max_size_bytes,
        "objectives": list(result.objectives),
        "dense_ms": {"fp32": result.dense_ms.get("fp32"), "int8": result.dense_ms.get("int8")},
        "best": result.best,
        "points": [{**_values(point, INTERVAL), **_finetuned(result, point)} for point in result.points],
        "baselines": [
            {"name": point.name, **_values(point, INTERVAL), **_finetuned(result, point)} for point in result.baselines
        ],
    }


def front_csv(result: StudyResult) -> str:
    """All points and baselines as CSV, one trial a row, fastest first; empty cells where a value was not evaluated.

    The last column repeats whether latencies are modelled or measured.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", *FIELDS, "latency_source"))
    for point in sorted(result.everything, key=lambda point: (point.latency_ms, point.trial)):
        values = _values(point)
        cells = [str(value).lower() if isinstance(value, bool) else value for value in values.values()]
        writer.writerow((point.name, *cells, result.latency_source))
    return text.getvalue()


def _finetuned(result: StudyResult, point: Point) -> dict[str, Any]:
    """For the best point of a study with fine-tuning, what it was before; its loss and metric are those after."""
    return {"finetuned": asdict(result.finetuned)} if result.finetuned is not None and point.trial == result.best else {}


def _values(point: Point, more: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: getattr(point, name) for name in (*FIELDS, *more)}
