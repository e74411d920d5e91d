from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from autocompress.reports.result import StudyResult


def _load_sample() -> ModuleType:
    path = Path(__file__).parent / "sample.py"
    spec = importlib.util.spec_from_file_location("reports_sample", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def result() -> StudyResult:
    """A study of 159 trials within a budget of 5 ms."""
    value: StudyResult = _load_sample().sample_result()
    return value
