"""The C runtime: networks give the bits of their Calls run one by one, memory is planned, and no file can harm it."""

from __future__ import annotations

import ctypes
import json
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.kernels.artifact import encode, read_artifact, write_artifact
from autocompress.kernels.calls import INTEGERS
from autocompress.kernels.native import host_library
from autocompress.kernels.program import Program
from autocompress.kernels.runtime import Model
from autocompress.kernels.toolchain import SOURCES, build

from ..scripts import load_script
from .programs import Builder, inputs, integer_program, random_program, reference, small_programs

ROOT = Path(__file__).resolve().parents[2]
AC_OK, AC_ERROR_ARGUMENT = 0, 7


fuzz = load_script("fuzz")


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Program], Model]:
    """A Program as a Model, by way of a file."""

    def open_model(program: Program) -> Model:
        write_artifact(program, tmp_path / "model.acm")
        return Model(tmp_path / "model.acm")

    return open_model


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fuzzer: the runtime and all kernels under sanitizers."""
    program: Path = fuzz.build(tmp_path_factory.mktemp("fuzz"))
    return program


@settings(max_examples=120, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_networks_equal_their_calls_one_by_one(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = random_program(seed, 14)
    path = tmp_path_factory.mktemp("model") / "model.acm"
    write_artifact(program, path)
    with Model(path) as model:
        assert (model.input_shape, model.output_shape) == (program.input_shape, program.output_shape)
        assert model.metadata == program.metadata
        assert model.steps == [(step.name, step.call.kernel) for step in program.steps]
        # A second input, and the first again: nothing of a run is left for the next one.
        for number in (0, 1, 0):
            x = inputs(program, number)
            assert model.run(x).tobytes() == reference(program, x).tobytes()


def test_every_kernel_equals_its_call(opened: Callable[[Program], Model]) -> None:
    seen = set()
    for program in small_programs():
        seen |= {step.call.kernel for step in program.steps}
        x = inputs(program)
        with opened(program) as model:
            assert model.run(x).tobytes() == reference(program, x).tobytes()
    assert seen == set(host_library().names())


def test_phones_give_the_same_bytes(tmp_path: Path) -> None:
    program = build("aarch64-linux-musl", "cortex_x1", product="acrun")
    for seed in range(4):
        network = integer_program(seed)
        assert sum(step.call.kernel.startswith("s8") for step in network.steps) >= 10
        x = inputs(network)
        write_artifact(network, tmp_path / "model.acm")
        x.tofile(tmp_path / "x")
        with Model(tmp_path / "model.acm") as model:
            expected = model.run(x).tobytes()
        for cpu in ("cortex-a76", "max"):  # without and with I8MM
            command = ["qemu-aarch64", "-cpu", cpu, program, tmp_path / "model.acm", tmp_path / "x", tmp_path / "y"]
            subprocess.run(command, check=True, capture_output=True)
            assert (tmp_path / "y").read_bytes() == expected
            (tmp_path / "y").unlink()


class Block(ctypes.Structure):
    """`ac_block` of csrc/plan.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("bytes", "first", "last", "offset", "order"))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 30), st.integers(0, 12)), max_size=40))
