from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as graph_objects
import pytest
from plotly.offline import get_plotlyjs

from autocompress.reports import charts
from autocompress.reports.html import render_html
from autocompress.reports.page import SCRIPT, STYLE
from autocompress.reports.result import StudyResult

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "img", "link", "br", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts and styles, and the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text += data


def figures(page: Page) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(page.scripts[0])
    return value


def coloured(value: Any) -> Any:
    """A figure with real colours, as the page's script makes it."""
    return json.loads(re.sub(r"var\((--[a-z-]+)\)", lambda match: theme(match[1]), json.dumps(value)))


def theme(name: str) -> str:
    found = re.findall(rf"{name}: (#[0-9a-f]{{6}});", STYLE)
    assert len(found) == 2, f"{name} needs a value for light and one for dark"
    return str(found[0])


def test_is_balanced_and_loads_nothing(result: StudyResult) -> None:
    page = Page(render_html(result))
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "base", "form"}
    assert not any({"src", "href", "srcset", "action"} & set(attributes) for _, attributes in page.tags)
    assert "url(" not in STYLE and "@import" not in STYLE and "http" not in STYLE + SCRIPT


def test_policy_allows_exactly_its_own_scripts(result: StudyResult) -> None:
    page = Page(render_html(result))
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy
    data, *scripts = page.scripts
    assert scripts == [get_plotlyjs(), SCRIPT] and json.loads(data)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert "script-src 'unsafe-inline'" not in policy


def test_hostile_names_are_text(result: StudyResult) -> None:
    hostile = replace(
        result,
        study=HOSTILE,
        task=HOSTILE,
        target=HOSTILE,
        latency_note=HOSTILE,
        loss_name=HOSTILE,
        metric_name=HOSTILE,
        baselines=tuple(replace(point, name=HOSTILE) for point in result.baselines),
        layers=tuple(replace(row, name=HOSTILE, op=HOSTILE, option=HOSTILE, runner_up=HOSTILE) for row in result.layers),
        other_ops=tuple(replace(row, name=HOSTILE) for row in result.other_ops),
        provenance={HOSTILE: HOSTILE, "part": {HOSTILE: [HOSTILE]}, "autocompress": HOSTILE},
    )
    page, plain = Page(render_html(hostile)), Page(render_html(result))
    assert page.open == []
    assert [tag for tag, _ in page.tags if tag in ("script", "img")] == ["script"] * 3
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert len(page.scripts) == len(plain.scripts) and page.scripts[1:] == plain.scripts[1:]
    assert page.text.count(HOSTILE) > 100
    assert "<script" not in page.scripts[0] and "<img" not in json.dumps(figures(page)).replace("&lt;", "")


def test_every_figure_is_valid_plotly(result: StudyResult) -> None:
    found = figures(Page(render_html(result)))
    assert set(found) == {"pareto", "generalisation", "history", "layers"}
    for figure in found.values():
        made = graph_objects.Figure(coloured(figure))
        assert len(made.data) == len(figure["data"]) > 0


def test_every_chart_has_its_place(result: StudyResult) -> None:
    page = Page(render_html(result))
    places = {attributes.get("id") for tag, attributes in page.tags if tag == "div"}
    assert set(figures(page)) <= places


def test_says_modelled_and_its_error(result: StudyResult) -> None:
    text = Page(render_html(result)).text
    assert "Every latency on this page comes from a model of pixel7" in text and result.latency_note in text
    for match in re.finditer(r"\d ms\b(.{0,12})", text):
        budget = text[max(0, match.start() - 12) : match.end()]
        assert match[1].startswith(" (modelled)") or "5 ms" in budget or "latency, modelled" in text[: match.start()][-40:], (
            budget
        )


def test_measured_latency_is_not_called_modelled(result: StudyResult) -> None:
    text = Page(render_html(replace(result, latency_source="measured", provenance={}))).text
    assert "modelled" not in text.lower() and "(measured)" in text and "Measured latency." in text


