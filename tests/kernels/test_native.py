"""Every kernel against plain NumPy: on this machine, built for phones under qemu, and under sanitizers."""

from __future__ import annotations

import ctypes
import math
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autocompress.errors import UserError
from autocompress.kernels.native import Call, host_library, load, multiply
from autocompress.kernels.packing import (
    KERNELS,
    Packed,
    PackedDtype,
    PackedStructure,
    fixed_point,
    pack_f32,
    pack_quads,
    pack_s8,
    requantise,
    unpack_quads,
)
from autocompress.kernels.toolchain import HOST, SOURCES, build

NAMES = list(KERNELS)
IDS = [name for name, _ in KERNELS.values()]


@dataclass(frozen=True)
class Problem:
    """A kernel's arguments and the output that NumPy computes from them, both with channels first."""

    packed: Packed
    x: NDArray[Any]
    low: float
    high: float
    zero_point: int
    expected: NDArray[Any]
    magnitude: NDArray[Any] | None

    def check(self, y: NDArray[Any]) -> None:
        """int8 exactly; fp32 within 1e-4 of the sum of the magnitudes of what was added."""
        assert y.shape == self.expected.shape
        if self.magnitude is None:
            np.testing.assert_array_equal(y, self.expected)
        else:
            assert np.isfinite(y).all()
            assert (np.abs(y - self.expected) <= 1e-4 * self.magnitude + 1e-30).all()


