"""Shared set-up of the tests."""

from __future__ import annotations

import importlib.util
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autocompress.api import Prepared, prepare
from autocompress.evaluators.error_table import ErrorTable, measure_errors
from autocompress.kernels.targets import load_target
from autocompress.progress import Phases, Silent
from autocompress.search.problem import Problem
from autocompress.settings import SearchSettings
from autocompress.spaces.plan import Plan
from autocompress.tasks.task import Task

# timm imports torchvision, whose PyPI wheel registers CUDA operators on import and fails beside a CPU-only torch.
# Nothing here needs these operators: with this stub the pure-Python part (10 MB of wheels, --no-deps) is enough.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_task() -> Task:
    """The task of tests/e2e/tiny.py, trained once in a run."""
    path = Path(__file__).parent / "e2e" / "tiny.py"
    spec = importlib.util.spec_from_file_location("e2e_tiny", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task: Task = module.task()
    return task


@pytest.fixture(scope="session")
def tiny(tiny_task: Task, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The tiny task on pixel7, with its layer database: any of its Plans can be scored."""
    settings = SearchSettings(cache=tmp_path_factory.mktemp("cache"), search_samples=48)
    return prepare(tiny_task, load_target("pixel7"), settings, Phases(Silent()))


@pytest.fixture(scope="session")
def tiny_errors(tiny: Prepared, tmp_path_factory: pytest.TempPathFactory) -> ErrorTable:
    """The measured error table of the tiny task."""
    evaluator = tiny.evaluator
    return measure_errors(
        tiny.profile.space,
        lambda layer, option: evaluator.database.errors[layer][option],
        lambda group, share: evaluator.database.channels(group, share).error,
        evaluator.ordinary_loss,
        tmp_path_factory.mktemp("errors") / "losses.json",
        "tiny",
        lambda done, total, what: None,
    )


@pytest.fixture(scope="session")
def tiny_problem(tiny: Prepared, tiny_errors: ErrorTable) -> Problem:
    """The choice of a Plan for the tiny task."""
    return Problem(tiny.profile.space, tiny.profile.latency, tiny_errors)


@pytest.fixture(scope="session")
def random_plan(tiny: Prepared) -> Callable[[int], Plan]:
    """A consistent Plan of the tiny task, by seed."""
    space = tiny.profile.space

    def draw(seed: int) -> Plan:
        chooser = random.Random(seed)
        return space.consistent({layer.name: chooser.choice(space.options[layer.name]) for layer in space.layers})

    return draw
