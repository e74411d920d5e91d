"""A small network with every kind of Layer, its groups and its calibration data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autocompress.spaces.capture import capture
from autocompress.spaces.groups import Group, find_groups
from autocompress.spaces.layers import Layer, find_layers
from autocompress.spaces.network import Network


class Residual(nn.Module):
    """Stem, an inverted residual block, a grouped convolution, and a linear behind a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.expand = nn.Conv2d(8, 24, 1)
        self.depthwise = nn.Conv2d(24, 24, 3, 1, 1, groups=24)
        self.project = nn.Conv2d(24, 8, 1)
        self.spread = nn.Conv2d(8, 16, 3, 2, 1)
        self.grouped = nn.Conv2d(16, 16, 3, 1, 1, groups=2)
        self.head = nn.Conv2d(16, 10, 1)
        self.fc = nn.Linear(10 * 16, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.project(self.depthwise(self.expand(x).relu()).relu())
        x = self.grouped(self.spread(x).relu()).relu()
        return self.fc(self.head(x).relu().flatten(1))


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="package")
def network() -> Network:
    torch.manual_seed(0)
    return capture(Residual().eval(), torch.randn(1, 3, 16, 16))


@pytest.fixture(scope="package")
def layers(network: Network) -> dict[str, Layer]:
    return {layer.name: layer for layer in find_layers(network)}


@pytest.fixture(scope="package")
def groups(network: Network) -> tuple[Group, ...]:
    return find_groups(network)


@pytest.fixture(scope="package")
def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 3, 16, 16, generator=generator) + 0.5 for _ in range(3)]
