"""Measuring, for real: on this machine, through ssh and through adb; what is refused, and what survives."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autocompress.errors import UserError
from autocompress.kernels import bench, toolchain
from autocompress.kernels.bench import Outcome, Settings, choose_cpu, general_grid, measure, refuse_emulators, row_of
from autocompress.kernels.devices import ConnectionLost, Cpu, DeviceInfo, this_machine
from autocompress.kernels.geometry import Geometry
from autocompress.kernels.jobs import job_of
from autocompress.kernels.table import LatencyTable, MeasuredRows, RowKey, measured_path, unsteady_keys
from autocompress.kernels.targets import Target, load_target
from autocompress.kernels.toolchain import SOURCES, build, kernels_hash

from .adb_stand_in import AdbStandIn
from .conftest import SshServer

HOST, PIXEL7 = load_target("host"), load_target("pixel7")
CONV = Geometry("conv", 16, 16, 7, 7, 7, 7)
KEYS = tuple(
    RowKey(CONV, structure, sparsity, bits)
    for structure, sparsity, bits in (
        ("dense", 0.0, 32),
        ("dense", 0.0, 8),
        ("block4x1", 0.5, 32),
        ("unstructured", 0.75, 32),
        ("block4x4", 0.5, 8),
        ("block1x4", 0.9, 8),
    )
)
QUICK = Settings(row_ms=0.0, tries=1)
#: What bench says of this machine first, but for its kernels.
HEADER = {"bench": 1, "machine": this_machine().machine, "vdso": True, "i8mm": "i8mm" in this_machine().features}


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def ignore(done: int, total: int, what: str) -> None:
    pass


def run(target: Target = HOST, keys: tuple[RowKey, ...] = KEYS, settings: Settings = QUICK) -> Outcome:
    return measure(target, target.core(), keys, settings, ignore)


@pytest.fixture
def native_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program for this machine where another would be built for a device like it: one compilation less."""
    monkeypatch.setattr(toolchain, "names_for", lambda *_: (toolchain.HOST, "native"))


def reached_by(url: str) -> Target:
    """A target like this machine that is reached in another way."""
    return dataclasses.replace(HOST, name="elsewhere", transport=url)


def rows_of(target: Target) -> MeasuredRows:
    return MeasuredRows.load(measured_path(target, target.core()))


def test_rows_are_measured_and_used() -> None:
    told: list[tuple[int, int, str]] = []
    done = measure(HOST, HOST.core(), KEYS, QUICK, lambda *step: told.append(step))
    assert (done.measured, done.present, done.missing, done.refused) == (6, 0, {}, [])
    assert (done.url, done.cpu) == ("local", this_machine().cpus[-1].index)
    assert [step[:2] for step in told] == [(number, 6) for number in range(7)]
    assert told[1][2] == "conv_fp32_dense"
    rows = rows_of(HOST).rows
    assert tuple(rows) == KEYS
    for row in rows.values():
        assert row.source == "measured" and row.measurement is not None
        assert 0 < row.low <= row.microseconds <= row.high < 1e5
        assert row.measurement.repetitions >= 11
        assert (row.measurement.kernel_hash, row.measurement.device) == (kernels_hash(), this_machine().fingerprint)
    table = LatencyTable.for_target(HOST)
    assert table.row(CONV, "dense", 0.0, 8) == rows[KEYS[1]]
    assert table.source == "measured"


def test_a_second_run_measures_what_is_missing_or_unsteady_or_asked_for_again() -> None:
    run(keys=KEYS[:2])
    unsteady = len(unsteady_keys(rows_of(HOST).rows))
    done = run(keys=KEYS[:4])
    assert (done.measured, done.present) == (2 + unsteady, 2 - unsteady)
    assert run(keys=KEYS[:4], settings=dataclasses.replace(QUICK, again=True)).measured == 4
    # Ten times the clock of the first row: it was throttled.
    path = measured_path(HOST, HOST.core())
    lines = path.read_text().splitlines(keepends=True)
    cells = lines[-1].split(",")
    cells[-2] = str(float(cells[-2]) * 10)
    path.write_text("".join([*lines[:-1], ",".join(cells)]))
    slow = next(reversed(list(rows_of(HOST).rows)))
    assert slow in unsteady_keys(rows_of(HOST).rows)
    assert run(keys=(slow,)).measured == 1


