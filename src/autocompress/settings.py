"""Settings of a search, and how users write a budget."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UserError

_UNITS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "kib": 2**10, "mib": 2**20}
#: What can be kept small beside the loss.
OBJECTIVES = ("latency", "size")


def cache_folder() -> Path:
    """Where databases of compressed layers are kept: `AUTOCOMPRESS_CACHE`, else the user's cache folder."""
    named = os.environ.get("AUTOCOMPRESS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autocompress"


@dataclass(frozen=True)
class Budget:
    """A latency budget: milliseconds, or a speed-up over the dense int8 network."""

    ms: float | None = None
    speedup: float | None = None

    @staticmethod
    def parse(text: str) -> Budget:
        """Read `5ms`, `800us`, `0.01s` or `2x`.

        Raises:
            UserError: anything else, or nothing above zero.
        """
        match = re.fullmatch(r"\s*([+-]?[0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)\s*", text.lower())
        unit = match.group(2) if match else ""
        if match is None or unit not in (*_UNITS, "x"):
            raise UserError(f"budget {text!r} is not a time: write it like 5ms, 800us or 2x (half of the dense int8 latency).")
        value = float(match.group(1))
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"budget {text!r} must be above zero: write it like 5ms or 2x.")
        return Budget(speedup=value) if unit == "x" else Budget(ms=value * _UNITS[unit])

    def __str__(self) -> str:
        value, unit = (self.speedup, "x") if self.speedup is not None else (self.ms, "ms")
        assert value is not None
        short = f"{value:g}"
        # `resume` reads it back, and a budget that changed in the last digit would be another study's.
        return f"{short if float(short) == value else repr(value)}{unit}"


def parse_size(text: str) -> int:
    """Read `4MB`, `500KB`, `1.5MiB`, `800KiB` or `4000000B` as bytes.

    Raises:
        UserError: anything else, or less than one byte.
    """
    match = re.fullmatch(r"\s*([+-]?[0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match.group(2) not in _BYTES:
        raise UserError(f"size {text!r} is none: write it like 4MB, 500KB or 1.5MiB.")
    count = float(match.group(1)) * _BYTES[match.group(2)]
    if not (math.isfinite(count) and count >= 1):
        raise UserError(f"size {text!r} must be at least one byte: write it like 4MB or 500KB.")
    return int(count)


def parse_objectives(text: str) -> tuple[str, ...]:
    """Read `latency`, `size` or `latency,size`, in any order.

    Raises:
        UserError: another name, one named twice, or none.
    """
    names = [name.strip() for name in text.lower().split(",")]
    if any(name not in OBJECTIVES for name in names) or len(set(names)) < len(names):
        raise UserError(f"objective {text!r} is unknown: use latency, size, or latency,size.")
    return tuple(name for name in OBJECTIVES if name in names)


@dataclass(frozen=True)
class SearchSettings:
    """What a search is asked for.

    Attributes:
        budget: of latency; None for none.
        max_size: most bytes of the network's weights; None for no limit.
        objectives: `latency`, `size` or both, what shall be small beside the loss: one that has a budget is kept within it, others
            are minimised.
        trials: finished trials that the study shall hold, baselines included.
        timeout: seconds after which no new trial begins; None for no limit.
        sampler: `ours`, one of Optuna's, `spdy` or `evopress`.
        study: name; None derives it from task, target, budgets and objectives.
        storage: Optuna storage URL; None keeps a journal in the study's folder.
        resume: whether a study that exists may be continued.
        search_samples: calibration inputs on which each trial is scored; None for as many as suit the network (`samples.py`).
        pessimism: the quantile of the latency's error that searches and budgets count, from 0.5 (the median) to 0.99.
        finetune: minutes of training for the best Plan; None for none.
        device: URL of the device on which the best Plans are verified; None for none.
        method: `obs` reconstructs compressed Layers; `magnitude` is the plain baseline.
    """

    budget: Budget | None = None
    trials: int = 150
    timeout: float | None = None
    seed: int = 0
    sampler: str = "ours"
    study: str | None = None
    storage: str | None = None
    resume: bool = True
    results: Path = Path("results")
    cache: Path = field(default_factory=cache_folder)
    core: str | None = None
    search_samples: int | None = None
    method: str = "obs"
    pessimism: float = 0.5
    finetune: float | None = None
    device: str | None = None
    max_size: int | None = None
    objectives: tuple[str, ...] = ("latency",)

    @property
    def minimised(self) -> tuple[str, ...]:
        """The objectives that have no budget."""
        limits = {"latency": self.budget, "size": self.max_size}
        return tuple(objective for objective in self.objectives if limits[objective] is None)

    def to_json(self) -> dict[str, Any]:
        """What `autocompress resume` needs to go on."""
        names = ("trials", "seed", "sampler", "storage", "core", "search_samples", "method", "pessimism", "finetune", "device")
        values = {name: getattr(self, name) for name in (*names, "max_size")}
        return {"budget": str(self.budget) if self.budget else None, **values, "objectives": ",".join(self.objectives)}

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UserError(f"--trials {self.trials} leaves nothing to do: ask for at least 1.")
        if self.timeout is not None and not self.timeout > 0:
            raise UserError(f"--timeout {self.timeout:g} leaves no time: ask for more than 0 seconds.")
        if self.finetune is not None and not (math.isfinite(self.finetune) and self.finetune > 0):
            raise UserError(f"--finetune {self.finetune:g} leaves no time to train: ask for more than 0 minutes.")
        if self.device is not None and (self.budget is None or self.minimised):
            raise UserError("--device verifies plans within a budget: add --budget, and --max-size if size is an objective.")
        if self.search_samples is not None and self.search_samples < 1:
            raise UserError(f"--samples {self.search_samples} leaves nothing to score trials on: ask for at least 1.")
        if not 0.5 <= self.pessimism <= 0.99:
            raise UserError(f"--pessimism {self.pessimism:g} is out of range: choose a quantile from 0.5 to 0.99, such as 0.9.")
        if self.max_size is not None and self.max_size < 1:
            raise UserError(f"--max-size {self.max_size} leaves no network: ask for at least one byte.")
        if parse_objectives(",".join(self.objectives)) != self.objectives:
            raise UserError(f"objectives {self.objectives} are out of order: use {OBJECTIVES}.")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed} is negative: use 0 or a positive number.")
        if self.study is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.study):
            raise UserError(f"study name {self.study!r} cannot be a folder: use letters, digits, dots, dashes and underscores.")
