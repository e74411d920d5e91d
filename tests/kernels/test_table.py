from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.kernels.devices import this_machine
from autocompress.kernels.geometry import Geometry
from autocompress.kernels.packing import KERNELS
from autocompress.kernels.table import (
    LatencyTable,
    MeasuredRows,
    Measurement,
    Row,
    RowKey,
    measured_path,
    measured_writer,
    summary,
    unsteady_keys,
)
from autocompress.kernels.targets import Target, load_target
from autocompress.kernels.toolchain import kernels_hash

PIXEL7, HOST = load_target("pixel7"), load_target("host")
CONV = Geometry("conv", 64, 128, 28, 28, 28, 28)
KEY = RowKey(CONV, "dense", 0.0, 8)
SPARSE = RowKey(CONV, "block4x4", 0.5, 8)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def measured(microseconds: float = 100.0, kernels: str = "", device: str = "phone1", sentinel: float = 25e3) -> Row:
    """A measured row, of today's kernels unless named."""
    how = Measurement(501, kernels or kernels_hash(), device, sentinel, "2026-11-21T10:11:12+00:00")
    return Row(microseconds, microseconds * 0.9, microseconds * 1.2, "measured", "conv_int8_dense", how)


def measured_table(microseconds: float = 100.0) -> LatencyTable:
    return LatencyTable(PIXEL7, PIXEL7.core(), measured={KEY: measured(microseconds)})


def write_measured(rows: dict[RowKey, Row], target: Target = PIXEL7) -> Path:
    path = measured_path(target, target.core())
    with measured_writer(path, target, target.core()) as writer:
        for key, row in rows.items():
            writer.add(key, row)
    return path


def test_modelled_rows_say_so() -> None:
    table = LatencyTable.for_target(PIXEL7)
    row = table.row(CONV, "block4x4", 0.5, 8)
    assert row.source == table.source == "modelled"
    assert row.low < row.microseconds < row.high
    assert row.kernel == "conv_int8_block4x4"
    assert "modelled" in table.note and "%" in table.note
    assert table.row(CONV, "block4x4", 0.5, 8) is row


@pytest.mark.parametrize(("structure", "sparsity", "bits"), [("dense", 0.0, 8), ("block4x4", 0.5, 8), ("unstructured", 0.8, 32)])
def test_shares_are_quantiles_that_a_single_row_exceeds(structure: str, sparsity: float, bits: int) -> None:
    median, ninth = LatencyTable.for_target(PIXEL7), LatencyTable.for_target(PIXEL7, pessimism=0.9)
    row, share = median.row(CONV, structure, sparsity, bits), median.share(CONV, structure, sparsity, bits)
    assert share.counted == share.median == row.microseconds
    assert row.low < share.low < share.median < share.high < row.high
    pessimist = ninth.share(CONV, structure, sparsity, bits)
    assert pessimist.counted == pytest.approx(share.high)
    assert (pessimist.median, pessimist.low, pessimist.high) == (share.median, share.low, share.high)
    assert ninth.row(CONV, structure, sparsity, bits) == row
    worst = LatencyTable.for_target(PIXEL7, pessimism=0.99).share(CONV, structure, sparsity, bits)
    assert worst.counted > pessimist.counted


def test_pessimism_of_measured_rows_is_their_own_spread() -> None:
    share = measured_table().share(CONV, "dense", 0.0, 8)
    assert (share.counted, share.low, share.high, share.source) == (100.0, 90.0, 120.0, "measured")
    table = LatencyTable(PIXEL7, PIXEL7.core(), measured={KEY: measured(100.0)}, pessimism=0.9)
    assert table.share(CONV, "dense", 0.0, 8).counted == pytest.approx(120.0)


def test_pessimism_is_told_and_part_of_the_fingerprint() -> None:
    tables = [LatencyTable.for_target(PIXEL7, pessimism=share) for share in (0.5, 0.9, 0.95)]
    assert len({table.fingerprint for table in tables}) == 3
    assert tables[0].fingerprint == LatencyTable.for_target(PIXEL7).fingerprint
    assert "90th percentile" in tables[1].note and "percentile" not in tables[0].note


@pytest.mark.parametrize("share", [0.49, 1.0, 0.0, float("nan")])
def test_pessimism_out_of_range(share: float) -> None:
    with pytest.raises(UserError, match=r"0\.5 to 0\.99"):
        LatencyTable.for_target(PIXEL7, pessimism=share)


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
    path = write_measured({KEY: measured()})
    assert data_folder in path.parents
    table = LatencyTable.for_target(PIXEL7)
    assert table.source == "measured"
    assert table.row(CONV, "dense", 0.0, 8) == measured()
    assert table.note == "Times measured on pixel7 X1."
    assert table.row(CONV, "block4x4", 0.5, 8).source == "modelled"
    assert table.source == "modelled"
    assert table.note.startswith("1 times are measured on pixel7 X1. 1 are modelled (")
    assert LatencyTable.for_target(PIXEL7, "A78").row(CONV, "dense", 0.0, 8).source == "modelled"


def test_a_measured_core_offers_only_what_has_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(KERNELS, ("int8", "block1x4"))
    assert LatencyTable(PIXEL7, PIXEL7.core()).supports(CONV, "block1x4", 8)
    assert not measured_table().supports(CONV, "block1x4", 8)
    assert measured_table().supports(CONV, "block4x4", 8)


