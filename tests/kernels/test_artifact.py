"""Model files: what is written comes back, every byte counts, and the format is as docs/artifact.md says."""

from __future__ import annotations

import struct
import zlib
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.kernels.artifact import decode, encode, read_artifact, write_artifact
from autocompress.kernels.program import Program

from .programs import inputs, random_program, reference, small_programs


def assert_equal(one: Program, two: Program) -> None:
    """Equal in all but the content of the Calls' inputs."""
    assert (one.input, one.output, one.input_shape, one.output_shape) == (
        two.input,
        two.output,
        two.input_shape,
        two.output_shape,
    )
    assert dict(one.metadata) == dict(two.metadata)
    for tensor, other in zip(one.tensors, two.tensors, strict=True):
        assert replace(tensor, data=None) == replace(other, data=None)
        assert (tensor.data is None) == (other.data is None)
        if tensor.data is not None and other.data is not None:
            assert tensor.data.dtype == other.data.dtype
            np.testing.assert_array_equal(tensor.data, other.data)
    for step, other_step in zip(one.steps, two.steps, strict=True):
        assert (step.name, step.x, step.x2, step.y) == (other_step.name, other_step.x, other_step.x2, other_step.y)
        call, again = step.call, other_step.call
        assert call.kernel == again.kernel
        # The file holds float32.
        np.testing.assert_array_equal(np.array(astuple(call.problem), np.float32), np.array(astuple(again.problem), np.float32))
        for array, other_array in zip(call.buffers, again.buffers, strict=True):
            assert (array.dtype, array.shape) == (other_array.dtype, other_array.shape) or array.size == other_array.size == 0
        for array, other_array in zip(call.buffers[:6], again.buffers[:6], strict=True):
            np.testing.assert_array_equal(array, other_array)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_program_comes_back(seed: int) -> None:
    program = random_program(seed)
    content = encode(program)
    again = decode(content, "file")
    assert_equal(program, again)
    assert encode(again) == content
    x = inputs(program)
    assert reference(again, x).tobytes() == reference(program, x).tobytes()


def test_every_kernel_comes_back(tmp_path: Path) -> None:
    for program in small_programs():
        write_artifact(program, tmp_path / "model.acm")
        assert_equal(program, read_artifact(tmp_path / "model.acm"))


def test_the_bytes_are_as_documented() -> None:
    """A reader written from docs/artifact.md alone finds the first matrix step and its weights."""
    program = next(program for program in small_programs() if any(step.call.kernel == "s8_block4x4" for step in program.steps))
    content = encode(program)
    assert content[:8] == b"\x89ACM\r\n\x1a\n"
    version, checksum, size = struct.unpack_from("<IIQ", content, 8)
    assert (version, checksum, size) == (2, zlib.crc32(content[16:]), len(content))
    assert len(content) % 64 == 0
    tensors, steps, first, last, in_rank, out_rank = struct.unpack_from("<6I", content, 24)
    assert (tensors, steps, first, last) == (len(program.tensors), len(program.steps), program.input, program.output)
    names_at, names_bytes, metadata_at, metadata_bytes = struct.unpack_from("<4Q", content, 48)
    assert struct.unpack_from(f"<{in_rank}q", content, 80) == program.input_shape
    assert struct.unpack_from(f"<{out_rank}q", content, 144) == program.output_shape
    assert content[metadata_at : metadata_at + metadata_bytes].startswith(b'{"task": "random"')
    assert content[metadata_at + metadata_bytes - 1] == content[names_at + names_bytes - 1] == 0

    number = next(number for number, step in enumerate(program.steps) if step.call.kernel == "s8_block4x4")
    at = 256 + 64 * tensors + 448 * number
    call = program.steps[number].call
    assert content[at : at + 32].rstrip(b"\0") == b"s8_block4x4"
    assert struct.unpack_from("<2q", content, at + 32) == (call.problem.rows, call.problem.columns)
    name = names_at + struct.unpack_from("<I", content, at + 280)[0]
    assert content[name : content.index(b"\0", name)].decode() == program.steps[number].name
    places = struct.unpack_from("<6q", content, at + 288)
    step = program.steps[number]
    assert places == (step.x.tensor, step.x.offset, -1, 0, step.y.tensor, step.y.offset)
    weights_at, weights_bytes = struct.unpack_from("<2Q", content, at + 336)
    assert weights_at % 64 == 0 and weights_bytes == call.weights.nbytes > 0
    assert content[weights_at : weights_at + weights_bytes] == call.weights.tobytes()

    tensor = program.tensors[step.x.tensor]
    kind, _, channels, pixels, data_at, scale, zero_point, has_format = struct.unpack_from(
        "<IIqqQdiI", content, 256 + 64 * step.x.tensor
    )
    assert tensor.format is not None
    assert (kind, channels, pixels, data_at, has_format) == (2, tensor.channels, tensor.pixels, 0, 1)
    assert (scale, zero_point) == (tensor.format.scale, tensor.format.zero_point)


def test_shared_arrays_are_written_once() -> None:
    program = next(program for program in small_programs() if program.steps[0].call.kernel == "f32_dense")
    step = program.steps[0]
    twice = replace(program, steps=(step, *program.steps))
    # One more step, but no more weights.
    assert len(encode(twice)) == len(encode(program)) + 448


@pytest.mark.parametrize("where", ["magic", "version", "size", "checksum", "table", "end"])
def test_damage_is_found(where: str, tmp_path: Path) -> None:
    content = bytearray(encode(random_program(1)))
    content[{"magic": 0, "version": 8, "size": 17, "checksum": 12, "table": 300, "end": -1}[where]] ^= 4
    (tmp_path / "model.acm").write_bytes(content)
    expected = {"magic": "is not a model file", "version": "has version 6 of the format, not 2"}.get(where, "is damaged")
    with pytest.raises(UserError, match=expected):
        read_artifact(tmp_path / "model.acm")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_artifact(tmp_path / "missing.acm")
    for content in (b"", b"text", encode(random_program(1))[:-64]):
        with pytest.raises(UserError, match=r"file is (not a model file|damaged)"):
            decode(content, "file")
    # A tensor's type, in a file that is undamaged otherwise.
    content = bytearray(encode(random_program(1)))
    content[256] = 9
    content[12:16] = zlib.crc32(content[16:]).to_bytes(4, "little")
    with pytest.raises(UserError, match="describes no network"):
        decode(bytes(content), "file")


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    program = random_program(1)
    with pytest.raises(UserError, match="at most 8 dimensions"):
        encode(replace(program, input_shape=(1,) * 9))
    step = program.steps[0]
    with pytest.raises(UserError, match="too long"):
        encode(replace(program, steps=(replace(step, call=replace(step.call, kernel="k" * 32)),)))
    wrong: Any = np.zeros(4)
    with pytest.raises(UserError, match="the kernels read float32"):
        encode(replace(program, steps=(replace(step, call=replace(step.call, bias=wrong)),)))
    constant = replace(program.tensors[0], data=np.zeros((1, 1), np.float32))
    with pytest.raises(UserError, match="the constant input is float32 of shape"):
        encode(replace(program, tensors=(constant, *program.tensors[1:])))
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(UserError, match="cannot write"):
        write_artifact(program, tmp_path / "folder" / "model.acm")
