"""The page's charts, as Plotly figures in plain JSON values.

Colours are names of the page's CSS variables, `var(--accent)`: the page puts in the values of its light or its dark theme.
Hover texts are Plotly's pseudo-HTML, so every name in them is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from .result import LayerRow, Objective, Point, StudyResult
from .text import latency, loss_name, metric, metric_name, number, over_budget, point_name, size

Figure = dict[str, Any]

#: Plotly's name of a marker -> its outline as an SVG path in a box from -6 to 6, for the legends.
SYMBOLS = {
    "square": "M-4-4H4V4H-4Z",
    "diamond": "M0-5.5L5.5 0L0 5.5L-5.5 0Z",
    "triangle-up": "M0-5.5L5 4H-5Z",
    "triangle-down": "M0 5.5L5-4H-5Z",
    "cross": "M-2-5H2V-2H5V2H2V5H-2V2H-5V-2H-2Z",
    "x": "M-5-2.5L-2.5-5L0-2.5L2.5-5L5-2.5L2.5 0L5 2.5L2.5 5L0 2.5L-2.5 5L-5 2.5L-2.5 0Z",
    "hexagon": "M0-5.5L5-2.7V2.7L0 5.5L-5 2.7V-2.7Z",
    "circle": "M-4.5 0A4.5 4.5 0 1 1 4.5 0A4.5 4.5 0 1 1-4.5 0Z",
    "star": "M0-6L1.5-1.9H5.7L2.3.7L3.5 4.9L0 2.4L-3.5 4.9L-2.3.7L-5.7-1.9H-1.5Z",
    "line": "M-6-1.2H6V1.2H-6Z",
}
BASELINE_SYMBOLS = ("square", "diamond", "triangle-up", "triangle-down", "cross", "x", "hexagon")
#: Colour-blind safe (Okabe and Ito); not a divisor of the number of symbols, so that pairs repeat late.
BASELINE_COLOURS = ("orange", "green", "purple", "vermilion", "yellow")
STRUCTURE_COLOURS = {
    "dense": "grey",
    "channel": "vermilion",
    "unstructured": "blue",
    "block4x1": "green",
    "block1x4": "purple",
    "block4x4": "orange",
}
#: An axis is logarithmic when its values span more than this factor.
LOG_LOSS, LOG_LATENCY = 20.0, 4.0


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    symbol: str
    colour: str
    label: str
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure with its legend and what must be said below it."""

    figure: Figure
    keys: tuple[Key, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """A value axis. On a logarithmic one, values of zero and below stand at `floor`."""

    logarithmic: bool
    floor: float

    @staticmethod
    def over(values: Iterable[float], factor: float) -> Scale:
        known = list(values)
        positive = [value for value in known if value > 0.0]
        if not positive or min(known) < 0.0 or max(positive) <= factor * min(positive):
            return Scale(False, 0.0)
        return Scale(True, min(positive) / 2.0)

    def place(self, value: float) -> float:
        return max(value, self.floor) if self.logarithmic else value

    def axis(self, title: str) -> dict[str, Any]:
        axis: dict[str, Any] = {"title": {"text": html.escape(title)}, "type": "log" if self.logarithmic else "linear"}
        return {**axis, "exponentformat": "none", **({"dtick": "D2", "minor": {"showgrid": False}} if self.logarithmic else {})}


@dataclass(frozen=True)
class _Costs:
    """What a Pareto chart has on its horizontal axis."""

    of: Objective
    title: str
    limit: float | None
    limit_text: str

    def value(self, point: Point) -> float:
        return point.latency_ms if self.of == "latency" else point.size_bytes / 1e6

    def text(self, result: StudyResult, point: Point) -> str:
        return latency(result, point.latency_ms) if self.of == "latency" else size(point.size_bytes)


def _costs(result: StudyResult, of: Objective) -> _Costs:
    if of == "latency":
        limit = result.budget_ms
        return _Costs(of, f"latency, ms ({result.latency_source})", limit, "" if limit is None else f"{limit:g} ms")
    largest = result.max_size_bytes
    return _Costs(of, "size, MB", None if largest is None else largest / 1e6, "" if largest is None else size(largest))


def pareto(result: StudyResult, of: Objective = "latency") -> Chart:
    """Search loss against latency, or size: every trial, the front as the steps it guarantees, baselines, the best, the budget.

    The first view covers the trials and the baselines among them; baselines far outside are named in a note. A front that is
    about more than this axis is dots without steps.
    """
    costs = _costs(result, of)
    points = [point for point in result.everything if point.name is None]
    baselines = list(result.baselines)
    reach = _reach(result) if of == "latency" else _size_reach(result)
    inside = [point for point in (*points, *baselines) if costs.value(point) <= reach]
    losses = Scale.over([point.search_loss for point in inside], LOG_LOSS)
    across = Scale.over([costs.value(point) for point in inside], LOG_LATENCY)
    keys: list[Key] = []
    traces: list[Figure] = []
    for label, hollow in (("trial", False), ("trial over the budget", True)):
        shown = [point for point in points if over_budget(result, point) == hollow]
        if shown:
            keys.append(Key("circle", "grey", label, hollow))
            traces.append(_markers(result, costs, shown, losses, _dot("grey", 6, 0.55, hollow)))
    front = list(result.front)
    if front:
        stepped = result.objectives == (of,)
        keys.append(Key("line" if stepped else "circle", "accent", "front"))
        trace = _markers(result, costs, front, losses, _dot("accent", 7))
        line = {"mode": "lines+markers", "line": {"shape": "hv", "width": 2, "color": "var(--accent)"}}
        traces.append({**trace, **line} if stepped else trace)
    for index, point in enumerate(baselines):
        symbol = BASELINE_SYMBOLS[index % len(BASELINE_SYMBOLS)]
        colour = BASELINE_COLOURS[index % len(BASELINE_COLOURS)]
        keys.append(Key(symbol, colour, point_name(point)))
        marker = {"symbol": symbol, "size": 11, "color": f"var(--{colour})", "line": {"width": 1.5, "color": "var(--page)"}}
        traces.append(_markers(result, costs, [point], losses, marker))
    best = result.best_point
    if best is not None:
        keys.append(Key("star", "ink", "best"))
        marker = {"symbol": "star", "size": 17, "color": "var(--ink)", "line": {"width": 1.5, "color": "var(--page)"}}
        interval = _interval(best) if of == "latency" else {}
        traces.append({**_markers(result, costs, [best], losses, marker), **interval})
    layout = base_layout(across.axis(costs.title), losses.axis(f"{loss_name(result)}, search data"))
    if inside:
        layout["xaxis"]["range"] = axis_range(across, [costs.value(point) for point in inside] + _optional(costs.limit))
        layout["yaxis"]["range"] = axis_range(losses, [losses.place(point.search_loss) for point in inside])
    if costs.limit is not None:
        _add_budget(layout, costs.limit, across, costs.limit_text)
    outside = [point for point in baselines if point not in inside]
    notes = [f"{point_name(point)} at {costs.text(result, point)}" for point in outside]
    return Chart(
        {"data": traces, "layout": layout}, tuple(keys), ("Outside this view: " + ", ".join(notes) + ".",) if notes else ()
    )


def history(result: StudyResult) -> Chart:
    """Search loss of each completed trial, with the least so far among those within the budgets.

    For an objective without a budget the limit is that of the best Point; without a best, there is no such line.
    """
    rows = sorted(result.history, key=lambda row: row.trial)
    reach = _reach(result)
    near = [row for row in rows if row.latency_ms <= reach]
    losses = Scale.over([row.search_loss for row in near], LOG_LOSS)
    slowest, largest = _history_limits(result)
    within = [
        row.feasible
        and (slowest is None or row.latency_ms <= slowest)
        and (largest is None or row.size_bytes is None or row.size_bytes <= largest)
        for row in rows
    ]
    keys: list[Key] = []
    traces: list[Figure] = []
    limits = [] if slowest is None else [f"{slowest:.3g} ms ({result.latency_source})"]
    limits += [] if largest is None else [size(largest)]
    limit_text = " " + " and ".join(limits)
    for inside, label, marker in (
        (True, f"within{limit_text}" if limits else "trial", _dot("accent", 6, 0.6)),
        (
            False,
            f"over{limit_text}",
            {"symbol": "x-thin", "size": 6, "opacity": 0.7, "line": {"width": 1.2, "color": "var(--grey)"}},
        ),
    ):
        shown = [row for row, fits in zip(rows, within, strict=True) if fits == inside]
        if not shown:
            continue
        keys.append(Key("circle" if inside else "x", "accent" if inside else "grey", label))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [row.trial for row in shown],
                "y": [losses.place(row.search_loss) for row in shown],
                "marker": marker,
                "text": [
                    f"<b>trial {row.trial}</b><br>{html.escape(loss_name(result))} {number(row.search_loss)}"
                    f"<br>{number(row.latency_ms)} ms ({result.latency_source})<br>evaluated in {number(row.seconds)} s"
                    for row in shown
                ],
                "hoverinfo": "text",
            }
        )
    fitting = [row for row, fits in zip(rows, within, strict=True) if fits]
    if fitting and limits:
        keys.append(Key("line", "ink", "best so far"))
        least = [losses.place(value) for value in accumulate((row.search_loss for row in fitting), min)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [row.trial for row in fitting] + [rows[-1].trial],
                "y": [*least, least[-1]],
                "line": {"shape": "hv", "width": 2, "color": "var(--ink)"},
                "hoverinfo": "skip",
            }
        )
    layout = base_layout({"title": {"text": "trial"}}, losses.axis(f"{loss_name(result)}, search data"))
    if near:
        layout["yaxis"]["range"] = axis_range(losses, [losses.place(row.search_loss) for row in near])
    return Chart({"data": traces, "layout": layout}, tuple(keys))


