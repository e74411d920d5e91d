"""The summary that a search prints when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .comparison import Comparison
from .comparison_page import columns, verdicts
from .folder import COMPARISON_CSV, COMPARISON_HTML, COMPARISON_JSON
from .result import Point, StudyResult
from .text import (
    budget,
    goal,
    headline,
    loss_name,
    metric,
    metric_name,
    number,
    over_budget,
    point_name,
    printable,
    remarks,
    size,
)

#: At most so many front points are shown; the page and front.csv have all.
ROWS = 10
#: Below so many columns the table keeps latency, evaluation loss and metric only.
NARROW = 72
#: Below so many columns a comparison keeps what is about evaluation data.
WIDE = 110
OVER = "*"


def print_summary(result: StudyResult, console: Console, folder: Path | None = None) -> None:
    """Print what was found, the front beside the baselines, and where the files are (when `folder`, the study's, is given)."""
    console.print()
    console.print(Text(printable(f"{result.task} on {result.target}, {goal(result)}"), style="dim"))
    console.print(Text(printable(headline(result)), style="bold green" if result.best is not None else "bold yellow"))
    for sentence in remarks(result):
        console.print(Text(printable(sentence)))
    if result.everything:
        console.print()
        console.print(_table(result, console.width))
        console.print(Text(printable(f"Latencies are {result.latency_source}: {result.latency_note}"), style="dim"))
    if folder is not None:
        console.print()
        rows = [("report", "report.html"), ("front", "front.csv"), ("", "front.json")]
        if result.best is not None:
            rows.append(("network", "best"))
        for label, name in rows:
            console.print(Text.assemble((f"{label:<8}", "dim"), str(folder / name)), soft_wrap=True)


def print_comparison(comparison: Comparison, console: Console, folder: Path) -> None:
    """Print how samplers compare, and where the files are."""
    console.print()
    goal = f"within {number(comparison.budget_ms)} ms ({comparison.latency_source}), {comparison.trials} evaluations"
    console.print(Text(printable(f"{comparison.task} on {comparison.target}, {goal}"), style="dim"))
    for sentence in verdicts(comparison):
        console.print(Text(printable(sentence)))
    console.print()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("sampler", overflow="fold")
    shown = columns(comparison)
    if console.width < WIDE:
        shown = [column for column in shown if column[1] == "evaluation data"]
    for head, below, _ in shown:
        table.add_column(Text(f"{printable(head)}\n{below}"), justify="right", overflow="fold")
    rows = comparison.rows()
    for index, row in enumerate(rows):
        if index == len(comparison.samplers):
            table.add_section()
        style = "bold green" if row.name == comparison.compared_with else ""
        table.add_row(Text(printable(row.name)), *(Text(printable(cell(row))) for _, _, cell in shown), style=style)
    console.print(table)
    console.print(Text(printable(f"Latencies are {comparison.latency_source}: {comparison.latency_note}"), style="dim"))
    console.print()
    for label, name in (("report", COMPARISON_HTML), ("curves", COMPARISON_CSV), ("", COMPARISON_JSON)):
        console.print(Text.assemble((f"{label:<8}", "dim"), str(folder / name)), soft_wrap=True)


def _table(result: StudyResult, width: int) -> Table:
    columns: list[tuple[str, Callable[[Point], str]]] = [
        ("ms\n" + result.latency_source, lambda point: number(point.latency_ms) + (OVER if over_budget(result, point) else "")),
        (printable(loss_name(result)) + "\nsearch", lambda point: number(point.search_loss)),
        ("\nevaluation", lambda point: number(point.loss)),
        (printable(metric_name(result)), lambda point: metric(result, point.metric)),
        ("size", lambda point: size(point.size_bytes)),
    ]
    if width < NARROW:
        sized = "size" in result.objectives or result.max_size_bytes is not None
        columns = [columns[0], columns[2], columns[3], *columns[4 if sized else 5 :]]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("plan", overflow="fold")
    for heading, _ in columns:
        table.add_column(Text(heading), justify="right", overflow="fold")
    front = [point for point in result.front if point.name is None]
    shown = _spread(front, result.best)
    baselines = sorted(result.baselines, key=result.cost)
    for index, point in enumerate([*shown, *baselines]):
        if index == len(shown):
            table.add_section()
        name = printable(point_name(point)) + (" (best)" if point.trial == result.best else "")
        style = "bold green" if point.trial == result.best else "dim" if over_budget(result, point) else ""
        table.add_row(Text(name), *(Text(cell(point)) for _, cell in columns), style=style)
    notes = []
    if any(over_budget(result, point) for point in [*shown, *baselines]):
        notes.append(f"{OVER} over the budget of {budget(result)}")
    if len(shown) < len(front):
        notes.append(f"{len(shown)} of {len(front)} front points; front.csv has all")
    if notes:
        table.caption = Text("; ".join(notes))
        table.caption_justify = "left"
    return table


def _spread(front: Sequence[Point], best: int | None) -> list[Point]:
    """At most `ROWS` points spread evenly over the front, the best among them."""
    if len(front) <= ROWS:
        return list(front)
    chosen = {round(index * (len(front) - 1) / (ROWS - 1)) for index in range(ROWS)}
    place = next((index for index, point in enumerate(front) if point.trial == best), None)
    if place is not None and place not in chosen:
        nearest = min(chosen - {0, len(front) - 1}, key=lambda index: abs(index - place))
        chosen = (chosen - {nearest}) | {place}
    return [front[index] for index in sorted(chosen)]
