"""Task: what is to be compressed, and how its quality is judged."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from ..errors import UserError

#: A tensor of inputs, shape (samples, ...), or an iterable of batches of such inputs.
Inputs = torch.Tensor | Iterable[torch.Tensor]
#: Inputs, or (inputs, labels) with labels of shape (samples,), dtype int64; or an iterable of such batches.
Evaluation = Inputs | tuple[torch.Tensor, torch.Tensor] | Iterable[tuple[torch.Tensor, torch.Tensor]]
NamedMetric = Literal["agreement", "top1"]
Metric = NamedMetric | Callable[[torch.nn.Module, Any], float]

#: Share of the calibration inputs that score Plans, and how many there should be at least.
SCORING_SHARE, LEAST_SCORING = 0.25, 96

NAMED_METRICS: tuple[NamedMetric, ...] = get_args(NamedMetric)


@dataclass(frozen=True)
class Task:
    """A model to compress, with the data and the metric that judge it.

    Iterables are read once, here: afterwards `calibration` is a tensor, and so is `evaluation` (or a pair of tensors, with int64
    labels) unless the metric is a callable, which gets `evaluation` as it was given (an iterator as a list). A generator is thus
    never found exhausted, and a shuffling loader gives every reader the same samples.

    Attributes:
        name: short; part of default study names.
        model: the trained model, in eval mode, float32, on the CPU; takes one tensor, returns one tensor.
        example_input: one input, shape (1, ...); latency is of this shape.
        calibration: unlabelled inputs which the search may see.
        evaluation: inputs, or (inputs, labels), which the search never sees; the report's numbers come from here.
        training: more unlabelled inputs, for `--finetune`: a tensor, or an iterable of batches, which is begun again whenever it
            ends and is never read as a whole. None of them may be in `evaluation`, or among the last `scoring_count` of the
            inputs of `calibration` that are used (the first 512, of small networks up to 8192), which judge what was trained. By
            default the calibration inputs before these.
        metric: higher is better. `agreement` is the share of samples with the dense model's answer (argmax); `top1` the share
            with the label's; a callable gets the compressed model and `evaluation`.

    Raises:
        UserError: the data are not tensors, or cannot be joined.
    """

    name: str
    model: torch.nn.Module
    example_input: torch.Tensor
    calibration: Inputs
    evaluation: Evaluation
    metric: Metric = "agreement"
    training: Inputs | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "calibration", _join_inputs(self.calibration, "calibration"))
        if isinstance(self.training, Iterator):
            object.__setattr__(self, "training", _join_inputs(self.training, "training"))
        if callable(self.metric):
            if isinstance(self.evaluation, Iterator):
                object.__setattr__(self, "evaluation", list(self.evaluation))
        else:
            inputs, labels = _join_evaluation(self.evaluation)
            object.__setattr__(self, "evaluation", inputs if labels is None else (inputs, labels))


def input_batches(inputs: Inputs, batch_size: int, limit: int | None = None) -> Iterator[torch.Tensor]:
    """Batches of `batch_size` inputs (the last may be smaller), of the first `limit` inputs or of all.

    Raises:
        UserError: `inputs` is empty, or not made of tensors.
    """
    return iter(torch.split(_join_inputs(inputs, "inputs")[:limit], batch_size))


def scoring_count(calibration: int) -> int:
    """How many of so many calibration inputs, the last ones, score Plans, and judge what is trained."""
    return min(calibration - 1, max(round(SCORING_SHARE * calibration), min(calibration // 2, LEAST_SCORING)))


@dataclass(frozen=True)
class CheckedBatches:
    """Batches of inputs of a task, from an iterable of the user's, each checked when it is read.

    Iterating raises:
        UserError: a batch is no tensor of inputs, or does not look like the example input.
    """

    batches: Iterable[torch.Tensor]
    example_input: torch.Tensor

    def __iter__(self) -> Iterator[torch.Tensor]:
        for batch in self.batches:
            _check_samples(batch, self.example_input, "a training batch")
            yield batch


def evaluation_data(task: Task) -> tuple[torch.Tensor, torch.Tensor | None]:
    """All evaluation inputs, and their labels if there are any: shapes (samples, ...) and (samples,), int64.

    Raises:
        UserError: the metric is a callable, and `evaluation` is of a form that only that callable understands.
    """
    return _join_evaluation(task.evaluation)


def check_task(task: Task) -> None:
    """Check that the model and its data fit together; put the model in eval mode.

    Raises:
        UserError: they do not; the message names the first thing that is wrong.
    """
    if not isinstance(task.name, str) or not task.name.strip():
        raise UserError("the task has no name: give it a short one, as it names the study's folder.")
    _check_metric(task.metric)
    _check_model(task.model)
    _check_input(task.example_input, "example_input")
    if task.example_input.shape[0] != 1:
        raise UserError(
            f"example_input has shape {tuple(task.example_input.shape)}: its first dimension is the batch and must be 1, "
            "as with images[:1]."
        )
    calibration = _join_inputs(task.calibration, "calibration")
    _check_samples(calibration, task.example_input, "calibration")
    if isinstance(task.training, torch.Tensor):
        _check_samples(task.training, task.example_input, "training")
    elif task.training is not None and not isinstance(task.training, Iterable):
        raise UserError(f"training is a {type(task.training).__name__}: give a tensor of inputs, or an iterable of such batches.")
    _check_output(task, task.example_input, "example_input")
    outputs = _check_output(task, calibration[:2], "the first calibration inputs")
    if callable(task.metric):
        return
    inputs, labels = evaluation_data(task)
    _check_samples(inputs, task.example_input, "evaluation")
    if outputs.ndim != 2:
        raise UserError(
            f"the metric {task.metric!r} needs logits of shape (samples, classes), and the model returns {tuple(outputs.shape)}: "
            "give the task a metric of its own, a function of the model and the evaluation data."
        )
    if labels is not None:
        _check_labels(labels, len(inputs), outputs.shape[1])
    elif task.metric == "top1":
        raise UserError("the metric 'top1' needs labels: give evaluation as (inputs, labels), or use metric='agreement'.")


def task_fingerprint(task: Task) -> str:
    """sha256 in hex of the model's state and the task's data and metric: equal tasks agree on every machine.

    Objects in `evaluation` that only a callable metric understands count by their type alone.
    """
    digest = hashlib.sha256()
    for name, value in task.model.state_dict().items():
        _hash_value(digest, name)
        _hash_value(digest, value)
    _hash_value(digest, tuple(task.example_input.shape))
    _hash_value(digest, task.calibration)
    _hash_value(digest, task.evaluation)
    _hash_value(digest, _metric_name(task.metric))
    return digest.hexdigest()


def _join_inputs(inputs: Inputs, what: str) -> torch.Tensor:
    """One tensor of all batches of `inputs`, called `what` in messages."""
    if isinstance(inputs, torch.Tensor):
        return inputs
    if not isinstance(inputs, Iterable):
        raise UserError(f"{what} is a {type(inputs).__name__}: give a tensor of shape (samples, ...), or a list of such batches.")
    batches = list(inputs)
    for index, batch in enumerate(batches):
        if not isinstance(batch, torch.Tensor):
            raise UserError(
                f"batch {index} of {what} is a {type(batch).__name__}, not a tensor: give inputs alone, "
                "as with [inputs for inputs, labels in loader]."
            )
    return _concatenate(batches, what)


def _join_evaluation(evaluation: Evaluation) -> tuple[torch.Tensor, torch.Tensor | None]:
    """All inputs, and all labels or None, of any accepted form of `evaluation`."""
    if isinstance(evaluation, torch.Tensor):
        return evaluation, None
    if isinstance(evaluation, tuple) and _is_pair(evaluation):
        return evaluation[0], _as_labels(evaluation[1])
    if not isinstance(evaluation, Iterable):
        raise UserError(
            f"evaluation is a {type(evaluation).__name__}: give inputs or (inputs, labels), as tensors or in batches."
        )
    batches = list(evaluation)
    if batches and all(_is_pair(batch) for batch in batches):
        inputs = _concatenate([batch[0] for batch in batches], "evaluation")
        return inputs, _as_labels(_concatenate([batch[1] for batch in batches], "the evaluation labels"))
    if not all(isinstance(batch, torch.Tensor) for batch in batches):
        raise UserError(
            "evaluation has batches that are neither tensors nor (inputs, labels) pairs of tensors: give one of those, "
            "or a metric of your own that reads them."
        )
    return _concatenate([batch for batch in batches if isinstance(batch, torch.Tensor)], "evaluation"), None


def _is_pair(value: Any) -> bool:
    """Two tensors, in a tuple or, as torch's DataLoader gives them, in a list."""
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(item, torch.Tensor) for item in value)