def _history_limits(result: StudyResult) -> tuple[float | None, int | None]:
    """Milliseconds and bytes up to which a trial counts in the history; None for no limit."""
    slowest, largest, best = result.budget_ms, result.max_size_bytes, result.best_point
    if best is not None and "latency" in result.minimised:
        slowest = best.latency_ms
    if best is not None and "size" in result.minimised:
        largest = best.size_bytes
    return slowest, largest


def generalisation(result: StudyResult) -> Chart:
    """Loss on search data and on evaluation data, which the search never saw, for the front that the Pareto chart shows."""
    reach = _reach(result)
    pairs = [(point, point.loss) for point in result.front if point.loss is not None and point.latency_ms <= reach]
    losses = Scale.over([value for point, loss in pairs for value in (point.search_loss, loss)], LOG_LOSS)
    times = Scale.over([point.latency_ms for point, _ in pairs], LOG_LATENCY)
    times_of_pairs = [point.latency_ms for point, _ in pairs]
    search = [losses.place(point.search_loss) for point, _ in pairs]
    evaluation = [losses.place(loss) for _, loss in pairs]
    texts = [_hover(result, point) for point, _ in pairs]
    joints: Figure = {
        "type": "scatter",
        "mode": "lines",
        "x": [x for time in times_of_pairs for x in (time, time, None)],
        "y": [y for one, other in zip(search, evaluation, strict=True) for y in (one, other, None)],
        "line": {"width": 1.5, "color": "var(--grey)"},
        "hoverinfo": "skip",
    }
    dots: list[Figure] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": times_of_pairs,
            "y": values,
            "marker": marker,
            "text": texts,
            "hoverinfo": "text",
        }
        for values, marker in ((search, _dot("accent", 8, 1.0, True)), (evaluation, _dot("vermilion", 8)))
    ]
    layout = base_layout(times.axis(f"latency, ms ({result.latency_source})"), losses.axis(loss_name(result)))
    keys = (Key("circle", "accent", "search data", True), Key("circle", "vermilion", "evaluation data, never searched"))
    return Chart({"data": [joints, *dots], "layout": layout}, keys)


