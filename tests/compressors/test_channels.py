from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autocompress.compressors.channels import Consumer, channel_columns, choose_channels, prunable, remove_columns
from autocompress.compressors.input_statistics import collect
from autocompress.compressors.pruning import to_matrix
from autocompress.compressors.reconstruction import curvature, relative_error
from autocompress.spaces.groups import Group, Span
from autocompress.spaces.layers import Layer
from autocompress.spaces.network import Network
from autocompress.spaces.space import kept_channels

SHARES = (0.4, 0.6)


@pytest.fixture(scope="module")
def consumers(network: Network, layers: dict[str, Layer], batches: list[Tensor]) -> dict[str, Consumer]:
    statistics = collect(network, list(layers.values()), batches)
    return {
        name: Consumer(layer, network.tensors[f"{name}.weight"], network.tensors[f"{name}.bias"], statistics[name])
        for name, layer in layers.items()
    }


def group_with(groups: tuple[Group, ...], producer: str) -> Group:
    return next(group for group in groups if any(span.op == producer for span in group.producers))


def read_by(group: Group, consumers: dict[str, Consumer]) -> list[Consumer]:
    return [consumers[name] for name in dict.fromkeys(span.op for span in group.consumers)]


@pytest.mark.parametrize("producer", ["expand", "project", "head"])
def test_choices(groups: tuple[Group, ...], consumers: dict[str, Consumer], producer: str) -> None:
    group = group_with(groups, producer)
    assert prunable(group)
    choices = choose_channels(group, read_by(group, consumers), SHARES)
    previous = torch.arange(group.channels)
    for share in SHARES:
        choice = choices[share]
        assert len(choice.kept) == kept_channels(group.channels, share)
        assert set(choice.kept.tolist()) <= set(previous.tolist())
        assert choice.kept.tolist() == sorted(choice.kept.tolist())
        previous = choice.kept
        for name, (weight, bias) in choice.compensated.items():
            consumer = consumers[name]
            removed = torch.ones(group.channels, dtype=torch.bool)
            removed[choice.kept] = False
            matrix, dense = to_matrix(weight)[0], to_matrix(consumer.weight)[0]
            gone = torch.zeros(matrix.shape[1], dtype=torch.bool)
            gone[channel_columns(group, consumer.layer)[removed].flatten()] = True
            assert (matrix[:, gone] == 0).all()
            gradient = ((matrix - dense) @ curvature(consumer.statistics).covariance[0])[:, ~gone]
            assert gradient.abs().max() < 1e-4 * (dense @ curvature(consumer.statistics).covariance[0]).abs().max()
            mean = consumer.statistics.mean[0]
            torch.testing.assert_close(matrix @ mean + bias, dense @ mean + consumer.bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("producer", ["expand", "project", "head"])
def test_compensation_beats_magnitude(groups: tuple[Group, ...], consumers: dict[str, Consumer], producer: str) -> None:
    group = group_with(groups, producer)
    ours = choose_channels(group, read_by(group, consumers), SHARES)
    plain = choose_channels(group, read_by(group, consumers), SHARES, "magnitude")
    for share in SHARES:
        assert 0 < ours[share].error < plain[share].error


def test_first_removal_is_the_cheapest_channel(groups: tuple[Group, ...], consumers: dict[str, Consumer]) -> None:
    """With nine channels the first level keeps eight: the one that goes is the best of all nine."""
    consumer = consumers["project"]
    group = Group("nine", 9, (Span("expand"),), (Span("project"),))
    kept = choose_channels(group, [consumer], (0.12,))[0.12].kept
    curve = curvature(consumer.statistics)
    dense = to_matrix(consumer.weight)
    losses = []
    for channel in range(9):
        alive = torch.ones(24, dtype=torch.bool)
        alive[channel] = False
        covariance = curve.covariance[0].double()
        new = torch.zeros_like(dense)
        target = covariance[alive] @ dense[0].T.double()
        new[0][:, alive] = torch.linalg.solve(covariance[alive][:, alive], target).T.float()
        losses.append(relative_error(new, dense, curve.covariance))
    assert set(range(9)) - set(kept.tolist()) == {losses.index(min(losses))}


def test_a_share_does_not_depend_on_the_others(groups: tuple[Group, ...], consumers: dict[str, Consumer]) -> None:
    group = group_with(groups, "expand")
    alone = choose_channels(group, read_by(group, consumers), (0.5,))[0.5]
    among = choose_channels(group, read_by(group, consumers), (0.8, 0.5, 0.1))[0.5]
    assert torch.equal(alone.kept, among.kept)
    assert torch.equal(alone.compensated["project"][0], among.compensated["project"][0])


def test_columns_behind_a_flatten(groups: tuple[Group, ...], layers: dict[str, Layer], network: Network) -> None:
    group = group_with(groups, "head")
    columns = channel_columns(group, layers["fc"])
    assert columns.shape == (10, 16)
    assert columns[3].tolist() == list(range(48, 64))
    weight = network.tensors["fc.weight"]
    cut = remove_columns(weight, group, layers["fc"], torch.tensor([0, 3]))
    assert torch.equal(cut[:, 48:64], weight[:, 48:64])
    assert (cut[:, 16:48] == 0).all()
    assert (cut[:, 64:] == 0).all()
    assert (weight[:, 16:48] != 0).any()


def test_columns_of_a_wide_kernel(groups: tuple[Group, ...], layers: dict[str, Layer], network: Network) -> None:
    group = group_with(groups, "project")
    cut = remove_columns(network.tensors["spread.weight"], group, layers["spread"], torch.tensor([1]))
    assert (cut[:, [0, *range(2, 8)]] == 0).all()
    assert torch.equal(cut[:, 1], network.tensors["spread.weight"][:, 1])


def test_frozen_groups_are_not_prunable(groups: tuple[Group, ...]) -> None:
    assert not prunable(group_with(groups, "fc"))
    assert not prunable(group_with(groups, "spread"))
