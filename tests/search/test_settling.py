from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from autocompress.evaluators.error_table import ErrorTable
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.kernels.table import LatencyTable
from autocompress.kernels.targets import load_target
from autocompress.search.problem import Limits, Problem
from autocompress.search.settling import Settling
from autocompress.spaces.capture import capture
from autocompress.spaces.layers import find_layers
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.space import build_space


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Pairs of a depthwise and a 1x1 convolution, with made-up errors: many Layers in two types, and no Groups."""
    parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU()]
    for _ in range(8):
        parts += [nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU()]
    network = capture(nn.Sequential(*parts).eval(), torch.zeros(1, 3, 32, 32))
    latency = LatencyEvaluator(network, (), LatencyTable.for_target(load_target("pixel7"), None, 0.5))
    space = build_space(find_layers(network), (), latency.supports, latency.alone_microseconds)
    chooser = random.Random(0)

    def error(option: Option) -> float:
        return {32: 0.0, 16: 1e-4, 8: 0.01, 4: 0.2}[option.bits] + option.sparsity**2 * chooser.uniform(1.5, 2.5)

    errors = {name: {option: error(option) for option in options} for name, options in space.options.items()}
    return Problem(space, latency, ErrorTable(0.0, errors))


def test_plans_beside_a_solution_come_within_its_budget(problem: Problem) -> None:
    """A swapped Layer may compute in another type: what its conversions cost must be saved, too."""
    dense_ms, fastest_ms = problem.latency.ms(problem.base), problem.fastest().ms
    budget = Limits(0.35 * dense_ms + 0.65 * fastest_ms)
    found = problem.solve(budget.ms)
    assert found is not None
    settling = Settling(problem, sized=False)
    names = [layer.name for layer in problem.space.layers]
    starts: list[Plan] = []
    settled: list[Plan] = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        plan = found.plan
        for name in rng.choice(names, 2, replace=False):
            plan = settling.neighbour(plan, str(name), 2, rng)
        if settling.fits(plan, budget):
            continue
        starts.append(plan)
        within = settling.settle(plan, dict.fromkeys(names, 1.0), budget, rng)
        if within is not None:
            assert problem.latency(within).ms <= budget.ms
            settled.append(within)
    assert len(starts) > 20
    assert len(settled) > 0.6 * len(starts)
    assert len({plan for plan in settled if plan != found.plan}) >= 5
