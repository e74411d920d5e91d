"""benchmarks/peer_layers.py: its layers are those of the networks that it names. Read as text: its runtimes are an extra."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import timm
import torch

from autocompress.spaces.capture import capture
from autocompress.spaces.layers import find_layers

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "peer_layers.py"


def layers() -> dict[str, tuple[tuple[int, int, int], ...]]:
    for node in ast.parse(SCRIPT.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "LAYERS":
            assert node.value is not None
            found: dict[str, tuple[tuple[int, int, int], ...]] = ast.literal_eval(node.value)
            return found
    raise AssertionError("LAYERS is gone")


def test_names_of_networks() -> None:
    assert set(layers()) == {"efficientnet_lite0", "mobilenetv4_conv_small", "resnet50"}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenetv4_conv_small", "resnet50"])
def test_layers_are_those_of_the_network(name: str) -> None:
    network = capture(timm.create_model(name, pretrained=False).eval(), torch.zeros(1, 3, 224, 224))
    pointwise = {
        (layer.in_channels, layer.out_channels, layer.out_size[0])
        for layer in find_layers(network)
        if layer.kind == "conv2d" and (layer.kernel, layer.stride, layer.groups) == ((1, 1), (1, 1), 1)
    }
    assert len(layers()[name]) == len(pointwise)
    assert set(layers()[name]) == pointwise
