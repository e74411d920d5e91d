from __future__ import annotations

import csv
import io
import json
import math
import random
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as graph_objects
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from autocompress.reports.comparison import Comparison, Final, Run, Step, geometric_mean, over_seeds
from autocompress.reports.comparison_page import best_chart, hypervolume_chart, render_comparison, verdicts
from autocompress.reports.folder import write_comparison
from autocompress.reports.terminal import print_comparison

BUDGET = 5.0


def run(sampler: str, seed: int, points: list[tuple[float, float]], loss: float, metric: float = 0.8) -> Run:
    steps = tuple(Step(number, ms, value, "plain solver" if number == 0 else None) for number, (ms, value) in enumerate(points))
    within = [step for step in steps if step.latency_ms <= BUDGET]
    best = min(within, key=lambda step: step.search_loss, default=None)
    finals = () if best is None else (Final(len(steps), best.trial, best.latency_ms, best.search_loss, loss, metric),)
    return Run(sampler, seed, f"{sampler}-{seed}", steps, finals)


def compared(*runs: Run, baselines: tuple[Final, ...] | None = None) -> Comparison:
    told = baselines if baselines is not None else (Final(1, 0, 4.9, 0.8, 0.9, 0.7, "plain solver"),)
    return Comparison(
        name="c",
        task="task",
        target="pixel7",
        latency_source="modelled",
        latency_note="a model",
        budget_ms=BUDGET,
        fastest_ms=1.0,
        trials=max(len(one.steps) for one in runs),
        loss_name="KL to dense",
        metric_name="top1",
        samplers=tuple(dict.fromkeys(one.sampler for one in runs)),
        seeds=tuple(sorted({one.seed for one in runs})),
        baselines=told,
        runs=runs,
        provenance={"autocompress": "0", "data": {"search": "48 inputs"}},
    )


@pytest.fixture
def sample() -> Comparison:
    """Ours twice as good as random on search data at either seed, and 1.5 and 6 times (3 in the mean) on evaluation data."""
    start = (4.9, 0.8)
    return compared(
        run("random", 0, [start, (6.0, 0.1), (4.0, 0.4)], 0.6),
        run("ours", 0, [start, (4.5, 0.3), (4.6, 0.2)], 0.4, 0.9),
        run("random", 1, [start, (3.0, 0.6), (4.0, 0.5)], 0.6),
        run("ours", 1, [start, (4.5, 0.25), (4.6, 0.3)], 0.1),
    )


def test_the_best_loss_counts_only_what_is_within_the_budget(sample: Comparison) -> None:
    assert sample.best(sample.of("random")[0]) == [0.8, 0.8, 0.4]
    late = run("ours", 0, [(9.0, 0.1), (4.0, 0.7)], 1.0)
    assert compared(late).best(late) == [None, 0.7]


def test_ratios_are_geometric_means_over_seeds(sample: Comparison) -> None:
    rows = {row.name: row for row in sample.rows()}
    assert list(rows) == ["random", "ours", "plain solver"]
    assert sample.compared_with == "ours"
    assert rows["ours"].ratio is None and rows["ours"].search_ratio is None
    assert rows["random"].search_ratio == pytest.approx(2.0)
    assert rows["random"].ratio == pytest.approx(3.0)
    assert rows["plain solver"].ratio == pytest.approx(math.sqrt(0.9 / 0.4 * 0.9 / 0.1))
    assert rows["random"].within == 0.75 and rows["ours"].within == 1.0 and rows["plain solver"].within is None
    assert rows["ours"].metrics == (0.9, 0.8)


def test_without_ours_the_first_is_the_reference(sample: Comparison) -> None:
    others = replace(sample, samplers=("random",), runs=tuple(one for one in sample.runs if one.sampler == "random"))
    assert others.compared_with == "random" and others.rows()[0].ratio is None


def test_a_sampler_with_nothing_within_the_budget_has_no_ratio() -> None:
    start = [(9.0, 0.1), (8.0, 0.1)]
    sample = compared(run("ours", 0, [(4.0, 0.5), (4.0, 0.4)], 0.4), run("random", 0, start, 0.0))
    row = next(row for row in sample.rows() if row.name == "random")
    assert (row.ratio, row.search_ratio, row.losses, row.within) == (None, None, (), 0.0)
    assert "random" in render_comparison(sample)
    json.dumps(sample.to_json(), allow_nan=False)


def test_of_uniform_baselines_only_the_best_is_shown(sample: Comparison) -> None:
    names = ("int8 dense", "uniform block4x4 0.5 int8", "uniform channel 0.5 int8", "plain solver")
    told = tuple(Final(1, 0, 4.0, loss, loss, 0.5, name) for name, loss in zip(names, (0.1, 0.7, 0.6, 0.5), strict=True))
    rows = replace(sample, baselines=told).rows()
    assert [row.name for row in rows[2:]] == ["plain solver", "uniform channel 0.5 int8"]


POINTS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=10)


