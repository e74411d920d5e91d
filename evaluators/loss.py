"""Loss and metric: how far a compressed network is from the dense one, and how good it is at the task."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..compressors.distillation import TEMPERATURE, is_distribution, response_loss
from ..errors import UserError
from ..tasks.task import Task, evaluation_data

BATCH = 32


def loss_name(output: torch.Tensor) -> str:
    """What `divergence` computes for such outputs."""
    return "soft KL to dense" if is_distribution(output) else "relative squared error"


def divergence(dense: torch.Tensor, compressed: torch.Tensor) -> float:
    """How far outputs are from the dense network's; 0 for equal ones.

    For class scores the mean over samples of the KL divergence in nats of softmax(scores / T), times T^2, at temperature
    T = 4 (Hinton et al., arXiv:1503.02531): every class counts, where at T = 1 the few likely ones, and few samples, decide. It
    tells far more of a Plan's rank on other samples (docs/methods.md). For other outputs the squared error as a share of the
    dense output's variance.

    Args:
        dense, compressed: outputs, shape (samples, ...).
    """
    return max(0.0, float(response_loss(dense, compressed, TEMPERATURE)))  # rounding can leave a tiny negative number


def outputs(model: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """The model's outputs for all `inputs`, in batches small enough to stay in cache."""
    with torch.inference_mode():
        batches = [model(batch.contiguous(memory_format=memory_format(batch))) for batch in torch.split(inputs, BATCH)]
    return torch.cat(batches)


def memory_format(x: torch.Tensor) -> torch.memory_format:
    """Channels-last for images: the faster one for convolutions on a CPU."""
    return torch.channels_last if x.ndim == 4 else torch.contiguous_format


def metric_name(task: Task) -> str:
    return task.metric if isinstance(task.metric, str) else getattr(task.metric, "__name__", "metric")


def metric(task: Task, model: torch.nn.Module, dense: torch.Tensor, compressed: torch.Tensor) -> float:
    """The task's metric; higher is better.

    Args:
        model: the compressed model, for a metric that is a function.
        dense, compressed: outputs of both models on the evaluation inputs.

    Raises:
        UserError: the task's own function fails or gives no finite number.
    """
    if task.metric == "agreement":
        return float((dense.argmax(1) == compressed.argmax(1)).float().mean())
    if task.metric == "top1":
        labels = evaluation_data(task)[1]
        assert labels is not None, "check_task lets top1 through only with labels"
        return float((compressed.argmax(1) == labels).float().mean())
    assert callable(task.metric)
    try:
        value = float(task.metric(model, task.evaluation))
    except Exception as error:
        raise UserError(f"the metric of task {task.name} failed: {type(error).__name__}: {error}. Fix the metric.") from error
    if not math.isfinite(value):
        raise UserError(f"the metric of task {task.name} gave {value}: it must return a finite number.")
    return value
