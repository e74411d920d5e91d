"""A machine that does nothing else while something is timed, and what counts when others use it all the same: shared by the
benchmarks that compare runtimes."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from autocompress.errors import UserError

#: Most that the rest of the machine may use of one core.
BUSY = 0.1


class Load:
    """What others use of the machine from now on."""

    def __init__(self) -> None:
        self._begin = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return busy_seconds(), sum(os.times()[:2]), time.monotonic()

    def cores(self) -> float:
        """Cores that were busy with something else, on average."""
        (busy, own, wall), (busy0, own0, wall0) = self._now(), self._begin
        return round(max(0.0, (busy - busy0) - (own - own0)) / (wall - wall0), 3)


def busy_seconds() -> float:
    """CPU seconds that this machine has worked since it started, this process included; what a hypervisor took counts too."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def begin(busy: bool) -> Load:
    """Pin this process to the last core that it may use.

    Args:
        busy: go on although others use the machine.

    Returns:
        The load from here on.

    Raises:
        UserError: others use the machine.
    """
    load = Load()
    time.sleep(2)
    if load.cores() > BUSY and not busy:
        raise UserError(
            f"other programs use {load.cores():.2f} cores: stop them, or add --busy to look at numbers that mean little"
        )
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return Load()


def fastest_round(rounds: Sequence[Sequence[float]]) -> float:
    """The time that counts of runs in rounds: noise only makes things slower, so it is the median of the fastest round."""
    return min(statistics.median(one) for one in rounds)


def require_idle(others: float) -> None:
    """Refuse numbers beside which others used the machine.

    Args:
        others: cores that they used, from `Load.cores`.

    Raises:
        UserError: too much.
    """
    if others > BUSY:
        raise UserError(f"other programs used {others:.2f} cores meanwhile: nothing written. Run it again on an idle machine.")


#: Flags of x86 processors that say how wide and in what way they multiply, widest first.
_VECTORS = {"avx512_vnni": "AVX-512 with VNNI", "avx512f": "AVX-512", "avx_vnni": "AVX2 with VNNI", "avx2": "AVX2"}


def flags() -> frozenset[str]:
    """What an x86 processor says that it can do; nothing of others."""
    return frozenset(_cpuinfo().get("flags", "").split())


def cpu() -> str:
    """The processor's name, and the vectors that kernels have there: one name may stand for several kinds."""
    said = _cpuinfo()
    name = said.get("model name") or said.get("CPU part") or platform.processor() or platform.machine()
    vectors = next((told for flag, told in _VECTORS.items() if flag in flags()), None)
    return name if vectors is None else f"{name} ({vectors})"


def _cpuinfo() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
