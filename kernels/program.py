"""Program: a compressed network as the C runtime computes it: steps over tensors, each one kernel with its packed weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calls import TYPES, Call, Quantization, TypeName
from .packing import QUAD


@dataclass(frozen=True)
class Tensor:
    """Activations in memory, laid out as csrc/ac_kernels.h says: planar floats, int8 in quads of channels.

    Attributes:
        name: of the tensor of the captured Network that it holds; of a conversion, that name and the type: `features/s8`.
        channels, pixels: planes, and pixels of each (height times width; tokens).
        format: of an int8 tensor.
        data: content of a constant, in memory order; None for what is computed, and for the input.
    """

    name: str
    type: TypeName
    channels: int
    pixels: int
    format: Quantization | None = None
    data: NDArray[Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array in memory: (channels, pixels), or (quads, pixels, 4) of int8."""
        return (-(-self.channels // QUAD), self.pixels, QUAD) if self.type == "s8" else (self.channels, self.pixels)

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return int(np.prod(self.shape)) * TYPES[self.type].itemsize


@dataclass(frozen=True)
class Place:
    """Where a step reads or writes: bytes from `offset` on of the tensor of that number."""

    tensor: int
    offset: int = 0


@dataclass(frozen=True)
class Step:
    """One kernel and all it needs but the activations themselves.

    Attributes:
        name: of the Network's op; of a conversion, that of the tensor it writes.
        call: kernel, problem and constant arrays. Its x and x2 have the right shape and type; what they hold does not matter.
        x, x2, y: the activations; x2 is None where the kernel reads only one tensor.
    """

    name: str
    call: Call
    x: Place
    y: Place
    x2: Place | None = None


@dataclass(frozen=True)
class Program:
    """Steps in the order in which they run; every step reads constants, the input, or what earlier steps wrote.

    Attributes:
        input, output: numbers of two fp32 tensors: what `run` is given and what it returns, planar, one sample.
        input_shape, output_shape: per-sample shapes as the model has them, the batch left out.
        metadata: strings for whoever inspects the file: task, target, plan (JSON), versions.
    """

    tensors: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    input: int
    output: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
