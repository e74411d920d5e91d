"""How far predicted times are off, beside the measured ones."""

from __future__ import annotations

import html
from collections.abc import Sequence

from .charts import Chart, Figure, Key, base_layout
from .text import number
from .verified import Verified

#: Errors are drawn up to this share; what is farther off stands at the edge and says so.
_EDGE = 1.0


def verified_chart(verified: Sequence[Verified]) -> Chart:
    """Residuals: (predicted - measured) / measured in percent over the measured time, of ops and of whole networks."""
    ops = [(op.measured / 1e3, op.predicted / 1e3, f"{op.name}, {op.kernel}") for each in verified for op in each.ops]
    ops = [row for row in ops if min(row[:2]) > 0.0]
    whole = [(each.measured_ms, each.predicted_ms, f"plan {each.plan}") for each in verified]
    traces = []
    keys = []
    if ops:
        keys.append(Key("circle", "grey", "one op"))
        traces.append(_residuals(ops, {"symbol": "circle", "size": 6, "color": "var(--grey)", "opacity": 0.55}))
    keys.append(Key("star", "accent", "whole network"))
    traces.append(_residuals(whole, {"symbol": "star", "size": 15, "color": "var(--accent)"}))
    xaxis = {"title": {"text": "measured, ms"}, "type": "log", "exponentformat": "none"}
    layout = base_layout(xaxis, {"title": {"text": "prediction off by, %"}, "ticksuffix": " %"})
    layout["shapes"] = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"color": "var(--ink)", "width": 1}}
    ]
    beyond = sum(abs(_error(*row[:2])) > _EDGE for row in ops)
    notes = (f"{beyond} of {len(ops)} ops are farther off than {_EDGE:.0%}; they stand at the edge.",) if beyond else ()
    return Chart({"data": traces, "layout": layout}, tuple(keys), notes)


def _error(measured: float, predicted: float) -> float:
    return predicted / measured - 1.0


def _residuals(rows: Sequence[tuple[float, float, str]], marker: Figure) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [measured for measured, _, _ in rows],
        "y": [100.0 * max(-_EDGE, min(_EDGE, _error(measured, predicted))) for measured, predicted, _ in rows],
        "marker": marker,
        "text": [
            f"<b>{html.escape(name)}</b><br>measured {number(measured)} ms<br>predicted {number(predicted)} ms "
            f"({_error(measured, predicted):+.1%})"
            for measured, predicted, name in rows
        ],
        "hoverinfo": "text",
    }
