"""Fashion-MNIST: two small networks trained from scratch by `train_fashion_mnist.py`, and the data they saw.

The 70,000 grey 28x28 images of Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
Machine Learning Algorithms" (arXiv:1708.07747). The search sees a slice of the training images; the report's numbers
come from the 10,000 test images, which neither training nor search has used.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import nn

from ..errors import UserError
from ..files import replacing
from .loader import register_task
from .task import Task


class _Conv(nn.Sequential):
    """Convolution, batch norm and an optional activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = None,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        if activation is not None:
            self.append(activation())


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al., MobileNetV2, arXiv:1801.04381)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = _Conv(in_channels, hidden, 1, activation=nn.ReLU6) if expansion > 1 else nn.Identity()
        self.depthwise = _Conv(hidden, hidden, 3, stride, groups=hidden, activation=nn.ReLU6)
        self.project = _Conv(hidden, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class MobileNet(nn.Module):
    """A MobileNetV2 for 28x28 grey images: (batch, 1, 28, 28) -> logits (batch, 10)."""

    #: expansion, output channels, blocks, stride of the first block
    STAGES = ((1, 32, 1, 1), (4, 32, 2, 1), (4, 64, 3, 2))

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(1, 32, 3, 2, activation=nn.ReLU6)
        blocks: list[nn.Module] = []
        channels = 32
        for expansion, out_channels, count, stride in self.STAGES:
            for index in range(count):
                blocks.append(_InvertedResidual(channels, out_channels, stride if index == 0 else 1, expansion))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _Conv(channels, 256, 1, activation=nn.ReLU6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.pool(self.head(self.blocks(self.stem(x))))
        logits: torch.Tensor = self.classifier(features.flatten(1))
        return logits


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., arXiv:1512.03385)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = _Conv(in_channels, out_channels, 3, stride, activation=nn.ReLU)
        self.second = _Conv(out_channels, out_channels, 3)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else _Conv(in_channels, out_channels, 1, stride)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.activation(self.second(self.first(x)) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """A residual network for 28x28 grey images: (batch, 1, 28, 28) -> logits (batch, 10)."""

    #: output channels, stride of each block
    BLOCKS = ((32, 1), (64, 2), (64, 1))

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(1, 32, 3, 2, activation=nn.ReLU)
        blocks: list[nn.Module] = []
        channels = 32
        for out_channels, stride in self.BLOCKS:
            blocks.append(_BasicBlock(channels, out_channels, stride))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.pool(self.blocks(self.stem(x))).flatten(1))
        return logits


#: name in the training script and in the weight files -> network
NETWORKS: dict[str, type[nn.Module]] = {"mobilenet": MobileNet, "resnet": ResNet}

#: Where `train_fashion_mnist.py` writes, and the tasks read.
WEIGHTS = Path(__file__).parent / "weights"

#: sha256 of the unpacked files: the same whoever compressed them.
CHECKSUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

#: Where Debian's package dataset-fashion-mnist puts the files.
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")

#: The authors' own mirror.
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

#: Training images that training leaves out: they make its decisions, and are the search's calibration.
HELD_OUT = 5_000
#: Images that fine-tuning gets at a time.
TRAINING_BATCH = 64

_MEAN, _DEVIATION = 72.94, 90.02  # of the pixels of the training images


@dataclass(frozen=True)
class Images:
    """Labelled images: uint8 of shape (samples, 1, 28, 28), and int64 labels of shape (samples,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def take(self, indices: torch.Tensor) -> Images:
        """The images at `indices`, in that order."""
        return Images(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class TrainingInputs:
    """All images that training may see, for fine-tuning: normalised batches, in a new order every time.

    Attributes:
        images: uint8, shape (samples, 1, 28, 28).
    """

    images: torch.Tensor
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def __iter__(self) -> Iterator[torch.Tensor]:
        order = torch.randperm(len(self.images), generator=self.generator)
        for indices in torch.split(order, TRAINING_BATCH):
            yield normalise(self.images[indices])


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 pixels to the float32 inputs of the networks: zero mean and unit variance over the training images."""
    return (images.float() - _MEAN) / _DEVIATION


def load_images(part: Literal["train", "test"], data: Path | None = None) -> Images:
    """The 60,000 training or the 10,000 test images.

    They are read from the folder `data`, else the folder in the environment variable AUTOCOMPRESS_DATA, else where Debian's
    dataset-fashion-mnist puts them, else downloaded once into the user's cache folder. Each file is checked against its sha256.

    Raises:
        UserError: a file is missing, damaged, or cannot be downloaded.
    """
    prefix = "train" if part == "train" else "t10k"
    pixels, classes = (_read(f"{prefix}-{kind}-ubyte", data) for kind in ("images-idx3", "labels-idx1"))
    # An idx file is a header (magic number and sizes, 4 bytes each), then the bytes in C order.
    images = torch.frombuffer(pixels, dtype=torch.uint8, offset=16).reshape(-1, 1, 28, 28)
    labels = torch.frombuffer(classes, dtype=torch.uint8, offset=8).long()
    return Images(images, labels)


def split_held_out(images: Images) -> tuple[Images, Images]:
    """The training images that train, and the HELD_OUT ones that do not: always the same ones."""
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))
    return images.take(order[HELD_OUT:]), images.take(order[:HELD_OUT])


