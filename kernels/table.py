"""LatencyTable: (kernel, geometry, structure, sparsity, bits, core) -> microseconds.

A row is `measured` on the device or `modelled` by `core_model`. Files are CSV with one line of JSON before the column names: it
holds the whole target, so that a table can be read on another machine. There are two kinds:

whole tables, written at once (`LatencyTable.save_csv`), with the number of rows, so that a cut-off file is noticed;
measured rows of one core (`MeasuredRows`), to which rows are added one by one as they are measured: whatever a killed `bench`
    wrote is there, but for a line that was not finished; of two rows with one key the later one counts.
"""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import NormalDist
from typing import IO, Any, Literal, cast, get_args

from ..errors import UserError
from ..files import write_text
from . import core_model
from .core_model import Calibration, calibration, quantile
from .devices import this_machine
from .geometry import Geometry, KernelOp
from .jobs import has_kernel
from .line import Line, fitted, load_points, usable
from .targets import Core, Target, target_from_json
from .toolchain import kernels_hash

SCHEMA = 2
#: A row is unsteady when the sentinel (csrc/sentinel.h) took longer beside it than this times its fastest on the device: the
#: clock was slower, or there was a neighbour on the core.
TOLERANCE = 1.015
Source = Literal["measured", "modelled"]

_COLUMNS = (
    "op",
    "in_channels",
    "out_channels",
    "in_height",
    "in_width",
    "out_height",
    "out_width",
    "kernel_height",
    "kernel_width",
    "stride_height",
    "stride_width",
    "dilation_height",
    "dilation_width",
    "groups",
    "structure",
    "sparsity",
    "bits",
    "microseconds",
    "low",
    "high",
    "source",
    "kernel",
    "repetitions",
    "kernel_hash",
    "device",
    "sentinel_ns",
    "date",
)


@dataclass(frozen=True)
class Measurement:
    """How a row was measured.

    Attributes:
        repetitions: calls that were timed.
        kernel_hash: of the kernels' sources then (`toolchain.kernels_hash`).
        device: fingerprint of the device (`DeviceInfo.fingerprint`).
        sentinel_ns: slowest time of the sentinel, fixed integer operations, beside the samples that count: the clock.
        date: ISO 8601.
    """

    repetitions: int
    kernel_hash: str
    device: str
    sentinel_ns: float
    date: str


@dataclass(frozen=True)
class Row:
    """Time of one op.

    Attributes:
        microseconds: the median when measured, the model's answer when modelled.
        low, high: 10th and 90th percentile.
        kernel: which kernel the row is about.
        measurement: None when modelled.
    """

    microseconds: float
    low: float
    high: float
    source: Source
    kernel: str
    measurement: Measurement | None = None


@dataclass(frozen=True)
class Share:
    """What a Row adds to the time of a network, in microseconds. Errors of rows are taken as equal, so every column adds up.

    Attributes:
        counted: at the table's pessimism: what searches and budgets count.
        median: the Row's time.
        low, high: 10th and 90th percentile, without what averages out over a network.
    """

    counted: float
    median: float
    low: float
    high: float
    source: Source


@dataclass(frozen=True, order=True)
class RowKey:
    """What a Row is the time of: an op with the structure, share of zeros and bits of its weights."""

    geometry: Geometry
    structure: str
    sparsity: float
    bits: int


