"""Model: a model file in memory, run by the C runtime (csrc/runtime.c) on this machine."""

from __future__ import annotations

import ctypes
import json
import os
import statistics
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError
from .native import Library, host_library

_ERROR_BYTES = 256
_INT64, _POINTER, _TEXT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p

#: Functions of csrc/autocompress.h: arguments and result.
_SIGNATURES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "ac_load": ((_TEXT, ctypes.POINTER(_POINTER), _TEXT), ctypes.c_int),
    "ac_run": ((_POINTER, _POINTER, _POINTER), ctypes.c_int),
    "ac_profile": ((_POINTER, _POINTER, _POINTER, _POINTER), ctypes.c_int),
    "ac_free": ((_POINTER,), None),
    "ac_error_text": ((ctypes.c_int,), _TEXT),
    "ac_input_rank": ((_POINTER,), _INT64),
    "ac_output_rank": ((_POINTER,), _INT64),
    "ac_input_shape": ((_POINTER,), ctypes.POINTER(_INT64)),
    "ac_output_shape": ((_POINTER,), ctypes.POINTER(_INT64)),
    "ac_peak_bytes": ((_POINTER,), _INT64),
    "ac_step_count": ((_POINTER,), _INT64),
    "ac_step_name": ((_POINTER, _INT64), _TEXT),
    "ac_step_kernel": ((_POINTER, _INT64), _TEXT),
    "ac_metadata": ((_POINTER,), _TEXT),
}


class StepTime(NamedTuple):
    """Median time of one step of a Model."""

    name: str
    kernel: str
    microseconds: float


class Model:
    """A compressed network in memory, to be run any number of times, from any thread (one run at a time).

    Attributes:
        input_shape, output_shape: of one sample.
        peak_bytes: memory for activations, besides the mapped file.
        metadata: what was written into the file about the network.
        steps: name and kernel of each, in the order in which they run.
    """

    def __init__(self, path: Path | str, *, library: Library | None = None) -> None:
        """
        Args:
            path: of a model file; it must not be written to while it is open.
            library: whose kernels to run; by default those for this machine's CPU, built on first use.

        Raises:
            UserError: the file cannot be read, is damaged, or cannot be run.
        """
        self._lock = Lock()
        self._model = _POINTER()
        self._functions = (library or host_library()).functions(_SIGNATURES)
        call = self._functions
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        status = call["ac_load"](os.fsencode(path), ctypes.byref(self._model), error)
        if status != 0:
            meaning = call["ac_error_text"](status).decode()
            raise UserError(
                f"cannot run {path}, {meaning}: {error.value.decode()}. Give a model file of this version, undamaged."
            )
        model = self._model
        self.input_shape = tuple(call["ac_input_shape"](model)[: call["ac_input_rank"](model)])
        self.output_shape = tuple(call["ac_output_shape"](model)[: call["ac_output_rank"](model)])
        self.peak_bytes: int = call["ac_peak_bytes"](model)
        self.steps: list[tuple[str, str]] = [
            (call["ac_step_name"](model, step).decode(errors="replace"), call["ac_step_kernel"](model, step).decode())
            for step in range(call["ac_step_count"](model))
        ]
        try:
            self.metadata = _strings(call["ac_metadata"](model))
        except (ValueError, RecursionError) as wrong:
            self.close()
            raise UserError(f"the metadata of {path} is no JSON object: export the network again.") from wrong

    def run(self, x: ArrayLike) -> NDArray[np.float32]:
        """The network's output for one sample.

        Args:
            x: shape `input_shape`, any real type.

        Returns:
            float32, shape `output_shape`.

        Raises:
            UserError: x has another shape, or the Model is closed.
        """
        given, output = self._arrays(x)
        with self._lock:
            self._functions["ac_run"](self._open(), given.ctypes.data, output.ctypes.data)
        return output

    def profile(self, x: ArrayLike, repeat: int = 20) -> list[StepTime]:
        """Median times of the steps over `repeat` runs, after one that is not counted; arguments and errors as in `run`."""
        if repeat < 1:
            raise UserError(f"cannot repeat a profile {repeat} times: give at least 1.")
        given, output = self._arrays(x)
        times = np.empty((repeat + 1, len(self.steps)), np.float64)
        with self._lock:
            for row in times:
                self._functions["ac_profile"](self._open(), given.ctypes.data, output.ctypes.data, row.ctypes.data)
        medians = [statistics.median(column) for column in times[1:].T.tolist()]
        return [StepTime(*step, median) for step, median in zip(self.steps, medians, strict=True)]

    def close(self) -> None:
        """Free the memory and unmap the file; a second time does nothing."""
        with self._lock:
            if self._model:
                self._functions["ac_free"](self._model)
                self._model.value = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_functions"):
            self.close()

    def _open(self) -> ctypes.c_void_p:
        if not self._model:
            raise UserError("this model is closed: open its file again.")
        return self._model

    def _arrays(self, x: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        array = np.asarray(x)
        if array.shape != self.input_shape or array.dtype.kind not in "biuf":
            raise UserError(f"the input is {array.dtype} of shape {array.shape}: give numbers of shape {self.input_shape}.")
        return np.ascontiguousarray(array, np.float32), np.empty(self.output_shape, np.float32)


def _strings(content: bytes) -> dict[str, str]:
    value = json.loads(content.decode())
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return {key: str(text) for key, text in value.items()}
