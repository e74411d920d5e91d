"""The end-to-end line: fitted rightly, kept with its device, and used by tables of measured rows alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.kernels.geometry import Geometry
from autocompress.kernels.line import Line, Point, add_point, fit_line, fitted, load_points, usable
from autocompress.kernels.table import LatencyTable, Measurement, Row, RowKey, measured_path, measured_writer, points_path
from autocompress.kernels.targets import load_target
from autocompress.kernels.toolchain import kernels_hash

PIXEL7 = load_target("pixel7")
CORE = PIXEL7.core()
OWN = Line(0.0, 1.0, PIXEL7.end_to_end_source)
KEY = RowKey(Geometry("conv", 64, 64, 28, 28, 28, 28), "dense", 0.0, 8)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's data folder with one measured row."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    how = Measurement(501, kernels_hash(), "phone1", 25e3, "2026-11-21T10:11:12+00:00")
    with measured_writer(measured_path(PIXEL7, CORE), PIXEL7, CORE) as writer:
        writer.add(KEY, Row(100.0, 99.0, 101.0, "measured", "conv_int8_dense", how))
    return tmp_path


def verified(sum_us: float, measured_us: float, device: str = "phone1", kernels: str = "", plan: str = "") -> None:
    plan = plan or f"{sum_us}"
    add_point(points_path(PIXEL7, CORE), "net", plan, sum_us, measured_us, kernels or kernels_hash(), device)


@given(st.floats(0.0, 50.0), st.floats(0.5, 2.0), st.lists(st.floats(10.0, 1e5), min_size=2, max_size=20))
def test_the_line_is_the_one_that_the_times_are_on(intercept_us: float, slope: float, more: list[float]) -> None:
    sums = np.array([10.0, 1e4, *more])
    line = fit_line(sums, (intercept_us + slope * sums) / 1e3)
    assert (line.intercept_ms * 1e3, line.slope) == pytest.approx((intercept_us, slope), rel=1e-6, abs=1e-6)
    assert line.ms(500.0) == pytest.approx((intercept_us + slope * 500.0) / 1e3)


def test_an_intercept_is_not_negative_and_not_guessed() -> None:
    sums = np.array([100.0, 400.0, 2500.0, 9000.0])
    through_zero = fit_line(sums, 1.1 * sums / 1e3 - 0.05)
    assert through_zero.intercept_ms == 0.0 and 0.8 < through_zero.slope < 1.1
    assert fit_line([2000.0], [3.0]) == Line(0.0, 1.5, "")
    alike = fit_line([2000.0, 2100.0], [2.5, 2.0])
    assert alike.intercept_ms == 0.0 and 0.95 < alike.slope < 1.25


def test_later_tables_use_the_line_of_their_device_and_kernels(tables: Path) -> None:
    before = LatencyTable.for_target(PIXEL7)
    assert before.line == OWN and before.total_ms(1000.0) == 1.0 and before.device == "phone1"
    verified(1000.0, 1150.0, device="phone2")
    verified(1000.0, 1300.0, kernels="older")
    assert LatencyTable.for_target(PIXEL7).line == OWN, "another device's, or other kernels'"
    verified(1000.0, 1150.0)
    verified(10000.0, 10150.0)
    after = LatencyTable.for_target(PIXEL7)
    assert after.total_ms(5000.0) == pytest.approx(5.15)
    assert after.fingerprint != before.fingerprint
    assert "150.0 us + 1.000 x the sum of their rows (fitted on 2 networks" in after.note
    assert LatencyTable.for_target(PIXEL7, line=before.line).fingerprint == before.fingerprint, "a study keeps its line"
    after.save_csv(tables / "table.csv")
    assert LatencyTable.load_csv(tables / "table.csv").line == after.line


def test_a_modelled_table_has_no_fitted_line(tables: Path) -> None:
    verified(1000.0, 1150.0)
    assert LatencyTable.for_target(PIXEL7).line.slope == pytest.approx(1.15)
    measured_path(PIXEL7, CORE).unlink()
    assert LatencyTable.for_target(PIXEL7).line == OWN


def test_of_several_runs_of_a_plan_the_last_counts(tables: Path) -> None:
    verified(1000.0, 1500.0, plan="a")
    verified(1000.0, 1100.0, plan="a")
    points = load_points(points_path(PIXEL7, CORE))
    assert len(points) == 2
    line = fitted(usable(points, kernels_hash(), "phone1"))
    assert line is not None and line.slope == pytest.approx(1.1) and line.source.startswith("fitted on 1 network that")
    assert fitted([]) is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"schema": 2, "points": []}', '{"schema": 1, "points": [{"network": "a"}]}', '{"schema": 1}'],
)
def test_damaged_files_are_refused(tables: Path, text: str) -> None:
    points_path(PIXEL7, CORE).write_text(text)
    with pytest.raises(UserError, match=r"is damaged .* run `autocompress verify` again"):
        LatencyTable.for_target(PIXEL7)


@pytest.mark.parametrize("time", [0.0, -1.0, float("inf"), "1"])
def test_impossible_times_are_refused(tmp_path: Path, time: object) -> None:
    path = tmp_path / "points.json"
    add_point(path, "net", "plan", 1.0, 2.0, "kernels", "device")
    assert load_points(path) == [Point("net", "plan", 1.0, 2.0, "kernels", "device", load_points(path)[0].date)]
    value = json.loads(path.read_text())
    value["points"][0]["sum_us"] = time
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match="impossible times"):
        load_points(path)
