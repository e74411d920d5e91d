"""model.acm: a Program as the file that the C runtime maps and runs (docs/artifact.md describes every byte)."""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..files import replacing
from .calls import INTEGERS, REALS, TYPES, Call, Problem, Quantization, TypeName
from .packing import QUAD
from .program import Place, Program, Step, Tensor

MAGIC = b"\x89ACM\r\n\x1a\n"
VERSION = 2
ALIGNMENT = 64
#: Dimensions that a shape in the header has room for.
MOST_RANK = 8

_HEADER = struct.Struct(f"<8sIIQ6I4Q{2 * MOST_RANK}q48x")
_TENSOR = struct.Struct("<IIqqQdiI16x")
_STEP = struct.Struct(f"<32s{len(INTEGERS)}q{len(REALS)}fI4x6q12Q16x")
_TYPE_NAMES: tuple[TypeName, ...] = ("f32", "f16", "s8")
#: Element types of a step's arrays after the weights.
_BUFFERS = ("<f4", "<f4", "<i4", "<i4", "<i4")


def write_artifact(program: Program, path: Path) -> None:
    """Write a Program to a model file, atomically.

    Raises:
        UserError: the Program has an array of the wrong size, or more than the format holds; or the file cannot be written.
    """
    content = encode(program)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_artifact(path: Path) -> Program:
    """The Program in a model file. Where a Call's inputs are not in the file they are zeros.

    Raises:
        UserError: the file cannot be read, is damaged, or is none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): give the path of a model file, such as model.acm.") from error
    return decode(content, str(path))


def encode(program: Program) -> bytes:
    """The bytes of a model file; errors as in `write_artifact`."""
    for shape in (program.input_shape, program.output_shape):
        if len(shape) > MOST_RANK:
            raise UserError(f"a model file has shapes of at most {MOST_RANK} dimensions: this network's {shape} has more")
    names = _Names()
    tables = [(tensor, names.at(tensor.name)) for tensor in program.tensors]
    steps = [(step, names.at(step.name)) for step in program.steps]
    metadata = json.dumps(dict(program.metadata), ensure_ascii=False).encode() + b"\0"
    body = _Body(_HEADER.size + len(tables) * _TENSOR.size + len(steps) * _STEP.size)
    names_at, metadata_at = body.add(names.content), body.add(metadata)
    records = b"".join(_tensor_record(tensor, name, body) for tensor, name in tables)
    records += b"".join(_step_record(step, name, body) for step, name in steps)
    body.add(b"")
    fields = (
        MAGIC,
        VERSION,
        0,
        body.end,
        len(tables),
        len(steps),
        program.input,
        program.output,
        len(program.input_shape),
        len(program.output_shape),
        names_at,
        len(names.content),
        metadata_at,
        len(metadata),
        *_padded(program.input_shape),
        *_padded(program.output_shape),
    )
    content = bytearray(_HEADER.pack(*fields) + records + b"".join(body.parts))
    content[12:16] = checksum(content).to_bytes(4, "little")
    return bytes(content)


def checksum(content: bytes | bytearray) -> int:
    """CRC-32 of a file from its 16th byte on."""
    return zlib.crc32(memoryview(content)[16:])


def decode(content: bytes, origin: str) -> Program:
    """The Program in the bytes of a model file; errors as in `read_artifact`, with `origin` as the file's name."""
    if len(content) < _HEADER.size or content[:8] != MAGIC:
        raise UserError(f"{origin} is not a model file: give one that autocompress has written.")
    head = _HEADER.unpack_from(content)
    if head[1] != VERSION:
        raise UserError(f"{origin} has version {head[1]} of the format, not {VERSION}: export the network again.")
    if head[3] != len(content) or head[2] != checksum(content):
        raise UserError(f"{origin} is damaged: copy or export it again.")
    tensor_count, step_count, input_, output, input_rank, output_rank = head[4:10]
    names_at, names_bytes, metadata_at, metadata_bytes = head[10:14]
    try:
        names = _part(content, names_at, names_bytes)
        metadata = json.loads(_part(content, metadata_at, metadata_bytes)[:-1].decode())
        if not isinstance(metadata, dict) or max(input_rank, output_rank) > MOST_RANK:
            raise ValueError("the metadata is no object, or a shape has too many dimensions")
        tensors = tuple(
            _tensor(content, names, _TENSOR.unpack_from(content, _HEADER.size + number * _TENSOR.size))
            for number in range(tensor_count)
        )
        first = _HEADER.size + tensor_count * _TENSOR.size
        steps = tuple(
            _step(content, names, _STEP.unpack_from(content, first + number * _STEP.size)) for number in range(step_count)
        )
    except (ValueError, IndexError, KeyError, RecursionError, struct.error) as error:
        raise UserError(f"{origin} describes no network ({error}): export it again.") from error
    shapes = head[14 : 14 + MOST_RANK], head[14 + MOST_RANK :]
    return Program(tensors, steps, input_, output, shapes[0][:input_rank], shapes[1][:output_rank], metadata)


