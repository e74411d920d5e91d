"""Verified networks: kept with a study, and drawn in its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autocompress.errors import UserError
from autocompress.reports.folder import write_reports
from autocompress.reports.html import render_html
from autocompress.reports.result import StudyResult
from autocompress.reports.verified import VERIFIED, Verified, VerifiedOp, add_verified, load_verified
from autocompress.reports.verified_chart import verified_chart

NETWORK = Verified(
    "abc",
    "<b>phone</b>",
    "f",
    "k",
    "measured",
    1.05,
    1.0,
    0.99,
    1.02,
    "2026-11-22T10:11:12+00:00",
    (VerifiedOp("stem", "s8_dense", 50.0, 100.0), VerifiedOp("far", "s8_add", 9.0, 2.0)),
)


def test_they_are_kept_and_the_last_run_of_a_plan_counts(tmp_path: Path) -> None:
    assert load_verified(tmp_path) == ()
    other = replace(NETWORK, plan="other", ops=())
    again = replace(NETWORK, measured_ms=2.0)
    add_verified(tmp_path, [NETWORK, other])
    assert add_verified(tmp_path, [again]) == (other, again) == load_verified(tmp_path)
    assert NETWORK.error == pytest.approx(0.05)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 9, "networks": []}', '{"schema": 1, "networks": [{"plan": "a"}]}'])
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / VERIFIED).write_text(text)
    with pytest.raises(UserError, match=r"is damaged .* delete it"):
        load_verified(tmp_path)


def test_residuals_of_ops_and_networks() -> None:
    chart = verified_chart([NETWORK])
    ops, whole = chart.figure["data"]
    assert ops["x"] == [0.1, 0.002] and ops["y"] == pytest.approx([-50.0, 100.0])
    assert whole["x"] == [1.0] and whole["y"] == pytest.approx([5.0])
    assert chart.notes == ("1 of 2 ops are farther off than 100%; they stand at the edge.",)
    assert len(verified_chart([replace(NETWORK, ops=())]).figure["data"]) == 1


def test_the_report_shows_them_once_there_are_some(result: StudyResult, tmp_path: Path) -> None:
    assert "Predicted and measured" not in render_html(result)
    page = render_html(result, [NETWORK])
    assert "Predicted and measured" in page and "+5.0%" in page and "&lt;b&gt;phone&lt;/b&gt;" in page
    assert "<b>phone</b>" not in page
    add_verified(tmp_path, [NETWORK])
    write_reports(result, tmp_path)
    assert "Predicted and measured" in (tmp_path / "report.html").read_text()
