from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autocompress.errors import UserError
from autocompress.reports.result import StudyResult


def test_json_round_trip(result: StudyResult) -> None:
    assert StudyResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_file_round_trip(result: StudyResult, tmp_path: Path) -> None:
    result.save(tmp_path / "result.json")
    assert StudyResult.load(tmp_path / "result.json") == result


def test_a_cut_off_file_is_a_user_error(result: StudyResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result.save(path)
    path.write_text(path.read_text()[:5000])
    with pytest.raises(UserError, match="damaged"):
        StudyResult.load(path)


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        StudyResult.load(tmp_path / "result.json")


@pytest.mark.parametrize("value", [[], {}, {"schema": 2}, {"schema": 1}, {"schema": 1, "points": [{}], "baselines": []}])
def test_what_is_no_result_is_a_user_error(value: object) -> None:
    with pytest.raises(UserError):
        StudyResult.from_json(value)


def test_a_non_finite_number_is_not_written(result: StudyResult, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        replace(result, budget_ms=float("nan")).save(tmp_path / "result.json")
    assert list(tmp_path.iterdir()) == []


def test_best_must_be_known(result: StudyResult) -> None:
    with pytest.raises(ValueError, match="best trial 9999"):
        replace(result, best=9999)


def test_best_baseline_is_within_the_budget(result: StudyResult) -> None:
    rival = result.best_baseline
    assert rival is not None and rival.name == "plain solver"


def test_without_a_budget_the_rival_is_no_slower_than_the_best(result: StudyResult) -> None:
    free = replace(
        result,
        budget_ms=None,
        points=tuple(replace(point, feasible=True) for point in result.points),
        baselines=tuple(replace(point, feasible=True) for point in result.baselines),
    )
    rival, best = free.best_baseline, free.best_point
    assert rival is not None and best is not None
    assert rival.latency_ms <= best.latency_ms and rival.name != "fp32 dense"


def test_a_baseline_listed_twice_counts_once(result: StudyResult) -> None:
    twice = replace(result, points=(*result.points, replace(result.baselines[0], name=None)))
    assert len(twice.everything) == len(result.everything)
    assert twice.everything[0].name == "fp32 dense"