def test_other_kernels_are_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    run(keys=KEYS[:2])
    monkeypatch.setattr(toolchain, "kernels_hash", lambda: "changed")
    assert run(keys=KEYS[:2]).measured == 2


def test_rows_without_a_kernel_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench.job_of

    def without(geometry: Geometry, structure: str, sparsity: float, bits: int) -> object:
        job = real(geometry, structure, sparsity, bits)
        return dataclasses.replace(job, kernel="s9_dense") if bits == 8 else job

    monkeypatch.setattr(bench, "job_of", without)
    done = run()
    assert (done.measured, done.missing) == (3, {"s9_dense": 3})


def test_a_row_that_the_program_refuses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench.job_of

    def wrong(geometry: Geometry, structure: str, sparsity: float, bits: int) -> object:
        job = real(geometry, structure, sparsity, bits)
        return dataclasses.replace(job, problem=dataclasses.replace(job.problem, rows=0)) if bits == 8 else job

    monkeypatch.setattr(bench, "job_of", wrong)
    done = run(keys=KEYS[:3])
    assert (done.measured, done.refused) == (2, [(KEYS[1], "a size is out of range")])


def test_more_zeros_take_less_time() -> None:
    geometry = Geometry("conv", 128, 128, 28, 28, 28, 28)
    keys = tuple(
        RowKey(geometry, structure, zeros, bits)
        for structure, bits in (("block4x1", 32), ("block4x4", 8))
        for zeros in (0.1, 0.9)
    )
    run(keys=keys)
    times = [rows_of(HOST).rows[key].microseconds for key in keys]
    assert times[0] > 2 * times[1] and times[2] > 2 * times[3]


def test_through_ssh_and_after_a_cut(ssh_server: SshServer, native_builds: None) -> None:
    target = reached_by(ssh_server.url)
    keys = tuple(RowKey(CONV, "unstructured", level / 300, 32) for level in range(1, 120))

    def cut(done: int, total: int, what: str) -> None:
        if done == 20:
            ssh_server.cut()

    with pytest.raises(ConnectionLost, match=r"rows measured until then are kept"):
        measure(target, target.core(), keys, QUICK, cut)
    kept = tuple(rows_of(target).rows)
    assert 20 <= len(kept) < len(keys)
    assert kept == keys[: len(kept)]
    done = measure(target, target.core(), keys, QUICK, ignore)
    assert done.measured + done.present == len(keys) and done.measured >= len(keys) - len(kept)
    assert rows_of(target).rows.keys() == set(keys)


def test_through_adb_and_after_a_cut(adb_server: AdbStandIn, native_builds: None, tmp_path: Path) -> None:
    target = reached_by("adb://")
    keys = tuple(RowKey(CONV, "unstructured", level / 300, 32) for level in range(1, 60))

    def cut(done: int, total: int, what: str) -> None:
        if done == 1:
            adb_server.cut_after = 500

    with pytest.raises(ConnectionLost):
        measure(target, target.core(), keys, QUICK, cut)
    kept = rows_of(target).rows
    assert 0 < len(kept) < len(keys)
    done = measure(target, target.core(), keys, QUICK, ignore)
    assert done.url == "adb://emulator-5554" and rows_of(target).rows.keys() == set(keys)
    assert list((tmp_path / "phone").iterdir()) == []


def info(
    machine: str = "aarch64", models: tuple[str, ...] = ("cortex-a55", "cortex-a55", "cortex-x1", "cortex-x1")
) -> DeviceInfo:
    cpus = tuple(Cpu(index, model) for index, model in enumerate(models))
    return DeviceInfo(machine, "Google Pixel 7", cpus, ("asimddp", "asimdhp"))