class LatencyTable:
    """Times of ops on one core of a Target: measured rows where there are some, else the analytic model's."""

    def __init__(
        self,
        target: Target,
        core: Core,
        constants: Calibration | None = None,
        measured: Mapping[RowKey, Row] | None = None,
        notice: str = "",
        pessimism: float = 0.5,
        line: Line | None = None,
    ) -> None:
        """A table.

        Args:
            constants: of the model; by default those for the core.
            measured: rows that take precedence over the model.
            notice: what the user should know of rows that are not among them; becomes part of `note`.
            pessimism: the quantile of a row's error that `share` counts: 0.5 is the time itself.
            line: the end-to-end line; by default the target's.
        """
        if not 0.5 <= pessimism <= 0.99:
            raise UserError(f"pessimism {pessimism:g} is out of range: choose a quantile from 0.5 to 0.99, such as 0.9.")
        self.target = target
        self.core = core
        self.constants = calibration(core) if constants is None else constants
        self.pessimism = pessimism
        self.notice = notice
        self.line = _line_of(target) if line is None else line
        self._given = dict(measured or {})
        self._rows = dict(self._given)

    @staticmethod
    def for_target(target: Target, core: str | None = None, pessimism: float = 0.5, line: Line | None = None) -> LatencyTable:
        """The table of a core (the Target's default one unless named), with the rows measured there if a file of them is present.

        Rows of other kernels than today's and of another device than the last one are left out; `note` says so.

        Args:
            line: the end-to-end line; by default the one fitted on networks that were verified on the device of the rows, else
                the target's.

        Raises:
            UserError: no such core, a damaged file of measured rows or verified networks, or a pessimism out of range.
        """
        chosen = target.core(core)
        path = measured_path(target, chosen)
        if not path.is_file():
            return LatencyTable(target, chosen, pessimism=pessimism, line=line)
        found = MeasuredRows.load(path)
        found.check(path, target, chosen)
        device = this_machine().fingerprint if target.transport == "local" else found.last_device
        rows = found.usable(kernels_hash(), device)
        notice = ""
        if line is None and rows:
            line = fitted(usable(load_points(points_path(target, chosen)), kernels_hash(), device))
        if left := len(found.rows) - len(rows):
            again = f"`autocompress bench --target {target.name} --core {chosen.name}`"
            notice = f"{left} measured rows of other kernels or another device are not used: run {again} to measure them again."
        return LatencyTable(target, chosen, measured=rows, notice=notice, pessimism=pessimism, line=line)

    def supports(self, geometry: Geometry, structure: str, bits: int) -> bool:
        """Whether `row` has an answer. `channel` has none: ask for `dense` at the smaller geometry.

        On a core that has been measured, weights for which there is no kernel yet have none either: such a row would be modelled
        among measured ones, and a model's optimism would win every comparison.
        """
        if self._given and not has_kernel(geometry, structure, bits):
            return False
        return core_model.supports(geometry, structure, bits, self.core)

    def row(self, geometry: Geometry, structure: str, sparsity: float, bits: int) -> Row:
        """The time of one op.

        Args:
            structure: of the weights; `dense` for ops without any and for pruned channels (at the smaller geometry).
            sparsity: share of zero weights, in [0, 1).
            bits: of the weights: 32, 16, 8 or 4; for ops without weights, of their data (of
                `convert` and `widen` the narrower side).

        Raises:
            ValueError: there is no such kernel: ask `supports` first.
        """
        key = RowKey(geometry, structure, round(sparsity, 6), bits)
        found = self._rows.get(key)
        if found is None:
            time = core_model.op_time_us(geometry, structure, key.sparsity, bits, self.core, self.constants)
            spread = self.constants.row_spread(structure, bits, self.core)
            low, high = quantile(time, spread, 0.1), quantile(time, spread, 0.9)
            found = Row(time, low, high, "modelled", core_model.kernel_name(geometry, structure, bits))
            self._rows[key] = found
        return found

    def share(self, geometry: Geometry, structure: str, sparsity: float, bits: int) -> Share:
        """What one op adds to the time of a network; arguments as for `row`."""
        row = self.row(geometry, structure, sparsity, bits)
        if row.source == "measured":
            counted = row.microseconds
            if self.pessimism > 0.5:
                counted = quantile(counted, math.log(row.high / row.microseconds) / NormalDist().inv_cdf(0.9), self.pessimism)
            return Share(counted, row.microseconds, row.low, row.high, "measured")
        spread = self.constants.network_spread(structure, bits, self.core)
        counted, low, high = (quantile(row.microseconds, spread, share) for share in (self.pessimism, 0.1, 0.9))
        return Share(counted, row.microseconds, low, high, "modelled")

    @property
    def rows(self) -> Mapping[RowKey, Row]:
        """The measured rows, and the modelled rows asked for so far."""
        return dict(self._rows)

    @property
    def source(self) -> Source:
        """`measured` when there are rows and all of them are measured; one modelled row makes the whole table `modelled`."""
        return "measured" if self._rows and all(row.source == "measured" for row in self._rows.values()) else "modelled"

    @property
    def fingerprint(self) -> str:
        """Content hash of what the answers depend on: target, core, model, constants and given rows."""
        content = {
            "model": core_model.VERSION,
            "target": self.target.to_json(),
            "core": self.core.name,
            "constants": dataclasses.asdict(self.constants),
            "rows": [_cells(key, row) for key, row in sorted(self._given.items(), key=lambda item: item[0])],
        }
        if self.pessimism != 0.5:
            content["pessimism"] = self.pessimism
        if (self.line.intercept_ms, self.line.slope) != (self.target.intercept_ms, self.target.slope):
            content["line"] = [self.line.intercept_ms, self.line.slope]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def note(self) -> str:
        """How far the numbers can be trusted, in a sentence or two."""
        modelled = sum(row.source == "modelled" for row in self._rows.values())
        return self.note_on(len(self._rows) - modelled, modelled)

    def note_on(self, measured: int, modelled: int) -> str:
        """How far numbers that rest on so many measured and modelled rows can be trusted, in a sentence or two."""
        where = f"{self.target.name} {self.core.name}"
        told = []
        if measured:
            unsteady = len(unsteady_keys(self._given))
            clock = f" ({unsteady} rows of the table at an unsteady clock)" if unsteady else ""
            count = f"{measured} times are" if modelled else "Times"
            told.append(f"{count} measured on {where}{clock}.")
        if modelled or not measured:
            which = f"{modelled} are" if measured else f"Times on {where} are"
            spread = self.constants.network_spread("dense", 8, self.core)
            told.append(
                f"{which} modelled ({self.constants.provenance}): expect networks to be {spread:.0%} off, and "
                f"{self.constants.network_spread('unstructured', 32, self.core):.0%} in floating point with sparse weights."
            )
        if (self.line.intercept_ms, self.line.slope) != (0.0, 1.0):
            told.append(
                f"Networks take {self.line.intercept_ms * 1e3:.1f} us + {self.line.slope:.3f} x the sum of their rows "
                f"({self.line.source})."
            )
        if self.pessimism != 0.5:
            told.append(f"What counts is the {self.pessimism * 100:g}th percentile of that error, not the median.")
        return " ".join([*told, *([self.notice] if self.notice else [])])

    def total_ms(self, sum_us: float) -> float:
        """Time of a whole network in milliseconds, from the sum of its rows in microseconds: the end-to-end line."""
        return self.line.ms(sum_us)

    @property
    def device(self) -> str:
        """Fingerprint of the device that the given rows were measured on; empty without any."""
        return next((row.measurement.device for row in self._given.values() if row.measurement is not None), "")

    def save_csv(self, path: Path) -> None:
        """Write `rows` atomically; equal tables give equal bytes but for the date.

        Raises:
            UserError: the file cannot be written.
        """
        header = {
            "schema": SCHEMA,
            "target": self.target.to_json(),
            "core": self.core.name,
            "source": self.source,
            "model": core_model.VERSION,
            "constants": dataclasses.asdict(self.constants),
            "line": dataclasses.asdict(self.line),
            "date": date.today().isoformat(),
            "rows": len(self._rows),
        }
        text = io.StringIO()
        text.write(json.dumps(header, sort_keys=True, allow_nan=False) + "\n")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_cells(key, row) for key, row in sorted(self._rows.items(), key=lambda item: item[0]))
        write_text(path, text.getvalue())

    @staticmethod
    def load_csv(path: Path) -> LatencyTable:
        """Read what `save_csv` wrote.

        Raises:
            UserError: the file cannot be read, is cut off or damaged, has another schema, or has modelled rows that this
                version's model answers differently.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read latency table {path}: {error}. Check the path.") from error
        try:
            header = json.loads(lines[0])
            schema, count = header["schema"], header["rows"]
            if schema != SCHEMA:
                raise UserError(f"{path} is a latency table of schema {schema}, not {SCHEMA}: write it again with this version.")
            target = target_from_json(header["target"], f"the header of {path}")
            core = target.core(header["core"])
            constants = Calibration(**header["constants"])
            rows = dict(_parse(lines[1:]))
            if len(rows) != count:
                raise ValueError(f"{len(rows)} rows instead of {count}")
            measured = {key: row for key, row in rows.items() if row.source == "measured"}
            table = LatencyTable(target, core, constants, measured, line=Line(**header["line"]))
            for key, row in rows.items():
                again = table.row(key.geometry, key.structure, key.sparsity, key.bits)
                if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(_times(row), _times(again), strict=True)):
                    raise ValueError(f"{key} is not what this version models")
        except (IndexError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise UserError(f"latency table {path} is damaged or cut off ({error}): write it again.") from error
        return table


@dataclass(frozen=True)
class MeasuredRows:
    """The content of a file of measured rows.

    Attributes:
        rows: by key; of several rows with one key the last, in the order in which they were measured.
    """

    target: Target
    core: Core
    rows: Mapping[RowKey, Row]

    @property
    def last_device(self) -> str:
        """Fingerprint of the device that the last row was measured on; empty when there is no row."""
        devices = [row.measurement.device for row in self.rows.values() if row.measurement is not None]
        return devices[-1] if devices else ""

    def check(self, path: Path, target: Target, core: Core) -> None:
        """See whether these rows are of a core; its figures may have changed since, for measured rows do not depend on them.

        Raises:
            UserError: they are of another.
        """
        if (self.target.name, self.core.name, self.core.model) != (target.name, core.name, core.model):
            raise UserError(f"{path} was measured on another core than {target.name} {core.name} ({core.model}): move it away.")

    def usable(self, kernel_hash: str, device: str) -> dict[RowKey, Row]:
        """The rows of these kernels on this device."""
        return {
            key: row
            for key, row in self.rows.items()
            if row.measurement is not None and (row.measurement.kernel_hash, row.measurement.device) == (kernel_hash, device)
        }

    @staticmethod
    def load(path: Path) -> MeasuredRows:
        """Read a file; a last line that is not finished is left out.

        Raises:
            UserError: the file cannot be read, is damaged, or has another schema.
        """
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read measured rows {path}: {error}. Check the path.") from error
        lines = text[: text.rfind("\n") + 1].splitlines()
        try:
            header = json.loads(lines[0])
            if header["schema"] != SCHEMA:
                raise UserError(
                    f"{path} has schema {header['schema']}, not {SCHEMA}: move it away and run `autocompress bench` again."
                )
            target = target_from_json(header["target"], f"the header of {path}")
            core = target.core(header["core"])
            rows: dict[RowKey, Row] = {}
            for key, row in _parse(lines[1:]):
                if row.measurement is None:
                    raise ValueError("a row that was not measured")
                rows.pop(key, None)
                rows[key] = row
        except (IndexError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise UserError(f"{path} is damaged ({error}): move it away and run `autocompress bench` again.") from error
        return MeasuredRows(target, core, rows)


class MeasuredWriter:
    """Adds rows to a file of measured rows; each is in the file when `add` returns."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file = file
        self._path = path

    def add(self, key: RowKey, row: Row) -> None:
        """Add a row.

        Raises:
            UserError: it cannot be written; the rows before are kept.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(_cells(key, row))
        try:
            self._file.write(text.getvalue())
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"cannot write {self._path}: {error.strerror or error}. Free some space; earlier rows are kept."
            ) from error


@contextmanager
def measured_writer(path: Path, target: Target, core: Core) -> Iterator[MeasuredWriter]:
    """Open a file of measured rows, made if there is none, for one process at a time. An unfinished last line is cut off.

    Raises:
        UserError: the file cannot be written, or another process measures this core.
    """
    if not path.exists():
        header = {"schema": SCHEMA, "target": target.to_json(), "core": core.name}
        write_text(path, json.dumps(header, sort_keys=True, allow_nan=False) + "\n" + ",".join(_COLUMNS) + "\n")
    try:
        file = path.open("r+", encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}. Change its permissions.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is measuring {target.name} {core.name}: wait for it, or stop it.") from error
        MeasuredRows.load(path).check(path, target, core)
        content = path.read_bytes()
        file.truncate(content.rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
        yield MeasuredWriter(file, path)


def unsteady_keys(rows: Mapping[RowKey, Row]) -> set[RowKey]:
    """Rows of one device beside which its CPU was slower than it can be, by more than TOLERANCE."""
    clocks = {key: row.measurement.sentinel_ns for key, row in rows.items() if row.measurement is not None}
    fastest = min(clocks.values(), default=0.0)
    return {key for key, clock in clocks.items() if clock > TOLERANCE * fastest}


@dataclass(frozen=True)
class TableSummary:
    """What `autocompress targets` shows of a table.

    Attributes:
        measured: rows that are used; `stale` are those that are not.
        date: of the last measured row; empty without one.
    """

    core: str
    measured: int
    stale: int
    unsteady: int
    date: str


def summary(target: Target, core: Core) -> TableSummary:
    """What is measured of a core.

    Raises:
        UserError: a damaged file of measured rows.
    """
    path = measured_path(target, core)
    rows = MeasuredRows.load(path).rows if path.is_file() else {}
    used = LatencyTable.for_target(target, core.name).rows
    dates = {row.measurement.date[:10] for row in used.values() if row.measurement is not None}
    return TableSummary(core.name, len(used), len(rows) - len(used), len(unsteady_keys(used)), max(dates, default=""))


def measured_path(target: Target, core: Core) -> Path:
    """Where the rows measured on a core are kept: in the user's data folder (XDG_DATA_HOME)."""
    home = os.environ.get("XDG_DATA_HOME")
    folder = Path(home) if home else Path.home() / ".local" / "share"
    return folder / "autocompress" / "tables" / f"{target.name}-{core.name}.csv"


