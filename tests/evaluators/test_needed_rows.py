"""The rows that `bench` measures for a task are those that its Plans ask for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from autocompress.api import Prepared, profile
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.evaluators.needed_rows import MOST_CHOICES, needed_rows
from autocompress.kernels.table import LatencyTable
from autocompress.kernels.targets import load_target
from autocompress.spaces.plan import Plan
from autocompress.spaces.space import build_space
from autocompress.tasks.task import Task


def asked(tiny: Prepared) -> LatencyEvaluator:
    """A new evaluator of the tiny task, whose table has been asked for nothing yet."""
    profile = tiny.profile
    table = LatencyTable(profile.latency.table.target, profile.latency.table.core)
    return LatencyEvaluator(profile.network, profile.space.groups, table)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9))
def test_plans_ask_for_no_other_rows(tiny: Prepared, random_plan: Callable[[int], Plan], seed: int) -> None:
    latency = asked(tiny)
    latency(random_plan(seed))
    assert latency.table.rows
    assert latency.table.rows.keys() <= set(needed_rows(tiny.profile.latency))


def test_the_space_asks_for_no_other_rows_and_they_come_first(tiny: Prepared) -> None:
    latency, space = asked(tiny), tiny.profile.space
    build_space(space.layers, space.groups, latency.supports, latency.alone_microseconds)
    needed = needed_rows(tiny.profile.latency)
    assert len(needed) == len(set(needed))
    first = latency.table.rows.keys()
    assert first <= set(needed)
    whole = {latency.layer_geometry(layer.name, {}) for layer in space.layers}
    layers = [key.geometry in whole for key in needed if key.geometry.op in ("conv", "depthwise", "linear")]
    assert layers == sorted(layers, reverse=True)
    assert 0 < sum(layers) < len(layers)


def test_every_needed_row_can_be_had(tiny: Prepared) -> None:
    latency = asked(tiny)
    for key in needed_rows(latency):
        assert latency.table.row(key.geometry, key.structure, key.sparsity, key.bits).microseconds > 0


class Concatenated(nn.Module):
    """Many groups meet in one layer."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, 8, 1) for _ in range(branches))
        self.last = nn.Conv2d(8 * branches, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.cat([branch(x) for branch in self.branches], 1)).mean((2, 3))


def test_many_groups_do_not_explode() -> None:
    x = torch.zeros(1, 3, 8, 8)
    found = profile(Task("cat", Concatenated(12).eval(), x, x, x, "agreement"), load_target("pixel7"))
    assert len(found.space.groups) >= 12
    needed = needed_rows(found.latency)
    assert len(needed) < 100 * MOST_CHOICES
    last = {key.geometry.in_channels for key in needed if key.geometry.op == "conv" and key.geometry.in_channels > 8}
    # All alike, and one branch alone.
    assert {96, 92, 48} <= last
