"""Score: what a trial learns of a Plan; a Plan that is beaten on a few samples is not computed on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: After the first samples, and after the ordinary ones, a Plan stops when its loss on them is so many times that of a rival with
#: no higher costs. On 8 of 32 samples, evenly taken, the ratio of two Plans' losses is within about 10 % of that on
#: all (docs/methods.md).
HOPELESS, BEATEN = 1.5, 1.1
_STOPS = (HOPELESS, BEATEN)


@dataclass(frozen=True)
class Score:
    """How far a Plan's outputs are from the dense network's.

    Attributes:
        loss: on all samples. Of a Plan that was stopped the rival's, times what the Plan's is of it on the samples before.
        partial: the losses on the first samples, on these and the ordinary ones, and on all, as far as they were computed.
        inputs: samples that were computed,
        samples: of so many.
    """

    loss: float
    partial: tuple[float, ...]
    inputs: int
    samples: int

    @property
    def whole(self) -> bool:
        """Whether no sample was left out."""
        return self.inputs == self.samples

    def beats(self, partial: Sequence[float]) -> bool:
        """Whether a Plan with these losses so far shall be stopped beside this one, which is whole."""
        level = len(partial) - 1
        return level < min(len(self.partial) - 1, len(_STOPS)) and partial[level] > _STOPS[level] * self.partial[level]

    def projected(self, partial: Sequence[float]) -> float:
        """What a Plan with these losses so far would have on all samples."""
        own = self.partial[len(partial) - 1]
        return partial[-1] * self.loss / own if own > 0 and self.loss > 0 else partial[-1]
