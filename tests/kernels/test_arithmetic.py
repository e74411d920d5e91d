"""The kernels' arithmetic in NumPy: rounded once, ties to even, and close to the functions it stands for."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.kernels.arithmetic import ACTIVATIONS, bend, exp, fma, quantise, requantise

floats = st.floats(-1e6, 1e6, width=32)


def nearest_float32(value: Fraction) -> float:
    """The float32 nearest to an exact number, ties to even."""
    guess = np.float32(float(value))
    candidates = [guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf))]
    best = min(candidates, key=lambda c: (abs(Fraction(float(c)) - value), int(np.float32(c).view(np.int32)) & 1))
    return float(best)


@settings(max_examples=300, derandomize=True)
@given(a=floats, b=floats, c=floats)
def test_fma_is_rounded_once(a: float, b: float, c: float) -> None:
    assert float(fma(a, b, c)) == nearest_float32(Fraction(a) * Fraction(b) + Fraction(c))


def test_fma_is_not_rounded_twice() -> None:
    # (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24 is a tie in float32 that goes down to even. What c adds is lost in float64, but decides.
    a = np.float32(1 + 2.0**-12)
    down, up = 1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-23
    assert float(fma(a, a, np.float32(0))) == down
    assert float(fma(a, a, np.float32(2.0**-70))) == up
    assert float(fma(a, a, np.float32(-(2.0**-70)))) == down
    assert float(np.float32(np.float64(a) * np.float64(a) + 2.0**-70)) == down  # as it would be without care


def test_exp_has_the_error_it_claims() -> None:
    x = np.linspace(-87, 88, 400001, dtype=np.float32)
    true = np.exp(x.astype(np.float64))
    assert (np.abs(exp(x) - true) / true).max() < 2e-7
    assert float(exp(-1e30)) == pytest.approx(math.exp(-87))
    assert np.isfinite(exp(1e30))


@pytest.mark.parametrize("name", ACTIVATIONS[2:])
def test_activations_are_close_to_their_formulas(name: str) -> None:
    x = np.linspace(-30, 30, 60001, dtype=np.float32)
    wide = x.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-wide))
    normal = np.array([(1 + math.erf(value / math.sqrt(2))) / 2 for value in wide])
    expected = {
        "hardswish": wide * np.clip(wide + 3, 0, 6) / 6,
        "hardsigmoid": np.clip(wide + 3, 0, 6) / 6,
        "sigmoid": sigmoid,
        "silu": wide * sigmoid,
        "tanh": np.tanh(wide),
        "gelu": wide * normal,
        "gelu_tanh": wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))) / 2,
        "leaky_relu": np.where(wide < 0, wide * 0.125, wide),
        "elu": np.where(wide < 0, 0.125 * np.expm1(np.minimum(wide, 0)), wide),
    }[name]
    assert (np.abs(bend(x, name, 0.125) - expected) <= 1e-6 * (1 + np.abs(wide))).all()


def test_only_activations_that_bend_are_bent() -> None:
    with pytest.raises(ValueError, match="does not bend"):
        bend(1.0, "clamp")


def test_quantise_rounds_ties_to_even_before_the_zero_point() -> None:
    assert quantise([-1.5, -0.5, 0.5, 1.5, 2.5], 1).tolist() == [-1, 1, 1, 3, 3]
    assert quantise([-1e30, 1e30, 200.0], -100).tolist() == [-128, 127, 100]
    assert quantise([-5.0, 5.0], 3, low=0, high=6).tolist() == [0, 6]


@settings(max_examples=300, derandomize=True)
@given(
    total=st.integers(-(2**24), 2**24),
    scale=st.floats(2.0**-20, 2.0**-4, width=32),
    bias=st.floats(-100, 100, width=32),
    zero_point=st.integers(-128, 127),
)
def test_requantise_is_one_rounded_fma_and_one_rounding(total: int, scale: float, bias: float, zero_point: int) -> None:
    real = nearest_float32(total * Fraction(scale) + Fraction(bias))
    expected = max(-100, min(90, round(Fraction(real)) + zero_point))
    assert int(requantise(total, scale, bias, zero_point, low=-100, high=90)) == expected
