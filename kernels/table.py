"""LatencyTable: (kernel, geometry, structure, sparsity, bits, core) -> microseconds.

A row is `measured` on the device or `modelled` by `core_model`. Files are CSV with one line of JSON before the column names:
it holds the whole target, so a table can be read on another machine, and the number of rows, so a cut-off file is noticed.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ..errors import UserError
from ..files import write_text
from . import core_model
from .core_model import FITTED, Calibration
from .geometry import Geometry, KernelOp
from .targets import Core, Target, target_from_json

SCHEMA = 1
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
)


@dataclass(frozen=True)
class Row:
    """Time of one op.

    Attributes:
        microseconds: the median when measured, the model's answer when modelled.
        low, high: 10th and 90th percentile.
        kernel: which kernel the row is about.
    """

    microseconds: float
    low: float
    high: float
    source: Source
    kernel: str


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
        self, target: Target, core: Core, constants: Calibration = FITTED, measured: Mapping[RowKey, Row] | None = None
    ) -> None:
        self.target = target
        self.core = core
        self.constants = constants
        self._given = dict(measured or {})
        self._rows = dict(self._given)

    @staticmethod
    def for_target(target: Target, core: str | None = None) -> LatencyTable:
        """The table of a core (the Target's default one unless named), with the rows measured there if a file of them is present.

        Raises:
            UserError: no such core, or a damaged file of measured rows.
        """
        chosen = target.core(core)
        path = measured_path(target, chosen)
        measured: dict[RowKey, Row] = {}
        if path.is_file():
            table = LatencyTable.load_csv(path)
            if table.target.name == target.name and table.core == chosen:
                measured = {key: row for key, row in table.rows.items() if row.source == "measured"}
            else:
                raise UserError(
                    f"{path} was measured on another core than {target.name} {chosen.name}: move it away, or measure again."
                )
        return LatencyTable(target, chosen, measured=measured)

    def supports(self, geometry: Geometry, structure: str, bits: int) -> bool:
        """Whether `row` has an answer. `channel` has none: ask for `dense` at the smaller geometry."""
        return core_model.supports(geometry, structure, bits, self.core)

    def row(self, geometry: Geometry, structure: str, sparsity: float, bits: int) -> Row:
        """The time of one op.

        Args:
            structure: of the weights; `dense` for ops without any and for pruned channels (at the smaller geometry).
            sparsity: share of zero weights, in [0, 1).
            bits: of the weights: 32, 16, 8 or 4; for ops without weights, of their data (of the result for `convert`).

        Raises:
            ValueError: there is no such kernel: ask `supports` first.
        """
        key = RowKey(geometry, structure, round(sparsity, 6), bits)
        found = self._rows.get(key)
        if found is None:
            time = core_model.op_time_us(geometry, structure, key.sparsity, bits, self.core, self.constants)
            low, high = self.constants.interval(time, self.constants.row_spread(structure, bits, self.core))
            found = Row(time, low, high, "modelled", core_model.kernel_name(geometry, structure, bits))
            self._rows[key] = found
        return found

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
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def note(self) -> str:
        """One sentence on how far the numbers can be trusted."""
        where = f"{self.target.name} {self.core.name}"
        if self.source == "measured":
            return f"Times measured on {where}."
        spread = self.constants.row_spread("dense", 8, self.core)
        return (
            f"Times on {where} are modelled ({self.constants.provenance}): expect networks to be {spread:.0%} off, and "
            f"{self.constants.row_spread('unstructured', 32, self.core):.0%} in floating point with sparse weights."
        )

    def total_ms(self, sum_us: float) -> float:
        """Time of a whole network in milliseconds, from the sum of its rows in microseconds: the target's end-to-end line."""
        return self.target.intercept_ms + self.target.slope * sum_us / 1e3

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
            table = LatencyTable(target, core, constants, {key: row for key, row in rows.items() if row.source == "measured"})
            for key, row in rows.items():
                again = table.row(key.geometry, key.structure, key.sparsity, key.bits)
                if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(_times(row), _times(again), strict=True)):
                    raise ValueError(f"{key} is not what this version models")
        except (IndexError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise UserError(f"latency table {path} is damaged or cut off ({error}): write it again.") from error
        return table


def measured_path(target: Target, core: Core) -> Path:
    """Where the rows measured on a core are kept: in the user's data folder (XDG_DATA_HOME)."""
    home = os.environ.get("XDG_DATA_HOME")
    folder = Path(home) if home else Path.home() / ".local" / "share"
    return folder / "autocompress" / "tables" / f"{target.name}-{core.name}.csv"


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
    ]


def _parse(lines: Iterable[str]) -> Iterable[tuple[RowKey, Row]]:
    reader = csv.reader(lines)
    if tuple(next(reader, ())) != _COLUMNS:
        raise ValueError("the line of column names is not as expected")
    for cells in reader:
        if len(cells) != len(_COLUMNS):
            raise ValueError(f"a row of {len(cells)} cells")
        op, structure, sparsity, bits, microseconds, low, high, source, kernel = cells[0], *cells[14:]
        sizes = [int(cell) for cell in cells[1:14]]
        if op not in get_args(KernelOp) or source not in get_args(Source) or min(sizes) < 1:
            raise ValueError(f"a row that no kernel has: {','.join(cells)}")
        times = float(microseconds), float(low), float(high)
        if not all(math.isfinite(time) and time > 0 for time in times) or not times[1] <= times[0] <= times[2]:
            raise ValueError(f"times out of order: {microseconds}, {low}, {high}")
        ci, co, ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, groups = sizes
        geometry = Geometry(cast(KernelOp, op), ci, co, ih, iw, oh, ow, (kh, kw), (sh, sw), (dh, dw), groups)
        yield RowKey(geometry, structure, float(sparsity), int(bits)), Row(*times, cast(Source, source), kernel)