def layers(result: StudyResult) -> Chart:
    """Time of each Layer of the best Plan, in the Network's order, before its time when dense int8; last, all other ops."""
    rows = result.layers
    others = sum(row.ms for row in result.other_ops)
    places = [str(index) for index in range(1, len(rows) + 1)]
    traces: list[Figure] = [
        {
            "type": "bar",
            "x": places,
            "y": [row.dense_int8_ms for row in rows],
            "width": 0.86,
            "marker": {"color": "var(--faint)"},
            "hoverinfo": "skip",
        }
    ]
    keys = [Key("square", "faint", "the same layer, dense int8")] if any(row.dense_int8_ms is not None for row in rows) else []
    for structure, colour in STRUCTURE_COLOURS.items():
        shown = [(place, row) for place, row in zip(places, rows, strict=True) if row.structure == structure]
        if shown:
            keys.append(Key("square", colour, structure))
            bars = [(place, row.ms, _layer_hover(result, row)) for place, row in shown]
            traces.append(_bars(bars, colour))
    if result.other_ops:
        keys.append(Key("square", "ink", "other ops"))
        text = f"<b>other ops</b><br>{number(others)} ms ({result.latency_source})"
        traces.append(_bars([("other", others, text)], "ink"))
    categories = [*places, "other"] if result.other_ops else places
    axis = {"title": {"text": "layer"}, "type": "category", "categoryorder": "array", "categoryarray": categories, "nticks": 12}
    layout = base_layout(axis, {"title": {"text": f"ms ({result.latency_source})"}, "rangemode": "tozero"})
    layout.update(barmode="overlay", bargap=0.1)
    layout["xaxis"].update(showgrid=False, tickangle=0)
    return Chart({"data": traces, "layout": layout}, tuple(keys))


def _reach(result: StudyResult) -> float:
    """The slowest latency, in ms, in the first view of a chart: far slower baselines would squeeze all else into a corner."""
    points = [point.latency_ms for point in result.everything if point.name is None]
    if not points:
        return math.inf
    return 1.1 * max(points + _optional(result.budget_ms) + _optional(result.dense_ms.get("int8")))


