from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.kernels.geometry import Geometry
from autocompress.kernels.table import LatencyTable, Row, RowKey, measured_path
from autocompress.kernels.targets import load_target

PIXEL7 = load_target("pixel7")
CONV = Geometry("conv", 64, 128, 28, 28, 28, 28)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def measured_table(microseconds: float = 100.0) -> LatencyTable:
    row = Row(microseconds, microseconds * 0.9, microseconds * 1.2, "measured", "conv_int8_dense")
    return LatencyTable(PIXEL7, PIXEL7.core(), measured={RowKey(CONV, "dense", 0.0, 8): row})


def test_modelled_rows_say_so() -> None:
    table = LatencyTable.for_target(PIXEL7)
    row = table.row(CONV, "block4x4", 0.5, 8)
    assert row.source == table.source == "modelled"
    assert row.low < row.microseconds < row.high
    assert row.kernel == "conv_int8_block4x4"
    assert "modelled" in table.note and "%" in table.note
    assert table.row(CONV, "block4x4", 0.5, 8) is row


def test_cores() -> None:
    times = [LatencyTable.for_target(PIXEL7, core).row(CONV, "dense", 0.0, 8).microseconds for core in ("X1", "A78", "A55")]
    assert times == sorted(times)
    assert LatencyTable.for_target(PIXEL7).core.name == "X1"


def test_unsupported_is_a_value_error() -> None:
    table = LatencyTable.for_target(PIXEL7)
    assert not table.supports(CONV, "channel", 8)
    with pytest.raises(ValueError, match="no channel kernel"):
        table.row(CONV, "channel", 0.5, 8)


def test_end_to_end_line() -> None:
    target = dataclasses.replace(PIXEL7, intercept_ms=0.5, slope=1.1)
    assert LatencyTable.for_target(target).total_ms(2000.0) == pytest.approx(2.7)


def test_convert_rows() -> None:
    table = LatencyTable.for_target(PIXEL7)
    plane = Geometry("convert", 64, 64, 28, 28, 28, 28)
    assert all(table.row(plane, "dense", 0.0, bits).microseconds > 0 for bits in (32, 16, 8))


def test_measured_rows_take_precedence(data_folder: Path) -> None:
    path = measured_path(PIXEL7, PIXEL7.core())
    assert data_folder in path.parents
    measured_table().save_csv(path)
    table = LatencyTable.for_target(PIXEL7)
    assert table.source == "measured"
    assert table.row(CONV, "dense", 0.0, 8).microseconds == 100.0
    assert table.note == "Times measured on pixel7 X1."
    assert table.row(CONV, "block4x4", 0.5, 8).source == "modelled"
    assert "modelled" in table.note
    assert LatencyTable.for_target(PIXEL7, "A78").row(CONV, "dense", 0.0, 8).source == "modelled"


def test_rows_of_another_device_are_refused() -> None:
    other = dataclasses.replace(PIXEL7.core(), ghz=2.0)
    measured_table().save_csv(measured_path(PIXEL7, PIXEL7.core()))
    target = dataclasses.replace(PIXEL7, cores=(other,))
    with pytest.raises(UserError, match="measured on another core"):
        LatencyTable.for_target(target)


def test_fingerprint_is_the_content() -> None:
    table = LatencyTable.for_target(PIXEL7)
    before = table.fingerprint
    table.row(CONV, "dense", 0.0, 8)
    assert table.fingerprint == before == LatencyTable.for_target(load_target("pixel7")).fingerprint
    others = [
        LatencyTable.for_target(PIXEL7, "A78"),
        LatencyTable.for_target(load_target("pixel6")),
        LatencyTable(PIXEL7, PIXEL7.core(), dataclasses.replace(table.constants, efficiency=0.5)),
        measured_table(),
        measured_table(101.0),
    ]
    assert len({before, *(other.fingerprint for other in others)}) == 6


@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(1, 512),
            st.integers(1, 512),
            st.sampled_from([("dense", 0.0, 32), ("unstructured", 0.123456789, 16), ("block1x4", 0.5, 8), ("dense", 0.0, 4)]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_csv_round_trip(tmp_path: Path, asked: list[tuple[int, int, tuple[str, float, int]]]) -> None:
    table = measured_table()
    for inputs, outputs, option in asked:
        table.row(Geometry("conv", inputs, outputs, 15, 14, 8, 7, (3, 5), (2, 2), (1, 2)), *option)
    path = tmp_path / "table.csv"
    table.save_csv(path)
    again = LatencyTable.load_csv(path)
    assert again.rows == table.rows
    assert (again.target, again.core, again.constants) == (table.target, table.core, table.constants)
    assert again.fingerprint == table.fingerprint
    header = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert {"schema", "target", "core", "source", "constants", "date"} <= set(header)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    table = measured_table()
    table.row(CONV, "block4x4", 0.5, 8)
    path = tmp_path / "table.csv"
    table.save_csv(path)
    whole = path.read_bytes()
    assert len(whole) > 1000
    # A kernel's name cut short is still a name, so only cuts before the last cell must be noticed.
    for length in range(0, whole.rindex(b","), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"damaged|cut off"):
            LatencyTable.load_csv(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"schema": 1, "source"', '"schema": 9, "source"', "schema 9"),
        (",100.0,", ",-100.0,", "times out of order"),
        (",100.0,", ",nan,", "times out of order"),
        (",100.0,", ",many,", "could not convert"),
        ("\nconv,", "\nwarp,", "a row that no kernel has"),
        (",measured,", ",guessed,", "a row that no kernel has"),
        (",measured,", ",modelled,", "not what this version models"),
        ("structure,", "texture,", "line of column names"),
        ('"efficiency": 0.', '"efficiency": 7.', "constants out of range"),
        ('"core": "X1"', '"core": "X7"', "has no core"),
        ("\nconv,", '\nconv,"', "damaged"),
    ],
)
def test_damage_is_noticed(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "table.csv"
    measured_table().save_csv(path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        LatencyTable.load_csv(path)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        LatencyTable.load_csv(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read"):
        LatencyTable.load_csv(tmp_path / "binary.csv")


def test_a_large_table_is_quick() -> None:
    table = LatencyTable.for_target(PIXEL7)
    start = perf_counter()
    for layer in range(50):
        for option in range(60):
            table.row(Geometry("conv", 16 + layer, 64, 28, 28, 28, 28), "block4x4", (option + 1) / 64, 8)
    assert len(table.rows) == 3000
    assert perf_counter() - start < 1.0
