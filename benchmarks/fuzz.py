"""Fuzz the C runtime: damaged and hostile model files are loaded and run under AddressSanitizer and UndefinedBehaviorSanitizer.

    python benchmarks/fuzz.py [--seconds 600] [--corpus FOLDER] [--write]

libFuzzer mutates small networks that have every kernel between them (tests/kernels/programs.py), guided by the code they reach.
The harness (kernels/csrc/fuzz_runtime.c) corrects length and checksum of every file, so that they stop nothing. Ends with exit
code 1, and keeps the file, if one makes the runtime crash, hang, leak, or break a rule of C. Needs clang with libFuzzer (Debian:
clang-19 and libclang-rt-19-dev). Tests run the same for CI_SECONDS.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from types import ModuleType

from autocompress.files import write_json
from autocompress.kernels.artifact import write_artifact
from autocompress.kernels.toolchain import PROGRAMS, SOURCES

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "results" / "benchmarks" / "fuzz.json"
SECONDS, CI_SECONDS = 600, 60
#: Seconds after which a file counts as one that hangs; they take milliseconds, but the machine may be busy with other things.
PATIENCE = 300
#: Longest file; the seeds have 1 to 4 kB.
MOST_BYTES = 16384
#: Memory that a file may ask for in this build; a hostile one is told so like one above the usual limit.
MOST_MEMORY = 1 << 24
#: MiB that the fuzzer itself may hold; what was freed lately, and its own records, come to 500.
MOST_RESIDENT = 2048


@dataclass(frozen=True)
class Outcome:
    """What a run of the fuzzer came to.

    Attributes:
        runs: files that were tried.
        edges: branches of the code that some file reached (libFuzzer's `cov`).
        corpus: files kept because they reached something new, seeds included.
        finding: what the fuzzer said when a file made the runtime fail; empty if none did.
    """

    seconds: int
    seeds: int
    runs: int
    edges: int
    corpus: int
    finding: str


def compiler() -> str:
    """The newest clang on PATH.

    Raises:
        SystemExit: there is none.
    """
    for name in ("clang", *(f"clang-{version}" for version in range(22, 13, -1))):
        if shutil.which(name):
            return name
    raise SystemExit("fuzzing needs clang with libFuzzer: apt install clang-19 libclang-rt-19-dev")


def build(folder: Path) -> Path:
    """The fuzzer, in a folder. Given files instead of folders, it runs each once."""
    sources = sorted(str(path) for path in SOURCES.glob("*.c") if path.name not in PROGRAMS or path.name == "fuzz_runtime.c")
    program = folder / "fuzz_runtime"
    sanitizers = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    options = ["-std=c11", "-O0", "-g", "-march=native", "-Wall", "-Wextra", "-Werror", f"-DAC_MOST_MEMORY={MOST_MEMORY}"]
    subprocess.run([compiler(), *options, *sanitizers, *sources, "-o", str(program), "-lm"], check=True)
    return program


def write_seeds(folder: Path) -> int:
    """Write small networks as model files; returns their number."""
    programs = _random_programs().small_programs()
    for number, program in enumerate(programs):
        write_artifact(program, folder / f"seed-{number}.acm")
    return len(programs)


def fuzz(program: Path, corpus: Path, seconds: int) -> Outcome:
    """Run the fuzzer on a folder of seeds, to which it adds; a file with a finding is left beside that folder."""
    seeds = len(list(corpus.iterdir()))
    # libFuzzer's own limit is one on the peak since before exec, which is that of the process that calls this.
    limits = [f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", f"-timeout={PATIENCE}", "-rss_limit_mb=0"]
    limits.append(f"-malloc_limit_mb={MOST_RESIDENT}")
    command = [str(program), *limits, "-use_value_profile=1", "-seed=1", "-print_final_stats=1"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={corpus.parent}/", str(corpus)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "ASAN_OPTIONS": f"hard_rss_limit_mb={MOST_RESIDENT}"},
    )
    lines = done.stderr.splitlines()
    # SUMMARY is the sanitizers' and libFuzzer's last word.
    summaries = [line for line in lines if "SUMMARY" in line or "runtime error" in line]
    finding = "" if done.returncode == 0 else " | ".join(summaries) or f"exit code {done.returncode}: {lines[-1:]}"
    runs, edges = _last(r"stat::number_of_executed_units:\s*(\d+)", done.stderr), _last(r"cov: (\d+)", done.stderr)
    return Outcome(seconds, seeds, runs, edges, len(list(corpus.iterdir())), finding)


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def _random_programs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("programs", ROOT / "tests" / "kernels" / "programs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--corpus", type=Path, help="folder of files to begin with and to add to; by default one that is deleted")
    parser.add_argument("--write", action="store_true", help=f"write the outcome to {RESULT.relative_to(ROOT)}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or Path(folder) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        write_seeds(corpus)
        outcome = fuzz(build(Path(folder)), corpus, arguments.seconds)
        for found in Path(folder).glob("*-*"):
            print(f"kept {shutil.copy(found, Path.cwd())}")
    print(outcome)
    if arguments.write:
        machine = f"{platform.machine()}, {platform.system()}"
        write_json(RESULT, {"schema": 1, "date": date.today().isoformat(), "machine": machine, **asdict(outcome)})
    sys.exit(bool(outcome.finding))


if __name__ == "__main__":
    main()