def _concatenate(batches: list[torch.Tensor], what: str) -> torch.Tensor:
    if not batches:
        raise UserError(f"{what} is empty: give at least one batch (an iterator that was read before has nothing left).")
    try:
        return torch.cat(batches)
    except RuntimeError as error:
        shapes = ", ".join(sorted({str(tuple(batch.shape)) for batch in batches}))
        raise UserError(
            f"the batches of {what} do not fit together (shapes {shapes}): all dimensions but the first must agree."
        ) from error


def _as_labels(labels: torch.Tensor) -> torch.Tensor:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UserError(f"the evaluation labels are of dtype {labels.dtype}: give class indices as integers (int64).")
    return labels.to(torch.int64)


def _check_metric(metric: Any) -> None:
    if not callable(metric) and metric not in NAMED_METRICS:
        raise UserError(
            f"unknown metric {metric!r}: use {' or '.join(map(repr, NAMED_METRICS))}, or a function of (model, evaluation)."
        )


def _check_model(model: Any) -> None:
    if not isinstance(model, torch.nn.Module):
        raise UserError(f"the task's model is a {type(model).__name__}: give a torch.nn.Module.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type != "cpu":
            raise UserError(f"the model's {name} is on {tensor.device}: move the model to the CPU with model.cpu().")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UserError(f"the model's {name} is {tensor.dtype}: give the float32 model, as with model.float().")
        if not _finite(tensor):
            raise UserError(f"the model's {name} holds NaN or infinity: load trained weights.")
    model.eval()


def _finite(tensor: torch.Tensor) -> bool:
    """Whether there is no NaN or infinity in a tensor: each shows in the least and the greatest value."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    return all(math.isfinite(bound) for bound in torch.aminmax(tensor.detach()))


def _check_input(inputs: Any, what: str) -> None:
    if not isinstance(inputs, torch.Tensor):
        raise UserError(f"{what} is a {type(inputs).__name__}: give a float32 tensor.")
    if inputs.dtype != torch.float32 or inputs.device.type != "cpu":
        raise UserError(f"{what} is {inputs.dtype} on {inputs.device}: give a float32 tensor on the CPU.")
    if inputs.ndim < 2 or inputs.numel() == 0:
        raise UserError(
            f"{what} has shape {tuple(inputs.shape)}: give at least one sample, with the batch as the first dimension."
        )
    if not _finite(inputs):
        raise UserError(f"{what} holds NaN or infinity: check how the data are read and normalised.")


def _check_samples(inputs: torch.Tensor, example_input: torch.Tensor, what: str) -> None:
    _check_input(inputs, what)
    if inputs.shape[1:] != example_input.shape[1:]:
        expected = ", ".join(["samples", *map(str, example_input.shape[1:])])
        raise UserError(
            f"{what} has shape {tuple(inputs.shape)}, and after example_input it should be ({expected}): "
            "bring the samples to that shape."
        )


def _check_output(task: Task, inputs: torch.Tensor, what: str) -> torch.Tensor:
    """The model's output for `inputs`: one finite tensor with a row for each input."""
    try:
        with torch.no_grad():
            outputs = task.model(inputs)
    except Exception as error:
        raise UserError(
            f"the model fails on {what} of shape {tuple(inputs.shape)} with {type(error).__name__}: {error}. "
            "Check that example_input is what the model takes, and that any batch size works."
        ) from error
    if not isinstance(outputs, torch.Tensor):
        raise UserError(f"the model returns a {type(outputs).__name__}: wrap it in a module that returns one tensor.")
    if outputs.ndim == 0 or outputs.shape[0] != inputs.shape[0]:
        raise UserError(
            f"the model returns shape {tuple(outputs.shape)} for {inputs.shape[0]} inputs: "
            "the first dimension of its output must be the batch."
        )
    if not _finite(outputs):
        raise UserError(f"the model returns NaN or infinity on {what}: check its weights and the normalisation of the data.")
    return outputs


def _check_labels(labels: torch.Tensor, samples: int, classes: int) -> None:
    if labels.shape != (samples,):
        raise UserError(
            f"the evaluation labels have shape {tuple(labels.shape)} for {samples} inputs: give one class index per input."
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(
            f"the evaluation labels run from {int(labels.min())} to {int(labels.max())}, and the model has {classes} classes: "
            f"give indices from 0 to {classes - 1}."
        )


def _metric_name(metric: Metric) -> str:
    if not callable(metric):
        return metric
    named = metric if hasattr(metric, "__qualname__") else type(metric)
    return f"{named.__module__}:{named.__qualname__}"


def _hash_value(digest: hashlib._Hash, value: Any) -> None:
    """Feed `value` to `digest`, containers item by item, with types and lengths so that different values cannot look alike."""
    digest.update(f"{type(value).__qualname__}:".encode())
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}:".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        _hash_value(digest, [item for pair in value.items() for item in pair])
    elif isinstance(value, tuple | list):
        digest.update(f"{len(value)}:".encode())
        for item in value:
            _hash_value(digest, item)
    elif isinstance(value, str | int | float | bool | None):
        digest.update(f"{value!r};".encode())