def test_the_cpu_is_the_last_one_of_its_kind() -> None:
    assert choose_cpu("adb://x", info(), PIXEL7, PIXEL7.core("X1"), None) == 3
    assert choose_cpu("adb://x", info(), PIXEL7, PIXEL7.core("A55"), None) == 1
    assert choose_cpu("adb://x", info(), PIXEL7, PIXEL7.core("A55"), 0) == 0
    assert choose_cpu("local", info("x86_64", ("AMD EPYC",) * 2), HOST, HOST.core(), None) == 1


@pytest.mark.parametrize(
    ("found", "core", "cpu", "words"),
    [
        (info(), "X1", 9, "has no CPU 9: choose --cpu from 2, 3"),
        (info(), "X1", 0, r"CPU 0 of adb://x is a cortex-a55, not the cortex-x1 of core X1: choose --cpu from 2, 3"),
        (info(), "A78", None, "has no cortex-a78 .*but cortex-a55, cortex-x1: choose the right --target"),
        (info("x86_64", ("AMD EPYC",)), "X1", None, "is x86_64, but X1 of pixel7 a cortex-x1: choose the right --device"),
    ],
)
def test_wrong_cpus(found: DeviceInfo, core: str, cpu: int | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        choose_cpu("adb://x", found, PIXEL7, PIXEL7.core(core), cpu)


def test_a_device_that_lacks_instructions() -> None:
    with pytest.raises(UserError, match="has no dotprod, fp16, which core X1 has"):
        bench.check_features("adb://x", dataclasses.replace(info(), features=("asimd",)), PIXEL7.core())
    bench.check_features("adb://x", info(), PIXEL7.core())


def test_emulators_are_refused() -> None:
    with pytest.raises(UserError, match=r"is an emulator .*its times mean nothing"):
        refuse_emulators("adb://x", dataclasses.replace(info(), emulator="ranchu"))


def test_qemu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real program for a phone, as binfmt would run it here, behind a machine that calls itself aarch64."""
    emulator = shutil.which("qemu-aarch64")
    assert emulator, "the test needs qemu-user"
    program = build(*toolchain.names_for("aarch64", "cortex-a76", PIXEL7.core().features), product="bench")
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec {emulator} -cpu cortex-a76 {program} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(toolchain, "build", lambda *_, **__: wrapper)
    if platform.machine() == "x86_64":
        with pytest.raises(UserError, match=r"in an emulator \(a program for aarch64 runs on x86_64\)"):
            run()
    header = subprocess.run([wrapper, "list"], check=True, capture_output=True, text=True).stdout
    with pytest.raises(UserError, match=r"in an emulator \(the program has no vDSO\)"):
        bench._check_header(header, "adb://x", info())
    assert rows_of(HOST).rows == {}


def test_a_program_whose_variants_are_not_those_of_the_device_is_refused() -> None:
    """With I8MM or without is part of the fingerprint, which is made of what the device says of itself."""
    header = {"bench": 1, "machine": "aarch64", "vdso": True, "kernels": ["s8_dense"]}
    plain = info()
    newer = dataclasses.replace(plain, features=(*plain.features, "i8mm"))
    assert plain.fingerprint != newer.fingerprint
    for device, other in ((plain, newer), (newer, plain)):
        line = json.dumps({**header, "i8mm": device is newer})
        assert bench._check_header(line, "adb://x", device) == {"s8_dense"}
        with pytest.raises(UserError, match="the program and /proc/cpuinfo disagree about I8MM"):
            bench._check_header(line, "adb://x", other)


@pytest.mark.parametrize(
    ("prints", "words"),
    [
        ("echo hello", "prints 'hello', which is no row"),
        ("echo '[1]'", "which is no row"),
        ("echo '{\"bench\": 2}'", "that is not our bench"),
        ("exit 132", "exit code 132"),
        (":", "prints '', which is no row"),
        ("list '{\"job\": 5}'", "answers out of order"),
        ('list \'{"job": 0, "ns": -1, "low": 1, "high": 2, "sentinel": 3, "repetitions": 4}\'', "impossible row"),
        ("list '{\"job\": 0}'", "impossible row"),
    ],
)
def test_a_program_that_prints_nonsense(prints: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    header = json.dumps({**HEADER, "kernels": ["f32_dense"]})
    program.write_text(f'#!/bin/sh\nlist() {{ echo \'{header}\'; [ "$A" = list ] || echo "$1"; }}\nA=$1\n{prints}\n')
    monkeypatch.setattr(toolchain, "build", lambda *_, **__: program)
    with pytest.raises(UserError, match=words):
        run()
    assert rows_of(HOST).rows == {}


def test_rows_have_their_numbers() -> None:
    value = {"ns": 1234.5, "low": 1200.0, "high": 1300.0, "sentinel": 25000, "repetitions": 99}
    row = row_of(KEYS[0], value, "kernels", "device", "local")
    assert (row.microseconds, row.low, row.high, row.kernel) == (1.2345, 1.2, 1.3, "conv_fp32_dense")
    assert row.measurement is not None
    how = row.measurement
    assert (how.repetitions, how.kernel_hash, how.device, how.sentinel_ns) == (99, "kernels", "device", 25000.0)


def test_settings_and_targets_that_cannot_be() -> None:
    for bad in (-1.0, float("nan"), 1e9):
        with pytest.raises(UserError, match="--row-ms"):
            Settings(row_ms=bad)
    with pytest.raises(UserError, match="does not say how to reach it"):
        run(dataclasses.replace(HOST, transport="none"))
    with pytest.raises(UserError, match="is this computer"):
        run(settings=Settings(device="ssh://elsewhere"))
    with pytest.raises(UserError, match="has no CPU 4096"):
        run(settings=Settings(cpu=4096))


def test_the_general_grid_is_what_the_table_has() -> None:
    for target in (HOST, PIXEL7):
        table = LatencyTable(target, target.core())
        keys = general_grid(table)
        assert len(keys) == len(set(keys)) > 1000
        assert {key.geometry.op for key in keys} >= {
            "conv",
            "depthwise",
            "linear",
            "add",
            "mul",
            "pool",
            "global_pool",
            "convert",
            "widen",
        }
        assert ({key.bits for key in keys} == {32, 16, 8, 4}) == (target is PIXEL7)
        for key in keys[::50]:
            table.row(key.geometry, key.structure, key.sparsity, key.bits)


# Rounds.


class Script:
    """A program in place of bench: what it prints in each round, and what it was asked for."""

    def __init__(self, folder: Path, rounds: list[dict[RowKey, tuple[float, float]]]) -> None:
        self.path, self._log, told = folder / "program", folder / "log", folder / "told"
        lines = [
            {job_of(key.geometry, key.structure, key.sparsity, key.bits).line(): value for key, value in one.items()}
            for one in rounds
        ]
        told.write_text(json.dumps(lines))
        kernels = sorted({line.split()[0] for one in lines for line in one})
        header = {**HEADER, "kernels": kernels}
        self._log.write_text("")
        self.path.write_text(
            f"#!{sys.executable}\n"
            "import json, sys\n"
            f"print({json.dumps(json.dumps(header))})\n"
            "if sys.argv[1] != 'list':\n"
            f"    number = len(open({str(self._log)!r}).readlines())\n"
            f"    told = json.load(open({str(told)!r}))[number]\n"
            "    jobs = open('jobs').read().splitlines()\n"
            f"    open({str(self._log)!r}, 'a').write(json.dumps([len(jobs), *sys.argv[4:]]) + '\\n')\n"
            "    for job, line in enumerate(jobs):\n"
            "        ns, sentinel = told[line]\n"
            "        print(json.dumps(dict(job=job, ns=ns, low=ns, high=ns, sentinel=sentinel, repetitions=11)))\n"
        )

    def asked(self) -> list[list[float]]:
        """Of each round: number of rows, milliseconds, reference."""
        return [[float(word) for word in json.loads(line)] for line in self._log.read_text().splitlines()]


def in_rounds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *rounds: dict[RowKey, tuple[float, float]], tries: int = 6
) -> tuple[Script, Outcome]:
    script = Script(folder, list(rounds))
    monkeypatch.setattr(toolchain, "build", lambda *_, **__: script.path)
    return script, run(keys=tuple(rounds[0]), settings=Settings(row_ms=10.0, tries=tries))


def test_a_row_is_that_of_its_fastest_steady_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, loud = 25000.0, 30000.0
    agreeing, slow, late, faster = KEYS[:4]
    script, done = in_rounds(
        tmp_path,
        monkeypatch,
        {agreeing: (1000, quiet), slow: (1000, loud), late: (1500, loud), faster: (1500, quiet)},
        {agreeing: (1020, quiet), slow: (1100, quiet), late: (1400, loud), faster: (1000, quiet)},
        {slow: (1110, quiet), late: (1500, quiet), faster: (1300, quiet)},
        {late: (1510, quiet), faster: (1010, quiet)},
    )
    assert script.asked() == [[4, 10, 0], [4, 10, quiet], [3, 20, quiet], [2, 40, quiet]]
    assert (done.measured, done.unsteady) == (4, 0)
    rows = rows_of(HOST).rows
    assert [rows[key].microseconds for key in KEYS[:4]] == [1.0, 1.1, 1.5, 1.0]
    assert run(keys=KEYS[:4]).present == 4


def test_what_stays_unsteady_keeps_its_fastest_time_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, loud = 25000.0, 30000.0
    first, second = KEYS[:2]
    rounds = [{first: (1000.0, quiet), second: (time, loud)} for time in (1500.0, 1200.0, 1300.0, 1250.0)]
    script, done = in_rounds(tmp_path, monkeypatch, *rounds)
    # The third round neither settles nor improves anything.
    assert [one[0] for one in script.asked()] == [2, 2, 1]
    assert (done.measured, done.unsteady) == (2, 1)
    assert rows_of(HOST).rows[second].microseconds == 1.2
    assert unsteady_keys(rows_of(HOST).rows) == {second}


def test_no_more_rounds_than_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [{KEYS[0]: (time, 25000.0)} for time in (2000.0, 1500.0, 1000.0)]
    script, _ = in_rounds(tmp_path, monkeypatch, *rounds, tries=2)
    assert len(script.asked()) == 2
    assert rows_of(HOST).rows[KEYS[0]].microseconds == 1.5


# The program itself.


@pytest.fixture(scope="module")
def checked_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """csrc/bench.c with sanitizers, by the system's compiler; the kernels, which have tests of their own, without."""
    path = tmp_path_factory.mktemp("bench") / "bench"
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    kernels = build()
    command = [
        "cc",
        "-std=c11",
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        *sanitize,
        SOURCES / "bench.c",
        kernels,
        f"-Wl,-rpath,{kernels.parent}",
        "-lm",
    ]
    subprocess.run([*map(str, command), "-o", str(path)], check=True, capture_output=True)
    return path


def lines_of(program: Path, jobs: str, folder: Path, *arguments: str) -> list[dict[str, object]]:
    (folder / "jobs").write_text(jobs)
    cpu = str(max(os.sched_getaffinity(0)))
    words = arguments or (cpu, "65536", "0", "0")
    told = subprocess.run([program, folder / "jobs", *words], check=True, capture_output=True, text=True)
    assert told.stderr == ""
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_every_kernel_under_sanitizers(checked_program: Path, tmp_path: Path) -> None:
    header = lines_of(checked_program, "", tmp_path)[0]
    names = set(header["kernels"]) if isinstance(header["kernels"], list) else set()
    plane = (9, 7, 9, 7)
    small = (9, 7, 5, 4)
    geometries = [
        Geometry("conv", 9, 6, *plane),
        Geometry("conv", 9, 6, *small, kernel=(3, 3), stride=(2, 2)),
        Geometry("conv", 17, 18, *plane, kernel=(3, 3)),
        Geometry("conv", 12, 8, *plane, kernel=(3, 3), groups=2),
        Geometry("linear", 9, 6, 1, 1, 1, 1),
        Geometry("depthwise", 6, 6, *small, kernel=(3, 3), stride=(2, 2), groups=6),
        *(Geometry(op, 6, 6, *plane) for op in ("add", "mul", "activation", "copy", "convert", "widen")),
        Geometry("gather", 6, 5, 9, 7, 8, 11),
        Geometry("mul", 6, 6, 1, 1, 9, 7),
        Geometry("pool", 6, 6, 8, 8, 4, 4, (2, 2), (2, 2)),
        Geometry("global_pool", 6, 6, 9, 7, 1, 1),
    ]
    jobs = {
        job_of(geometry, structure, zeros, bits).line()
        for geometry in geometries
        for bits in (32, 16, 8, 4)
        for structure, zeros in (("dense", 0.0), ("unstructured", 0.6), ("block4x1", 0.5), ("block1x4", 0.7), ("block4x4", 0.5))
        if structure == "dense" or geometry.op in ("conv", "linear")
    }
    known = sorted(line for line in jobs if line.split()[0] in names)
    # Rows do not tell the kind of pooling; a conversion between int8 and fp16 counts as one between int8 and fp32.
    untimed = {name for name in names if name.endswith("_avg_pool")} | {"f16_to_s8", "s8_to_f16"}
    assert {line.split()[0] for line in known} == names - untimed, "every kernel must be timed by some row"
    _, *rows = lines_of(checked_program, "\n".join(known) + "\n", tmp_path)
    assert [row["job"] for row in rows] == list(range(len(known)))
    refused = [(line, row["error"]) for line, row in zip(known, rows, strict=True) if "error" in row]
    assert refused == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda words: ["s9_none", *words[1:]], "no such kernel"),
        (lambda words: words[:-1], "too few numbers"),
        (lambda words: [*words, "1"], "too many numbers"),
        (lambda words: [words[0], "1.0", *words[2:]], "zeros or groups"),
        (lambda words: [words[0], "nan", *words[2:]], "zeros or groups"),
        (lambda words: [words[0], words[1], "0", *words[3:]], "zeros or groups"),
        (lambda words: [words[0], words[1], words[2], "many", *words[4:]], "not a number"),
        (lambda words: [words[0], words[1], words[2], "-4", *words[4:]], "size is out of range"),
        (lambda words: [words[0], words[1], words[2], "99999999999999", *words[4:]], "size is out of range"),
        (lambda words: [], "no such kernel"),
    ],
)
def test_jobs_that_cannot_be_run(
    change: Callable[[list[str]], list[str]], words: str, checked_program: Path, tmp_path: Path
) -> None:
    good = job_of(CONV, "block4x1", 0.5, 32).line()
    _, bad, row = lines_of(checked_program, " ".join(change(good.split())) + "\n" + good + "\n", tmp_path)
    assert words in str(bad["error"])
    assert row["job"] == 1 and "ns" in row


def test_a_slow_clock_is_told(tmp_path: Path) -> None:
    """A reference that no machine reaches stands for a throttled device: nothing is timed but the fewest samples."""
    program = build(product="bench")
    jobs = "".join(job_of(CONV, "dense", 0.0, bits).line() + "\n" for bits in (32, 8))
    cpu = str(max(os.sched_getaffinity(0)))
    _, *rows = lines_of(program, jobs, tmp_path, cpu, "65536", "5", "100")
    calls = [value for row in rows if isinstance(value := row["repetitions"], int)]
    assert [count % 11 for count in calls] == [0, 0] and max(calls) <= 11 * 512
    assert all(isinstance(row["sentinel"], int) and row["sentinel"] > 1000 for row in rows)


def test_a_cpu_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("")
    words = [build(product="bench"), tmp_path / "jobs", "1023", "65536", "0", "0"]
    told = subprocess.run(words, check=False, capture_output=True, text=True)
    assert told.returncode == 1 and "cannot be pinned to CPU 1023" in told.stderr
