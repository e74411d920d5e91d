"""The frame of a page: head, policy, scripts, and the blocks that all pages are made of.

A page loads nothing, and a Content-Security-Policy holds it to that.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # plotly ships no types

from .charts import SYMBOLS, Chart, Key
from .page import SCRIPT, STYLE
from .text import MISSING, number


def document(title: str, body: str, figures: Mapping[str, Chart], version: str) -> str:
    """A whole page. Scripts run only if their hash is in the page's policy.

    Args:
        title: of the window, not escaped yet.
        body: HTML in which every name that comes from outside is escaped.
        figures: by id of the element that each is drawn in.
        version: of autocompress.
    """
    data = json.dumps({name: chart.figure for name, chart in figures.items()}, allow_nan=False).replace("<", "\\u003c")
    library = get_plotlyjs()
    scripts = [library, SCRIPT] if figures else []
    policy = "; ".join(
        (
            "default-src 'none'",
            "script-src " + (" ".join(_hash(script) for script in scripts) or "'none'"),
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
        )
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · autocompress</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}"
        f"<footer>autocompress {escape(version)}</footer>\n</main>\n"
        f'<script type="application/json" id="figures">{data}</script>\n'
        + "".join(f"<script>{script}</script>\n" for script in scripts)
        + "</body>\n</html>\n"
    )


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def section(title: str, lead: str, content: str) -> str:
    """A part of a page; title, lead and content are HTML."""
    paragraph = f'<p class="quiet">{lead}</p>\n' if lead else ""
    return f"<section>\n<h2>{title}</h2>\n{paragraph}{content}</section>\n"


def chart(name: str, chart: Chart, label: str, kind: str) -> str:
    """The place of a figure, with its legend and notes; `kind` is its CSS class."""
    keys = "".join(f"<li>{symbol(key)}{escape(key.label)}</li>" for key in chart.keys)
    notes = "".join(f'<p class="below">{escape(note)}</p>\n' for note in chart.notes)
    return (
        f'<ul class="keys">{keys}</ul>\n<div class="{kind}" id="{name}" role="img" aria-label="{escape(label)}"></div>\n{notes}'
    )


def symbol(key: Key) -> str:
    """The mark of a legend's entry."""
    paint = f"fill:none;stroke:var(--{key.colour});stroke-width:1.5" if key.hollow else f"fill:var(--{key.colour})"
    return f'<svg viewBox="-7 -7 14 14" aria-hidden="true"><path d="{SYMBOLS[key.symbol]}" style="{paint}"/></svg>'


def facts_block(title: str, values: Mapping[str, Any]) -> str:
    """Names and values under a title, both escaped."""
    unit = " s" if title == "seconds" else ""
    rows = "".join(f"<dt>{escape(_words(name))}</dt><dd>{escape(_value(value))}{unit}</dd>" for name, value in values.items())
    return f"<div><h3>{escape('time' if unit else _words(title))}</h3><dl>{rows}</dl></div>\n"


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(name)} {_value(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value)
    return MISSING if value is None else str(value)
