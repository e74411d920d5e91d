"""The arithmetic of the C kernels (csrc/ac_kernels.h, csrc/activation.h) in NumPy, to the same bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32s = NDArray[np.float32]

#: Activations in the order of the C enumeration. Those after `clamp` bend.
ACTIVATIONS = (
    "none",
    "clamp",
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "silu",
    "tanh",
    "gelu",
    "gelu_tanh",
    "leaky_relu",
    "elu",
)


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Float32s:
    """a * b + c in float32, rounded once; arguments broadcast and must be float32 values."""
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)  # exact: 24 + 24 bits
    addend = np.asarray(c, np.float64)
    total = np.asarray(product + addend)
    # Rounding to float64 and then to float32 could round twice. What the sum lost is found (Knuth's two-sum), and the sum is
    # rounded to odd instead: then the second rounding is the only one that counts.
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    even = total.view(np.int64) & 1 == 0
    towards = np.where(lost > 0, np.inf, -np.inf)
    odd = np.where((lost != 0) & even & np.isfinite(total), np.nextafter(total, towards), total)
    result: Float32s = odd.astype(np.float32)
    return result


def exp(x: ArrayLike) -> Float32s:
    """exp(x) as the kernels compute it; relative error below 2e-7 for x in [-87, 88], to which x is clamped."""
    bounded = np.clip(np.asarray(x, np.float32), np.float32(-87), np.float32(88))
    n = fma(bounded, np.float32(1.44269504), np.float32(12582912)) - np.float32(12582912)
    r = fma(n, np.float32(2.12194440e-4), fma(n, np.float32(-0.693359375), bounded))
    e = fma(np.float32(1.9875691500e-4), r, np.float32(1.3981999507e-3))
    for coefficient in (8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        e = fma(e, r, np.float32(coefficient))
    e = fma(e, r * r, r) + np.float32(1)
    result: Float32s = np.ldexp(e, n.astype(np.int32))
    return result


def bend(x: ArrayLike, activation: str, slope: float = 0.0) -> Float32s:
    """The activations that bend, as the kernels compute them in float32.

    Args:
        activation: one of `ACTIVATIONS` after `clamp`.
        slope: of leaky_relu; alpha of elu.
    """
    v = np.asarray(x, np.float32)
    one, s = np.float32(1), np.float32(slope)
    match activation:
        case "hardswish":
            return v * _hardsigmoid(v)
        case "hardsigmoid":
            return _hardsigmoid(v)
        case "sigmoid":
            return _sigmoid(v)
        case "silu":
            return v * _sigmoid(v)
        case "tanh":
            return one - np.float32(2) / (exp(v * np.float32(2)) + one)
        case "gelu":
            return _gelu(v)
        case "gelu_tanh":
            return v * _sigmoid(v * fma(v * v, np.float32(0.0713548163), np.float32(1.5957691216)))
        case "leaky_relu":
            return np.where(v < 0, v * s, v)
        case "elu":
            return np.where(v < 0, (exp(v) - one) * s, v)
    raise ValueError(f"{activation} does not bend")


def quantise(r: ArrayLike, zero_point: int, low: float = -128.0, high: float = 127.0) -> NDArray[np.int8]:
    """Real numbers in units of an output's scale to its codes, rounded to nearest, ties to even, within codes [low, high]."""
    bounded = np.clip(np.asarray(r, np.float32), np.float32(low - zero_point), np.float32(high - zero_point))
    y: NDArray[np.int8] = (np.rint(bounded).astype(np.int32) + zero_point).astype(np.int8)
    return y


def requantise(
    sums: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    zero_point: int,
    *,
    activation: str = "none",
    slope: float = 0.0,
    inverse_scale: float = 1.0,
    low: float = -128.0,
    high: float = 127.0,
) -> NDArray[np.int8]:
    """The int8 outputs that the matrix kernels make of their int32 sums, bit for bit; arguments broadcast.

    Args:
        scale, bias: float32; of activations that do not bend already divided by the output's scale.
        zero_point: of the output.
        inverse_scale: 1 / the output's scale, for activations that bend.
        low, high: codes, the bounds of `clamp`.
    """
    r = fma(np.asarray(sums).astype(np.float32), scale, bias)
    if ACTIVATIONS.index(activation) > 1:
        r = bend(r, activation, slope) * np.float32(inverse_scale)
    return quantise(r, zero_point, low, high)


def _sigmoid(v: Float32s) -> Float32s:
    return np.float32(1) / (np.float32(1) + exp(-v))


def _hardsigmoid(v: Float32s) -> Float32s:
    clipped: Float32s = np.clip(fma(v, np.float32(1) / np.float32(6), np.float32(0.5)), np.float32(0), np.float32(1))
    return clipped


def _gelu(v: Float32s) -> Float32s:
    z = np.abs(v) * np.float32(0.70710678)
    t = np.float32(1) / fma(z, np.float32(0.3275911), np.float32(1))
    q = fma(np.float32(1.061405429), t, np.float32(-1.453152027))
    for coefficient in (1.421413741, -0.284496736, 0.254829592):
        q = fma(q, t, np.float32(coefficient))
    tail = q * t * exp(-(z * z)) * np.float32(0.5)
    return v * np.where(v < 0, tail, np.float32(1) - tail)
