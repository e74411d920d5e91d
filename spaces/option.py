"""Option: one choice for one Layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import UserError

Structure = Literal["dense", "channel", "unstructured", "block4x1", "block1x4", "block4x4"]
Bits = Literal[32, 16, 8, 4]
STRUCTURES: tuple[Structure, ...] = get_args(Structure)
BITS: tuple[Bits, ...] = get_args(Bits)

#: Rows x columns (output x input channels) that a structure keeps or removes together.
BLOCKS: dict[Structure, tuple[int, int]] = {
    "unstructured": (1, 1),
    "block4x1": (4, 1),
    "block1x4": (1, 4),
    "block4x4": (4, 4),
}

#: Activation data type that goes with the weight bits of a Layer.
ACTIVATIONS: dict[Bits, Literal["fp32", "fp16", "int8"]] = {32: "fp32", 16: "fp16", 8: "int8", 4: "int8"}


@dataclass(frozen=True, order=True)
class Option:
    """One choice for one Layer.

    Attributes:
        structure: what is removed: nothing (`dense`), whole output channels (`channel`), or weights in blocks.
        sparsity: the removed share, in [0, 1); 0 exactly when `structure` is `dense`. For `channel` it is the share of
            the Layer's output channels; else the share of its weights.
        bits: weight bits; 32 and 16 are floating point, 8 and 4 are integers over int8 activations.
    """

    structure: Structure
    sparsity: float
    bits: Bits

    def __post_init__(self) -> None:
        if self.structure not in STRUCTURES:
            raise UserError(f"unknown structure {self.structure!r}: use one of {', '.join(STRUCTURES)}")
        if self.bits not in BITS:
            raise UserError(f"unsupported bits {self.bits!r}: use one of {', '.join(map(str, BITS))}")
        if not 0.0 <= self.sparsity < 1.0 or (self.sparsity == 0.0) != (self.structure == "dense"):
            raise UserError(
                f"sparsity {self.sparsity} does not fit structure {self.structure}: dense means 0, all else in (0, 1)"
            )
        # Kept, since Options are looked up more often than anything else; the same in every process.
        object.__setattr__(self, "_hash", hash((STRUCTURES.index(self.structure), self.sparsity, self.bits)))

    def __hash__(self) -> int:
        value: int = self.__dict__["_hash"]
        return value

    def __str__(self) -> str:
        share = "" if self.structure == "dense" else f" {self.sparsity:.0%}"
        return f"{self.structure}{share} {precision(self.bits)}"

    def to_json(self) -> dict[str, Any]:
        return {"structure": self.structure, "sparsity": self.sparsity, "bits": self.bits}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Option:
        return Option(value["structure"], float(value["sparsity"]), value["bits"])


def precision(bits: Bits) -> str:
    """The name of a weight format: fp32, fp16, int8 or int4."""
    return f"fp{bits}" if bits >= 16 else f"int{bits}"
