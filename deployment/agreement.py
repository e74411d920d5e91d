"""How far a Program computes what the evaluated network computes: every op on the same inputs, and the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..compressors.candidate import Candidate, Value
from ..kernels.interpret import Interpreter
from ..kernels.packing import unpack_quads
from ..kernels.program import Tensor
from ..spaces.datatypes import DataType
from .program import Located, Lowered

_DATA_TYPES: dict[str, DataType] = {"f32": "fp32", "f16": "fp16", "s8": "int8"}


@dataclass(frozen=True)
class OpAgreement:
    """One op of a Program beside the same op of its Candidate, both on what the Program's earlier steps had computed.

    Attributes:
        type: in which the output is stored; fp16 also of a Layer that ends the network, which the Candidate does not round.
        values: how many the output has.
        equal: share of equal output codes, for int8; 1 for floats.
        worst: largest difference of a code, for int8; 0 for floats.
        error: norm of the difference over the norm of the Candidate's output.
    """

    name: str
    kind: str
    type: DataType
    values: int
    equal: float
    worst: int
    error: float


@dataclass(frozen=True)
class Agreement:
    """A Program beside its Candidate.

    Attributes:
        ops: every op on the same inputs.
        error: of the network's output, each side computed on its own: norm of the difference over the norm.
    """

    ops: tuple[OpAgreement, ...]
    error: float

    @property
    def equal(self) -> float:
        """The smallest share of equal codes of an int8 tensor."""
        return min((op.equal for op in self.ops), default=1.0)

    @property
    def worst(self) -> int:
        """The largest difference of an int8 code."""
        return max((op.worst for op in self.ops), default=0)

    def largest_error(self, type_: DataType) -> float:
        """The largest relative error of an op whose output is stored in that type; 0 if there is none."""
        return max((op.error for op in self.ops if op.type == type_), default=0.0)


def agreement(candidate: Candidate, lowered: Lowered, x: torch.Tensor, interpreter: Interpreter | None = None) -> Agreement:
    """Run both for one sample on this machine and compare them. With an ExactCandidate int8 ops agree to the bit.

    Args:
        x: one sample, without a batch axis.
        interpreter: of the Program, to be used again; by default a new one.

    Raises:
        UserError: a step that its kernel cannot run, or a sample of another shape.
    """
    network = candidate.network
    runner = interpreter or Interpreter(lowered.program)
    output = torch.from_numpy(runner(x.numpy()))
    found = []
    with torch.inference_mode():
        for op in network.ops:
            inputs = {
                name: content(runner, lowered.located[name], network.shapes[name]) for name in op.inputs if name in network.shapes
            }
            wanted = candidate.step(op, inputs)
            got = content(runner, lowered.located[op.name], network.shapes[op.name])
            equal, worst = 1.0, 0
            if wanted.type == "int8":
                difference = (got.data - wanted.data).abs()
                equal, worst = float((difference == 0).double().mean()), int(difference.max())
            type_ = "fp16" if candidate.types[op.name] == "fp16" else wanted.type
            error = relative_error(got.real, wanted.real)
            found.append(OpAgreement(op.name, op.kind, type_, wanted.data.numel(), equal, worst, error))
        whole = candidate.run(x.unsqueeze(0))[0]
    return Agreement(tuple(found), relative_error(output, whole))


def content(interpreter: Interpreter, located: Located, shape: tuple[int, ...]) -> Value:
    """A tensor of the Network as the last run of its Program left it, as a Candidate has it: shape (1, *shape)."""
    tensor = interpreter.program.tensors[located.tensor]
    planes = _planes(tensor, interpreter.memory[located.tensor]).reshape(-1)
    values = torch.from_numpy(planes[located.places()].astype(np.float32).reshape(1, *shape))
    if tensor.format is None:
        return Value(values, 1.0, _DATA_TYPES[tensor.type])
    return Value(values - tensor.format.zero_point, tensor.format.scale, "int8")


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Norm of the difference over the norm; 0 where both are zero."""
    norm = float(wanted.double().norm())
    difference = float((got.double() - wanted.double()).norm())
    return difference / norm if norm > 0 else difference


def _planes(tensor: Tensor, memory: NDArray[Any]) -> NDArray[Any]:
    return unpack_quads(memory, tensor.channels) if tensor.type == "s8" else memory
