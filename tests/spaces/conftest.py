"""Models for the tests of spaces: timm's with non-trivial statistics, random ones, and a module made of a function."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from autocompress.spaces.capture import capture
from autocompress.spaces.network import Network

#: Small enough for quick tests, large enough for every stride of the timm models.
SIZE = (3, 64, 64)


class FunctionModel(nn.Module):
    """`function(self, x)` as a module, with the given submodules, parameters and buffers."""

    def __init__(self, function: Callable[[nn.Module, Tensor], object], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


class RandomCNN(nn.Module):
    """A random network of convolutions, pre-activations, residual adds, gates, concatenations, slices and shuffles."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        self.parts = nn.ModuleList()
        self.steps: list[tuple[str, tuple[int, ...]]] = []
        shapes = [(3, 12, 12)]
        for _ in range(self.random.randint(3, 9)):
            self.grow(shapes)
        self.head = nn.Linear(shapes[-1][0] * (1 if seed % 2 else shapes[-1][1] * shapes[-1][2]), 5)
        self.pool = nn.AdaptiveAvgPool2d(1) if seed % 2 else nn.Identity()

    def grow(self, shapes: list[tuple[int, int, int]]) -> None:
        """Append one step and the shape of its result."""
        source = self.random.randrange(max(0, len(shapes) - 3), len(shapes))
        channels, height, width = shapes[source]
        same = [i for i, shape in enumerate(shapes) if shape == shapes[source]]
        aligned = [i for i, shape in enumerate(shapes) if shape[1:] == shapes[source][1:]]
        kind = self.random.choice(["conv", "conv", "conv", "depthwise", "norm", "add", "gate", "cat", "split", "pool", "pad"])
        if kind in ("conv", "depthwise"):
            groups = channels if kind == "depthwise" else self.random.choice([g for g in (1, 1, 2) if channels % g == 0])
            out = channels * self.random.choice([1, 2]) if kind == "depthwise" else self.random.choice([2, 4, 6])
            kernel, stride = self.random.choice([1, 3]), self.random.choice([1, 1, 2])
            conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=self.random.random() < 0.5)
            self.parts.append(
                nn.Sequential(conv, nn.BatchNorm2d(out), self.random.choice([nn.ReLU6(), nn.Hardswish(), nn.Identity()]))
            )
            shapes.append((out, (height - 1) // stride + 1, (width - 1) // stride + 1))
            self.steps.append(("call", (source,)))
        elif kind == "norm":
            self.parts.append(nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)))
            shapes.append(shapes[source])
            self.steps.append(("call", (source,)))
        elif kind in ("add", "cat"):
            self.parts.append(nn.Identity())
            other = self.random.choice(same if kind == "add" else aligned)
            shapes.append(shapes[source] if kind == "add" else (channels + shapes[other][0], height, width))
            self.steps.append((kind, (source, other)))
        elif kind == "gate":
            self.parts.append(
                nn.Sequential(
                    nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 3, 1), nn.ReLU(), nn.Conv2d(3, channels, 1), nn.Hardsigmoid()
                )
            )
            shapes.append(shapes[source])
            self.steps.append(("gate", (source,)))
        elif kind == "split" and channels % 2 == 0:
            self.parts.append(nn.Identity())
            shapes.append(shapes[source])
            self.steps.append((self.random.choice(["swap", "shuffle"]), (source,)))
        elif kind == "pool" and min(height, width) > 2:
            self.parts.append(self.random.choice([nn.MaxPool2d(2), nn.AvgPool2d(2)]))
            shapes.append((channels, height // 2, width // 2))
            self.steps.append(("call", (source,)))
        else:
            self.parts.append(nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, 4, 2)))
            shapes.append((4, height, width))
            self.steps.append(("call", (source,)))

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for part, (kind, sources) in zip(self.parts, self.steps, strict=True):
            first = values[sources[0]]
            if kind == "call":
                values.append(part(first))
            elif kind == "add":
                values.append(torch.relu(first + values[sources[1]]))
            elif kind == "cat":
                values.append(torch.cat([first, values[sources[1]]], 1))
            elif kind == "gate":
                values.append(first * part(first))
            elif kind == "swap":
                left, right = first.chunk(2, 1)
                values.append(torch.cat([right, left], 1))
            else:
                batch, channels, height, width = first.shape
                values.append(first.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(first.shape))
        return self.head(self.pool(values[-1]).flatten(1))


def randomise_statistics(model: nn.Module, seed: int) -> nn.Module:
    """Give every batch norm statistics and gains that a folding error would show in; return the model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):
                if tensor is None:
                    continue
                tensor.detach().copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return model.eval()


@functools.cache
def timm_pair(name: str) -> tuple[nn.Module, Network]:
    torch.manual_seed(0)
    model = randomise_statistics(timm.create_model(name), 0)
    return model, capture(model, torch.randn(1, *SIZE))


@pytest.fixture(scope="session")
def timm_model() -> Callable[[str], tuple[nn.Module, Network]]:
    """timm model by name, with its Network; captured once in a run."""
    return timm_pair


@functools.cache
def random_pair(seed: int) -> tuple[nn.Module, Network]:
    model = randomise_statistics(RandomCNN(seed), seed)
    return model, capture(model, torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="session")
def random_cnn() -> Callable[[int], tuple[nn.Module, Network]]:
    """Random CNN for inputs of shape (batch, 3, 12, 12) by seed, with its Network; captured once in a run."""
    return random_pair


@pytest.fixture(scope="session")
def function_model() -> Callable[..., nn.Module]:
    """A model made of a function of (model, x) and parts, in eval mode."""
    return lambda function, **parts: randomise_statistics(FunctionModel(function, **parts), 0)
