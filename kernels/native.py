"""Calling the C kernels on this machine, through ctypes."""

from __future__ import annotations

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .packing import KERNELS, QUAD, Packed
from .toolchain import build


class F32Problem(ctypes.Structure):
    """`ac_f32_problem` of csrc/ac_kernels.h."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("rows", "columns", "pixels", "x_plane", "y_plane")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "counts", "offsets")),
        *((name, ctypes.c_float) for name in ("low", "high")),
    )


class S8Problem(ctypes.Structure):
    """`ac_s8_problem` of csrc/ac_kernels.h."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("rows", "columns", "pixels", "x_plane", "y_plane")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "multiplier", "shift", "counts", "offsets")),
        *((name, ctypes.c_int32) for name in ("y_zero_point", "low", "high")),
    )


def load(path: Path) -> ctypes.CDLL:
    """The kernels of a shared library made by `toolchain.build`.

    Raises:
        UserError: the file cannot be loaded.
    """
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise UserError(f"cannot load the kernels from {path} ({error}). Delete that file: it is built again.") from error
    for (dtype, _), (name, _) in KERNELS.items():
        problem = F32Problem if dtype == "fp32" else S8Problem
        function = getattr(library, name)
        function.argtypes = (ctypes.POINTER(problem), ctypes.c_void_p, ctypes.c_void_p)
        function.restype = None
    return library


@cache
def host_library() -> ctypes.CDLL:
    """The kernels for this machine's CPU, built on first use."""
    return load(build())


class Call:
    """One kernel with its arguments, ready to run any number of times on what its input array then holds.

    Attributes:
        output: shape (rows, pixels), float32; or (ceil(rows / 4), pixels, 4), int8.
    """

    def __init__(
        self,
        packed: Packed,
        x: NDArray[Any],
        *,
        low: float = -math.inf,
        high: float = math.inf,
        zero_point: int = 0,
        output: NDArray[Any] | None = None,
        library: ctypes.CDLL | None = None,
    ) -> None:
        """Prepare y = clamp(weight @ x + bias, low, high).

        Args:
            packed: the weights.
            x: shape (columns, pixels), float32; or (ceil(columns / 4), pixels, 4), int8, as `pack_quads` makes it.
                Planes may be apart (a slice of a wider array), pixels may not.
            low, high: the activation: relu is low 0; for int8 in the output's integers, and within [-128, 127] anyway.
            zero_point: the integer that stands for 0 in an int8 output.
            output: where to write; by default a new array.
            library: whose kernels to run; by default `host_library()`.

        Raises:
            UserError: arrays of another shape, type or layout, or out of reach of the kernels' 32-bit offsets.
        """
        integer = packed.dtype == "int8"
        dtype, lanes = (np.dtype(np.int8), (QUAD,)) if integer else (np.dtype(np.float32), ())
        divisor = QUAD if integer else 1
        pixels = x.shape[1] if x.ndim > 1 else 0
        self.output = np.empty((-(-packed.rows // divisor), pixels, *lanes), dtype) if output is None else output
        x_plane = _plane(x, (-(-packed.columns // divisor), pixels, *lanes), dtype, "input")
        y_plane = _plane(self.output, (-(-packed.rows // divisor), pixels, *lanes), dtype, "output")
        if x_plane * packed.columns >= 2**31:
            raise UserError(f"an input of {packed.columns} channels {x_plane} pixels apart is too large: use a smaller image")
        offsets = (packed.indices * x_plane).astype(np.int32)
        # Whatever the C structure points to is kept alive by this object.
        self._arrays = (packed, x, offsets)
        common = {
            "rows": packed.rows,
            "columns": packed.columns,
            "pixels": pixels,
            "x_plane": x_plane,
            "y_plane": y_plane,
            "weights": packed.weights.ctypes.data,
            "bias": packed.bias.ctypes.data,
            "counts": packed.counts.ctypes.data,
            "offsets": offsets.ctypes.data,
        }
        if integer:
            bounds = {"low": math.ceil(max(low, -128)), "high": math.floor(min(high, 127))}
            if not -128 <= zero_point <= 127 or bounds["low"] > bounds["high"]:
                raise UserError(
                    f"zero point {zero_point} and output range [{low}, {high}] are not int8: choose them within [-128, 127]"
                )
            scale = {"multiplier": packed.multiplier.ctypes.data, "shift": packed.shift.ctypes.data}
            problem: ctypes.Structure = S8Problem(**common, **scale, y_zero_point=zero_point, **bounds)
        else:
            problem = F32Problem(**common, low=low, high=high)
        function = getattr(library or host_library(), packed.kernel)
        self._run = (function, ctypes.byref(problem), x.ctypes.data, self.output.ctypes.data)

    def __call__(self) -> NDArray[Any]:
        """Run the kernel and return `output`."""
        function, problem, x, y = self._run
        function(problem, x, y)
        return self.output


def multiply(
    packed: Packed, x: NDArray[Any], *, low: float = -math.inf, high: float = math.inf, zero_point: int = 0
) -> NDArray[Any]:
    """y = clamp(weight @ x + bias, low, high) on this machine: shapes and errors as in `Call`."""
    return Call(packed, x, low=low, high=high, zero_point=zero_point)()


def _plane(array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> int:
    """Pixels from one plane of `array` to the next."""
    pixel = int(np.prod(shape[2:], dtype=int)) * dtype.itemsize
    inner = (pixel, dtype.itemsize)[: len(shape) - 1]
    stride = array.strides[0] if array.ndim else 0
    if array.shape != shape or array.dtype != dtype or 0 in shape:
        raise UserError(f"the {name} is {array.dtype} of shape {array.shape}: give {dtype} of shape {shape}, no side 0")
    # NumPy leaves the stride of a side of length 1 open.
    if any(have != want and side != 1 for have, want, side in zip(array.strides[1:], inner, shape[1:], strict=True)):
        raise UserError(f"the pixels of the {name} are not next to each other: use numpy.ascontiguousarray")
    if shape[0] == 1:
        return shape[1]
    if stride < shape[1] * pixel or stride % pixel:
        raise UserError(f"the planes of the {name} overlap or are reversed: use numpy.ascontiguousarray")
    return stride // pixel
