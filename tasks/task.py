"""Task: what is to be compressed, and how its quality is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

#: A tensor of inputs, shape (samples, ...), or an iterable of batches of such inputs.
Inputs = torch.Tensor | Iterable[torch.Tensor]
#: Inputs, or (inputs, labels) with labels of shape (samples,), dtype int64; or an iterable of such batches.
Evaluation = Inputs | tuple[torch.Tensor, torch.Tensor] | Iterable[tuple[torch.Tensor, torch.Tensor]]
Metric = Literal["agreement", "top1"] | Callable[[torch.nn.Module, Any], float]


@dataclass(frozen=True)
class Task:
    """A model to compress, with the data and the metric that judge it.

    Attributes:
        name: short; part of default study names.
        model: the trained model, in eval mode, float32, on the CPU; takes one tensor, returns one tensor.
        example_input: one input, shape (1, ...); latency is of this shape.
        calibration: unlabelled inputs which the search may see.
        evaluation: inputs, or (inputs, labels), which the search never sees; the report's numbers come from here.
        metric: higher is better. `agreement` is the share of samples with the dense model's answer (argmax); `top1` the share with
            the label's; a callable gets the compressed model and `evaluation`.
    """

    name: str
    model: torch.nn.Module
    example_input: torch.Tensor
    calibration: Inputs
    evaluation: Evaluation
    metric: Metric = "agreement"
