"""Reports of studies in which size is an objective or has a limit."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from autocompress.reports import charts
from autocompress.reports.front import front_json
from autocompress.reports.html import render_html
from autocompress.reports.result import Objective, StudyResult
from autocompress.reports.terminal import print_summary
from autocompress.reports.text import budget, goal, headline, remarks

LARGEST = 4_000_000


@pytest.fixture
def sized(result: StudyResult) -> StudyResult:
    """Within 5 ms and 4 MB."""
    points = {
        name: tuple(
            replace(point, feasible=point.latency_ms <= 5.0 and point.size_bytes <= LARGEST) for point in getattr(result, name)
        )
        for name in ("points", "baselines")
    }
    best = min((p for p in points["points"] if p.feasible and p.loss is not None), key=lambda point: point.search_loss)
    return replace(result, max_size_bytes=LARGEST, points=points["points"], baselines=points["baselines"], best=best.trial)


def printed(result: StudyResult, width: int) -> str:
    out = io.StringIO()
    print_summary(result, Console(file=out, width=width, color_system=None))
    return out.getvalue()


def test_both_budgets_are_named(sized: StudyResult) -> None:
    assert budget(sized) == "5 ms and 4.0 MB" and goal(sized) == "within 5 ms and 4.0 MB"
    page = render_html(sized)
    assert "Best network within 5 ms and 4.0 MB" in page and "at most 4.0 MB" in page
    assert "Loss against size" in page and 'id="pareto-second"' in page
    told = front_json(sized)
    assert (told["max_size_bytes"], told["objectives"]) == (LARGEST, ["latency"])
    assert StudyResult.from_json(json.loads(json.dumps(sized.to_json()))) == sized
    for width in (40, 60, 80):
        text = printed(sized, width)
        assert " MB" in text and max(map(len, text.splitlines())) <= width


def test_without_sizes_there_is_one_chart(result: StudyResult) -> None:
    page = render_html(result)
    assert "Loss against size" not in page and 'id="pareto"' in page and 'id="pareto-second"' not in page


def test_the_second_chart_is_over_size(sized: StudyResult) -> None:
    chart = charts.pareto(sized, "size")
    assert chart.figure["layout"]["shapes"][0]["x0"] == 4.0
    assert chart.figure["layout"]["annotations"][0]["text"] == "budget 4.0 MB"
    drawn = {round(x * 1e6) for trace in chart.figure["data"] for x in trace["x"]}
    assert {point.size_bytes for point in sized.everything} == drawn
    assert not any("lines" in trace["mode"] for trace in chart.figure["data"]), "the front is one of latency"
    assert any("fp32 dense at 18.6 MB" in note for note in chart.notes)
    steps = charts.pareto(replace(sized, objectives=("size",)), "size")
    assert any("lines" in trace["mode"] for trace in steps.figure["data"])


@pytest.mark.parametrize(
    ("objectives", "words", "first"),
    [
        (("size",), "Loss against size", "Pareto front of loss against size"),
        (("latency", "size"), "Loss against latency and size", "Pareto front of loss against latency"),
    ],
)
def test_fronts_of_size(result: StudyResult, objectives: tuple[Objective, ...], words: str, first: str) -> None:
    free = replace(result, budget_ms=None, objectives=objectives)
    page = render_html(free)
    assert f"{words}, no budget" in page and first in page
    assert goal(free) == words[0].lower() + words[1:]
    ends = headline(replace(free, best=None))
    assert ("MB at soft KL" in ends) == (objectives == ("size",))
    best = free.best_point
    rival = free.best_baseline
    assert best is not None and rival is not None and rival.size_bytes <= best.size_bytes
    assert any("no larger" in sentence for sentence in remarks(free))
    line = charts.history(free).keys
    assert any(key.label.startswith("within ") and key.label.endswith("MB") for key in line)


def test_nothing_fits_a_size(sized: StudyResult) -> None:
    nothing = replace(
        sized,
        best=None,
        layers=(),
        max_size_bytes=10_000,
        points=tuple(replace(point, feasible=False) for point in sized.points),
        baselines=tuple(replace(point, feasible=False) for point in sized.baselines),
    )
    assert headline(nothing) == "Nothing fits 5 ms and 10.0 kB"
    sentence = " ".join(remarks(nothing))
    assert "The fastest of 159 plans takes" in sentence and "the smallest is 2.6 MB" in sentence
    assert "Try --budget 3.1ms or --max-size 2700kB" in sentence
    alone = " ".join(remarks(replace(nothing, budget_ms=None, objectives=("size",))))
    assert "The smallest of 159 plans is 2.6 MB. Try --max-size 2700kB" in alone
