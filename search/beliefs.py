"""Beliefs: how wrong the error table is for each Layer, learned from the losses of Plans.

The table's rows were measured one Layer at a time around the dense network; in a compressed one a Layer matters more or less
than that. A coefficient for each row says how much. Plans that differ in few Layers tell the most of these, since most of what
is not additive is the same in both: so every Plan is compared with the one before it that is nearest, in a Bayesian linear
regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..spaces.plan import Plan
from .problem import Problem
from .solver import Floats

#: Standard deviation of the coefficients around 1 before any loss is known.
PRIOR_SPREAD = 0.7
#: What a difference of losses is uncertain by: this share of the differences that the table adds up, and of the loss itself.
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


def believe(problem: Problem, history: Sequence[tuple[Plan, float]]) -> Beliefs:
    """What Plans and their losses, oldest first, say of the coefficients."""
    layers = tuple(layer.name for layer in problem.space.layers)
    precision = np.eye(len(layers)) / PRIOR_SPREAD**2
    pull = np.zeros(len(layers))
    common = 1.0
    if history:
        rows = np.array([problem.errors_of(plan) for plan, _ in history])
        losses = np.array([loss for _, loss in history])
        expected = np.maximum(rows.sum(1), 1e-9)
        good = losses <= np.median(losses)
        common = float(np.exp(np.median(np.log(np.maximum(losses, 1e-9)[good] / expected[good]))))
        changes, differences, noise = _comparisons(rows, losses, common)
        scaled = changes / noise[:, None]
        precision += scaled.T @ scaled
        pull = scaled.T @ ((differences - changes.sum(1)) / noise)
    lower = np.linalg.cholesky(precision)
    mean: Floats = np.asarray(1.0 + np.linalg.solve(precision, pull), np.float64)
    spread: Floats = np.linalg.inv(lower).T
    return Beliefs(layers, mean, spread, common)


def _comparisons(rows: Floats, losses: Floats, common: float) -> tuple[Floats, Floats, Floats]:
    """Each Plan against the nearest of the best before it: changes in the table's rows, in the loss over `common`, and noise."""
    changes, differences, noise = [], [], []
    for index in range(1, len(losses)):
        best = np.argsort(losses[:index], kind="stable")[:COMPARED]
        distances = np.abs(rows[index] - rows[best]).sum(1)
        nearest = best[int(np.argmin(distances))]
        least = float(distances.min())
        changes.append(rows[index] - rows[nearest])
        differences.append((losses[index] - losses[nearest]) / common)
        noise.append(CHANGE_NOISE * least + LOSS_NOISE * losses[nearest] / common + 1e-12)
    shape = (len(changes), rows.shape[1])
    return np.array(changes).reshape(shape), np.array(differences), np.array(noise)