def make(
    dtype: PackedDtype,
    structure: PackedStructure,
    rows: int,
    columns: int,
    pixels: int,
    density: float,
    seed: int,
    activation: str = "none",
) -> Problem:
    """A random problem: about 1 - `density` of the blocks are zero, and some rows are empty when density is below 1."""
    rng = np.random.default_rng(seed)
    block_rows, block_columns = (1, 1) if structure == "dense" else KERNELS[dtype, structure][1]
    kept = rng.random((-(-rows // block_rows), -(-columns // block_columns))) < density
    if density < 1:
        kept[rng.integers(len(kept))] = False
    mask = np.kron(kept, np.ones((block_rows, block_columns), bool))[:rows, :columns]
    if dtype == "fp32":
        low, high = {"none": (-math.inf, math.inf), "relu": (0.0, math.inf), "clamp": (-0.5, 0.75)}[activation]
        weight = (rng.standard_normal((rows, columns)) * mask).astype(np.float32)
        bias, x = rng.standard_normal(rows).astype(np.float32), rng.standard_normal((columns, pixels)).astype(np.float32)
        wide = weight.astype(np.float64)
        return Problem(
            pack_f32(weight, bias, structure),
            x,
            low,
            high,
            0,
            np.clip(wide @ x + bias[:, None], low, high),
            np.abs(wide) @ np.abs(x) + np.abs(bias)[:, None],
        )
    zero_point = int(rng.integers(-128, 128))
    low, high = {
        "none": (-128, 127),
        "relu": (zero_point, 127),
        "clamp": (max(-128, zero_point - 20), min(127, zero_point + 30)),
    }[activation]
    # Extremes are common on purpose: they are what saturating instructions get wrong.
    quantised = (
        np.where(rng.random((rows, columns)) < 0.3, rng.choice([-127, 127]), rng.integers(-127, 128, (rows, columns))) * mask
    )
    x8 = np.where(rng.random((columns, pixels)) < 0.3, rng.choice([-128, 127]), rng.integers(-128, 128, (columns, pixels)))
    sums = rng.integers(-5000, 5000, rows)
    x_zero_point = int(rng.integers(-128, 128))
    # Scales over many magnitudes, with the top of the range among them.
    scale = rng.random(rows) * 2.0 ** -rng.integers(0, 16, rows)
    multiplier, shift = fixed_point(scale)
    total = quantised @ (x8 - x_zero_point) + sums[:, None]
    return Problem(
        pack_s8(quantised, sums, scale, structure, x_zero_point),
        x8.astype(np.int8),
        low,
        high,
        zero_point,
        requantise(total, multiplier[:, None], shift[:, None], zero_point, int(low), int(high)),
        None,
    )


def run(problem: Problem, library: ctypes.CDLL | None = None, gap: int = 0) -> NDArray[Any]:
    """The kernel's output with channels first, its planes `gap` pixels apart; whatever lies between stays as it was."""
    packed, pixels = problem.packed, problem.x.shape[1]
    integer = packed.dtype == "int8"
    x = pack_quads(problem.x) if integer else problem.x
    planes = -(-packed.rows // 4) if integer else packed.rows
    # What lies between the planes must have no effect, not even as NaN.
    wide_x = np.full((len(x), pixels + gap, *x.shape[2:]), -128 if integer else np.nan, x.dtype)
    wide_x[:, :pixels] = x
    wide_y = np.full((planes, pixels + gap, *x.shape[2:]), 85, x.dtype)
    call = Call(
        packed,
        wide_x[:, :pixels],
        low=problem.low,
        high=problem.high,
        zero_point=problem.zero_point,
        output=wide_y[:, :pixels],
        library=library,
    )
    y = call()
    assert (wide_y[:, pixels:] == 85).all()
    return unpack_quads(y, packed.rows) if integer else y


@pytest.mark.parametrize(("dtype", "structure"), NAMES, ids=IDS)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 21),
    columns=st.sampled_from([1, 2, 3, 4, 5, 7, 8, 12, 17, 32, 67]),
    pixels=st.one_of(st.integers(1, 130), st.sampled_from([1, 49, 196])),
    density=st.sampled_from([0.0, 0.02, 0.3, 0.7, 1.0]),
    activation=st.sampled_from(["none", "relu", "clamp"]),
    gap=st.sampled_from([0, 0, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_kernel_equals_numpy(
    dtype: PackedDtype,
    structure: PackedStructure,
    rows: int,
    columns: int,
    pixels: int,
    density: float,
    activation: str,
    gap: int,
    seed: int,
) -> None:
    problem = make(dtype, structure, rows, columns, pixels, density, seed, activation)
    problem.check(run(problem, gap=gap))


#: rows, columns, pixels, density, activation: every tile width and tail of every machine, and the shapes of real layers.
SHAPES = (
    (1, 1, 1, 1.0, "none"),
    (5, 3, 2, 1.0, "relu"),
    (7, 9, 49, 0.5, "clamp"),
    (16, 32, 196, 0.2, "none"),
    (6, 10, 127, 0.6, "relu"),
    (12, 70, 1, 0.4, "none"),
    (9, 20, 64, 0.0, "none"),
)


@pytest.mark.parametrize(
    ("cpu", "flags"), [("baseline", ()), ("native", ("-DAC_F32_LANES=16",)), ("native", ("-DAC_F32_LANES=4",))]
)
def test_other_vector_widths_equal_numpy(cpu: str, flags: Sequence[str]) -> None:
    library = load(build(HOST, cpu, flags))
    for dtype, structure in NAMES:
        for seed, (rows, columns, pixels, density, activation) in enumerate(SHAPES):
            problem = make(dtype, structure, rows, columns, pixels, density, seed, activation)
            problem.check(run(problem, library, gap=seed % 2))


def test_extreme_int8_products_do_not_saturate() -> None:
    for sign in (-127, 127):
        for value in (-128, 127):
            for structure in ("dense", "block4x4", "block1x4"):
                packed = pack_s8(np.full((4, 64), sign), np.zeros(4, int), 2.0**-14, structure)
                y = multiply(packed, np.full((16, 40, 4), value, np.int8))
                assert (y == requantise(64 * sign * value, 2**30, 44, 0)).all()


def test_pad_lanes_of_an_int8_output_hold_its_zero_point() -> None:
    packed = pack_s8(np.full((5, 4), 127), np.full(5, 1000), 0.01, "dense")
    y = multiply(packed, np.full((1, 33, 4), 127, np.int8), zero_point=-7)
    assert (y[1, :, 1:] == -7).all()
    assert (y[1, :, 0] == 127).all()


def test_an_output_range_outside_the_activation_is_clamped() -> None:
    packed = pack_f32(np.zeros((2, 3)), np.array([9.0, -9.0]), "unstructured")
    y = multiply(packed, np.ones((3, 5), np.float32), low=0, high=6)
    assert y.tolist() == [[6.0] * 5, [0.0] * 5]


def test_a_range_of_pixels_can_be_run_alone() -> None:
    problem = make("fp32", "block4x1", 8, 8, 50, 0.5, 0)
    output = np.zeros((8, 50), np.float32)
    for begin, end in ((0, 17), (17, 50)):
        Call(problem.packed, problem.x[:, begin:end], output=output[:, begin:end])()
    problem.check(output)


def test_wrong_arrays_are_refused() -> None:
    packed = pack_f32(np.ones((4, 3)), np.zeros(4), "dense")
    good = np.ones((3, 8), np.float32)
    for bad in (good.astype(np.float64), good[:2], good[:, :0], np.ones(3, np.float32)):
        with pytest.raises(UserError, match="give float32 of shape"):
            multiply(packed, bad)
    with pytest.raises(UserError, match="next to each other"):
        multiply(packed, np.ones((3, 16), np.float32)[:, ::2])
    for overlapping in (good[::-1], np.broadcast_to(good[:1], (3, 8))):
        with pytest.raises(UserError, match="overlap"):
            multiply(packed, overlapping)
    with pytest.raises(UserError, match="the output is"):
        Call(packed, good, output=np.ones((3, 8), np.float32))
    with pytest.raises(UserError, match="within"):
        multiply(pack_s8(np.ones((4, 4), int), np.zeros(4, int), 0.1, "dense"), np.ones((1, 8, 4), np.int8), zero_point=200)


def test_a_damaged_library_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "library"
    damaged.write_bytes(b"not a library")
    with pytest.raises(UserError, match="Delete that file"):
        load(damaged)
    assert host_library() is host_library()


# The program csrc/check.c: the same problems through a file.


def case(problem: Problem, gap: int = 0) -> bytes:
    """The problem as csrc/check.c reads it."""
    packed, pixels = problem.packed, problem.x.shape[1]
    integer = packed.dtype == "int8"
    x = pack_quads(problem.x) if integer else problem.x
    wide = np.full((len(x), pixels + gap, *x.shape[2:]), 99, x.dtype)
    wide[:, :pixels] = x
    kernel = NAMES.index((packed.dtype, packed.structure))
    sizes = (packed.rows, packed.columns, pixels, pixels + gap, pixels + gap, len(packed.indices), problem.zero_point)
    header = struct.pack("<9q2d", 0x3143455341434341, kernel, *sizes, problem.low, problem.high)
    arrays = (packed.weights, packed.bias, packed.multiplier, packed.shift, packed.counts)
    return b"".join(
        [header, *(a.tobytes() for a in arrays), (packed.indices * (pixels + gap)).astype("<i4").tobytes(), wide.tobytes()]
    )


def run_check(command: Sequence[str], problem: Problem, folder: Path, gap: int) -> NDArray[Any]:
    """The output of the program with channels first; what it must not write stays 0x55."""
    packed, pixels = problem.packed, problem.x.shape[1]
    (folder / "case").write_bytes(case(problem, gap))
    done = subprocess.run([*command, str(folder / "case"), str(folder / "output")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    raw = (folder / "output").read_bytes()
    if packed.dtype == "fp32":
        y = np.frombuffer(raw, np.uint8).reshape(packed.rows, pixels + gap, 4)
        assert (y[:, pixels:] == 0x55).all()
        return np.ascontiguousarray(y[:, :pixels]).view(np.float32)[..., 0]
    quads = np.frombuffer(raw, np.int8).reshape(-1, pixels + gap, 4)
    assert (quads[:, pixels:] == 0x55).all()
    return unpack_quads(quads[:, :pixels], packed.rows)


@pytest.mark.parametrize("cpu", ["cortex_x1", "cortex_a78", "cortex_a55", "cortex_a57"])
def test_phone_builds_equal_numpy_under_qemu(cpu: str, tmp_path: Path) -> None:
    # cortex_a57 has no SDOT; cortex-a76 has it, but nothing newer that a Pixel 7 lacks.
    emulated = "cortex-a57" if cpu == "cortex_a57" else "cortex-a76"
    command = ["qemu-aarch64", "-cpu", emulated, str(build("aarch64-linux-musl", cpu, product="check"))]
    for dtype, structure in NAMES:
        for seed, (rows, columns, pixels, density, activation) in enumerate(SHAPES):
            problem = make(dtype, structure, rows, columns, pixels, density, seed, activation)
            problem.check(run_check(command, problem, tmp_path, gap=seed % 2))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `check` built by the system's compiler with address and undefined-behaviour sanitizers."""
    program = tmp_path_factory.mktemp("sanitized") / "check"
    sources = sorted(map(str, SOURCES.glob("*.c")))
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
    subprocess.run(
        ["cc", "-std=c11", "-O1", "-g", "-march=native", *warnings, *sanitizers, *sources, "-o", str(program)], check=True
    )
    return program


@pytest.mark.parametrize(("dtype", "structure"), NAMES, ids=IDS)
def test_kernels_are_clean_under_sanitizers(
    dtype: PackedDtype, structure: PackedStructure, sanitized: Path, tmp_path: Path
) -> None:
    for seed, (rows, columns, pixels, density, activation) in enumerate(SHAPES):
        problem = make(dtype, structure, rows, columns, pixels, density, seed, activation)
        problem.check(run_check([str(sanitized)], problem, tmp_path, gap=0))


def test_check_refuses_damaged_cases(sanitized: Path, tmp_path: Path) -> None:
    good = case(make("int8", "block4x4", 8, 16, 10, 1.0, 0))
    words = 8 * np.arange(9)
    damaged = {
        "not a case": b"x" * 200,
        "the case ends too early": good[:-1],
        "the case goes on after its end": good + b"x",
        "unknown kernel": good[: words[1]] + struct.pack("<q", 6) + good[words[2] :],
        "a size is out of range": good[: words[5]] + struct.pack("<q", 9) + good[words[6] :],
        "an array is too large": good[: words[7]] + struct.pack("<q", 2**26) + good[words[8] :],
    }
    arrays = 9 * 8 + 2 * 8 + 8 * 16  # header and weights: 8 blocks of 16
    counts = arrays + 3 * 8 * 4
    damaged["a scale is out of range"] = good[: arrays + 32] + struct.pack("<i", -1) + good[arrays + 36 :]
    damaged["a count is out of range"] = good[:counts] + struct.pack("<i", -1) + good[counts + 4 :]
    damaged["the counts do not add up to the blocks"] = good[:counts] + struct.pack("<i", 3) + good[counts + 4 :]
    damaged["an offset is out of range"] = good[: counts + 8] + struct.pack("<i", 31) + good[counts + 12 :]
    for message, content in damaged.items():
        (tmp_path / "case").write_bytes(content)
        done = subprocess.run(
            [str(sanitized), str(tmp_path / "case"), str(tmp_path / "output")], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, f"check: {message}\n")
