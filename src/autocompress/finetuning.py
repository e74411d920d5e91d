"""Fine-tuning of a Plan: what it is trained on, and what judges it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from .api import Prepared
from .compressors.candidate import Candidate
from .compressors.finetune import Finetuned, Lesson, finetune
from .evaluators.loss import divergence, outputs
from .progress import Update
from .samples import calibration_inputs, split_calibration
from .spaces.plan import Plan
from .tasks.task import CheckedBatches, Task


def finetune_plan(
    prepared: Prepared, plan: Plan, minutes: float, folder: Path, update: Update
) -> Finetuned:
    """Train the network that a Plan means; never a worse one than before comes back.

    The judges are all calibration inputs that score Plans. On some of them the statistics of the network before were corrected,
    and for its loss on these it was chosen: if there is an advantage, it has it.

    Args:
        minutes: of training.
        folder: holds the checkpoints.

    Raises:
        UserError: the training inputs cannot be used, or the folder cannot be written.
    """
    evaluator = prepared.evaluator
    reconstruction, judges = split_calibration(calibration_inputs(prepared.task, evaluator.network))
    dense = outputs(evaluator.dense.run, judges)

    def loss(candidate: Candidate) -> float:
        return divergence(dense, outputs(candidate.run, judges))

    training = _training(prepared.task, reconstruction)
    lesson = Lesson(evaluator.dense, prepared.recovered(plan), evaluator.rows(plan), training, loss)
    return finetune(lesson, minutes, folder / f"{plan.key}.safetensors", update)


def _training(task: Task, reconstruction: torch.Tensor) -> torch.Tensor | Iterable[torch.Tensor]:
    if task.training is None:
        return reconstruction
    return task.training if isinstance(task.training, torch.Tensor) else CheckedBatches(task.training, task.example_input)
