"""What rounds of runs on a device come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocompress.kernels.bench import AGREEMENT
from autocompress.kernels.remote import Round, StepTiming, Timing, fastest_round, rounds_agree


def one(whole: float, *steps: float) -> Round:
    timings = (StepTiming(f"step{number}", "f32_dense", us) for number, us in enumerate(steps))
    return Round(Timing(whole, 0.9 * whole, 1.1 * whole, 25e3), tuple(timings))


def test_every_part_counts_with_its_fastest_round() -> None:
    best = fastest_round([one(100.0, 40.0, 70.0), one(105.0, 45.0, 60.0)])
    assert [step.microseconds for step in best.steps] == [40.0, 60.0]
    assert best.whole == Timing(100.0, 90.0, pytest.approx(110.0), 25e3)


def test_a_network_takes_no_longer_than_its_steps() -> None:
    best = fastest_round([one(100.0, 40.0, 70.0), one(105.0, 45.0, 40.0)])
    assert best.whole == Timing(80.0, 80.0, pytest.approx(110.0), 25e3)


@given(st.lists(st.floats(1.0, 1e5), min_size=1, max_size=6))
def test_rounds_agree_when_the_fastest_two_do(times: list[float]) -> None:
    rounds = [one(time, 2 * time) for time in times]
    first, *others = sorted(times)
    assert rounds_agree(rounds) == bool(others and others[0] <= AGREEMENT * first)
    assert fastest_round(rounds).whole.microseconds == first
