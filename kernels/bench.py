"""Measuring rows of a LatencyTable on a device: csrc/bench.c is built for it and run there, and every row is kept at once.

docs/bench.md says how times are taken and what is refused.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import toolchain
from .core_model import kernel_name
from .devices import ARM_PARTS, ConnectionLost, Device, DeviceInfo, open_transport
from .geometry import Geometry, KernelOp
from .jobs import Job, job_of
from .table import (
    TOLERANCE,
    LatencyTable,
    MeasuredRows,
    MeasuredWriter,
    Measurement,
    Row,
    RowKey,
    measured_path,
    measured_writer,
    unsteady_keys,
)
from .targets import Core, Target

#: Called with (rows done, rows in all, what is being measured).
Update = Callable[[int, int, str], None]

#: Features of a target's core -> what Linux calls them.
_FEATURES = {"dotprod": "asimddp", "fp16": "asimdhp", "i8mm": "i8mm"}
_PROGRAM, _JOBS = "bench", "jobs"
#: The fastest rounds of a row agree when they are within this factor.
AGREEMENT = 1.03


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        device: URL of the device; the target's own transport where None.
        cpu: number of the CPU to be pinned to; the last one of the core's kind where None.
        row_ms: time that repetitions of a row take in each of the first two rounds (11 are made in any case); twice as long in
            each one after.
        tries: rounds at most.
        again: measure rows again that are there.
    """

    device: str | None = None
    cpu: int | None = None
    row_ms: float = 15.0
    tries: int = 6
    again: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.row_ms <= 60e3:
            raise UserError(f"--row-ms {self.row_ms} is out of range: choose 0 to 60000 milliseconds.")
        if not 1 <= self.tries <= 100:
            raise UserError(f"--tries {self.tries} is out of range: choose 1 to 100.")


@dataclass
class Outcome:
    """What a run of `measure` came to.

    Attributes:
        url, info, cpu: where it was measured.
        measured: rows that were measured now; `present` were there already.
        unsteady: of all rows that are there now, those beside which the CPU was slower than it can be.
        missing: kernel name -> number of rows that were asked for and stay modelled, since there is no such kernel.
        refused: (row, reason) of rows that the program could not run.
    """

    url: str
    info: DeviceInfo
    cpu: int
    measured: int = 0
    present: int = 0
    unsteady: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    refused: list[tuple[RowKey, str]] = field(default_factory=list)


def measure(target: Target, core: Core, keys: Sequence[RowKey], settings: Settings, update: Update) -> Outcome:
    """Measure the rows of these keys that are not measured yet (or are unsteady), in this order, in rounds.

    Noise only makes things slower, so a row's figure is that of its fastest round. All rows are timed in two rounds. Those that
    are unsteady, or whose two fastest steady rounds differ by more than AGREEMENT, are timed again in the next one. A round that
    settles or improves less than a tenth of its rows is the last one.

    Every row is in the file of measured rows (`table.measured_path`) as soon as it is measured: the next call goes on from
    wherever this one ends.

    Raises:
        UserError: no such device or CPU, it is not the target's, it is an emulator, it was lost, or the file cannot be written.
    """
    url = device_url(target, settings.device)
    path = measured_path(target, core)
    with measured_writer(path, target, core) as writer, Device(open_transport(url)) as device:
        info = device.describe()
        url = device.transport.url
        refuse_emulators(url, info)
        cpu = choose_cpu(url, info, target, core, settings.cpu)
        check_features(url, info, core)
        device.put(build_for(url, info, core, "bench"), _PROGRAM)
        known = _check_header(next(iter(device.run(f"./{_PROGRAM}", "list")), ""), url, info)
        outcome = Outcome(url, info, cpu)
        present = MeasuredRows.load(path).usable(toolchain.kernels_hash(), info.fingerprint)
        rounds = _Rounds(device, core, settings, outcome, writer, present)
        rounds.run(_todo(keys, known, set() if settings.again else present.keys() - unsteady_keys(present), outcome), update)
        outcome.unsteady = len(unsteady_keys(MeasuredRows.load(path).usable(toolchain.kernels_hash(), info.fingerprint)))
    return outcome