def points_path(target: Target, core: Core) -> Path:
    """Where the networks are kept through which a core's end-to-end line is fitted: beside its measured rows."""
    path = measured_path(target, core)
    return path.with_name(f"{path.stem}-networks.json")


def _line_of(target: Target) -> Line:
    return Line(target.intercept_ms, target.slope, target.end_to_end_source)


def _times(row: Row) -> tuple[float, float, float]:
    return row.microseconds, row.low, row.high


def _cells(key: RowKey, row: Row) -> list[Any]:
    geometry = key.geometry
    return [
        geometry.op,
        geometry.in_channels,
        geometry.out_channels,
        geometry.in_height,
        geometry.in_width,
        geometry.out_height,
        geometry.out_width,
        *geometry.kernel,
        *geometry.stride,
        *geometry.dilation,
        geometry.groups,
        key.structure,
        key.sparsity,
        key.bits,
        row.microseconds,
        row.low,
        row.high,
        row.source,
        row.kernel,
        *(dataclasses.astuple(row.measurement) if row.measurement is not None else ("",) * 5),
    ]


def _parse(lines: Iterable[str]) -> Iterable[tuple[RowKey, Row]]:
    reader = csv.reader(lines)
    if tuple(next(reader, ())) != _COLUMNS:
        raise ValueError("the line of column names is not as expected")
    for cells in reader:
        if len(cells) != len(_COLUMNS):
            raise ValueError(f"a row of {len(cells)} cells")
        op, structure, sparsity, bits, microseconds, low, high, source, kernel = cells[0], *cells[14:22]
        sizes = [int(cell) for cell in cells[1:14]]
        if op not in get_args(KernelOp) or source not in get_args(Source) or min(sizes) < 1:
            raise ValueError(f"a row that no kernel has: {','.join(cells)}")
        times = float(microseconds), float(low), float(high)
        if not all(math.isfinite(time) and time > 0 for time in times) or not times[1] <= times[0] <= times[2]:
            raise ValueError(f"times out of order: {microseconds}, {low}, {high}")
        ci, co, ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, groups = sizes
        geometry = Geometry(cast(KernelOp, op), ci, co, ih, iw, oh, ow, (kh, kw), (sh, sw), (dh, dw), groups)
        measurement = _parse_measurement(cells[22:]) if source == "measured" else None
        yield RowKey(geometry, structure, float(sparsity), int(bits)), Row(*times, cast(Source, source), kernel, measurement)


def _parse_measurement(cells: list[str]) -> Measurement:
    repetitions, kernel_hash, device, sentinel_ns, when = cells
    found = Measurement(int(repetitions), kernel_hash, device, float(sentinel_ns), when)
    if (
        found.repetitions < 1
        or not (math.isfinite(found.sentinel_ns) and found.sentinel_ns > 0)
        or not date.fromisoformat(when[:10])
    ):
        raise ValueError(f"a measurement that cannot be: {','.join(cells)}")
    return found