@given(POINTS)
def test_the_hypervolume_is_the_share_of_dominated_cells(points: list[tuple[int, int]]) -> None:
    """Counted cell by cell on a grid; the reference is 5 ms and a loss of 8, the ideal 1 ms and none."""
    one = run("ours", 0, [(1.0 + ms, float(loss)) for ms, loss in points], 1.0)
    sample = compared(one, baselines=(Final(1, 0, 4.9, 8.0, 0.9, 0.7, "plain solver"),))
    volumes = sample.hypervolumes(one)
    for count, volume in enumerate(volumes, start=1):
        cells = sum(any(ms <= column and loss <= row for ms, loss in points[:count]) for column in range(4) for row in range(8))
        assert volume == pytest.approx(cells / 32)
    assert volumes == sorted(volumes)


def test_curves_over_seeds() -> None:
    curves: list[list[float | None]] = [[None, 3.0, 1.0], [2.0, 2.0, 2.0]]
    assert over_seeds(curves, min) == [None, 2.0, 1.0]
    assert over_seeds(curves, max) == [None, 3.0, 2.0]
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([0.0]) == pytest.approx(1e-9)


def test_csv_has_every_evaluation(sample: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(sample.to_csv())))
    assert len(rows) == 12
    assert [row["evaluation"] for row in rows[:3]] == ["1", "2", "3"]
    assert rows[0]["baseline"] == "plain solver" and rows[1]["feasible"] == "false"
    assert float(rows[2]["best_search_loss"]) == 0.4


def test_the_files_are_written(sample: Comparison, tmp_path: Path) -> None:
    write_comparison(sample, tmp_path)
    value = json.loads((tmp_path / "compare.json").read_text())
    assert value["schema"] == 1 and value["hypervolume_reference"] == {"latency_ms": 5.0, "search_loss": 0.8}
    assert [one["study"] for one in value["runs"]] == ["random-0", "ours-0", "random-1", "ours-1"]
    assert value["runs"][0]["best_search_loss"] == [0.8, 0.8, 0.4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.csv", "compare.html", "compare.json"]


class Tags(HTMLParser):
    """Names and attributes of all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_self_contained_and_escapes_names(sample: Comparison) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    page = render_comparison(replace(sample, name=hostile, task=hostile, latency_note=hostile, loss_name=hostile))
    tags = Tags(page).tags
    assert not [tag for tag, _ in tags if tag in ("img", "link", "iframe")]
    assert not [attributes for _, attributes in tags if "src" in attributes or "href" in attributes or "onerror" in attributes]
    assert {attributes.get("id") for tag, attributes in tags if tag == "div"} >= {"best", "hypervolume"}
    policy = next(attributes["content"] for tag, attributes in tags if attributes.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy
    plain = render_comparison(sample)
    assert "modelled" in plain and "5.00 ms" in plain and "2 seeds" in plain and "reference point" in plain


def test_charts_are_valid_and_show_the_spread(sample: Comparison) -> None:
    for chart in (best_chart(sample), hypervolume_chart(sample)):
        plain = json.loads(json.dumps(chart.figure, allow_nan=False).replace("var(--", "").replace(')"', '"'))
        for trace in plain["data"]:
            for name in ("line", "fillcolor"):
                if name in trace:
                    trace[name] = {**trace[name], "color": "black"} if name == "line" else "black"
        graph_objects.Figure(data=plain["data"])
        assert [key.label for key in chart.keys] == ["random", "ours"]
    figure = best_chart(sample).figure
    bands, lines = figure["data"][:2], figure["data"][2:]
    assert max(bands[0]["y"]) == 0.8 and min(bands[0]["y"]) == 0.4 and 0.5 in bands[0]["y"]
    assert [line["y"] for line in lines] == [[0.8, pytest.approx(0.7), pytest.approx(0.45)], [0.8, 0.275, 0.225]]
    assert lines[-1]["line"]["color"] == "var(--accent)", "ours is drawn last"


def test_verdicts_say_where_ours_loses(sample: Comparison) -> None:
    assert verdicts(sample)[0] == (
        "On evaluation data the loss of ours is as low as or lower than that of random (3.00), plain solver (4.50)."
    )
    better = replace(sample.runs[0], finals=(replace(sample.runs[0].finals[0], loss=0.001),))
    worse = verdicts(replace(sample, runs=(better, *sample.runs[1:])))
    assert worse[1].startswith("It is higher than that of random (0.")


@pytest.mark.parametrize("width", [60, 160])
def test_the_terminal_fits_and_has_no_markup(sample: Comparison, tmp_path: Path, width: int) -> None:
    text = io.StringIO()
    print_comparison(replace(sample, task="[bold]x\x1b[31m"), Console(file=text, width=width), tmp_path)
    shown = text.getvalue()
    assert "[bold]x" in shown and "\x1b" not in shown
    assert "ours" in shown and "3.00" in shown and "compare.html" in shown
    table = [line for line in shown.splitlines() if "random" in line and "%" in line]
    assert table and all(len(line) <= width for line in table)


def test_sizes_of_a_real_comparison_take_no_time() -> None:
    """300 evaluations with a growing front."""
    randoms = random.Random(0)
    points = [(randoms.uniform(1.0, 5.5), randoms.uniform(0.0, 1.0)) for _ in range(300)]
    one = run("ours", 0, points, 0.5)
    assert 0.5 < compared(one).hypervolumes(one)[-1] < 1.0