def device_url(target: Target, device: str | None) -> str:
    """How to reach a target: as asked for, or as its file says.

    Raises:
        UserError: the file does not say, or it is this computer and another was asked for.
    """
    url = device if device is not None else target.transport
    if url == "none":
        raise UserError(f"the file of target {target.name} does not say how to reach it: add --device adb:// or ssh://USER@HOST.")
    if target.transport == "local" and url != "local":
        raise UserError(
            f"target {target.name} is this computer: describe {url} in a target file of its own (docs/own_target.md)."
        )
    return url


def refuse_emulators(url: str, info: DeviceInfo) -> None:
    """Times of an emulator say nothing of a device.

    Raises:
        UserError: the device gives itself away as one.
    """
    if info.emulator is not None:
        raise UserError(f"{url} is an emulator ({info.emulator}): its times mean nothing; measure on the real device.")


def choose_cpu(url: str, info: DeviceInfo, target: Target, core: Core, wanted: int | None) -> int:
    """The number of the CPU to measure on: of the core's kind, the last one, since systems keep busy with the first.

    Raises:
        UserError: the device has no such CPU, or it is of another kind.
    """
    indices = [cpu.index for cpu in info.cpus]
    of_kind = indices
    if core.model in ARM_PARTS.values():
        if info.machine != "aarch64":
            raise UserError(
                f"{url} is {info.machine}, but {core.name} of {target.name} a {core.model}: choose the right --device."
            )
        of_kind = [cpu.index for cpu in info.cpus if cpu.model == core.model]
        if not of_kind:
            there = ", ".join(sorted({cpu.model for cpu in info.cpus}))
            raise UserError(f"{url} has no {core.model} ({core.name} of {target.name}), but {there}: choose the right --target.")
    if wanted is None:
        if not of_kind:
            raise UserError(f"{url} does not list its CPUs: choose one with --cpu.")
        return of_kind[-1]
    if wanted not in indices:
        raise UserError(f"{url} has no CPU {wanted}: choose --cpu from {', '.join(map(str, of_kind))}.")
    if wanted not in of_kind:
        model = next(cpu.model for cpu in info.cpus if cpu.index == wanted)
        raise UserError(
            f"CPU {wanted} of {url} is a {model}, not the {core.model} of core {core.name}: choose --cpu from "
            f"{', '.join(map(str, of_kind))}."
        )
    return wanted


def build_for(url: str, info: DeviceInfo, core: Core, product: toolchain.Product) -> Path:
    """A program with the kernels that are used on that core of a device; errors as in `toolchain.build`."""
    local = (toolchain.HOST, "native")
    triple, name = local if url == "local" else toolchain.names_for(info.machine, core.model, core.features)
    return toolchain.build(triple, name, product=product)


def check_features(url: str, info: DeviceInfo, core: Core) -> None:
    """Raises:
    UserError: a device lacks an instruction set of the target's core.
    """
    lacking = [name for name in core.features if _FEATURES[name] not in info.features]
    if info.machine == "aarch64" and lacking:
        raise UserError(f"{url} has no {', '.join(lacking)}, which core {core.name} has: choose the target of this device.")


def _check_header(line: str, url: str, info: DeviceInfo) -> frozenset[str]:
    """The names of the program's kernels. Which variants of them run is part of the device's fingerprint: its features say so.

    Raises:
        UserError: the program did not run on the device's own machine, but in an emulator.
    """
    header = line_value(line, url)
    if header.get("bench") != 1 or not isinstance(header.get("kernels"), list):
        raise UserError(f"the program on {url} begins with {line[:80]!r}: that is not our bench. Run it again.")
    if header.get("machine") != info.machine:
        sign = f"a program for {header.get('machine')} runs on {info.machine}"
    elif not header.get("vdso"):
        sign = "the program has no vDSO"
    elif header.get("i8mm") != ("i8mm" in info.features):
        sign = "the program and /proc/cpuinfo disagree about I8MM"
    else:
        return frozenset(map(str, header["kernels"]))
    raise UserError(f"{url} runs programs in an emulator ({sign}): its times mean nothing; measure on the real device.")


