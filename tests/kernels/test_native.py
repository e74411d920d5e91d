"""Running Calls: bad arguments and damaged job files are refused, and jobs give what this machine gives."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autocompress.errors import UserError
from autocompress.kernels.calls import INTEGERS, Call, Quantization, layer
from autocompress.kernels.native import Library, Prepared, host_library, job, read_outputs, run, write_jobs
from autocompress.kernels.packing import pack_float, pack_integer, pack_quads
from autocompress.kernels.toolchain import build


def sparse_call() -> Call:
    """An int8 layer of 8 x 16 channels and 10 pixels whose 8 blocks are all kept."""
    rng = np.random.default_rng(0)
    packed = pack_integer(rng.integers(1, 128, (8, 16)), np.zeros(8), 1e-4, "block4x4", 3)
    x = pack_quads(rng.integers(-128, 128, (16, 10)).astype(np.int8))
    return layer(packed, x, (1, 10), y=Quantization(0.1, -5))


def float_call(x: NDArray[np.float32] | None = None) -> Call:
    packed = pack_float(np.ones((4, 3)), np.zeros(4), "dense")
    return layer(packed, np.ones((3, 8), np.float32) if x is None else x, (1, 8))


def test_the_library_lists_its_kernels() -> None:
    names = host_library().names()
    assert len(names) == len(set(names))
    assert {"f32_dense", "s8_block4x4"} <= set(names)
    assert host_library() is host_library()


def test_a_damaged_library_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "library"
    damaged.write_bytes(b"not a library")
    with pytest.raises(UserError, match="Delete that file"):
        Library(damaged)


def test_a_prepared_call_reads_its_input_anew() -> None:
    call = float_call()
    prepared = Prepared(call)
    assert (prepared() == 3).all()
    call.x[:] = 2
    assert (prepared() == 6).all()


def test_the_weights_of_a_large_linear_layer_run() -> None:
    """More than the largest tensor that may go from layer to layer has elements."""
    rows, columns = 4096, 2**14 + 4
    packed = pack_integer(np.ones((rows, columns), np.int8), np.zeros(rows), 1.0, "dense", 0)
    x = pack_quads(np.ones((columns, 1), np.int8))
    output = run(layer(packed, x, (1, 1), y=Quantization(columns / 100, 0)))
    assert output.size == rows and (output == 100).all()


def test_wrong_arrays_are_refused() -> None:
    good = np.ones((3, 8), np.float32)
    for bad in (good.astype(np.float64), good[:2], np.ones(3, np.float32)):
        with pytest.raises(UserError, match="give float32 of shape"):
            float_call(bad)
    with pytest.raises(UserError, match="next to each other"):
        float_call(np.ones((3, 16), np.float32)[:, ::2])
    with pytest.raises(UserError, match="a plane is out of range"):
        run(float_call(good[:, :5].copy()))
    with pytest.raises(UserError, match="no array for this call"):
        Prepared(float_call(), output=np.ones((3, 8), np.float32))
    with pytest.raises(UserError, match="there is no kernel f32_magic: use one of f32_dense"):
        run(replace(float_call(), kernel="f32_magic"))
    with pytest.raises(UserError, match="no activation magic"):
        layer(pack_float(np.ones((4, 3)), np.zeros(4), "dense"), good, (1, 8), activation="magic")
    with pytest.raises(UserError, match="no int8 output"):
        layer(pack_float(np.ones((4, 3)), np.zeros(4), "dense"), good, (1, 8), y=Quantization())


def patched(content: bytes, field: str, value: int) -> bytes:
    """A job with another integer in its problem."""
    at = 40 + 8 * INTEGERS.index(field)
    return content[:at] + struct.pack("<q", value) + content[at + 8 :]


def test_damaged_jobs_are_refused(tmp_path: Path) -> None:
    program = build(product="run")
    call = sparse_call()
    good = job(call)
    lengths = good.index(struct.pack("<q", call.weights.nbytes), 40 + 8 * len(INTEGERS))
    counts = lengths + 64 + call.weights.nbytes + 3 * 32
    damaged = {
        "not a job": b"x" * 200,
        "a job ends too early": good[:-1],
        "unknown kernel": good[:8] + b"s8_magic".ljust(32, b"\0") + good[40:],
        "a size is out of range": patched(good, "kernel_height", 0),
        "a plane is out of range": patched(good, "x_plane", 9),
        "a buffer is too large": good[:lengths] + struct.pack("<q", 2**40) + good[lengths + 8 :],
        "a buffer has the wrong length": patched(good, "columns", 20),
        "a zero point is out of range": patched(good, "y_zero_point", 128),
        "unknown activation": patched(good, "activation", 99),
        "a window is out of range": patched(patched(good, "kernel_height", 2**20), "kernel_width", 2**20),
        "padding is out of range": patched(good, "pad_left", -1),
        "a count is out of range": good[:counts] + struct.pack("<i", -1) + good[counts + 4 :],
        "the counts do not add up to the blocks": good[:counts] + struct.pack("<i", 3) + good[counts + 4 :],
        "an index is out of range": good[: counts + 8] + struct.pack("<i", 4) + good[counts + 12 :],
    }
    for message, content in damaged.items():
        (tmp_path / "jobs").write_bytes(job(float_call()) + content)
        command = [str(program), str(tmp_path / "jobs"), str(tmp_path / "output")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, f"run: {message}\n")


def test_jobs_give_what_this_machine_gives(tmp_path: Path) -> None:
    calls = [sparse_call(), float_call()]
    write_jobs(tmp_path / "jobs", calls)
    subprocess.run([str(build(product="run")), str(tmp_path / "jobs"), str(tmp_path / "output")], check=True)
    for call, output in zip(calls, read_outputs(tmp_path / "output", calls), strict=True):
        np.testing.assert_array_equal(output, run(call))
    with pytest.raises(UserError, match="run the jobs again"):
        read_outputs(tmp_path / "output", calls[:1])
