from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autocompress.compressors.input_statistics import (
    BINS,
    DAMPINGS,
    choose_damping,
    collect,
    collect_activations,
    input_patches,
)
from autocompress.compressors.pruning import to_matrix
from autocompress.errors import UserError
from autocompress.spaces.execute import run
from autocompress.spaces.layers import Layer
from autocompress.spaces.network import Network

LAYERS = ("stem", "expand", "depthwise", "project", "spread", "grouped", "head", "fc")
ALL = 1 << 20


def reads(network: Network, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Input and pre-activation output of a Layer."""
    seen = {}
    run(network, x, lambda op, inputs, output: seen.update({op.name: inputs[0]}))
    op = network.op(name)
    weight, bias = network.tensors[f"{name}.weight"], network.tensors[f"{name}.bias"]
    if op.kind == "linear":
        return seen[name], F.linear(seen[name], weight, bias)
    padding = op.attributes["padding"][:2]
    return seen[name], F.conv2d(seen[name], weight, bias, op.attributes["stride"], padding, 1, op.attributes["groups"])


@pytest.mark.parametrize("name", LAYERS)
def test_patches_times_weights_are_the_outputs(
    network: Network, layers: dict[str, Layer], batches: list[Tensor], name: str
) -> None:
    layer = layers[name]
    x, output = reads(network, name, batches[0])
    patches = input_patches(layer, x, ALL, torch.Generator())
    weight = to_matrix(network.tensors[f"{name}.weight"], layer.groups)
    assert patches.shape == (layer.groups, 16 * layer.out_size[0] * layer.out_size[1], layer.columns)
    found = (patches @ weight.transpose(1, 2)).permute(1, 0, 2).flatten(1) + network.tensors[f"{name}.bias"]
    wanted = output.permute(0, 2, 3, 1).flatten(0, 2) if output.dim() == 4 else output
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_moments_are_those_of_the_patches(network: Network, layers: dict[str, Layer], batches: list[Tensor], name: str) -> None:
    layer = layers[name]
    found = collect(network, [layer], batches, max_positions=ALL)[name]
    patches = input_patches(layer, reads(network, name, torch.cat(batches))[0], ALL, torch.Generator()).double()
    centred = patches - patches.mean(1, keepdim=True)
    wanted = centred.transpose(1, 2) @ centred / patches.shape[1]
    assert found.positions == patches.shape[1]
    torch.testing.assert_close(found.mean.double(), patches.mean(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.covariance.double(), wanted, rtol=1e-3, atol=1e-4)
    assert found.damping in DAMPINGS


def test_subsampling_is_bounded_and_repeatable(network: Network, layers: dict[str, Layer], batches: list[Tensor]) -> None:
    chosen = [layers["stem"], layers["depthwise"], layers["project"]]
    first = collect(network, chosen, batches, max_positions=480)
    again = collect(network, chosen[::-1], batches, max_positions=480)
    everything = collect(network, chosen, batches, max_positions=ALL)
    assert {name: found.positions for name, found in first.items()} == {"stem": 480, "depthwise": 96, "project": 480}
    for name, found in first.items():
        assert torch.equal(found.covariance, again[name].covariance)
        scale = everything[name].covariance.diagonal(dim1=1, dim2=2).mean()
        assert (found.covariance - everything[name].covariance).abs().mean() < 0.3 * scale


def test_damping_grows_when_there_is_little_data() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(60, 60, generator=generator)
    weight = torch.randn(1, 20, 60, generator=generator)

    def covariance(samples: int) -> Tensor:
        x = torch.randn(samples, 60, generator=generator) @ mixing
        return (x.T @ x / samples)[None]

    plenty = choose_damping(weight, covariance(50000), covariance(50000))
    scarce = choose_damping(weight, covariance(40), covariance(40))
    assert plenty == min(DAMPINGS)
    assert scarce >= 0.03


def test_a_channel_that_is_constant_in_one_half_is_damped() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn((4, 1, 9), generator=generator)
    halves = [torch.randn((4, 9, 400), generator=generator) for _ in range(2)]
    covariances = [half @ half.transpose(1, 2) / 400 for half in halves]
    covariances[0][2] = -1e-9  # a constant's variance, but for rounding
    first, second = covariances
    assert choose_damping(weight, first, second) == choose_damping(weight, second, first)


def test_one_sample_is_enough(network: Network, layers: dict[str, Layer], batches: list[Tensor]) -> None:
    found = collect(network, list(layers.values()), [batches[0][:1]])
    assert set(found) == set(LAYERS)
    assert all(statistics.covariance.isfinite().all() for statistics in found.values())


def test_activations(network: Network, batches: list[Tensor]) -> None:
    found = collect_activations(network, batches)
    assert set(found) == {"input", *(op.name for op in network.ops)}
    values = torch.cat(batches)
    assert (found["input"].low, found["input"].high) == (float(values.min()), float(values.max()))
    for statistics in found.values():
        assert statistics.counts.shape == statistics.centres.shape == (BINS,)
        assert int(statistics.counts.sum()) > 0
        assert (statistics.centres.diff() > 0).all() or statistics.low == statistics.high
        assert float(statistics.centres[0]) >= statistics.low - 1e-6
        assert float(statistics.centres[-1]) <= statistics.high + 1e-6
    mean = (found["stem"].centres * found["stem"].counts).sum() / found["stem"].counts.sum()
    assert float(mean) == pytest.approx(float(reads(network, "stem", values)[1].relu().mean()), rel=0.05)
    assert found["stem"].low == 0.0


def test_bad_calibration_is_refused(network: Network, layers: dict[str, Layer], batches: list[Tensor]) -> None:
    with pytest.raises(UserError, match="no calibration data"):
        collect(network, [layers["stem"]], [])
    with pytest.raises(UserError, match="no calibration data"):
        collect_activations(network, [])
    with pytest.raises(UserError, match="stem are not finite"):
        collect(network, [layers["stem"]], [batches[0] * torch.inf])
    with pytest.raises(UserError, match="input is not finite"):
        collect_activations(network, [batches[0] * torch.nan])
