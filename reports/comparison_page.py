"""compare.html: samplers side by side on one self-contained page."""

from __future__ import annotations

import html
import statistics
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from .charts import LOG_LOSS, Chart, Figure, Key, Scale, axis_range, base_layout
from .comparison import Comparison, Row, geometric_mean, over_seeds
from .document import chart, document, facts_block, section
from .text import MISSING, count, number, percent_or_number

#: Of the samplers in the order that they were named; the one that others are compared with has the accent.
COLOURS = ("orange", "green", "grey", "purple", "vermilion", "yellow", "ink")


def render_comparison(comparison: Comparison) -> str:
    """The whole page; every name that comes from outside is escaped."""
    figures = {"best": best_chart(comparison), "hypervolume": hypervolume_chart(comparison)}
    loss = escape(comparison.loss_name)
    best_lead = (
        f"Least {loss} on search data within the budget. A line is the median over {_seeds(comparison)}, "
        "its band reaches from the best seed to the worst."
    )
    last_ms, last_loss = comparison.reference
    volume_lead = (
        f"Share of the rectangle between the reference point, {number(last_ms)} ms ({comparison.latency_source}, the budget) and "
        f"{loss} {number(last_loss)} (the worst baseline within it), and {number(comparison.fastest_ms)} ms (the fastest plan) "
        "without loss, that a study's plans dominate. Higher is better."
    )
    body = (
        _header(comparison)
        + section(
            "Loss over evaluations",
            best_lead,
            chart("best", figures["best"], "Best search loss over evaluations", "chart") + _table(comparison),
        )
        + section(
            "Hypervolume over evaluations",
            volume_lead,
            chart("hypervolume", figures["hypervolume"], "Hypervolume over evaluations", "chart low"),
        )
        + _provenance(comparison)
    )
    title = f"Samplers on {comparison.task}, {comparison.target}"
    return document(title, body, figures, str(comparison.provenance.get("autocompress", "")))


def best_chart(comparison: Comparison) -> Chart:
    """Best search loss within the budget over evaluations, with the spread over seeds."""
    curves = {sampler: [comparison.best(run) for run in comparison.of(sampler)] for sampler in comparison.samplers}
    known = [value for own in curves.values() for curve in own for value in curve if value is not None]
    losses = Scale.over(known, LOG_LOSS)
    return _curves(comparison, curves, losses, losses.axis(f"{comparison.loss_name}, search data"))


def hypervolume_chart(comparison: Comparison) -> Chart:
    """Hypervolume over evaluations, with the spread over seeds."""
    curves: dict[str, Sequence[Sequence[float | None]]] = {
        sampler: [comparison.hypervolumes(run) for run in comparison.of(sampler)] for sampler in comparison.samplers
    }
    return _curves(comparison, curves, Scale(False, 0.0), {"title": {"text": "hypervolume, share"}})


def _curves(
    comparison: Comparison,
    curves: Mapping[str, Sequence[Sequence[float | None]]],
    scale: Scale,
    yaxis: Figure,
) -> Chart:
    """A band from the least to the largest value of each sampler's curves, and their median; the reference is drawn last."""
    bands: list[Figure] = []
    lines: list[Figure] = []
    keys = []
    shown: list[float] = []
    for sampler in comparison.samplers:
        colour = colour_of(comparison, sampler)
        keys.append(Key("line", colour, sampler))
        low, middle, high = (over_seeds(curves[sampler], pick) for pick in (min, statistics.median, max))
        at = [index for index, value in enumerate(middle) if value is not None]
        shown += [value for index in at for value in (low[index], high[index]) if value is not None]
        bands.append(_band(at, low, high, scale, colour))
        values = [middle[index] or 0.0 for index in at]
        name = html.escape(sampler)
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [index + 1 for index in at],
                "y": [scale.place(value) for value in values],
                "line": {
                    "shape": "hv",
                    "width": 2.6 if sampler == comparison.compared_with else 1.8,
                    "color": f"var(--{colour})",
                },
                "text": [f"<b>{name}</b><br>evaluation {i + 1}<br>{number(v)}" for i, v in zip(at, values, strict=True)],
                "hoverinfo": "text",
            }
        )
    lines.sort(key=lambda line: line["line"]["width"])
    layout = base_layout({"title": {"text": "evaluation"}}, yaxis)
    if shown:
        layout["yaxis"]["range"] = axis_range(scale, [scale.place(value) for value in shown])
    return Chart({"data": [*bands, *lines], "layout": layout}, tuple(keys))


def _band(at: Sequence[int], low: Sequence[float | None], high: Sequence[float | None], scale: Scale, colour: str) -> Figure:
    """The area between two step curves."""
    xs: list[int] = []
    lower: list[float] = []
    upper: list[float] = []
    for index in at:
        below, above = scale.place(low[index] or 0.0), scale.place(high[index] or 0.0)
        if xs:  # a value holds until the next one
            xs.append(index + 1)
            lower.append(lower[-1])
            upper.append(upper[-1])
        xs.append(index + 1)
        lower.append(below)
        upper.append(above)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*xs, *reversed(xs)],
        "y": [*upper, *reversed(lower)],
        "fill": "toself",
        "fillcolor": f"var(--{colour})",
        "line": {"width": 0, "color": f"var(--{colour})"},
        "opacity": 0.16,
        "hoverinfo": "skip",
    }


