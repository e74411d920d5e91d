from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes
import autocompress.memory as memory

memory.keep_freed_memory()
buffers = [bytearray(40_000_000) for _ in range(10)]
keep = bytearray(1000)
begin = memory.resident()
assert begin > 400_000_000, begin
del buffers
kept = memory.resident()
assert kept > begin - 50_000_000, (begin, kept)
memory.GROWTH = 1 << 40
memory.bound_freed_memory()
assert abs(memory.resident() - kept) < 10_000_000, "within GROWTH nothing goes back"
memory.GROWTH = 100_000_000
memory.bound_freed_memory()
returned = memory.resident()
assert returned < kept - 300_000_000, (kept, returned)
buffers = [bytearray(40_000_000) for _ in range(2)]
del buffers
memory.bound_freed_memory()
assert memory.resident() > returned + 70_000_000, "within GROWTH nothing goes back"
"""


def test_freed_memory_is_kept_within_bounds() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
