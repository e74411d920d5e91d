"""Targets: the devices a network is compressed for, read from TOML files.

A target file names its cores; a core takes its micro-architecture from `targets/_cores.toml` with `model` and may
override any figure of it. docs/targets.md describes the format.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
FEATURES = frozenset({"dotprod", "fp16", "i8mm"})
#: Weight structures with an inner loop, by activation data type; `i8mm` is int8 in the variants with SMMLA.
STRUCTURES: Mapping[str, tuple[str, ...]] = {
    "fp32": ("dense", "unstructured", "block4x1"),
    "fp16": ("dense", "unstructured", "block4x1"),
    "int8": ("dense", "block1x4", "block4x4"),
    "i8mm": ("dense", "block4x4"),
}

_FOLDER = Path(__file__).resolve().parent / "targets"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TRANSPORT = re.compile(r"none|local|adb://[A-Za-z0-9._:-]*|ssh://[A-Za-z0-9._@:\[\]-]+")


@dataclass(frozen=True)
class Core:
    """One kind of core of a Target: what the analytic model needs to know of it.

    Attributes:
        name: unique in its Target, as `X1`.
        model: the micro-architecture, as `cortex-x1`.
        ghz: sustained clock.
        features: of `dotprod`, `fp16` (arithmetic), `i8mm`.
        in_order: issues in program order.
        vector_bytes: width of a SIMD register.
        vector_ops, loads: SIMD instructions and SIMD-register loads per cycle.
        macs_per_cycle: ((data type, structure), multiply-accumulates per cycle) of the inner loops, operands in L1. No entry for
            fp16 means that the core has no fp16 arithmetic; `i8mm` are the int8 kernels where the core has that feature.
        l1_kb, l2_kb, l3_kb: data capacities; l3 is shared.
        l2_bytes_per_cycle, l3_gbps, dram_gbps: what one core can read, sustained.
    """

    name: str
    model: str
    ghz: float
    features: tuple[str, ...]
    in_order: bool
    vector_bytes: int
    vector_ops: float
    loads: float
    macs_per_cycle: tuple[tuple[tuple[str, str], float], ...]
    l1_kb: float
    l2_kb: float
    l3_kb: float
    l2_bytes_per_cycle: float
    l3_gbps: float
    dram_gbps: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rates", dict(self.macs_per_cycle))

    def rate(self, dtype: str, structure: str) -> float | None:
        """Multiply-accumulates per cycle of an inner loop, or None where the core has no such kernel."""
        rates: dict[tuple[str, str], float] = self.__dict__["_rates"]
        return rates.get((dtype, structure))

    def to_json(self) -> dict[str, Any]:
        value = dataclasses.asdict(self)
        value["features"] = list(self.features)
        nested: dict[str, dict[str, float]] = {}
        for (dtype, structure), rate in self.macs_per_cycle:
            nested.setdefault(dtype, {})[structure] = rate
        value["macs_per_cycle"] = nested
        return value


@dataclass(frozen=True)
class Target:
    """A device.

    Attributes:
        name: short, unique: part of file names.
        default_core: name of the core that latency is about unless the user says otherwise.
        transport: how to reach it: `local`, `adb://`, `adb://SERIAL`, `ssh://USER@HOST`, or `none`.
        intercept_ms, slope: the end-to-end line: network time = intercept_ms + slope * sum of its rows.
        end_to_end_source: where that line comes from.
        sources: figure -> where it comes from.
    """

    name: str
    description: str
    cores: tuple[Core, ...]
    default_core: str
    transport: str
    intercept_ms: float
    slope: float
    end_to_end_source: str
    sources: tuple[tuple[str, str], ...] = ()

    def core(self, name: str | None = None) -> Core:
        """The core of that name, or the default one.

        Raises:
            UserError: the Target has no such core.
        """
        wanted = self.default_core if name is None else name
        for core in self.cores:
            if core.name.lower() == wanted.lower():
                return core
        raise UserError(f"{self.name} has no core {wanted!r}: choose one of {', '.join(core.name for core in self.cores)}.")

    def to_json(self) -> dict[str, Any]:
        """The value that `target_from_json` reads: a target file with every core spelt out."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "description": self.description,
            "default_core": self.default_core,
            "transport": self.transport,
            "core": [core.to_json() for core in self.cores],
            "end_to_end": {"intercept_ms": self.intercept_ms, "slope": self.slope, "source": self.end_to_end_source},
            "sources": dict(self.sources),
        }