def test_pareto_marks_best_budget_and_baselines(result: StudyResult) -> None:
    chart = charts.pareto(result)
    labels = [key.label for key in chart.keys]
    assert {"front", "best", "trial", "trial over the budget"} <= set(labels)
    assert {point.name for point in result.baselines} <= set(labels)
    assert len({(key.symbol, key.colour) for key in chart.keys}) >= len(chart.keys) - 1
    assert chart.figure["layout"]["shapes"][0]["x0"] == 5.0
    assert "fp32 dense at 21.4 ms (modelled)" in chart.notes[0]
    drawn = sum(len(trace["x"]) for trace in chart.figure["data"] if trace["mode"] == "markers")
    assert drawn == len(result.everything) + 1


def test_history_falls(result: StudyResult) -> None:
    line = next(trace for trace in charts.history(result).figure["data"] if trace["mode"] == "lines")
    assert len(line["y"]) > 10 and line["y"] == sorted(line["y"], reverse=True)
    best = result.best_point
    assert best is not None and line["y"][-1] == best.search_loss


def test_layers_chart_adds_up_to_the_plan(result: StudyResult) -> None:
    bars = [trace for trace in charts.layers(result).figure["data"] if trace["hoverinfo"] == "text"]
    best = result.best_point
    assert best is not None and sum(sum(trace["y"]) for trace in bars) == pytest.approx(best.latency_ms)


def test_zero_loss_stands_on_the_floor_of_a_log_axis() -> None:
    scale = charts.Scale.over([0.0, 0.001, 1.0], 20.0)
    assert scale.logarithmic and 0.0 < scale.place(0.0) < 0.001 and scale.place(0.5) == 0.5
    assert not charts.Scale.over([0.0, 1.0, 2.0], 20.0).logarithmic
    assert not charts.Scale.over([-1.0, 0.001, 1.0], 20.0).logarithmic
    assert not charts.Scale.over([], 20.0).logarithmic


def test_empty_study_says_so(result: StudyResult) -> None:
    empty = replace(result, points=(), baselines=(), best=None, history=(), layers=(), other_ops=())
    page = Page(render_html(empty))
    assert "No trial has been evaluated yet" in page.text and "no trial has been evaluated." in page.text
    assert page.scripts == ["{}"] and page.open == []


def test_only_baselines(result: StudyResult) -> None:
    page = Page(render_html(replace(result, points=(), best=None, layers=(), other_ops=())))
    assert "Only baselines have been evaluated" in page.text and "plain solver" in page.text
    assert all(graph_objects.Figure(coloured(figure)).data for figure in figures(page).values())


def test_no_front_and_nothing_feasible(result: StudyResult) -> None:
    none = replace(
        result,
        budget_ms=2.0,
        best=None,
        points=tuple(replace(point, feasible=False, on_front=False, loss=None) for point in result.points),
        baselines=tuple(replace(point, feasible=False, on_front=False) for point in result.baselines),
        history=tuple(replace(row, feasible=False) for row in result.history),
        layers=(),
        other_ops=(),
    )
    page = Page(render_html(none))
    assert "Nothing fits 2 ms" in page.text and "Try --budget 3.1ms" in page.text and "There is no front" in page.text
    assert set(figures(page)) == {"pareto", "history"}


def test_without_a_budget(result: StudyResult) -> None:
    page = Page(render_html(replace(result, budget_ms=None, best=None, layers=(), other_ops=())))
    assert "no budget" in page.text and "A front of 33 plans" in page.text
    assert "shapes" not in figures(page)["pareto"]["layout"]


def test_missing_values_are_shown_as_missing(result: StudyResult) -> None:
    bare = replace(
        result,
        dense_ms={"fp32": None, "fp16": None, "int8": None},
        points=tuple(
            replace(point, loss=None, metric=None, latency_low_ms=None, latency_high_ms=None) for point in result.points
        ),
        layers=tuple(
            replace(row, dense_int8_ms=None, runner_up=None, runner_up_delta_ms=None, runner_up_delta_loss=None)
            for row in result.layers
        ),
    )
    page = Page(render_html(bare))
    assert "None" not in page.text and "on search data" in page.text and "no other choice" in page.text
    assert "dense latency" not in page.text
