"""The end-to-end line of a device: time of a network = a + b x sum of its rows, fitted on networks that ran there.

Every verified network adds a point to a file beside the core's measured rows. Like rows, points of other kernels or of another
device are not used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import write_json

SCHEMA = 1
#: Sums must differ by this much for an intercept to be told from the slope.
_SPREAD = 2.0


@dataclass(frozen=True)
class Line:
    """Time of a network = intercept_ms + slope x sum of its rows; `source` says where that comes from."""

    intercept_ms: float = 0.0
    slope: float = 1.0
    source: str = "none: the sum of the rows"

    def ms(self, sum_us: float) -> float:
        """Milliseconds of a network whose rows sum up to that many microseconds."""
        return self.intercept_ms + self.slope * sum_us / 1e3


@dataclass(frozen=True)
class Point:
    """A network that ran on a device.

    Attributes:
        plan: hash of the Plan; `network` tells networks apart.
        sum_us: of its measured rows.
        measured_us: from end to end, the median.
        kernel_hash, device, date: as of a measured row.
    """

    network: str
    plan: str
    sum_us: float
    measured_us: float
    kernel_hash: str
    device: str
    date: str


def fit_line(sums_us: Sequence[float], measured_ms: Sequence[float], source: str = "") -> Line:
    """The line with the least squared relative error; its intercept is not negative, since no rows take no less than no time.

    Sums that are all much alike decide a slope only.

    Args:
        sums_us: of the rows of some networks, at least one, all positive.
        measured_ms: of the same networks end to end, all positive.
    """
    sums, measured = np.asarray(sums_us) / 1e3, np.asarray(measured_ms)
    columns = np.stack([1 / measured, sums / measured], axis=1)
    if len(measured) > 1 and sums.max() >= _SPREAD * sums.min():
        intercept, slope = np.linalg.lstsq(columns, np.ones(len(measured)), rcond=None)[0]
        if intercept >= 0 and slope > 0:
            return Line(float(intercept), float(slope), source)
    return Line(0.0, float(columns[:, 1].sum() / np.square(columns[:, 1]).sum()), source)


def fitted(points: Sequence[Point]) -> Line | None:
    """The line through points of one device; None without any."""
    if not points:
        return None
    last = max(point.date for point in points)[:10]
    count = "1 network" if len(points) == 1 else f"{len(points)} networks"
    return fit_line(
        [point.sum_us for point in points],
        [point.measured_us / 1e3 for point in points],
        f"fitted on {count} that ran there, the last on {last}",
    )


def usable(points: Sequence[Point], kernel_hash: str, device: str) -> list[Point]:
    """The points of these kernels on this device; of several of one Plan the last."""
    own = {(p.network, p.plan): p for p in points if (p.kernel_hash, p.device) == (kernel_hash, device)}
    return list(own.values())


def load_points(path: Path) -> list[Point]:
    """Points in the order in which they were measured; none without a file.

    Raises:
        UserError: the file cannot be read, or is damaged.
    """
    if not path.exists():
        return []
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']}")
        return [_point(each) for each in value["points"]]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): move it away and run `autocompress verify` again.") from error


def add_point(path: Path, network: str, plan: str, sum_us: float, measured_us: float, kernel_hash: str, device: str) -> None:
    """Add a network to a file of points.

    Raises:
        UserError: the file is damaged, or cannot be written.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    points = [*load_points(path), Point(network, plan, sum_us, measured_us, kernel_hash, device, now)]
    write_json(path, {"schema": SCHEMA, "points": [asdict(point) for point in points]})


def _point(value: dict[str, Any]) -> Point:
    point = Point(**value)
    times = (point.sum_us, point.measured_us)
    if not all(isinstance(time, float) and math.isfinite(time) and time > 0 for time in times):
        raise ValueError(f"impossible times {times}")
    return point
