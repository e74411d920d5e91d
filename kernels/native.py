"""Running Calls on this machine, through ctypes, and writing them to job files for machines that Python does not reach."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..files import replacing
from .calls import INTEGERS, REALS, Call
from .toolchain import build

_POINTERS = ("weights", "bias", "scale", "start", "counts", "offsets")
_LENGTHS = ("weights", "bias", "scale", "start", "counts", "indices", "x", "x2", "y")


class _Problem(ctypes.Structure):
    """`ac_problem` of csrc/ac_kernels.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in INTEGERS),
        *((name, ctypes.c_float) for name in REALS),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )


class _Lengths(ctypes.Structure):
    """`ac_lengths`."""

    _fields_ = tuple((name, ctypes.c_int64) for name in _LENGTHS)


class _Kernel(ctypes.Structure):
    """`ac_kernel`, as far as it is needed here."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("run", ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5)),
    )


class Library:
    """The kernels of a shared library made by `toolchain.build`.

    Raises:
        UserError: the file cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise UserError(f"cannot load the kernels from {path} ({error}). Delete that file: it is built again.") from error
        kernel, problem = ctypes.POINTER(_Kernel), ctypes.POINTER(_Problem)
        self._library = library
        self.find = library.ac_find
        self.find.argtypes, self.find.restype = (ctypes.c_char_p,), kernel
        self.offset_count = library.ac_offset_count
        self.offset_count.argtypes, self.offset_count.restype = (kernel, problem, ctypes.c_int64), ctypes.c_int64
        self.offsets = library.ac_offsets
        self.offsets.argtypes = (kernel, problem, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
        self.offsets.restype = None
        self.scratch_bytes = library.ac_scratch_bytes
        self.scratch_bytes.argtypes, self.scratch_bytes.restype = (kernel, problem), ctypes.c_int64
        self.validate = library.ac_validate
        self.validate.argtypes = (kernel, problem, ctypes.POINTER(_Lengths), ctypes.c_void_p)
        self.validate.restype = ctypes.c_char_p

    def functions(self, signatures: Mapping[str, tuple[tuple[Any, ...], Any]]) -> dict[str, Callable[..., Any]]:
        """Functions by name, for the types of their arguments and results."""
        found: dict[str, Callable[..., Any]] = {}
        for name, (arguments, result) in signatures.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, result
            found[name] = function
        return found

    def names(self) -> list[str]:
        """Names of all kernels, in the order of csrc/registry.c."""
        library_names = self._library.ac_kernel_name
        library_names.argtypes, library_names.restype = (ctypes.c_int64,), ctypes.c_char_p
        count = ctypes.c_int64.in_dll(self._library, "ac_kernel_count").value
        return [library_names(number).decode() for number in range(count)]


@cache
def host_library() -> Library:
    """The kernels for this machine's CPU, built on first use."""
    return Library(build())


class Prepared:
    """A Call ready to run any number of times on what its input arrays then hold.

    Attributes:
        output: where it writes, shape `call.y_shape`.
        offsets: what csrc/registry.c made of the call's indices; the kernel reads these, and reads x wherever they say.
    """

    def __init__(self, call: Call, *, output: NDArray[Any] | None = None, library: Library | None = None) -> None:
        """
        Args:
            output: where to write; by default a new array.
            library: whose kernels to run; by default `host_library()`.

        Raises:
            UserError: arguments that the kernel cannot run on.
        """
        own = library or host_library()
        self.output = np.empty(call.y_shape, call.y_dtype) if output is None else output
        if self.output.shape != call.y_shape or self.output.dtype != call.y_dtype or not self.output.flags.c_contiguous:
            raise UserError(f"the output is no array for this call: give contiguous {call.y_dtype} of shape {call.y_shape}")
        kernel = own.find(call.kernel.encode())
        if not kernel:
            raise UserError(f"there is no kernel {call.kernel}: use one of {', '.join(own.names())}")
        pointers = {name: getattr(call, name).ctypes.data for name in _POINTERS if name != "offsets"}
        problem = _Problem(*astuple(call.problem), **pointers)
        lengths = _Lengths(*(array.nbytes for array in (*call.buffers, self.output)))
        wrong = own.validate(kernel, problem, lengths, call.indices.ctypes.data)
        if wrong is not None:
            raise UserError(f"{call.kernel} cannot run on {call.problem}: {wrong.decode()}")
        self.offsets = np.empty(own.offset_count(kernel, problem, len(call.indices)), np.int32)
        own.offsets(kernel, problem, call.indices.ctypes.data, len(call.indices), self.offsets.ctypes.data)
        problem.offsets = self.offsets.ctypes.data
        # Scratch is aligned by hand: NumPy aligns to 16 bytes only.
        scratch = np.empty(own.scratch_bytes(kernel, problem) + 64, np.uint8)
        aligned = scratch.ctypes.data + -scratch.ctypes.data % 64
        # Whatever the C structure points to is kept alive by this object.
        self._arrays = (call, scratch, problem, own)
        self._function = kernel.contents.run
        self._arguments = (ctypes.addressof(problem), call.x.ctypes.data, call.x2.ctypes.data, self.output.ctypes.data, aligned)

    def __call__(self) -> NDArray[Any]:
        """Run the kernel and return `output`."""
        self._function(*self._arguments)
        return self.output


def run(call: Call, *, library: Library | None = None) -> NDArray[Any]:
    """The output of a Call, shape `call.y_shape`; errors as in `Prepared`."""
    return Prepared(call, library=library)()


def job(call: Call) -> bytes:
    """A Call as csrc/job.h describes it."""
    values = astuple(call.problem)
    scalars = struct.pack(f"<{len(INTEGERS)}q{len(REALS)}f", *values)
    lengths = struct.pack("<8q", *(array.nbytes for array in call.buffers))
    parts = (b"ACJOB001", call.kernel.encode().ljust(32, b"\0"), scalars, lengths)
    return b"".join([*parts, *(array.tobytes() for array in call.buffers)])


def write_jobs(path: Path, calls: Iterable[Call]) -> None:
    """Write Calls to a job file, for the program `run` (csrc/run.c)."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        for call in calls:
            file.write(job(call))


def read_outputs(path: Path, calls: Sequence[Call]) -> list[NDArray[Any]]:
    """What the program `run` wrote for the Calls of a job file.

    Raises:
        UserError: the file has another length.
    """
    content = path.read_bytes()
    sizes = [int(np.prod(call.y_shape)) * call.y_dtype.itemsize for call in calls]
    if len(content) != sum(sizes):
        raise UserError(f"{path} holds {len(content)} bytes, not {sum(sizes)}: run the jobs again")
    ends = np.cumsum(sizes)
    return [
        np.frombuffer(content[end - size : end], call.y_dtype).reshape(call.y_shape)
        for call, size, end in zip(calls, sizes, ends, strict=True)
    ]
