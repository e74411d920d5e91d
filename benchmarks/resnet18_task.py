"""A Task as users write them: timm's ResNet-18 on Fashion-MNIST, enlarged to SIZE x SIZE, for benchmarks/searched.py.

No Python package ships trained weights of a ResNet-18, and one with random weights has nothing that it is right about. So it is
trained here, with the recipe of `train_fashion_mnist.py`, the first time that it is asked for: a quarter of an hour on 2 cores
with bfloat16. The weights stay in the user's cache folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from table_error import timm_model

from autocompress.files import replacing
from autocompress.tasks.fashion_mnist import TrainingInputs, load_images, normalise, split_held_out
from autocompress.tasks.task import Task
from autocompress.tasks.train_fashion_mnist import train

#: Pixels of a side: the last blocks see 2 x 2.
SIZE = 64
EPOCHS, LEARNING_RATE, SEED = 4, 0.1, 0


class _Enlarging(torch.nn.Module):
    """The network behind an enlargement of 28 x 28 images, in bfloat16 where it multiplies."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: torch.Tensor = self.network(enlarged(x))
        return logits.float()


@dataclass(frozen=True)
class _EnlargedBatches:
    """Batches of 28 x 28 images, enlarged one by one."""

    batches: Iterable[torch.Tensor]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (enlarged(batch) for batch in self.batches)


def enlarged(images: torch.Tensor) -> torch.Tensor:
    """Images of shape (samples, 1, 28, 28) as (samples, 1, SIZE, SIZE), bilinear."""
    return torch.nn.functional.interpolate(images, size=SIZE, mode="bilinear")


def network() -> torch.nn.Module:
    """timm's ResNet-18 for one input channel and ten classes, in eval mode, trained now where it was not yet."""
    model = timm_model("resnet18", in_chans=1, num_classes=10)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autocompress" / "benchmarks"
    weights = cache / f"resnet18_{SIZE}_{EPOCHS}.safetensors"
    if not weights.exists():
        data, held_out = split_held_out(load_images("train"))
        trained = train(_Enlarging(model), data, held_out, EPOCHS, LEARNING_RATE, SEED)
        tensors = {name.removeprefix("network."): tensor.contiguous() for name, tensor in trained.state_dict().items()}
        with replacing(weights) as temporary:
            safetensors.torch.save_file(tensors, temporary)
    model.load_state_dict(safetensors.torch.load_file(weights))
    return model.eval()


def resnet18() -> Task:
    """The Task: calibration images that training held out, evaluation on the 10,000 test images."""
    model = network()
    trained, held_out = split_held_out(load_images("train"))
    test = load_images("test")
    calibration = enlarged(normalise(held_out.images))
    return Task(
        name="resnet18",
        model=model,
        example_input=calibration[:1],
        calibration=calibration,
        evaluation=(enlarged(normalise(test.images)), test.labels),
        metric="top1",
        training=_EnlargedBatches(TrainingInputs(trained.images)),
    )
