"""Running a Program on this machine, step by step in Python: what the C runtime is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError
from .calls import TYPES
from .native import Library, Prepared
from .program import Place, Program, Step


class Interpreter:
    """A Program ready to run any number of times. Every tensor has memory of its own, so all can be looked at afterwards.

    Args:
        library: whose kernels to run; by default those built for this machine.

    Raises:
        UserError: a step that its kernel cannot run.
    """

    def __init__(self, program: Program, *, library: Library | None = None) -> None:
        self.program = program
        #: Content of every tensor, shape `Tensor.shape`; what has not been computed yet is arbitrary.
        self.memory: list[NDArray[Any]] = [
            np.zeros(tensor.shape, TYPES[tensor.type]) if tensor.data is None else tensor.data.copy()
            for tensor in program.tensors
        ]
        self._steps = [self._prepared(step, library) for step in program.steps]

    def __call__(self, x: ArrayLike, observe: Callable[[Step], None] | None = None) -> NDArray[np.float32]:
        """The output for one sample, float32 of shape `program.output_shape`.

        Args:
            x: shape `program.input_shape`.
            observe: called after every step.

        Raises:
            UserError: `x` has another shape.
        """
        values = np.asarray(x, np.float32)
        if values.shape != self.program.input_shape:
            raise UserError(f"the input has shape {values.shape}: give one sample of shape {self.program.input_shape}")
        self.memory[self.program.input][...] = values.reshape(self.memory[self.program.input].shape)
        for step, prepared in zip(self.program.steps, self._steps, strict=True):
            prepared()
            if observe is not None:
                observe(step)
        return self.memory[self.program.output].reshape(self.program.output_shape).copy()

    def _prepared(self, step: Step, library: Library | None) -> Prepared:
        call = step.call
        call = replace(call, x=self._at(step.x, call.x.shape, call.x.dtype))
        if step.x2 is not None:
            call = replace(call, x2=self._at(step.x2, call.x2.shape, call.x2.dtype))
        return Prepared(call, output=self._at(step.y, call.y_shape, call.y_dtype), library=library)

    def _at(self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The memory at a place, as an array of that shape and type."""
        size = int(np.prod(shape)) * dtype.itemsize
        content = self.memory[place.tensor].reshape(-1).view(np.uint8)[place.offset : place.offset + size]
        if content.nbytes != size:
            raise UserError(f"a step reaches beyond the end of {self.program.tensors[place.tensor].name}: make the program again")
        return content.view(dtype).reshape(shape)


def run_program(program: Program, x: ArrayLike) -> NDArray[np.float32]:
    """The output of a Program for one sample; shapes and errors as in `Interpreter`."""
    return Interpreter(program)(x)
