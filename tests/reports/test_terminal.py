from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from autocompress.reports.result import StudyResult
from autocompress.reports.terminal import ROWS, print_summary


def printed(result: StudyResult, width: int = 80, folder: Path | None = None) -> str:
    out = io.StringIO()
    print_summary(result, Console(file=out, width=width, color_system=None), folder)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_fits_the_terminal(result: StudyResult, width: int) -> None:
    lines = printed(result, width).splitlines()
    assert len(lines) > 20 and max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_shows_headline_front_baselines_and_source(result: StudyResult) -> None:
    text = printed(result)
    assert "4.98 ms (modelled, 4.69 to 5.33) · soft KL 0.0251 · agreement 96.3 % · 3.8 MB" in text
    assert f"trial {result.best} (best)" in text and "plain solver" in text and "2.2×" in text  # noqa: RUF001
    assert "Latencies are modelled: median error 11 %" in text
    assert "* over the budget of 5 ms" in text and "21.4*" in text
    assert f"{ROWS} of 31 front points" in text


def test_says_where_the_files_are(result: StudyResult) -> None:
    folder = Path("results") / ("long-" * 20)
    text = printed(result, 80, folder)
    assert f"{folder / 'report.html'}\n" in text and f"{folder / 'front.csv'}\n" in text and f"{folder / 'best'}\n" in text


def test_without_a_best_no_network_is_promised(result: StudyResult) -> None:
    assert "network" not in printed(replace(result, best=None), 80, Path("study")).split("report  ")[1]


def test_markup_and_control_characters_in_names_are_inert(result: StudyResult) -> None:
    text = printed(replace(result, task="[bold]x[/bold]\x1b[31m", metric_name="[red]m"), 120)
    assert "[bold]x[/bold]" in text and "[red]m" in text and "\x1b" not in text


def test_empty_study(result: StudyResult) -> None:
    text = printed(replace(result, points=(), baselines=(), best=None))
    assert "No trial has been evaluated yet" in text and "Resume the study" in text


def test_only_baselines(result: StudyResult) -> None:
    text = printed(replace(result, points=(), best=None))
    assert "Only baselines have been evaluated" in text and "uniform block4x1" in text
