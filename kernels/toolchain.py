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
#: Sources with a `main`, each compiled only into the program of its name (fuzz_runtime.c by benchmarks/fuzz.py).
PROGRAMS = ("acrun.c", "bench.c", "fuzz_runtime.c", "run.c")
#: Sources of the runtime: they are linked with the kernels, whose times do not depend on them.
RUNTIME = ("autocompress.h", "checksum.c", "checksum.h", "plan.c", "plan.h", "runtime.c")
Product = Literal["library", "static", "run", "bench", "acrun"]
#: Cores with a build of their own, and the build for all others of Armv8.2 with dot products.
ARM_CORES = ("cortex-x1", "cortex-x3", "cortex-a73", "cortex-a76", "cortex-a78", "cortex-a55")
GENERIC_ARM = "generic+v8_2a+dotprod+fullfp16"
OPTIONS = ("-std=c11", "-O3", "-g0", "-fvisibility=hidden", "-fPIC")


def build(target: str = HOST, cpu: str = "native", flags: Sequence[str] = (), product: Product = "library") -> Path:
    """Compile the kernels and the runtime, unless the cache has them. All products hold the same object code.

    Args:
        target: `host`, or a triple of Zig such as `aarch64-linux-musl`.
        cpu: a name of Zig such as `cortex_x1`, or `native` for the host's own.
        flags: more compiler flags.
        product: `library`, shared, or `static`, an archive, to be used with csrc/autocompress.h; or the program `run`, `bench` or
            `acrun` (csrc/*.c), static when the target is a triple.

    Returns:
        The file, in the cache folder.

    Raises:
        UserError: the package ziglang is missing, the sources do not compile, or the cache folder cannot be written.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise UserError("the C compiler is missing: pip install ziglang")
    machine = [] if target == HOST else ["-target", target]
    compiling = [*OPTIONS, *machine, f"-mcpu={cpu}", *flags]
    path = cache_folder() / f"{product}-{target}-{cpu}-{_digest([*compiling, product])}"
    # The executable bit is set last: a file without it was left by a run that ended in between.
    if os.access(path, os.X_OK):
        return path
    compiled = _object(compiling, target, cpu)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder, replacing(path) as output:
        if product == "static":
            named = Path(folder) / "autocompress.o"  # archives keep names
            named.symlink_to(compiled)
            output.unlink()  # an empty file is no archive that could be added to
            _zig(["ar", "rcs", str(output), str(named)], target, cpu)
        else:
            linking = ["cc", *machine, str(compiled), "-o", str(output), "-s"]
            if product == "library":
                linking.append("-shared")
            else:
                linking += [*OPTIONS, *flags, str(SOURCES / f"{product}.c"), *(["-static"] if machine else [])]
            _zig(linking, target, cpu)
    path.chmod(0o755)
    return path


def _object(compiling: Sequence[str], target: str, cpu: str) -> Path:
    """Kernels and runtime as one object, in the cache folder.

    Only they are compiled for `cpu`: with a program, whose C library Zig compiles from source, that library is built once for a
    machine and not once for every CPU.
    """
    path = cache_folder() / f"object-{target}-{cpu}-{_digest([*compiling, 'object'])}.o"
    if not path.exists():
        sources = sorted(str(source) for source in SOURCES.glob("*.c") if source.name not in PROGRAMS)
        with replacing(path) as output:
            _zig(["cc", *compiling, "-c", *sources, "-o", str(output)], target, cpu)
    return path


def kernels_hash() -> str:
    """A hash of what the kernels' times depend on besides the machine: their sources and the compiler's options."""
    digest = hashlib.sha256("\n".join(OPTIONS).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.name not in (*PROGRAMS, *RUNTIME):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:12]


def names_for(machine: str, model: str, features: Sequence[str]) -> tuple[str, str]:
    """What `build` calls a machine and a core of it, for a static program.

    Args:
        machine: as `uname -m` says.
        model, features: of the core, as in a target; unknown models with `dotprod` and `fp16` are Armv8.2, others Armv8.

    Raises:
        UserError: kernels are not built for such machines.
    """
    if machine == "aarch64":
        other = GENERIC_ARM if {"dotprod", "fp16"} <= set(features) else "generic"
        return "aarch64-linux-musl", model.replace("-", "_") if model in ARM_CORES else other
    if machine == "x86_64":
        return "x86_64-linux-musl", "x86_64_v3"
    raise UserError(f"kernels are not built for {machine}: use a device of 64 bits, aarch64 or x86_64.")


def cache_folder() -> Path:
    """Where built kernels are kept: `$XDG_CACHE_HOME/autocompress/kernels`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "autocompress" / "kernels"


def _zig(arguments: Sequence[str], target: str, cpu: str) -> None:
    command = [sys.executable, "-m", "ziglang", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        tail = "\n".join(run.stderr.splitlines()[-20:])
        raise UserError(
            f"the kernels do not compile for {target} with cpu {cpu}: check both names and the message below.\n{tail}"
        )


def _digest(options: Sequence[str]) -> str:
    """A hash of all that decides a result: sources, options, compiler version and, for `native`, this machine's CPU.

    The last option names the product; of the programs only its own source counts.
    """
    digest = hashlib.sha256("\n".join([*options, importlib.metadata.version("ziglang")]).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.name not in PROGRAMS or source.stem == options[-1]:
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