def test_planned_blocks_do_not_overlap(data: list[tuple[int, int, int]]) -> None:
    plan = host_library().functions({"ac_plan": ((ctypes.POINTER(Block), ctypes.c_int64), ctypes.c_int64)})["ac_plan"]
    blocks = (Block * len(data))(*(Block(size, first, first + more) for size, first, more in data))
    end = plan(blocks, len(data))
    assert [(block.bytes, block.first, block.last - block.first) for block in blocks] == data
    for number, one in enumerate(blocks):
        assert one.offset % 64 == 0 and one.offset >= 0 and one.offset + one.bytes <= end
        for other in blocks[:number]:
            together = one.first <= other.last and other.first <= one.last
            assert not together or one.offset + one.bytes <= other.offset or other.offset + other.bytes <= one.offset
    rounded = [(size + 63) // 64 * 64 for size, _, _ in data]
    needed = [
        sum(size for size, (_, first, more) in zip(rounded, data, strict=True) if first <= step <= first + more)
        for step in range(43)
    ]
    assert max(needed) <= end <= sum(rounded)


@pytest.mark.parametrize("residual", [False, True])
def test_memory_is_used_again(residual: bool, opened: Callable[[Program], Model]) -> None:
    builder = Builder(0, (8, 16, 16))
    first = last = builder.elementwise("activation", builder.values[0])
    for _ in range(10):
        last = builder.elementwise("activation", last)
    if residual:
        builder.elementwise("add", last, first)
    program = builder.program()
    x = inputs(program)
    with opened(program) as model:
        # All in the place of the first, unless that has to stay; the output is the caller's.
        assert model.peak_bytes == (2 if residual else 1) * 8 * 16 * 16 * 4
        assert model.run(x).tobytes() == reference(program, x).tobytes()


def test_models_run_in_threads(opened: Callable[[Program], Model], tmp_path: Path) -> None:
    program = random_program(11, 14)
    x = [inputs(program, seed) for seed in range(4)]
    expected = [reference(program, each).tobytes() for each in x]
    shared = opened(program)
    right = [0] * 4

    def work(number: int, model: Model) -> None:
        right[number] = sum(model.run(x[number]).tobytes() == expected[number] for _ in range(50))

    # Two on one model, two on models of their own from the same file.
    models = [shared, shared, Model(tmp_path / "model.acm"), Model(tmp_path / "model.acm")]
    threads = [threading.Thread(target=work, args=(number, model)) for number, model in enumerate(models)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [50] * 4


def test_a_profile_names_every_step(opened: Callable[[Program], Model]) -> None:
    program = random_program(3)
    with opened(program) as model:
        profile = model.profile(inputs(program), repeat=5)
        assert [(time.name, time.kernel) for time in profile] == model.steps
        assert all(0 < time.microseconds < 1e6 for time in profile)
        with pytest.raises(UserError, match="at least 1"):
            model.profile(inputs(program), repeat=0)


def test_bad_inputs_are_explained(opened: Callable[[Program], Model], tmp_path: Path) -> None:
    program = random_program(3)
    model = opened(program)
    x = inputs(program)
    np.testing.assert_array_equal(model.run(x.astype(np.float64)), model.run(x))
    for bad in (x[None], x.astype(complex), np.zeros(0)):
        with pytest.raises(UserError, match="give numbers of shape"):
            model.run(bad)
    model.close()
    model.close()
    with pytest.raises(UserError, match="this model is closed"):
        model.run(x)
    for path, reason in ((tmp_path, "cannot be mapped"), (tmp_path / "missing", "cannot be opened")):
        with pytest.raises(UserError, match=f"cannot run .*{reason}"):
            Model(path)
    content = bytearray(encode(program))
    at = content.index(b'{"task"')
    content[at] = ord("[")
    (tmp_path / "model.acm").write_bytes(corrected(content))
    with pytest.raises(UserError, match="is no JSON object"):
        Model(tmp_path / "model.acm")


def test_a_model_may_be_loaded_from_memory_twice(opened: Callable[[Program], Model]) -> None:
    pointer = ctypes.c_void_p
    functions = host_library().functions(
        {
            "ac_load_memory": ((pointer, ctypes.c_size_t, ctypes.POINTER(pointer), pointer), ctypes.c_int),
            "ac_run": ((pointer, pointer, pointer), ctypes.c_int),
            "ac_free": ((pointer,), None),
        }
    )
    program = random_program(5)
    content = encode(program)
    memory = np.zeros(len(content) + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    memory[begin : begin + len(content)] = np.frombuffer(content, np.uint8)
    at = memory.ctypes.data + begin
    models = [pointer(), pointer()]
    x, y = inputs(program), np.zeros(program.output_shape, np.float32)
    for model in models:
        assert functions["ac_load_memory"](at, len(content), ctypes.byref(model), None) == AC_OK
    for model in models:
        y[:] = 0
        assert functions["ac_run"](model, x.ctypes.data, y.ctypes.data) == AC_OK
        assert y.tobytes() == reference(program, x).tobytes()
    assert functions["ac_run"](models[0], x.ctypes.data + 1, y.ctypes.data) == AC_ERROR_ARGUMENT
    assert functions["ac_run"](models[0], x.ctypes.data, None) == AC_ERROR_ARGUMENT
    for model in models:
        functions["ac_free"](model)
    assert functions["ac_load_memory"](at + 4, len(content), ctypes.byref(models[0]), None) == AC_ERROR_ARGUMENT
    assert models[0].value is None


# Hostile files. What follows the header: 64 bytes a tensor, 448 a step (docs/artifact.md).


def corrected(content: bytes | bytearray) -> bytes:
    """With the length and checksum that it should have: only what is behind them can be wrong."""
    patched = bytearray(content)
    patched[16:24] = struct.pack("<Q", len(patched))
    patched[12:16] = zlib.crc32(patched[16:]).to_bytes(4, "little")
    return bytes(patched)


def patched(content: bytes, at: int, form: str, value: Any) -> bytes:
    changed = bytearray(content)
    struct.pack_into(form, changed, at, value)
    return corrected(changed)


def victim() -> Program:
    """A sparse int8 layer between two conversions."""
    builder = Builder(8, (8, 5, 5))
    x = builder.convert(builder.values[0], "s8")
    builder.matrix(x, "int8", "block4x4")
    while builder.values[-1].tensor.type != "s8" or builder.steps[-1].call.counts.sum() < 2:
        builder = Builder(builder.draw(0, 1000), (8, 5, 5))
        x = builder.convert(builder.values[0], "s8")
        builder.matrix(x, "int8", "block4x4")
    return builder.program()


def hostile() -> dict[str, bytes]:
    """Files, each with one thing wrong, by what the runtime says of it."""
    program = victim()
    good = encode(program)
    tensor = 256
    first, layer, last = (256 + 64 * len(program.tensors) + 448 * number for number in range(3))
    integer = {name: layer + 32 + 8 * number for number, name in enumerate(INTEGERS)}
    place, buffer = 288, 336
    counts_at = struct.unpack_from("<Q", good, layer + buffer + 16 * 4)[0]
    indices_at = struct.unpack_from("<Q", good, layer + buffer + 16 * 5)[0]
    huge = 2**62
    return {
        "the number of tensors or steps is out of range": patched(good, 24, "<I", 2**31),
        "the number of tensors or steps is out of range ": patched(good, 28, "<I", 16384),
        "input or output is no tensor of its own": patched(good, 32, "<I", len(program.tensors)),
        "input or output is no tensor of its own ": patched(good, 36, "<I", program.input),
        "the shape of the input or output is not that of its tensor": patched(good, 40, "<I", 9),
        "the shape of the input or output is not that of its tensor ": patched(good, 80, "<q", huge),
        "names or metadata are out of range": patched(good, 48, "<Q", 2**64 - 1),
        "names or metadata are out of range ": patched(good, 72, "<Q", 2**64 - 1),
        "tensor 0: type, size or name is out of range": patched(good, tensor, "<I", 3),
        "tensor 0: type, size or name is out of range ": patched(good, tensor + 8, "<q", huge),
        "tensor 1: type, size or name is out of range": patched(good, tensor + 64 + 8, "<q", 2**63 - 1),
        "tensor 1: type, size or name is out of range ": patched(good, tensor + 64 + 16, "<q", -5),
        "tensor 0: type, size or name is out of range  ": patched(good, tensor + 4, "<I", 2**32 - 1),
        "tensor 1: its data is outside of the file": patched(good, tensor + 64 + 24, "<Q", 2**64 - 64),
        "step 1: unknown kernel": patched(good, layer, "<32s", b"s8_magic"),
        "step 1: unknown kernel ": patched(good, layer, "<32s", b"k" * 32),
        "step 1: its name is out of range": patched(good, layer + 280, "<I", 2**32 - 1),
        "step 1: a real number is not one": patched(good, layer + 256, "<f", float("nan")),
        "step 1: a size is out of range": patched(good, integer["kernel_height"], "<q", -1),
        "step 1: a size is out of range ": patched(good, integer["rows"], "<q", huge),
        "step 1: a plane is out of range": patched(good, integer["x_plane"], "<q", huge),
        "step 1: padding is out of range": patched(good, integer["pad_top"], "<q", -1),
        "step 1: a stride is out of range": patched(good, integer["stride_width"], "<q", 2**20),
        "step 1: a buffer has the wrong length": patched(good, integer["rows"], "<q", 400),
        "step 1: a buffer is outside of the file": patched(good, layer + buffer, "<Q", 2**64 - 64),
        "step 1: a buffer is outside of the file ": patched(good, layer + buffer + 8, "<Q", 2**64 - 1),
        "step 1: a buffer is outside of the file  ": patched(good, layer + buffer, "<Q", 1),
        "step 1: a count is out of range": patched(good, counts_at, "<i", -1),
        "step 1: the counts do not add up to the blocks": patched(good, counts_at, "<i", 0),
        "step 1: an index is out of range": patched(good, indices_at, "<i", 2**31 - 1),
        "step 1: an index is out of range ": patched(good, indices_at, "<i", -1),
        "step 1: a tensor's number is out of range": patched(good, layer + place, "<q", huge),
        "step 1: a tensor's number is out of range ": patched(good, layer + place + 32, "<q", -1),
        "step 1: a tensor has another type than its kernel takes": patched(good, layer + place, "<q", 0),
        "step 1: a place is outside of its tensor": patched(good, layer + place + 8, "<q", 4),
        "step 1: a place is outside of its tensor ": patched(good, layer + place + 40, "<q", -4),
        "step 1: a place is outside of its tensor  ": patched(good, layer + place + 40, "<q", 2**63 - 4),
        "step 1: this kernel has one input": patched(good, layer + place + 16, "<q", 0),
        # A cycle: a step that reads its own output, and one that reads what is written after it.
        "step 1: a step reads the tensor that it writes": patched(good, layer + place + 32, "<q", 1),
        "step 0: a tensor has another type than its kernel takes": patched(good, first + place, "<q", 2),
        "step 0: a step reads what no earlier step has written": cyclic(program),
        "step 0: a step writes a constant or the input": writing_the_input(),
        "no step writes all of the output": encode(replace(program, steps=program.steps[:2])),
        "tensor 3: type, size or name is out of range": patched(good, tensor + 3 * 64 + 16, "<q", 0),
        "step 2: a place is outside of its tensor": patched(good, last + place + 40, "<q", 4),
    }


def cyclic(program: Program) -> bytes:
    """The first two steps read each other's outputs."""
    first, second, *others = program.steps
    swapped = (second, first, *others)
    return encode(replace(program, steps=swapped))


def writing_the_input() -> bytes:
    builder = Builder(0, (2, 3, 3))
    builder.elementwise("activation", builder.values[0])
    program = builder.program()
    constant = replace(program.tensors[1], data=np.zeros((2, 9), np.float32))
    return encode(replace(program, tensors=(program.tensors[0], constant, *program.tensors[2:])))


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    for message, content in hostile().items():
        (tmp_path / "model.acm").write_bytes(content)
        with pytest.raises(UserError) as caught:
            Model(tmp_path / "model.acm")
        assert f": {message.rstrip()}. Give" in str(caught.value), message


def test_metadata_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    content = bytearray(encode(replace(victim(), metadata={"text": "x" * 100_000})))
    at, count = struct.unpack_from("<2Q", content, 64)
    content[at : at + count - 1] = b"[" * (count - 1)
    path = tmp_path / "nested.acm"
    path.write_bytes(corrected(content))
    with pytest.raises(UserError, match="metadata"):
        Model(path)
    with pytest.raises(UserError, match="describes no network"):
        read_artifact(path)


def test_truncated_and_flipped_files_are_refused(tmp_path: Path) -> None:
    content = encode(victim())
    path = tmp_path / "model.acm"
    for size in [*range(0, len(content), 61), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"too short|a part is missing"):
            Model(path)
    for at in [*range(0, len(content), 37), len(content) - 1]:
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"not a model|version|a part is missing|checksum is wrong"):
            Model(path)
    path.write_bytes(content + b"x")
    with pytest.raises(UserError, match="should have"):
        Model(path)


def test_good_and_hostile_files_are_clean_under_sanitizers(sanitized: Path, tmp_path: Path) -> None:
    """Every step sees only its own memory there; the harness corrects checksums."""
    files = [*hostile().values(), *(encode(program) for program in small_programs())]
    files += [encode(random_program(seed, 14)) for seed in range(60)]
    content = encode(victim())
    files += [content[:size] for size in range(0, len(content), 61)]
    for number, each in enumerate(files):
        (tmp_path / f"{number}.acm").write_bytes(each)
    done = subprocess.run([sanitized, *sorted(tmp_path.glob("*.acm"))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("Executed") == len(files)


def test_fuzzing_finds_nothing(sanitized: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds = fuzz.write_seeds(corpus)
    outcome = fuzz.fuzz(sanitized, corpus, fuzz.CI_SECONDS)
    assert outcome.finding == ""
    assert outcome.seeds == seeds
    # It got somewhere: files of its own reached code that no seed does.
    assert outcome.runs > 1000 and outcome.corpus > 2 * seeds


def test_acrun_runs_and_times(tmp_path: Path) -> None:
    acrun = build(product="acrun")
    program = random_program(3)
    x = inputs(program)
    model, given, output = tmp_path / "model.acm", tmp_path / "x.bin", tmp_path / "y.bin"
    write_artifact(program, model)
    x.tofile(given)
    done = subprocess.run([acrun, model, given, output, "--profile", "--repeat", "3"], check=True, capture_output=True, text=True)
    assert output.read_bytes() == reference(program, x).tobytes()
    *table, total = done.stdout.splitlines()[1:]
    assert [line.split()[4] for line in table] == [step.call.kernel for step in program.steps]
    assert "median of 3 runs" in total

    done = subprocess.run([acrun, model, "--json", "--profile", "--repeat", "5"], check=True, capture_output=True, text=True)
    head, whole, *steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert (head["acrun"], head["steps"], whole["repeat"]) == (1, len(program.steps), 5)
    assert 0 < whole["run"]["low"] <= whole["run"]["us"] <= whole["run"]["high"]
    assert whole["counted"] == 5 and whole["sentinel"] > 1000
    assert [(step["name"], step["kernel"]) for step in steps] == [(step.name, step.call.kernel) for step in program.steps]


def test_acrun_explains_itself(tmp_path: Path) -> None:
    acrun = build(product="acrun")
    model, short = tmp_path / "model.acm", tmp_path / "short"
    write_artifact(random_program(3), model)
    short.write_bytes(b"1234567")
    for arguments, message in (
        ([], "usage: acrun MODEL"),
        ([model, "--fast"], "do not understand --fast"),
        ([model, "--repeat"], "a number is missing after --repeat"),
        ([model, "--repeat", "0"], "out of range: --repeat"),
        ([short], "the file is too short for a model"),
        ([tmp_path / "none"], "the file cannot be opened"),
        ([model, short, tmp_path / "y"], "the input has another size"),
        ([model, tmp_path / "none", tmp_path / "y"], "cannot open"),
    ):
        done = subprocess.run([acrun, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"acrun: {message}") and done.stderr.count("\n") == 1


def compiled(source: Path, folder: Path, *options: str) -> Path:
    """A C program of an application: the header and the static library are all it needs."""
    program = folder / source.stem
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command = ["cc", *warnings, "-I", str(SOURCES), str(source), "-x", "none", str(archive(folder)), "-lm", "-o", str(program)]
    subprocess.run([*command, *options], check=True)
    return program


def archive(folder: Path) -> Path:
    library = folder / "libautocompress.a"
    library.write_bytes(build(product="static").read_bytes())
    return library


def test_the_example_runs(tmp_path: Path) -> None:
    example = ROOT / "docs" / "example.c"
    assert len(example.read_text().splitlines()) <= 33
    program = compiled(example, tmp_path)
    network = random_program(3)
    write_artifact(network, tmp_path / "model.acm")
    x = inputs(network)
    done = subprocess.run([program, tmp_path / "model.acm"], input=x.tobytes(), capture_output=True, check=True)
    index, value = done.stdout.split()
    y = reference(network, x).reshape(-1)
    assert int(index) == y.argmax() and float(value) == pytest.approx(float(y.max()), rel=1e-5)
    done = subprocess.run([program, example], capture_output=True, check=False)
    assert done.returncode == 1 and b"not a model" in done.stderr


#: Functions of libc that the archive may call; Android has all of them.
LIBC = {"calloc", "clock_gettime", "close", "free", "fstat", "malloc", "memcmp", "memcpy", "memset", "mmap", "munmap", "open"}
LIBC |= {"posix_memalign", "qsort", "strcmp", "strstr", "vsnprintf"}


def test_the_library_needs_nothing_but_libc(tmp_path: Path) -> None:
    listed = subprocess.run(["nm", "-u", archive(tmp_path)], check=True, capture_output=True, text=True).stdout
    undefined = {line.split()[1] for line in listed.splitlines() if line.strip().startswith("U ")}
    assert {"mmap", "qsort"} <= undefined <= LIBC | {"fmaf", "_GLOBAL_OFFSET_TABLE_"}


COUNTING = """
#include <stdio.h>
#include <stdlib.h>
#include "autocompress.h"

static int calls;
#define COUNT(result, name, parameters, arguments) \\
  result __real_##name parameters;                 \\
  result __wrap_##name parameters;                 \\
  result __wrap_##name parameters {                \\
    calls++;                                       \\
    return __real_##name arguments;                \\
  }
COUNT(void *, malloc, (size_t n), (n))
COUNT(void *, calloc, (size_t n, size_t m), (n, m))
COUNT(void *, realloc, (void *p, size_t n), (p, n))
COUNT(void *, aligned_alloc, (size_t a, size_t n), (a, n))
COUNT(int, posix_memalign, (void **p, size_t a, size_t n), (p, a, n))

int main(int argc, char **argv) {
  ac_model *model;
  if (argc != 2 || ac_load(argv[1], &model, NULL) != AC_OK) return 1;
  float *x = calloc((size_t)ac_input_size(model), sizeof *x), *y = calloc((size_t)ac_output_size(model), sizeof *y);
  double *times = calloc((size_t)ac_step_count(model), sizeof *times);
  const int before = calls;
  for (int i = 0; i < 3; i++) ac_run(model, x, y), ac_profile(model, x, y, times);
  printf("%d %d\\n", before, calls - before);
  return 0;
}
"""


def test_a_run_allocates_nothing(tmp_path: Path) -> None:
    source = tmp_path / "counting.c"
    source.write_text(COUNTING)
    wrapped = ",".join(f"--wrap={name}" for name in ("malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign"))
    program = compiled(source, tmp_path, f"-Wl,{wrapped}")
    for number, network in enumerate(small_programs()):
        write_artifact(network, tmp_path / f"{number}.acm")
        done = subprocess.run([program, tmp_path / f"{number}.acm"], capture_output=True, text=True, check=True)
        before, during = map(int, done.stdout.split())
        assert before >= 6 and during == 0


def command_line(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autocompress", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_runs_models(tmp_path: Path) -> None:
    program = random_program(3)
    model, given, output = tmp_path / "model.acm", tmp_path / "x.npy", tmp_path / "y.npy"
    write_artifact(program, model)
    batch = np.stack([inputs(program, seed) for seed in range(3)])
    np.save(given, batch)
    done = command_line(model, "--input", given, "--output", output, "--profile")
    assert (done.returncode, done.stderr) == (0, "")
    expected = np.stack([reference(program, x) for x in batch])
    np.testing.assert_array_equal(np.load(output), expected)
    assert all(step.call.kernel in done.stdout for step in program.steps) and "whole network" in done.stdout
    np.save(given, batch[0])
    done = command_line(model, "--input", given)
    assert done.returncode == 0 and done.stdout.startswith(f"sample 0: {expected[0].size} outputs from")

    np.save(given, batch[:, :1, :0])
    wrong_shape = command_line(model, "--input", given)
    given.write_bytes(b"no array")
    no_array = command_line(model, "--input", given)
    no_model = command_line(given, "--input", given)
    for done, message in (
        (wrong_shape, "but this model takes numbers of shape"),
        (no_array, "cannot read"),
        (no_model, "too short for a model"),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1
