"""Score: what a trial learns of a Plan; a Plan that is beaten on a few samples is not computed on the others."""

from __future__ import annotations

from dataclasses import dataclass

#: A Plan stops when its loss on the first samples is so many times that of a rival with no higher costs. On 8 of 32 samples,
#: evenly taken, the ratio of two Plans' losses is within about 10 % of that on all (docs/methods.md).
HOPELESS = 1.5


@dataclass(frozen=True)
class Score:
    """How far a Plan's outputs are from the dense network's.

    Attributes:
        loss: on all samples. Of a Plan that was stopped the rival's, times what the Plan's is of it on the first samples.
        first: the loss on the first samples, the same ones for all Plans.
        inputs: samples that were computed,
        samples: of so many.
    """

    loss: float
    first: float
    inputs: int
    samples: int

    @property
    def whole(self) -> bool:
        """Whether no sample was left out."""
        return self.inputs == self.samples

    def beats(self, first: float) -> bool:
        """Whether a Plan with that loss on the first samples is hopeless beside this one."""
        return first > HOPELESS * self.first

    def projected(self, first: float) -> float:
        """What a Plan with that loss on the first samples would have on all."""
        return first * self.loss / self.first if self.first > 0 and self.loss > 0 else first
