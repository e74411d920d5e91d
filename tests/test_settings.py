from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocompress.errors import UserError
from autocompress.settings import Budget, SearchSettings, cache_folder, parse_objectives, parse_size


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("5ms", 5.0),
        ("800us", 0.8),
        ("800µs", 0.8),
        ("0.01s", 10.0),
        (" 5 MS ", 5.0),
        (".5ms", 0.5),
        ("1e-1ms", 0.1),
        ("+2ms", 2.0),
    ],
)
def test_times(text: str, ms: float) -> None:
    budget = Budget.parse(text)
    assert budget.ms == pytest.approx(ms) and budget.speedup is None


def test_speed_ups() -> None:
    assert Budget.parse("2x") == Budget(speedup=2.0)
    assert str(Budget.parse("1.5x")) == "1.5x"


@pytest.mark.parametrize("text", ["", "5", "ms", "fast", "5 minutes", "5ms5", "nanms", "infms", "1e", "--5ms", "5ms\n2x"])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a time: write it like"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["0ms", "-5ms", "-2x", "0x", "1e999ms"])
def test_what_is_not_above_zero_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be above zero"):
        Budget.parse(text)


@given(st.floats(1e-3, 1e5).map(lambda value: float(f"{value:.5g}")), st.sampled_from(["ms", "x"]))
def test_budgets_survive_being_written(value: float, unit: str) -> None:
    budget = Budget.parse(f"{value!r}{unit}")
    again = Budget.parse(str(budget))
    assert (again.ms, again.speedup) == (pytest.approx(budget.ms), pytest.approx(budget.speedup))


@given(st.floats(1e-6, 1e6))
def test_written_budgets_are_exactly_the_same(value: float) -> None:
    """`resume` reads the budget back, and a budget that changed in the last digit would be another study."""
    budget = Budget(ms=value)
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    "wrong",
    [
        {"trials": 0},
        {"timeout": 0.0},
        {"timeout": -1.0},
        {"search_samples": 0},
        {"seed": -1},
        {"study": "a/b"},
        {"study": "../x"},
        {"study": ""},
        {"max_size": 0},
        {"objectives": ("size", "latency")},
        {"objectives": ("speed",)},
        {"device": "local"},
    ],
    ids=str,
)
def test_bad_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        SearchSettings(**wrong)


@pytest.mark.parametrize("pessimism", [0.49, 0.995, -1.0, float("nan")])
def test_pessimism_out_of_range(pessimism: float) -> None:
    with pytest.raises(UserError, match=r"--pessimism .* from 0\.5 to 0\.99"):
        SearchSettings(pessimism=pessimism)


def test_settings_are_written_for_resume() -> None:
    value = SearchSettings(budget=Budget(ms=5.0), trials=7, sampler="tpe", core="A78").to_json()
    assert value["budget"] == "5ms"
    names = {
        "trials",
        "seed",
        "sampler",
        "storage",
        "core",
        "search_samples",
        "method",
        "pessimism",
        "finetune",
        "device",
        "max_size",
    }
    assert set(value) == names | {"budget", "objectives"}
    assert value["max_size"] is None and parse_objectives(value["objectives"]) == ("latency",)
    sized = SearchSettings(max_size=4_000_000, objectives=("latency", "size")).to_json()
    assert sized["max_size"] == 4_000_000 and parse_objectives(sized["objectives"]) == ("latency", "size")
    assert SearchSettings().to_json()["budget"] is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4MB", 4_000_000),
        ("1.5MiB", 1_572_864),
        ("500kb", 500_000),
        (" 3 KiB ", 3072),
        ("17B", 17),
        ("2e3B", 2000),
        (".5KB", 500),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["4", "4GBs", "MB", "", "4 M B", "four MB", "-4MB", "0MB", "0.5B", "1e999MB", "nanMB", "4ms"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="write it like 4MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "names"), [("size", ("size",)), ("latency", ("latency",)), ("size, latency", ("latency", "size"))]
)
def test_objectives(text: str, names: tuple[str, ...]) -> None:
    assert parse_objectives(text) == names


@pytest.mark.parametrize("text", ["", "speed", "latency,latency", "latency,", "size;latency"])
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="use latency, size, or latency,size"):
        parse_objectives(text)


def test_an_objective_with_a_budget_is_not_minimised() -> None:
    budget = Budget(ms=5.0)
    assert SearchSettings().minimised == ("latency",)
    assert SearchSettings(budget=budget, max_size=10).minimised == ()
    assert SearchSettings(max_size=10).minimised == ("latency",)
    assert SearchSettings(objectives=("size",), budget=budget).minimised == ("size",)
    assert SearchSettings(objectives=("latency", "size")).minimised == ("latency", "size")
    assert SearchSettings(objectives=("latency", "size"), max_size=10).minimised == ("latency",)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOCOMPRESS_CACHE", "/one")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("AUTOCOMPRESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_folder() == Path("/two/autocompress")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/three")
    assert cache_folder() == Path("/three/.cache/autocompress")
