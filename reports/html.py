"""The report as one self-contained HTML page: it loads nothing, and a Content-Security-Policy holds it to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from . import charts
from .charts import STRUCTURE_COLOURS, Chart, Key
from .document import chart, document, facts_block, section, symbol
from .result import LayerRow, Objective, Point, StudyResult
from .text import (
    budget,
    count,
    goal,
    headline,
    loss_name,
    metric,
    metric_name,
    number,
    over_budget,
    percentile,
    point_name,
    remarks,
    signed,
    size,
)
from .verified import Verified
from .verified_chart import verified_chart


def render_html(result: StudyResult, verified: Sequence[Verified] = ()) -> str:
    """The whole page, with networks that ran on a device if there are any.

    Every name that comes from outside is escaped; scripts run only if their hash is in the page's policy.
    """
    figures: dict[str, Chart] = {}
    if result.everything:
        first, second = _shown_costs(result)
        figures["pareto"] = charts.pareto(result, first)
        if second is not None:
            figures["pareto-second"] = charts.pareto(result, second)
    if result.points and any(point.loss is not None for point in result.front):
        figures["generalisation"] = charts.generalisation(result)
    if result.history:
        figures["history"] = charts.history(result)
    if result.layers:
        figures["layers"] = charts.layers(result)
    if verified:
        figures["verified"] = verified_chart(verified)
    sections = (_front(result, figures), _generalisation(result, figures), _history(result, figures), _layers(result, figures))
    body = "".join((_header(result), *sections, _verified(verified, figures), _provenance(result)))
    version = str(result.provenance.get("autocompress", ""))
    return document(f"{result.task} on {result.target}", body, figures, version)


def _shown_costs(result: StudyResult) -> tuple[Objective, Objective | None]:
    """What the Pareto charts have on their axis: the first objective, and the other where size matters."""
    if "latency" not in result.objectives:
        return "size", "latency"
    return "latency", "size" if "size" in result.objectives or result.max_size_bytes is not None else None


def _source(result: StudyResult) -> str:
    return f'<span class="source">{result.latency_source}</span>'


def _header(result: StudyResult) -> str:
    aim = f"Best network within {budget(result)}" if not result.minimised else goal(result)[:1].upper() + goal(result)[1:]
    if not result.bounded:
        aim += ", no budget"
    statement = "" if result.best_point else f'<p class="statement">{escape(headline(result))}</p>\n'
    sentences = "".join(f"<p>{escape(sentence)}</p>\n" for sentence in remarks(result))
    if result.latency_source == "modelled":
        meaning = f"Every latency on this page comes from a model of {escape(result.target)}, not from the device."
        note = f'<p class="note modelled"><b>Modelled latency.</b> {meaning} {escape(result.latency_note)}</p>'
    else:
        note = f'<p class="note"><b>Measured latency.</b> {escape(result.latency_note)}</p>'
    return (
        f'<header>\n<p class="eyebrow">{escape(result.study)}</p>\n<h1>{escape(result.task)} on {escape(result.target)}</h1>\n'
        f'<p class="quiet">{aim}. {count(len(result.everything), "plan")} evaluated.</p>\n'
        f"{_stats(result)}{statement}{sentences}{note}\n</header>\n"
    )


def _stats(result: StudyResult) -> str:
    best = result.best_point
    if best is None:
        return ""
    interval = []
    if best.latency_low_ms is not None and best.latency_high_ms is not None:
        interval.append(f"{number(best.latency_low_ms)} to {number(best.latency_high_ms)} ms ({result.latency_source})")
    if result.pessimism != 0.5:
        interval.append(f"the {percentile(result)}; median {number(best.latency_median_ms)} ms ({result.latency_source})")
    if result.budget_ms is not None:
        interval.append(f"budget {result.budget_ms:g} ms")
    cells = [
        (
            f"latency, {result.latency_source}",
            f"{number(best.latency_ms)}<small> ms</small>",
            ", ".join(interval),
        ),
    ]
    if best.loss is None:
        cells.append((result.loss_name, number(best.search_loss), "on search data"))
    else:
        cells.append((result.loss_name, number(best.loss), f"{number(best.search_loss)} on search data"))
    cells.append((metric_name(result), escape(metric(result, best.metric)), "on evaluation data"))
    largest = max(result.baselines, key=lambda point: point.size_bytes, default=None)
    beside = (
        f"from {size(largest.size_bytes)} ({largest.name})"
        if largest is not None and largest.size_bytes > best.size_bytes
        else ""
    )
    if result.max_size_bytes is not None:
        beside = ", ".join([*([beside] if beside else []), f"at most {size(result.max_size_bytes)}"])
    cells.append(("size", size(best.size_bytes), beside))
    return (
        '<dl class="stats">\n'
        + "".join(
            f'<div><dt>{escape(term)}</dt><dd class="value">{value}</dd><dd class="beside">{escape(beside)}</dd></div>\n'
            for term, value, beside in cells
        )
        + "</dl>\n"
    )


def _front(result: StudyResult, figures: Mapping[str, Chart]) -> str:
    if not result.everything:
        return section("Pareto front", "There is nothing to draw yet: no trial has been evaluated.", "")
    best, front = result.best_point, result.front
    first, second = _shown_costs(result)
    lead = "Each dot is one evaluated plan; lower and further left is better. "
    words = {"latency": "faster", "size": "smaller"}
    if len(result.objectives) == 1:
        better = f"both {words[result.objectives[0]]} and closer to the dense network"
        lead += f"The line is what the front guarantees: no evaluated plan is {better}."
    else:
        lead += "No evaluated plan is at once faster, smaller and closer to the dense network than one of the front."
    shown = [best] if best is not None else []
    shown += sorted((point for point in result.baselines if point is not best), key=result.cost)
    content = chart("pareto", figures["pareto"], f"Pareto front of loss against {first}", "chart")
    if second is not None:
        content += f"<h3>Loss against {second}</h3>\n"
        content += chart("pareto-second", figures["pareto-second"], f"The same plans, loss against {second}", "chart low")
    content += _points_table(result, shown) if shown else ""
    if front:
        table = _points_table(result, front)
        content += f"<details><summary>The front: {count(len(front), 'plan')}</summary>{table}</details>\n"
    else:
        content += '<p class="below">There is no front: no evaluated plan is on it.</p>\n'
    return section("Pareto front", lead, content)


def _generalisation(result: StudyResult, figures: Mapping[str, Chart]) -> str:
    if "generalisation" not in figures:
        return ""
    lead = (
        f"The search steers by {escape(loss_name(result))} on search data (hollow). The same plans on evaluation data, "
        "which it never saw (filled): a widening gap would mean that the search fits its own samples."
    )
    label = "Loss of the front on search data and on evaluation data"
    return section(
        "Search data and evaluation data", lead, chart("generalisation", figures["generalisation"], label, "chart low")
    )


def _history(result: StudyResult, figures: Mapping[str, Chart]) -> str:
    if "history" not in figures:
        return ""
    seconds = sum(row.seconds for row in result.history)
    lead = f"{count(len(result.history), 'completed trial')}, {seconds / len(result.history):.2g} s each on average."
    label = "Search loss of each trial and the best so far"
    return section("Search history", lead, chart("history", figures["history"], label, "chart low"))


def _layers(result: StudyResult, figures: Mapping[str, Chart]) -> str:
    if "layers" not in figures:
        return ""
    lead = f"Each layer of the best plan, its {result.latency_source} time in front of the same layer when dense int8."
    content = chart("layers", figures["layers"], "Time of each layer of the best plan", "chart low")
    content += _layers_table(result)
    if result.other_ops:
        total = sum(row.ms for row in result.other_ops)
        rows = "".join(
            f'<tr><td class="text">{escape(row.name)}</td><td>{number(row.ms)}</td></tr>\n'
            for row in sorted(result.other_ops, key=lambda row: -row.ms)
        )
        content += (
            f"<details><summary>Other ops: {number(total)} ms ({result.latency_source})</summary>"
            f'<div class="scroll"><table><thead><tr><th class="text">op</th><th>ms, {result.latency_source}</th></tr></thead>\n'
            f"<tbody>{rows}</tbody></table></div></details>\n"
        )
    return section("Where the time goes", lead, content)


def _verified(verified: Sequence[Verified], figures: Mapping[str, Chart]) -> str:
    if not verified:
        return ""
    lead = (
        f"{count(len(verified), 'network')} of this study ran on the device, from end to end and op by op. On the line the "
        "prediction is right; above it the device was faster than predicted."
    )
    rows = "".join(
        f"<tr><td>{escape(each.plan)}</td>"
        f'<td>{number(each.predicted_ms)}<br><span class="source">{escape(each.source)}</span></td>'
        f"<td>{number(each.measured_ms)}</td><td>{number(each.measured_low_ms)} to {number(each.measured_high_ms)}</td>"
        f'<td>{each.error:+.1%}</td><td class="text">{escape(each.where)}, {escape(each.date[:10])}</td></tr>\n'
        for each in verified
    )
    content = chart("verified", figures["verified"], "Error of the predicted times, over the measured times", "chart low")
    content += (
        '<div class="scroll"><table><thead><tr><th>plan</th><th>predicted ms</th><th>measured ms</th><th>10 % to 90 %</th>'
        f'<th>prediction off by</th><th class="text">where</th></tr></thead>\n<tbody>{rows}</tbody></table></div>\n'
    )
    return section("Predicted and measured", lead, content)


def _layers_table(result: StudyResult) -> str:
    widest = max(row.share for row in result.layers) or 1.0
    rows = "".join(_layer_row(result, index, row, widest) for index, row in enumerate(result.layers, start=1))
    return (
        '<div class="scroll"><table class="layers"><thead><tr><th>#</th><th class="text">layer</th><th class="text">chosen</th>'
        f'<th>ms<br>{result.latency_source}</th><th class="text">share of the total</th>'
        '<th class="text">runner-up, and what it would change</th></tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>\n"
    )


def _layer_row(result: StudyResult, index: int, row: LayerRow, widest: float) -> str:
    swatch = symbol(Key("square", STRUCTURE_COLOURS.get(row.structure, "grey"), row.structure))
    if row.runner_up is None:
        other = '<span class="quiet">no other choice</span>'
    else:
        changes = []
        if row.runner_up_delta_ms is not None:
            changes.append(f"{signed(row.runner_up_delta_ms)} ms ({result.latency_source})")
        if row.runner_up_delta_loss is not None:
            changes.append(f"{signed(row.runner_up_delta_loss)} {loss_name(result)} (predicted)")
        other = f"{escape(row.runner_up)}<small>{escape(', '.join(changes))}</small>"
    return (
        f'<tr><td class="index quiet">{index}</td><td class="name text">{escape(row.name)}<small>{escape(row.op)}</small></td>'
        f'<td class="option text"><span>{swatch}{escape(row.option)}</span></td>'
        f'<td class="ms">{number(row.ms)}{_source(result)}</td>'
        f'<td class="part"><span class="share"><span class="bar"><i style="width:{100 * row.share / widest:.1f}%"></i></span>'
        f'<span>{row.share * 100:.1f} %</span></span></td><td class="other text">{other}</td></tr>\n'
    )


def _points_table(result: StudyResult, points: Sequence[Point]) -> str:
    name = escape(loss_name(result))
    rows = []
    for point in points:
        over = over_budget(result, point)
        kind = "best" if point.trial == result.best else "over" if over else ""
        tag = "best" if kind == "best" else "over budget" if over else ""
        cells = (
            number(point.latency_ms),
            number(point.search_loss),
            number(point.loss),
            escape(metric(result, point.metric)),
            size(point.size_bytes),
        )
        label = escape(point_name(point)) + (f'<span class="tag">{tag}</span>' if tag else "")
        rows.append(f'<tr class="{kind}"><td>{label}</td>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n")
    return (
        f'<div class="scroll"><table><thead><tr><th>plan</th><th>ms<br>{result.latency_source}</th><th>{name}<br>search data</th>'
        f"<th>{name}<br>evaluation data</th><th>{escape(metric_name(result))}</th><th>size</th></tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _provenance(result: StudyResult) -> str:
    facts = dict(result.provenance)
    dense: dict[str, Any] = {}
    for name, value in result.dense_ms.items():
        if value is not None:
            dense[name] = f"{number(value)} ms ({result.latency_source})"
    groups: list[tuple[str, dict[str, Any]]] = [
        ("study", {name: value for name, value in facts.items() if not isinstance(value, Mapping)})
    ]
    groups += [(name, dict(value)) for name, value in facts.items() if isinstance(value, Mapping)]
    groups.append((f"dense latency, {result.latency_source}", dense))
    content = "".join(facts_block(title, values) for title, values in groups if values)
    return section("Provenance", "", f'<div class="facts">{content}</div>\n')