def _todo(keys: Sequence[RowKey], known: Collection[str], done: Collection[RowKey], outcome: Outcome) -> list[tuple[RowKey, Job]]:
    """What is left to measure."""
    todo = []
    for key in dict.fromkeys(keys):
        job = job_of(key.geometry, key.structure, key.sparsity, key.bits)
        if job.kernel not in known:
            outcome.missing[job.kernel] = outcome.missing.get(job.kernel, 0) + 1
        elif key in done:
            outcome.present += 1
        else:
            todo.append((key, job))
    return todo


class _Rounds:
    """Rounds over rows on a device; the best of each row so far."""

    def __init__(
        self,
        device: Device,
        core: Core,
        settings: Settings,
        outcome: Outcome,
        writer: MeasuredWriter,
        present: Mapping[RowKey, Row],
    ) -> None:
        self._device = device
        self._core = core
        self._settings = settings
        self._outcome = outcome
        self._writer = writer
        self._best = {} if settings.again else dict(present)
        clocks = [row.measurement.sentinel_ns for row in present.values() if row.measurement is not None]
        self._fastest = min(clocks, default=math.inf)
        self._steady_us: dict[RowKey, list[float]] = {}
        self._measured: set[RowKey] = set()

    def run(self, todo: Sequence[tuple[RowKey, Job]], update: Update) -> None:
        for number in range(self._settings.tries):
            if not todo:
                return
            before = dict(self._best)
            self._round(todo, self._settings.row_ms * 2 ** max(0, number - 1), update)
            timed = [key for key, _ in todo if key in self._best]
            todo = [(key, job) for key, job in todo if key in self._best and not self._settled(key)]
            same = [
                key for key, _ in todo if key in before and self._best[key].microseconds * AGREEMENT > before[key].microseconds
            ]
            if number > 1 and 10 * (len(timed) - len(same)) < len(timed):
                return

    def _steady(self, row: Row) -> bool:
        return row.measurement is not None and row.measurement.sentinel_ns <= TOLERANCE * self._fastest

    def _settled(self, key: RowKey) -> bool:
        """Whether the row's two fastest steady rounds agree."""
        times = sorted(self._steady_us.get(key, ()))
        return self._steady(self._best[key]) and len(times) > 1 and times[1] <= AGREEMENT * times[0]

    def _round(self, todo: Sequence[tuple[RowKey, Job]], row_ms: float, update: Update) -> None:
        with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
            jobs = Path(folder) / _JOBS
            jobs.write_text("".join(job.line() + "\n" for _, job in todo), encoding="ascii")
            self._device.put(jobs, _JOBS)
        update(0, len(todo), "")
        cache = int(2 * self._core.l2_kb * 1024)
        reference = self._fastest if math.isfinite(self._fastest) else 0.0
        numbers = (self._outcome.cpu, cache, row_ms, reference)
        try:
            with closing(self._device.run(f"./{_PROGRAM}", _JOBS, *map(str, numbers))) as lines:
                self._keep(lines, todo, update)
        except ConnectionLost as error:
            raise ConnectionLost(f"{error} The {self._outcome.measured} rows measured until then are kept.") from error

    def _keep(self, lines: Iterator[str], todo: Sequence[tuple[RowKey, Job]], update: Update) -> None:
        url, info, kernel_hash = self._device.url, self._outcome.info, toolchain.kernels_hash()
        for number, value in enumerate(_rows(lines, url, info)):
            key, _ = todo[number] if number < len(todo) else (None, None)
            if key is None or value.get("job") != number:
                raise UserError(f"the program on {url} answers out of order: {value}. Run the same command again.")
            if "error" in value:
                self._outcome.refused.append((key, str(value["error"])))
            else:
                self._add(key, row_of(key, value, kernel_hash, info.fingerprint, url))
            update(number + 1, len(todo), kernel_name(key.geometry, key.structure, key.bits))

    def _add(self, key: RowKey, row: Row) -> None:
        assert row.measurement is not None
        self._fastest = min(self._fastest, row.measurement.sentinel_ns)
        old = self._best.get(key)
        if self._steady(row):
            self._steady_us.setdefault(key, []).append(row.microseconds)
        if old is None or (self._steady(row), -row.microseconds) > (self._steady(old), -old.microseconds):
            self._writer.add(key, row)
            self._best[key] = row
        self._measured.add(key)
        self._outcome.measured = len(self._measured)