def list_targets() -> tuple[str, ...]:
    """Names of the built-in Targets, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml") if not path.stem.startswith("_")))


def load_target(name_or_path: str | Path) -> Target:
    """The built-in Target of that name, or the one described by a TOML file.

    Anything that ends in `.toml` or contains a path separator is a file.

    Raises:
        UserError: no such target or file, or a file that is not a valid target.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or "/" in text or "\\" in text:
        return _from_file(Path(text).expanduser())
    known = list_targets()
    if text in known:
        return _from_file(_FOLDER / f"{text}.toml")
    near = difflib.get_close_matches(text.lower(), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"unknown target {text!r}: {hint}Choose one of {', '.join(known)}, or give the path of a .toml file.")


def target_from_json(value: Any, where: str) -> Target:
    """A Target from the content of a target file; `where` names the file in messages.

    Raises:
        UserError: a key is missing, unknown or of the wrong type or range.
    """
    table = _Table(value, where, "")
    if table.take("schema", int) != SCHEMA:
        raise UserError(f"{where} is not a target of schema {SCHEMA}: see docs/targets.md for the format.")
    name = table.take("name", str)
    if not _NAME.fullmatch(name):
        raise table.error("name", "must be letters, digits, '.', '_' or '-', at most 64")
    transport = table.take("transport", str, "none")
    if not _TRANSPORT.fullmatch(transport):
        raise table.error("transport", "must be none, local, adb://, adb://SERIAL or ssh://USER@HOST")
    raw_cores = table.take("core", list)
    if not raw_cores:
        raise table.error("core", "needs at least one [[core]] table")
    library = _read_toml(_FOLDER / "_cores.toml")
    cores = tuple(_core(_Table(raw, where, f"core[{i}]."), library) for i, raw in enumerate(raw_cores))
    names = [core.name.lower() for core in cores]
    if len(set(names)) != len(names):
        raise table.error("core", "names must differ")
    default_core = table.take("default_core", str, cores[0].name)
    line = table.table("end_to_end", {})
    intercept_ms = line.number("intercept_ms", 0.0, zero=True)
    slope = line.number("slope", 1.0)
    source = line.take("source", str, "none: the sum of the rows")
    line.finish()
    sources = table.take("sources", dict, {})
    if not all(isinstance(text, str) for text in sources.values()):
        raise table.error("sources", "must map figures to text")
    target = Target(
        name=name,
        description=table.take("description", str, ""),
        cores=cores,
        default_core=default_core,
        transport=transport,
        intercept_ms=intercept_ms,
        slope=slope,
        end_to_end_source=source,
        sources=tuple(sorted(sources.items())),
    )
    table.finish()
    if default_core.lower() not in names:
        raise table.error("default_core", f"must be one of {', '.join(core.name for core in cores)}")
    return target


