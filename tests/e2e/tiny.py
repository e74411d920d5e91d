"""A task small enough for whole runs in tests: a residual network with depthwise layers, on images made of blobs."""

from __future__ import annotations

import torch
from torch import nn

from autocompress.tasks.task import Task

CLASSES = 6


class Block(nn.Module):
    """A residual inverted bottleneck."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
        )
        self.project = nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project(self.depthwise(self.expand(x)))


class Tiny(nn.Module):
    """Stem, two blocks, head: 11 layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(Block(16, 48), Block(16, 48))
        self.head = nn.Sequential(nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU6())
        self.classifier = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.head(self.blocks(self.stem(x))).mean((2, 3)))


def images(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one coloured blob, whose class is its colour and its half; shape (count, 3, 24, 24), labels (count,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    pictures = 0.3 * torch.randn(count, 3, 24, 24, generator=generator)
    for picture, label in zip(pictures, labels, strict=True):
        row, column = (int(torch.randint(2, 6, (1,), generator=generator)) for _ in range(2))
        picture[int(label) % 3, row + 12 * (int(label) // 3) : row + 12 * (int(label) // 3) + 5, column : column + 12] += 1.5
    return pictures, labels


def trained() -> nn.Module:
    """The network after a few seconds of training: good enough that compression has something to lose."""
    torch.manual_seed(0)
    model = Tiny()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(24):
        pictures, labels = images(48, 1000 + step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pictures), labels).backward()
        optimizer.step()
    return model.eval()


def task() -> Task:
    """Labelled, so that its metric is top-1."""
    calibration, _ = images(96, 1)
    evaluation = images(128, 2)
    return Task("tiny", trained(), calibration[:1], calibration, evaluation, "top1")