def _rows(lines: Iterator[str], url: str, info: DeviceInfo) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines):
        if number == 0:
            _check_header(line, url, info)
        else:
            yield line_value(line, url)


def line_value(line: str, url: str, what: str = "row") -> Mapping[str, Any]:
    """The object in a line that a program of ours prints.

    Raises:
        UserError: there is none; `what` names what there should be.
    """
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"the program on {url} prints {line[:80]!r}, which is no {what}: see docs/bench.md for help.")
    return value


def row_of(key: RowKey, value: Mapping[str, Any], kernel_hash: str, device: str, url: str) -> Row:
    """The row that a line of the program stands for.

    Raises:
        UserError: a number is missing, or cannot be.
    """
    try:
        ns, low, high, sentinel = (float(value[name]) for name in ("ns", "low", "high", "sentinel"))
        repetitions = int(value["repetitions"])
        if not (0.0 < low <= ns <= high < 1e15 and 0.0 < sentinel < 1e12 and repetitions > 0):
            raise ValueError("out of range")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the program on {url} prints an impossible row {dict(value)}: run the same command again.") from error
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    measurement = Measurement(repetitions, kernel_hash, device, sentinel, now)
    name = kernel_name(key.geometry, key.structure, key.bits)
    return Row(round(ns / 1e3, 5), round(low / 1e3, 5), round(high / 1e3, 5), "measured", name, measurement)


def general_grid(table: LatencyTable) -> tuple[RowKey, ...]:
    """Rows of no network in particular, for `--all`: every kernel of the table's core on common shapes."""
    keys: list[RowKey] = []
    for pixels, channels in (
        (112, (16, 32)),
        (56, (24, 64, 128)),
        (28, (40, 128, 256)),
        (14, (96, 256, 512)),
        (7, (192, 512, 1024)),
    ):
        plane = (pixels, pixels, pixels, pixels)
        for inputs, outputs in product(channels, channels):
            keys += _weighted(table, Geometry("conv", inputs, outputs, *plane))
            if inputs == outputs and pixels < 112:
                keys += _weighted(table, Geometry("conv", inputs, outputs, *plane, kernel=(3, 3)))
        for count in channels:
            for size, stride in product((3, 5), (1, 2)):
                small = -(-pixels // stride)
                geometry = Geometry(
                    "depthwise", count, count, pixels, pixels, small, small, (size, size), (stride, stride), groups=count
                )
                keys += _weighted(table, geometry)
            plain: tuple[KernelOp, ...] = ("add", "activation", "copy", "gather", "convert", "widen")
            keys += [key for op in plain for key in _weightless(table, Geometry(op, count, count, *plane))]
            keys += _weightless(table, Geometry("mul", count, count, 1, 1, pixels, pixels))
            keys += _weightless(table, Geometry("global_pool", count, count, pixels, pixels, 1, 1))
            half = pixels // 2
            keys += _weightless(table, Geometry("pool", count, count, pixels, pixels, half, half, (2, 2), (2, 2)))
    for inputs, outputs in ((256, 10), (512, 1000), (1280, 1000), (2048, 1000), (4096, 4096)):
        keys += _weighted(table, Geometry("linear", inputs, outputs, 1, 1, 1, 1))
    return tuple(dict.fromkeys(keys))


def _weighted(table: LatencyTable, geometry: Geometry) -> list[RowKey]:
    keys = [RowKey(geometry, "dense", 0.0, bits) for bits in (32, 16, 8, 4) if table.supports(geometry, "dense", bits)]
    for structure, bits in product(("unstructured", "block4x1", "block1x4", "block4x4"), (32, 16, 8)):
        if table.supports(geometry, structure, bits):
            keys += [RowKey(geometry, structure, zeros, bits) for zeros in (0.5, 0.6, 0.7, 0.8, 0.9)]
    return keys


def _weightless(table: LatencyTable, geometry: Geometry) -> list[RowKey]:
    # A conversion from fp32 to itself is none.
    return [
        RowKey(geometry, "dense", 0.0, bits)
        for bits in (32, 16, 8)
        if table.supports(geometry, "dense", bits) and not (geometry.op in ("convert", "widen") and bits == 32)
    ]