class _Table:
    """One table of a target file: takes its keys one by one, and complains about those that nobody took."""

    def __init__(self, value: Any, where: str, prefix: str) -> None:
        if not isinstance(value, dict):
            raise UserError(f"{where}: {prefix.rstrip('.') or 'the file'} must be a table. See docs/targets.md for the format.")
        self._left = dict(value)
        self._known: list[str] = []
        self._where = where
        self._prefix = prefix

    def error(self, key: str, what: str) -> UserError:
        return UserError(f"{self._where}: {self._prefix}{key} {what}. See docs/targets.md for the format.")

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        self._known.append(key)
        if key not in self._left:
            if default is None:
                raise self.error(key, "is missing")
            return default
        value = self._left.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"must be of type {kind.__name__}")
        return value

    def table(self, key: str, default: dict[str, Any] | None = None) -> _Table:
        return _Table(self.take(key, dict, default), self._where, f"{self._prefix}{key}.")

    def over(self, base: Mapping[str, Any]) -> _Table:
        """This table's remaining keys, with those of `base` that it lacks."""
        return _Table({**base, **self._left}, self._where, self._prefix)

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def number(self, key: str, default: float | None = None, zero: bool = False) -> float:
        """A finite number above 0 (or, with `zero`, at least 0)."""
        if isinstance(self._left.get(key), int) and not isinstance(self._left[key], bool):
            self._left[key] = float(self._left[key])
        value = float(self.take(key, float, default))
        if not math.isfinite(value) or value < 0.0 or (value == 0.0 and not zero):
            raise self.error(key, "must be a finite number " + ("of at least 0" if zero else "above 0"))
        return value

    def finish(self) -> None:
        for key in self._left:
            near = difflib.get_close_matches(key, self._known, n=1)
            raise self.error(key, f"is not a key of this table{f' (did you mean {near[0]!r}?)' if near else ''}")


def _core(own: _Table, library: Mapping[str, Any]) -> Core:
    model = own.take("model", str)
    base = {key: value for key, value in library.get(model, {}).items() if key != "sources"}
    table = own.over(base)
    if not base and "macs_per_cycle" not in own:
        raise table.error("model", f"{model!r} is not known: use one of {', '.join(library)}, or give every figure of the core")
    name = table.take("name", str)
    if not _NAME.fullmatch(name):
        raise table.error("name", "must be letters, digits, '.', '_' or '-', at most 64")
    features = table.take("features", list)
    if not all(isinstance(feature, str) and feature in FEATURES for feature in features):
        raise table.error("features", f"must be a list of {', '.join(sorted(FEATURES))}")
    vector_bytes = table.take("vector_bytes", int)
    if vector_bytes not in (16, 32, 64):
        raise table.error("vector_bytes", "must be 16, 32 or 64")
    core = Core(
        name=name,
        model=model,
        ghz=table.number("ghz"),
        features=tuple(sorted(features)),
        in_order=table.take("in_order", bool),
        vector_bytes=vector_bytes,
        vector_ops=table.number("vector_ops"),
        loads=table.number("loads"),
        macs_per_cycle=_rates(table),
        l1_kb=table.number("l1_kb"),
        l2_kb=table.number("l2_kb"),
        l3_kb=table.number("l3_kb"),
        l2_bytes_per_cycle=table.number("l2_bytes_per_cycle"),
        l3_gbps=table.number("l3_gbps"),
        dram_gbps=table.number("dram_gbps"),
    )
    table.finish()
    if not core.l1_kb <= core.l2_kb <= core.l3_kb:
        raise table.error("l1_kb", "must not exceed l2_kb, nor l2_kb exceed l3_kb")
    if not core.dram_gbps <= core.l3_gbps <= core.l2_bytes_per_cycle * core.ghz:
        raise table.error("dram_gbps", "must not exceed l3_gbps, nor l3_gbps exceed l2_bytes_per_cycle * ghz")
    return core


def _rates(table: _Table) -> tuple[tuple[tuple[str, str], float], ...]:
    by_dtype = table.table("macs_per_cycle")
    rates = []
    for dtype, structures in STRUCTURES.items():
        if dtype in ("fp16", "i8mm") and dtype not in by_dtype:
            continue
        row = by_dtype.table(dtype)
        rates += [((dtype, structure), row.number(structure)) for structure in structures]
        row.finish()
    by_dtype.finish()
    return tuple(rates)


def _from_file(path: Path) -> Target:
    return target_from_json(_read_toml(path), str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read target file {path}: {error}. Check the path.") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}. See docs/targets.md for the format.") from error
