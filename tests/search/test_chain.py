from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autocompress.api import profile
from autocompress.evaluators.error_table import ErrorTable
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.kernels.targets import load_target
from autocompress.search.chain import is_chain
from autocompress.search.problem import STEPS, Problem
from autocompress.spaces.capture import capture
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.space import Space
from autocompress.tasks.task import Task


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)


def row_of_ops(*last: nn.Module) -> nn.Module:
    """Three Groups, one of them with a depthwise member, ops between Layers, and maybe one behind the last."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Hardswish()),
        *(nn.Conv2d(32, 48, 1), nn.MaxPool2d(2)),
        *(nn.Conv2d(48, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Linear(64, 16), *last),
    )


@pytest.fixture(scope="module", params=[(), (nn.Sigmoid(), nn.Hardswish())], ids=["layer last", "ops last"])
def chain(request: pytest.FixtureRequest) -> tuple[Space, LatencyEvaluator]:
    """A chain of which all Plans can be counted."""
    torch.manual_seed(0)
    inputs = torch.randn(4, 3, 32, 32)
    task = Task("row", row_of_ops(*request.param).eval(), inputs[:1], inputs, inputs, "agreement")
    found = profile(task, load_target("pixel7"))
    options = {}
    for layer, offered in found.space.options.items():
        kept = [option for option in offered if option.structure == "dense" and option.bits >= 8]
        kept += [option for option in offered if option.structure == "channel" and option.sparsity == 0.5]
        kept += [option for option in offered if option.structure.startswith("block") and option.sparsity == 0.7][:1]
        options[layer] = tuple(kept)
    return Space(found.space.layers, found.space.groups, options), found.latency


def problem_of(chain: tuple[Space, LatencyEvaluator], seed: int) -> Problem:
    """With made-up errors."""
    space, latency = chain
    rng = np.random.default_rng(seed)
    errors = {
        layer: {option: float(rng.lognormal(0.0, 1.0) * (option.sparsity + 2.0 / option.bits)) for option in options}
        for layer, options in space.options.items()
    }
    return Problem(space, latency, ErrorTable(0.0, errors))


@pytest.fixture(scope="module")
def plans(chain: tuple[Space, LatencyEvaluator]) -> list[tuple[Plan, float]]:
    """All of them, with their milliseconds."""
    space, latency = chain
    names = [layer.name for layer in space.layers]
    found = set()
    for options in itertools.product(*(space.options[name] for name in names)):
        choices: dict[str, Option] = dict(zip(names, options, strict=True))
        if space.consistent(choices) == Plan.of(choices):
            found.add(Plan.of(choices))
    assert 1000 < len(found) < 100_000
    return [(plan, latency.ms(plan)) for plan in found]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.9))
def test_no_plan_of_a_chain_is_better(
    chain: tuple[Space, LatencyEvaluator], plans: list[tuple[Plan, float]], seed: int, share: float
) -> None:
    """But those that need the last steps of the budget, one for each Layer."""
    problem = problem_of(chain, seed)
    times = [ms for _, ms in plans]
    budget = min(times) + share * (max(times) - min(times))
    safe = budget * (1 - len(chain[0].layers) / STEPS)
    best = min((problem.expected(plan) for plan, ms in plans if ms <= safe), default=math.inf)
    found = problem.solve(budget)
    assert found is not None and found.ms == problem.latency.ms(found.plan) <= budget
    assert problem.space.consistent(dict(found.plan)) == found.plan
    assert found.expected == pytest.approx(problem.expected(found.plan))
    assert found.expected <= best + 1e-9


def test_below_the_fastest_there_is_none(chain: tuple[Space, LatencyEvaluator], plans: list[tuple[Plan, float]]) -> None:
    problem, fastest = problem_of(chain, 0), min(ms for _, ms in plans)
    assert problem.fastest().ms == fastest
    assert problem.solve(0.999 * fastest) is None
    assert problem.solve(fastest) is not None


@pytest.mark.parametrize(
    ("model", "expected"),
    [(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)), True), (Branched(), False), (row_of_ops(), True)],
)
def test_a_chain_is_known(model: nn.Module, expected: bool) -> None:
    assert is_chain(capture(model.eval(), torch.randn(1, 3, 16, 16))) == expected
