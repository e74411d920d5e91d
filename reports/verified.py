"""Networks of a study that ran on a device, with their predicted times: `verified.json` in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_json

SCHEMA = 1
VERIFIED = "verified.json"


@dataclass(frozen=True)
class VerifiedOp:
    """Microseconds of one op, predicted and measured."""

    name: str
    kernel: str
    predicted: float
    measured: float


@dataclass(frozen=True)
class Verified:
    """A network on a device.

    Attributes:
        plan: hash of its Plan.
        where: product, transport and CPU.
        fingerprint, kernels: of the device, and hash of the kernels.
        source: of the predicted time: `measured` or `modelled` rows.
        predicted_ms: as the search has it.
        measured_ms, measured_low_ms, measured_high_ms: median of the runs, 10th and 90th percentile.
        date: ISO 8601.
        ops: those that have both times.
    """

    plan: str
    where: str
    fingerprint: str
    kernels: str
    source: str
    predicted_ms: float
    measured_ms: float
    measured_low_ms: float
    measured_high_ms: float
    date: str
    ops: tuple[VerifiedOp, ...] = ()

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_ms / self.measured_ms - 1.0


def load_verified(folder: Path) -> tuple[Verified, ...]:
    """What ran on a device, in that order; nothing without the file.

    Raises:
        UserError: the file cannot be read, or is damaged.
    """
    path = folder / VERIFIED
    if not path.exists():
        return ()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']}")
        return tuple(_verified(each) for each in value["networks"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run `autocompress verify` again.") from error


def add_verified(folder: Path, found: Sequence[Verified]) -> tuple[Verified, ...]:
    """Add networks; of several runs of one Plan the last is kept. Returns all that there are.

    Raises:
        UserError: the file is damaged, or cannot be written.
    """
    by_plan = {each.plan: each for each in load_verified(folder)}
    for each in found:
        by_plan.pop(each.plan, None)
        by_plan[each.plan] = each
    write_json(folder / VERIFIED, {"schema": SCHEMA, "networks": [asdict(each) for each in by_plan.values()]})
    return tuple(by_plan.values())


def _verified(value: dict[str, Any]) -> Verified:
    found = Verified(**{**value, "ops": tuple(VerifiedOp(**op) for op in value["ops"])})
    if not (found.predicted_ms > 0 and found.measured_ms > 0):
        raise ValueError("impossible times")
    return found
