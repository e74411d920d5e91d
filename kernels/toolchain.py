"""Building the C kernels: with the compiler of the `ziglang` package, for the host and for phones alike.

Results are kept in the user's cache folder under a hash of everything they depend on, so a second call only looks them up.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..errors import UserError
from ..files import replacing

HOST = "host"
SOURCES = Path(__file__).parent / "csrc"
#: Sources with a `main`; all others are kernels.
PROGRAMS = ("run.c",)
OPTIONS = ("-std=c11", "-O3", "-g0", "-fvisibility=hidden")


def build(
    target: str = HOST,
    cpu: str = "native",
    flags: Sequence[str] = (),
    product: Literal["library", "run"] = "library",
) -> Path:
    """Compile the kernels, unless the cache has them.

    Args:
        target: `host`, or a triple of Zig such as `aarch64-linux-musl`.
        cpu: a name of Zig such as `cortex_x1`, or `native` for the host's own.
        flags: more compiler flags.
        product: a shared library, or the program `run` (csrc/run.c), which is static when the target is a triple.

    Returns:
        The file, in the cache folder.

    Raises:
        UserError: the package ziglang is missing, the sources do not compile, or the cache folder cannot be written.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise UserError("the C compiler is missing: pip install ziglang")
    machine = [] if target == HOST else ["-target", target]
    compiling = [*OPTIONS, *machine, f"-mcpu={cpu}", *flags]
    path = cache_folder() / f"{product}-{target}-{cpu}-{_digest(compiling)}"
    # The executable bit is set last: a file without it was left by a run that ended in between.
    if os.access(path, os.X_OK):
        return path
    kernels = sorted(source for source in SOURCES.glob("*.c") if source.name not in PROGRAMS)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder, replacing(path) as output:
        # One object from all kernels. Only they are compiled for `cpu`: with a program, whose C library Zig compiles from
        # source, that library is built once for a machine and not once for every CPU.
        kernel_object = Path(folder) / "kernels.o"
        pic = ["-fPIC"] if product == "library" else []
        _compile([*compiling, *pic, "-c", *map(str, kernels), "-o", str(kernel_object)], target, cpu)
        linking = [*machine, str(kernel_object), "-o", str(output), "-s"]
        if product == "library":
            linking.append("-shared")
        else:
            linking += [*OPTIONS, *flags, str(SOURCES / f"{product}.c"), *(["-static"] if machine else [])]
        _compile(linking, target, cpu)
    path.chmod(0o755)
    return path


def kernels_hash() -> str:
    """A hash of what the kernels' times depend on besides the machine: their sources and the compiler's options."""
    digest = hashlib.sha256("\n".join(OPTIONS).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.name not in PROGRAMS:
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:12]


def cache_folder() -> Path:
    """Where built kernels are kept: `$XDG_CACHE_HOME/autocompress/kernels`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "autocompress" / "kernels"


def _compile(arguments: Sequence[str], target: str, cpu: str) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        tail = "\n".join(run.stderr.splitlines()[-20:])
        raise UserError(
            f"the kernels do not compile for {target} with cpu {cpu}: check both names and the message below.\n{tail}"
        )


def _digest(options: Sequence[str]) -> str:
    """A hash of all that decides a result: sources, options, compiler version and, for `native`, this machine's CPU."""
    digest = hashlib.sha256("\n".join([*options, importlib.metadata.version("ziglang")]).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    if "-mcpu=native" in options:
        digest.update(_cpu().encode())
    return digest.hexdigest()[:16]


def _cpu() -> str:
    """What tells this machine's CPU from another that shares the cache folder: its model and its features."""
    lines = [platform.system(), platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines += sorted(
            {
                line
                for line in cpuinfo.read_text(encoding="utf-8").splitlines()
                if line.startswith(("model name", "flags", "Features", "CPU part"))
            }
        )
    return "\n".join(lines)