def _size_reach(result: StudyResult) -> float:
    """The same for the largest size, in MB."""
    points = [point.size_bytes / 1e6 for point in result.everything if point.name is None]
    if not points:
        return math.inf
    return 1.1 * max(points + _optional(_costs(result, "size").limit))


def _optional(value: float | None) -> list[float]:
    return [] if value is None else [value]


def axis_range(scale: Scale, values: Sequence[float]) -> list[float]:
    """Ends of an axis with some space around `values`; as powers of ten on a logarithmic axis, as Plotly wants."""
    low, high = min(values), max(values)
    if scale.logarithmic:
        low, high = math.log10(low), math.log10(high)
    space = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return [low - space, high + space]


def _add_budget(layout: Figure, limit: float, across: Scale, text: str) -> None:
    line = {"color": "var(--ink)", "width": 1.2, "dash": "dot"}
    layout["shapes"] = [{"type": "line", "x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper", "line": line}]
    place = math.log10(limit) if across.logarithmic else limit
    layout["annotations"] = [
        {
            "x": place,
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "text": f"budget {text}",
            "showarrow": False,
            "font": {"color": "var(--ink)"},
        }
    ]


def _dot(colour: str, width: int, opacity: float = 1.0, hollow: bool = False) -> Figure:
    if hollow:
        return {"symbol": "circle-open", "size": width, "color": f"var(--{colour})", "opacity": opacity, "line": {"width": 1.5}}
    return {"symbol": "circle", "size": width, "color": f"var(--{colour})", "opacity": opacity}


def _markers(result: StudyResult, costs: _Costs, points: Sequence[Point], losses: Scale, marker: Figure) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [costs.value(point) for point in points],
        "y": [losses.place(point.search_loss) for point in points],
        "marker": marker,
        "text": [_hover(result, point) for point in points],
        "hoverinfo": "text",
    }


def _interval(point: Point) -> Figure:
    """A horizontal error bar, where the ends of the latency's interval are known."""
    if point.latency_low_ms is None or point.latency_high_ms is None:
        return {}
    return {
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, point.latency_high_ms - point.latency_ms)],
            "arrayminus": [max(0.0, point.latency_ms - point.latency_low_ms)],
            "color": "var(--ink)",
            "thickness": 1.5,
            "width": 4,
        }
    }


def _bars(bars: Sequence[tuple[str, float, str]], colour: str) -> Figure:
    return {
        "type": "bar",
        "x": [place for place, _, _ in bars],
        "y": [height for _, height, _ in bars],
        "width": 0.5,
        "marker": {"color": f"var(--{colour})"},
        "text": [text for _, _, text in bars],
        "textposition": "none",
        "hoverinfo": "text",
    }


def _hover(result: StudyResult, point: Point) -> str:
    name = html.escape(loss_name(result))
    lines = [f"<b>{html.escape(point_name(point))}</b>", f"{number(point.latency_ms)} ms ({result.latency_source})"]
    if point.latency_low_ms is not None and point.latency_high_ms is not None:
        lines[-1] += f", {number(point.latency_low_ms)} to {number(point.latency_high_ms)}"
    lines.append(f"{name} {number(point.search_loss)} on search data")
    if point.loss is not None:
        lines.append(f"{name} {number(point.loss)} on evaluation data")
    if point.metric is not None:
        lines.append(f"{html.escape(metric_name(result))} {metric(result, point.metric)}")
    lines.append(size(point.size_bytes))
    if over_budget(result, point):
        lines.append("over the budget")
    return "<br>".join(lines)


def _layer_hover(result: StudyResult, row: LayerRow) -> str:
    dense = "" if row.dense_int8_ms is None else f"<br>dense int8 {number(row.dense_int8_ms)} ms ({result.latency_source})"
    return (
        f"<b>{html.escape(row.name)}</b><br>{html.escape(row.op)}<br>{html.escape(row.option)}"
        f"<br>{number(row.ms)} ms ({result.latency_source}), {row.share * 100:.1f} % of the plan{dense}"
    )


def base_layout(xaxis: Figure, yaxis: Figure) -> Figure:
    """What all charts look like."""
    common = {"gridcolor": "var(--faint)", "zeroline": False, "linecolor": "var(--line)", "ticks": "", "automargin": True}
    return {
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "var(--muted)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 28, "b": 8},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {
            "align": "left",
            "bgcolor": "var(--page)",
            "bordercolor": "var(--line)",
            "font": {"color": "var(--ink)", "size": 13},
        },
        "xaxis": {**common, **xaxis},
        "yaxis": {**common, **yaxis},
    }
