from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

from autocompress.reports.folder import write_reports
from autocompress.reports.front import front_csv, front_json
from autocompress.reports.result import FineTuning, StudyResult

POINT = ["trial", "latency_ms", "search_loss", "loss", "metric", "size_bytes", "on_front", "feasible", "plan"]
INTERVAL = ["latency_median_ms", "latency_low_ms", "latency_high_ms"]


def test_front_json_has_exactly_the_schema(result: StudyResult) -> None:
    value = json.loads(json.dumps(front_json(result), allow_nan=False))
    top = ["schema", "task", "target", "latency_source", "line"]
    top += ["pessimism", "budget_ms", "max_size_bytes", "objectives", "dense_ms", "best", "points", "baselines"]
    assert list(value) == top
    assert (value["schema"], value["task"], value["target"], value["latency_source"]) == (
        1,
        "efficientnet-lite0",
        "pixel7",
        "modelled",
    )
    assert value["max_size_bytes"] is None and value["objectives"] == ["latency"]
    assert value["budget_ms"] == 5.0 and value["best"] == result.best
    assert value["dense_ms"] == {"fp32": 21.4, "int8": 7.92}
    assert len(value["points"]) == 150 and all(list(point) == POINT + INTERVAL for point in value["points"])
    assert len(value["baselines"]) == 9 and all(list(point) == ["name", *POINT, *INTERVAL] for point in value["baselines"])


def test_front_json_has_null_where_nothing_was_evaluated(result: StudyResult) -> None:
    empty = replace(result, points=result.points[:1], baselines=(), best=None, budget_ms=None, dense_ms={"fp32": 3.0})
    value = front_json(replace(empty, points=(replace(empty.points[0], loss=None, metric=None),)))
    assert value["budget_ms"] is None and value["best"] is None
    assert value["dense_ms"] == {"fp32": 3.0, "int8": None}
    assert value["points"][0]["loss"] is None and value["points"][0]["metric"] is None


def test_front_csv_holds_every_trial_once(result: StudyResult) -> None:
    rows = list(csv.DictReader(io.StringIO(front_csv(result))))
    assert sorted(int(row["trial"]) for row in rows) == list(range(159))
    assert [float(row["latency_ms"]) for row in rows] == sorted(float(row["latency_ms"]) for row in rows)
    assert {row["latency_source"] for row in rows} == {"modelled"}
    best = next(row for row in rows if int(row["trial"]) == result.best)
    assert best["on_front"] == "true" and best["name"] == "" and float(best["loss"]) > 0.0
    assert any(row["loss"] == "" for row in rows)


def test_names_survive_csv(result: StudyResult) -> None:
    name = 'odd, "name"\nhere'
    changed = replace(result, baselines=(replace(result.baselines[0], name=name), *result.baselines[1:]))
    assert name in {row["name"] for row in csv.DictReader(io.StringIO(front_csv(changed)))}


def test_write_reports(result: StudyResult, tmp_path: Path) -> None:
    write_reports(result, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.csv", "front.json", "report.html", "result.json"]
    assert json.loads((tmp_path / "front.json").read_text()) == front_json(result)
    assert StudyResult.load(tmp_path / "result.json") == result


def test_the_best_point_tells_what_fine_tuning_did(result: StudyResult) -> None:
    row = FineTuning(10.0, 500, True, 0.5, 0.25, 0.4321, 0.5)
    tuned = replace(result, finetuned=row)
    for front, expected in ((front_json(tuned), 1), (front_json(result), 0)):
        points = [point for point in (*front["points"], *front["baselines"]) if "finetuned" in point]
        assert len({point["trial"] for point in points}) == expected
        assert all(point["trial"] == result.best and point["finetuned"]["loss_before"] == 0.4321 for point in points)
    assert StudyResult.from_json(json.loads(json.dumps(tuned.to_json()))) == tuned
