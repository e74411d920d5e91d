"""Beliefs: how wrong the error table is for each Layer, learned from the losses of Plans.

The table's rows were measured one Layer at a time around the dense network; in a compressed one a Layer matters more or less
than that. A coefficient for each row says how much. Plans that differ in few Layers tell the most of these, since most of what
is not additive is the same in both: so every Plan is compared with the one before it that is nearest, in a Bayesian linear
regression. How far coefficients are from 1 at all is what makes the losses likeliest (empirical Bayes): near the dense network
the table tells nearly all, in a network that lost most of itself little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..spaces.plan import Plan
from .problem import Problem
from .solver import Floats

#: Standard deviations of the coefficients around 1 that are thought of, the one before any loss is known first.
SPREADS = (0.7, 0.35, 0.15)
#: What a difference of losses is uncertain by: this share of itself or of the differences that the table adds up, the larger one,
#: and of the loss. A network that breaks down loses many times what the table says: that must not be read as a coefficient of 10.
CHANGE_NOISE, LOSS_NOISE = 0.3, 0.01
#: Earlier Plans of least loss among which the nearest one is sought.
COMPARED = 32
#: Bounds of a coefficient that is drawn.
LEAST, MOST = 0.1, 10.0


@dataclass(frozen=True)
class Beliefs:
    """A normal distribution over the coefficients.

    Attributes:
        layers: names of the Layers, in the order of the coefficients.
        mean: shape (layers,).
        spread: lower triangular, shape (layers, layers): spread @ standard normal numbers is a deviation from the mean.
        common: observed losses over expected ones, whatever the Layer.
    """

    layers: tuple[str, ...]
    mean: Floats
    spread: Floats
    common: float

    def expected(self) -> dict[str, float]:
        """The mean, by Layer."""
        return self._bounded(self.mean)

    def draw(self, rng: np.random.Generator, reach: float = 1.0) -> dict[str, float]:
        """Coefficients that may be true (Thompson sampling), by Layer; `reach` times as far from the mean."""
        return self._bounded(self.mean + reach * (self.spread @ rng.standard_normal(len(self.layers))))

    def _bounded(self, coefficients: Floats) -> dict[str, float]:
        return dict(zip(self.layers, np.clip(coefficients, LEAST, MOST).tolist(), strict=True))


class Comparisons:
    """The Plans of a history as numbers, each compared with the nearest one among the best before it.

    A history that only went on since it was last looked at is not looked at anew.

    Attributes:
        rows: the error table's entries for the Plans, shape (Plans, Layers).
        losses: shape (Plans,).
        others, distances: number of the nearest Plan and how far the table says that it is, from the second Plan on.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._forget()

    def _forget(self) -> None:
        self._history: list[tuple[Plan, float]] = []
        self.rows: Floats = np.zeros((0, len(self._problem.space.layers)))
        self.losses: Floats = np.zeros(0)
        self.others, self.distances = np.zeros(0, np.int64), np.zeros(0)

    def extend(self, history: Sequence[tuple[Plan, float]]) -> None:
        """Look at Plans and their losses, oldest first."""
        history = list(history)
        if history[: len(self._history)] != self._history:
            self._forget()
        new = history[len(self._history) :]
        self._history = history
        self.rows = np.concatenate([self.rows, *[self._problem.errors_of(plan)[None] for plan, _ in new]])
        self.losses = np.concatenate([self.losses, [loss for _, loss in new]])
        found = [self._nearest(index) for index in range(len(self.others) + 1, len(history))]
        self.others = np.concatenate([self.others, np.array([number for number, _ in found], np.int64)])
        self.distances = np.concatenate([self.distances, [far for _, far in found]])

    def _nearest(self, index: int) -> tuple[int, float]:
        best = np.argsort(self.losses[:index], kind="stable")[:COMPARED]
        distances = np.abs(self.rows[index] - self.rows[best]).sum(1)
        nearest = int(np.argmin(distances))
        return int(best[nearest]), float(distances[nearest])


def believe(problem: Problem, history: Sequence[tuple[Plan, float]], compared: Comparisons | None = None) -> Beliefs:
    """What Plans and their losses, oldest first, say of the coefficients.

    Args:
        compared: what it found in earlier histories is used again.
    """
    layers = tuple(layer.name for layer in problem.space.layers)
    weight, pull = np.zeros((len(layers), len(layers))), np.zeros(len(layers))
    common = 1.0
    if history:
        compared = compared or Comparisons(problem)
        compared.extend(history)
        rows, losses, others = compared.rows, compared.losses, compared.others
        expected = np.maximum(rows.sum(1), 1e-9)
        good = losses <= np.median(losses)
        common = float(np.exp(np.median(np.log(np.maximum(losses, 1e-9)[good] / expected[good]))))
        changes = rows[1:] - rows[others]
        differences = (losses[1:] - losses[others]) / common
        surprise = np.maximum(compared.distances, np.abs(differences))
        noise = CHANGE_NOISE * surprise + LOSS_NOISE * losses[others] / common + 1e-12
        scaled = changes / noise[:, None]
        weight = scaled.T @ scaled
        pull = scaled.T @ ((differences - changes.sum(1)) / noise)
    # How far the table is to be trusted shows in how well it told the losses: the likeliest spread (empirical Bayes).
    _, lower, deviation = max((_posterior(weight, pull, spread) for spread in SPREADS), key=lambda one: round(one[0], 6))
    mean: Floats = np.asarray(1.0 + deviation, np.float64)
    spread: Floats = np.asarray(np.linalg.inv(lower).T, np.float64)
    return Beliefs(layers, mean, spread, common)


def _posterior(weight: Floats, pull: Floats, spread: float) -> tuple[float, Floats, Floats]:
    """With that spread: how likely the losses are, a logarithm but for a constant; the precision's Cholesky factor; the mean."""
    lower: Floats = np.asarray(np.linalg.cholesky(weight + np.eye(len(pull)) / spread**2), np.float64)
    mean: Floats = np.asarray(np.linalg.solve(lower.T, np.linalg.solve(lower, pull)), np.float64)
    likely = 0.5 * float(pull @ mean) - float(np.log(np.diag(lower)).sum()) - len(pull) * math.log(spread)
    return likely, lower, mean
