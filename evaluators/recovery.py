"""Recovery: networks as they are used, with a statistics correction that was found on many inputs."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..compressors.candidate import Candidate
from ..compressors.recovery import StatisticsCorrection, dense_moments, fold
from ..memory import bound_freed_memory
from ..spaces.plan import Plan
from .evaluator import PlanEvaluator
from .loss import memory_format


class Recovery:
    """Makes networks of Plans.

    Args:
        evaluator: knows what the Plans mean.
        inputs: those on which statistics are corrected, shape (inputs, ...).
    """

    def __init__(self, evaluator: PlanEvaluator, inputs: torch.Tensor) -> None:
        self._evaluator = evaluator
        self._inputs = inputs.contiguous(memory_format=memory_format(inputs))
        with torch.inference_mode():
            self._moments = dense_moments(evaluator.dense, self._inputs)
        self._corrections: dict[Plan, StatisticsCorrection] = {}

    def __call__(self, plan: Plan) -> Candidate:
        """The network that a Plan means, with the correction folded in; each Plan's correction is found once."""
        candidate = self._evaluator.candidate(plan)
        with torch.inference_mode():
            if plan not in self._corrections:
                correction = StatisticsCorrection(self._evaluator.kept_moments(self._moments, plan))
                candidate.run(self._inputs, correction)
                # What it has found is small; the moments it was to restore are not.
                self._corrections[plan] = replace(correction, dense={})
                bound_freed_memory()
            return fold(candidate, self._corrections[plan])
