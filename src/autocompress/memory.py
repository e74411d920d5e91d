"""Freed memory: how much of it the C library keeps for the next op, and when it goes back to the system.

Only glibc has these knobs; elsewhere nothing happens here.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

#: Bytes by which a process may grow before what it has freed goes back: buffers of many sizes leave gaps that nothing fills.
GROWTH = 1_200_000_000

#: Bytes that were resident when freed memory was last given back.
_resident_then = 0


def keep_freed_memory() -> None:
    """Tell the C library to keep big buffers for the next op instead of returning them to the system.

    Without it every op of a network pays page faults for its output, about half of the time on a CPU.
    """
    if _glibc():
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 1 << 30)


def return_freed_memory() -> None:
    """Give back all that is kept, as before work with buffers of another size."""
    global _resident_then
    if _glibc():
        ctypes.CDLL(None).malloc_trim(0)
        _resident_then = resident()


def bound_freed_memory() -> None:
    """Give back what is kept if the process has grown by more than `GROWTH` bytes since that was last done."""
    if _glibc() and resident() > _resident_then + GROWTH:
        return_freed_memory()


def resident() -> int:
    """Bytes of this process that are in memory; Linux only."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