def colour_of(comparison: Comparison, sampler: str) -> str:
    """The name of a sampler's colour."""
    others = [name for name in comparison.samplers if name != comparison.compared_with]
    return "accent" if sampler == comparison.compared_with else COLOURS[others.index(sampler) % len(COLOURS)]


def _header(comparison: Comparison) -> str:
    if comparison.latency_source == "modelled":
        meaning = f"Every latency on this page comes from a model of {escape(comparison.target)}, not from the device."
        note = f'<p class="note modelled"><b>Modelled latency.</b> {meaning} {escape(comparison.latency_note)}</p>'
    else:
        note = f'<p class="note"><b>Measured latency.</b> {escape(comparison.latency_note)}</p>'
    sentences = "".join(f"<p>{escape(sentence)}</p>\n" for sentence in verdicts(comparison))
    return (
        f'<header>\n<p class="eyebrow">{escape(comparison.name)}</p>\n'
        f"<h1>Samplers on {escape(comparison.task)}, {escape(comparison.target)}</h1>\n"
        f'<p class="quiet">{count(len(comparison.samplers), "sampler")} within {number(comparison.budget_ms)} ms '
        f"({comparison.latency_source}), {comparison.trials} evaluations each, {_seeds(comparison)}. All have the same baselines "
        "as their first evaluations.</p>\n"
        f"{sentences}{note}\n</header>\n"
    )


def verdicts(comparison: Comparison) -> list[str]:
    """Against which sampler or baseline the reference wins or loses on evaluation data, by geometric mean over seeds."""
    rows = [row for row in comparison.rows() if row.ratio is not None]
    name = comparison.compared_with
    ahead = [f"{row.name} ({number(row.ratio)})" for row in rows if row.ratio is not None and row.ratio >= 1.0]
    behind = [f"{row.name} ({number(row.ratio)})" for row in rows if row.ratio is not None and row.ratio < 1.0]
    sentences = []
    if ahead:
        sentences.append(f"On evaluation data the loss of {name} is as low as or lower than that of {', '.join(ahead)}.")
    if behind:
        sentences.append(f"It is higher than that of {', '.join(behind)}." if ahead else f"{name} loses to {', '.join(behind)}.")
    if sentences:
        sentences.append(f"In brackets: their loss over that of {name}, geometric mean over seeds.")
    return sentences


def columns(comparison: Comparison) -> list[tuple[str, str, Callable[[Row], str]]]:
    """The table's columns: heading, what is below it, and a row's cell."""
    loss, metric = comparison.loss_name.removesuffix(" to dense"), comparison.metric_name
    return [
        (loss, "search data", lambda row: mean_and_spread(row.search_losses)),
        (f"over {comparison.compared_with}", "search data", lambda row: number(row.search_ratio)),
        (loss, "evaluation data", lambda row: mean_and_spread(row.losses)),
        (f"over {comparison.compared_with}", "evaluation data", lambda row: number(row.ratio)),
        (
            "top-1" if metric == "top1" else metric,
            "evaluation data",
            lambda row: percent_or_number(metric, statistics.fmean(row.metrics) if row.metrics else None),
        ),
        ("hypervolume", "search data", lambda row: number(statistics.median(row.hypervolumes) if row.hypervolumes else None)),
        ("within budget", "of proposals", lambda row: MISSING if row.within is None else f"{row.within * 100:.0f} %"),
    ]


def mean_and_spread(losses: Sequence[float]) -> str:
    """The geometric mean, and from the least to the largest where they differ."""
    if not losses:
        return MISSING
    spread = f" ({number(min(losses))} to {number(max(losses))})" if min(losses) < max(losses) else ""
    return number(geometric_mean(losses)) + spread


def _table(comparison: Comparison) -> str:
    shown = columns(comparison)
    heads = "".join(f"<th>{escape(head)}<br>{escape(below)}</th>" for head, below, _ in shown)
    rows = []
    for row in comparison.rows():
        kind = "best" if row.name == comparison.compared_with else ""
        cells = "".join(f"<td>{escape(cell(row))}</td>" for _, _, cell in shown)
        rows.append(f'<tr class="{kind}"><td>{escape(row.name)}</td>{cells}</tr>\n')
    note = (
        "Search data: the least loss of all evaluations. Evaluation data, which no search saw: the plan that a search ends with, "
        "chosen among its best by held-out inputs. Means of losses and ratios are geometric, over seeds; in brackets from the "
        "best seed to the worst."
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>sampler</th>{heads}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
        f'<p class="below">{note}</p>\n'
    )


def _provenance(comparison: Comparison) -> str:
    facts = dict(comparison.provenance)
    groups: list[tuple[str, dict[str, Any]]] = [
        ("comparison", {name: value for name, value in facts.items() if not isinstance(value, Mapping)})
    ]
    groups += [(name, dict(value)) for name, value in facts.items() if isinstance(value, Mapping)]
    content = "".join(facts_block(title, values) for title, values in groups if values)
    return section("Provenance", "", f'<div class="facts">{content}</div>\n')


def _seeds(comparison: Comparison) -> str:
    return count(len(comparison.seeds), "seed")