class _Names:
    """Strings, each once, that end with a zero byte."""

    def __init__(self) -> None:
        self.content = b"\0"
        self._known: dict[str, int] = {"": 0}

    def at(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = len(self.content)
            self.content += name.replace("\0", "").encode() + b"\0"
        return self._known[name]


class _Body:
    """What follows the tables: parts at multiples of 64 bytes.

    Attributes:
        parts: with the zeros between them.
        end: of the file so far.
    """

    def __init__(self, begin: int) -> None:
        self.parts: list[bytes] = []
        self.end = begin
        self._known: dict[int, tuple[NDArray[Any], int]] = {}

    def add(self, part: bytes) -> int:
        """Append a part after zeros up to the next multiple of 64; returns where it begins."""
        gap = -self.end % ALIGNMENT
        self.parts += [bytes(gap), part]
        self.end += gap + len(part)
        return self.end - len(part)

    def array(self, array: NDArray[Any]) -> int:
        """Where an array begins; an empty one is at 0, and the same object is there once."""
        if array.nbytes == 0:
            return 0
        if id(array) not in self._known:
            self._known[id(array)] = array, self.add(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        return self._known[id(array)][1]


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape + (0,) * (MOST_RANK - len(shape))


def _tensor_record(tensor: Tensor, name: int, body: _Body) -> bytes:
    data_at = 0
    if tensor.data is not None:
        if tensor.data.shape != tensor.shape or tensor.data.dtype != TYPES[tensor.type]:
            raise UserError(
                f"the constant {tensor.name} is {tensor.data.dtype} of shape {tensor.data.shape}: "
                f"give {TYPES[tensor.type]} of shape {tensor.shape}"
            )
        data_at = body.array(tensor.data)
    form = tensor.format or Quantization(0.0)
    kind = _TYPE_NAMES.index(tensor.type)
    has_format = int(tensor.format is not None)
    return _TENSOR.pack(kind, name, tensor.channels, tensor.pixels, data_at, form.scale, form.zero_point, has_format)


def _step_record(step: Step, name: int, body: _Body) -> bytes:
    call = step.call
    kernel = call.kernel.encode()
    if len(kernel) > 31:
        raise UserError(f"the kernel name {call.kernel} is too long for a model file: use at most 31 characters")
    weights, *others = call.buffers[:6]
    for array, dtype in zip(others, _BUFFERS, strict=True):
        if array.dtype != dtype:
            raise UserError(f"an array of step {step.name} is {array.dtype}: the kernels read {np.dtype(dtype)}")
    places = [(-1, 0) if place is None else (place.tensor, place.offset) for place in (step.x, step.x2, step.y)]
    arrays = [(body.array(array), array.nbytes) for array in (weights, *others)]
    return _STEP.pack(
        kernel,
        *astuple(call.problem),
        name,
        *(value for place in places for value in place),
        *(value for array in arrays for value in array),
    )


def _part(content: bytes, at: int, size: int) -> bytes:
    if at + size > len(content):
        raise ValueError("an array is outside of the file")
    return content[at : at + size]


def _text(names: bytes, at: int) -> str:
    return names[at : names.index(b"\0", at)].decode()


def _tensor(content: bytes, names: bytes, record: tuple[Any, ...]) -> Tensor:
    kind, name, channels, pixels, data_at, scale, zero_point, has_format = record
    form = Quantization(scale, zero_point) if has_format else None
    tensor = Tensor(_text(names, name), _TYPE_NAMES[kind], channels, pixels, form)
    if not data_at:
        return tensor
    data = np.frombuffer(_part(content, data_at, tensor.bytes), TYPES[tensor.type]).reshape(tensor.shape)
    return Tensor(tensor.name, tensor.type, channels, pixels, form, data)


def _step(content: bytes, names: bytes, record: tuple[Any, ...]) -> Step:
    kernel = record[0].rstrip(b"\0").decode()
    scalars = 1 + len(INTEGERS) + len(REALS)
    problem = Problem(*record[1:scalars])
    name, *places = record[scalars : scalars + 7]
    ranges = record[scalars + 7 :]
    prefix = kernel.split("_")[0]
    dtypes = (np.dtype(TYPES[prefix]), *(np.dtype(name) for name in _BUFFERS))
    arrays = [
        np.frombuffer(_part(content, at, size), dtype) for at, size, dtype in zip(ranges[::2], ranges[1::2], dtypes, strict=True)
    ]
    x, x2 = (_input(prefix, problem, plane, lane) for plane, lane in ((problem.x_plane, problem.x_lane), (problem.x2_plane, 0)))
    call = Call(kernel, problem, x, x2, *arrays)
    x_at, x2_at, y_at = (Place(*places[at : at + 2]) for at in (0, 2, 4))
    return Step(_text(names, name), call, x_at, y_at, None if x2_at.tensor < 0 else x2_at)


def _input(prefix: str, problem: Problem, plane: int, lane: int) -> NDArray[Any]:
    """Zeros of the shape that a kernel reads; nothing if it reads none."""
    columns = problem.columns + lane
    shape = (-(-columns // QUAD), plane, QUAD) if prefix == "s8" else (columns, plane)
    if min(shape) < 0 or math.prod(shape) > 2**28:
        raise ValueError("a step's input is out of range")
    return np.zeros(shape if plane else 0, TYPES[prefix])
