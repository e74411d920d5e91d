from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocompress.reports.result import FineTuning, StudyResult
from autocompress.reports.text import headline, number, printable, remarks, signed, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0"),
        (4.934, "4.93"),
        (48.26, "48.3"),
        (1234.0, "1,234"),
        (0.0312, "0.0312"),
        (2e-5, "2.0e-05"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(1e-4, 1e6))
def test_number_keeps_three_digits(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.006)


def test_signed() -> None:
    assert (signed(0.02), signed(-0.02), signed(0.0)) == ("+0.0200", "\N{MINUS SIGN}0.0200", "±0")


@pytest.mark.parametrize(("count", "text"), [(12, "12 B"), (4200, "4.2 kB"), (3_240_000, "3.2 MB"), (102_000_000, "102 MB")])
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_printable_removes_escape_sequences() -> None:
    assert "\x1b" not in printable("\x1b[31mred\x07") and "red" in printable("\x1b[31mred\x07")


def test_headline(result: StudyResult) -> None:
    assert headline(result) == "4.98 ms (modelled, 4.69 to 5.33) · soft KL 0.0251 · agreement 96.3 % · 3.8 MB"
    assert "4.98 ms (measured, 4.69 to 5.33)" in headline(replace(result, latency_source="measured"))


def test_headline_of_a_pessimist(result: StudyResult) -> None:
    best = result.best_point
    assert best is not None
    points = tuple(replace(point, latency_median_ms=4.5) if point.trial == best.trial else point for point in result.points)
    text = headline(replace(result, pessimism=0.9, points=points))
    assert text.startswith("4.98 ms (modelled, 90th percentile; median 4.50, 4.69 to 5.33) · ")


def test_headline_without_an_interval(result: StudyResult) -> None:
    points = tuple(replace(point, latency_low_ms=None) for point in result.points)
    assert headline(replace(result, points=points)).startswith("4.98 ms (modelled) · ")


def test_remarks_compare_with_the_best_baseline_and_with_dense(result: StudyResult) -> None:
    assert remarks(result) == [
        "Soft KL is 2.2× lower than that of the best baseline within 5 ms (plain solver, 0.0556).",  # noqa: RUF001
        "It is 1.6× as fast as dense int8, 7.92 ms (modelled).",  # noqa: RUF001
    ]


@pytest.mark.parametrize(
    ("share", "much"),
    [(1.01, "0.99 % lower"), (0.99, "1 % higher"), (1.25, "20 % lower"), (3.0, "3\N{MULTIPLICATION SIGN} lower")],
)
def test_small_differences_are_told_in_percent(result: StudyResult, share: float, much: str) -> None:
    best = next(point for point in result.everything if point.trial == result.best)
    assert best.loss is not None
    rival = tuple(replace(point, loss=share * best.loss) if point.name == "plain solver" else point for point in result.baselines)
    assert remarks(replace(result, baselines=rival))[0].startswith(f"Soft KL is {much} than")


def test_a_worse_best_is_called_worse(result: StudyResult) -> None:
    better = tuple(replace(point, loss=0.001) if point.name == "plain solver" else point for point in result.baselines)
    assert "higher than that of the best baseline" in remarks(replace(result, baselines=better))[0]


def test_a_baseline_that_wins_is_named(result: StudyResult) -> None:
    trial = next(point.trial for point in result.baselines if point.name == "plain solver")
    assert "the search found nothing better" in remarks(replace(result, best=trial))[0]


def test_nothing_feasible_says_what_is_possible(result: StudyResult) -> None:
    none = replace(
        result,
        budget_ms=2.0,
        best=None,
        points=tuple(replace(point, feasible=False) for point in result.points),
        baselines=tuple(replace(point, feasible=False) for point in result.baselines),
    )
    assert headline(none) == "Nothing fits 2 ms"
    assert "takes 3.06 ms (modelled). Try --budget 3.1ms" in remarks(none)[0]


def test_nothing_evaluated(result: StudyResult) -> None:
    empty = replace(result, points=(), baselines=(), best=None, history=(), layers=())
    assert headline(empty) == "No trial has been evaluated yet"
    assert remarks(empty)


def test_without_a_best_the_front_is_the_headline(result: StudyResult) -> None:
    text = headline(replace(result, budget_ms=None, best=None))
    assert text.startswith("A front of 33 plans: 3.06 ms (modelled) at soft KL") and "21.4 ms (modelled)" in text


def test_fine_tuning_is_told_before_and_after(result: StudyResult) -> None:
    best = result.best_point
    assert best is not None
    row = FineTuning(10.0, 500, True, 0.5, 0.25, 0.4321, 0.5)
    (sentence, *_) = remarks(replace(result, finetuned=row))
    assert sentence.startswith("10.0 minutes of fine-tuning: from soft KL 0.432") and sentence.endswith(".")
    assert number(best.loss) in sentence.split(" to ")[1]
    (sentence, *_) = remarks(replace(result, finetuned=replace(row, improved=False)))
    assert "nothing better" in sentence
    assert not any("fine-tuning" in sentence for sentence in remarks(result))