@register_task("fashion-mnist", "small MobileNetV2 on Fashion-MNIST: 28x28 grey images, 10 classes, top-1 on 10,000 test images")
def fashion_mnist(data: Path | None = None) -> Task:
    """The Task of the MobileNet; `data` is a folder with the four idx .gz files."""
    return _task("fashion-mnist", "mobilenet", data)


@register_task(
    "fashion-mnist-resnet", "small ResNet on Fashion-MNIST: 28x28 grey images, 10 classes, top-1 on 10,000 test images"
)
def fashion_mnist_resnet(data: Path | None = None) -> Task:
    """The Task of the ResNet; `data` is a folder with the four idx .gz files."""
    return _task("fashion-mnist-resnet", "resnet", data)


def load_network(network: str) -> nn.Module:
    """A trained network of `NETWORKS`, in eval mode."""
    model = NETWORKS[network]()
    model.load_state_dict(safetensors.torch.load_file(WEIGHTS / f"fashion_mnist_{network}.safetensors"))
    return model.eval()


def _task(name: str, network: str, data: Path | None) -> Task:
    model = load_network(network)
    trained, held_out = split_held_out(load_images("train", data))
    calibration = normalise(held_out.images)
    test = load_images("test", data)
    return Task(
        name=name,
        model=model,
        example_input=calibration[:1],
        calibration=calibration,
        evaluation=(normalise(test.images), test.labels),
        metric="top1",
        training=TrainingInputs(trained.images),
    )


def _read(name: str, data: Path | None) -> bytearray:
    """The unpacked file `name`, from wherever it is."""
    folder = data
    if folder is None and os.environ.get("AUTOCOMPRESS_DATA"):
        folder = Path(os.environ["AUTOCOMPRESS_DATA"])
    packed = f"{name}.gz"
    if folder is not None:
        if not (folder / packed).is_file():
            raise UserError(
                f"{folder} has no file {packed}: name the folder that holds {', '.join(f'{key}.gz' for key in CHECKSUMS)}."
            )
        return _unpack(name, (folder / packed).read_bytes(), str(folder / packed))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autocompress" / "fashion-mnist"
    for folder in (SYSTEM_FOLDER, cache):
        if (folder / packed).is_file():
            return _unpack(name, (folder / packed).read_bytes(), str(folder / packed))
    url = f"{MIRROR}/{packed}"
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"Fashion-MNIST is not on this machine, and {url} cannot be downloaded ({error}). Install the Debian package "
            "dataset-fashion-mnist, or put the four .gz files into a folder and name it in AUTOCOMPRESS_DATA, or go online."
        ) from error
    unpacked = _unpack(name, content, url)
    with replacing(cache / packed) as temporary:
        temporary.write_bytes(content)
    return unpacked


def _unpack(name: str, content: bytes, origin: str) -> bytearray:
    try:
        unpacked = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{origin} is not a good gzip file ({error}): put a good copy in its place.") from error
    if hashlib.sha256(unpacked).hexdigest() != CHECKSUMS[name]:
        raise UserError(f"{origin} is not Fashion-MNIST's file of that name (its sha256 differs): put a good copy in its place.")
    return bytearray(unpacked)