def test_rows_of_another_core_are_refused() -> None:
    write_measured({KEY: measured()})
    changed = dataclasses.replace(PIXEL7, cores=(dataclasses.replace(PIXEL7.core(), ghz=2.0),))
    assert LatencyTable.for_target(changed).source == "measured"
    other = dataclasses.replace(PIXEL7, cores=(dataclasses.replace(PIXEL7.core(), model="cortex-x3"),))
    with pytest.raises(UserError, match="measured on another core"):
        LatencyTable.for_target(other)
    with pytest.raises(UserError, match="measured on another core"):
        write_measured({}, other)


def test_rows_of_older_kernels_are_not_used_and_the_note_says_so() -> None:
    write_measured({KEY: measured(kernels="older"), SPARSE: measured(50.0)})
    table = LatencyTable.for_target(PIXEL7)
    assert [table.row(CONV, *option).source for option in (("dense", 0.0, 8), ("block4x4", 0.5, 8))] == ["modelled", "measured"]
    assert "1 measured rows of other kernels or another device are not used" in table.note
    assert "run `autocompress bench --target pixel7 --core X1`" in table.note


def test_the_last_device_counts() -> None:
    write_measured({KEY: measured(device="phone1"), SPARSE: measured(device="phone2")})
    assert LatencyTable.for_target(PIXEL7).rows.keys() == {SPARSE}
    write_measured({KEY: measured(90.0, device="phone2")})
    assert LatencyTable.for_target(PIXEL7).rows == {SPARSE: measured(device="phone2"), KEY: measured(90.0, device="phone2")}


def test_rows_of_another_computer_are_not_this_hosts() -> None:
    write_measured({KEY: measured(device="another")}, HOST)
    assert LatencyTable.for_target(HOST).source == "modelled"
    write_measured({KEY: measured(device=this_machine().fingerprint)}, HOST)
    assert LatencyTable.for_target(HOST).rows.keys() == {KEY}


def test_the_later_of_two_rows_counts() -> None:
    write_measured({KEY: measured(100.0), SPARSE: measured(70.0)})
    path = write_measured({KEY: measured(80.0)})
    assert list(MeasuredRows.load(path).rows.items()) == [(SPARSE, measured(70.0)), (KEY, measured(80.0))]


def test_every_cut_of_measured_rows_leaves_the_rows_before_it() -> None:
    rows = {RowKey(CONV, "block4x4", level / 10, 8): measured(float(level)) for level in range(1, 8)}
    path = write_measured(rows)
    whole = path.read_bytes()
    start = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for length in range(start, len(whole) + 1, 7):
        path.write_bytes(whole[:length])
        count = whole[start:length].count(b"\n")
        assert MeasuredRows.load(path).rows == dict(list(rows.items())[:count])
        # Writing goes on behind the last whole row.
        write_measured({KEY: measured()})
        assert list(MeasuredRows.load(path).rows) == [*list(rows)[:count], KEY]


def test_damaged_measured_rows_are_refused() -> None:
    path = write_measured({KEY: measured()})
    whole = path.read_text(encoding="utf-8")
    for old, new, words in (
        ('"schema": 2', '"schema": 1', "has schema 1"),
        (",100.0,", ",x,", "could not convert"),
        (",501,", ",0,", "cannot be"),
        (",25000.0,", ",-1.0,", "cannot be"),
        ("2026-11-21", "2026-99-21", "damaged"),
        (",measured,", ",modelled,", "not measured"),
        ("repetitions", "times", "line of column names"),
    ):
        assert old in whole
        path.write_text(whole.replace(old, new), encoding="utf-8")
        with pytest.raises(UserError, match=words):
            LatencyTable.for_target(PIXEL7)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        LatencyTable.for_target(PIXEL7)


def test_two_processes_do_not_measure_one_core() -> None:
    path = measured_path(PIXEL7, PIXEL7.core())
    with (
        measured_writer(path, PIXEL7, PIXEL7.core()),
        pytest.raises(UserError, match="another process is measuring pixel7 X1"),
        measured_writer(path, PIXEL7, PIXEL7.core()),
    ):
        pass


def test_a_folder_that_cannot_be_written(data_folder: Path) -> None:
    data_folder.write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        write_measured({KEY: measured()})


def test_unsteady_rows_are_known_by_their_clock() -> None:
    rows = {KEY: measured(sentinel=25.4e3), SPARSE: measured(sentinel=25e3)}
    assert unsteady_keys(rows) == {KEY}
    assert unsteady_keys({**rows, KEY: measured(sentinel=25.3e3)}) == set()
    write_measured(rows)
    table = LatencyTable.for_target(PIXEL7)
    assert table.note == "Times measured on pixel7 X1 (1 rows of the table at an unsteady clock)."


def test_summary() -> None:
    empty = summary(PIXEL7, PIXEL7.core())
    assert (empty.core, empty.measured, empty.stale, empty.unsteady, empty.date) == ("X1", 0, 0, 0, "")
    third = dataclasses.replace(KEY, bits=32)
    write_measured({third: measured(kernels="older"), KEY: measured(), SPARSE: measured(sentinel=30e3)})
    found = summary(PIXEL7, PIXEL7.core())
    assert (found.measured, found.stale, found.unsteady, found.date) == (2, 1, 1, "2026-11-21")


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
    # Only cuts before the last cell must be noticed.
    for length in range(0, whole.rindex(b","), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"damaged|cut off"):
            LatencyTable.load_csv(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"schema": 2, "source"', '"schema": 9, "source"', "schema 9"),
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
