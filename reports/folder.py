"""The report's files in a study folder."""

from __future__ import annotations

from pathlib import Path

from ..files import write_json, write_text
from .comparison import Comparison
from .comparison_page import render_comparison
from .front import front_csv, front_json
from .html import render_html
from .result import StudyResult
from .verified import load_verified

RESULT = "result.json"
COMPARISON_JSON, COMPARISON_CSV, COMPARISON_HTML = "compare.json", "compare.csv", "compare.html"


def write_reports(result: StudyResult, folder: Path) -> None:
    """Write result.json, front.json, front.csv and report.html into `folder`, each atomically.

    The report also shows the networks that were verified, which the folder knows of.

    Raises:
        UserError: the folder cannot be written, or what was verified is damaged.
    """
    result.save(folder / RESULT)
    write_json(folder / "front.json", front_json(result))
    write_text(folder / "front.csv", front_csv(result))
    write_text(folder / "report.html", render_html(result, load_verified(folder)))


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write compare.json, compare.csv and compare.html into `folder`, each atomically.

    Raises:
        UserError: the folder cannot be written.
    """
    write_json(folder / COMPARISON_JSON, comparison.to_json())
    write_text(folder / COMPARISON_CSV, comparison.to_csv())
    write_text(folder / COMPARISON_HTML, render_comparison(comparison))
