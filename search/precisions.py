"""Where more bits pay: dense Plans from the fewest bits to the most.

A Layer alone among others of fewer bits converts what it reads and what is read of it, and that hides what it gains: a
linearisation around the dense base Plan sees no way to it. So Layers in a row change together here, those first that gain most
for the time they take, conversions included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate

from ..evaluators.error_table import ErrorTable
from ..spaces.option import Option
from ..spaces.plan import Plan
from ..spaces.space import Space

#: Layers in a row that change together at most.
LONGEST = 6
#: Share of the first Plan's latency that a change counts at least: what gains time as well is not worth infinitely much.
LEAST_TIME = 1e-3


def refinements(space: Space, start: Plan, errors: ErrorTable, milliseconds: Callable[[Plan], float]) -> list[tuple[Plan, float]]:
    """Plans and their milliseconds, each with some more Layers at more bits than the one before; a dense `start` first."""
    finer = {layer.name: _finer(space, layer.name, start[layer.name]) for layer in space.layers}
    gains = {
        name: errors.errors[name][start[name]] - errors.errors[name][option]
        for name, option in finer.items()
        if option is not None
    }
    found = [(start, milliseconds(start))]
    least = LEAST_TIME * found[0][1]
    while True:
        plan, ms = found[-1]
        left = {name: option for name, option in finer.items() if option is not None and plan[name] != option}
        changes = [
            (sum(gains[name] for name in changed) / max(after - ms, least), changed, after)
            for changed in _runs(space, left)
            for after in [milliseconds(plan.replace(changed))]
        ]
        promise, changed, after = max(changes, key=lambda change: change[0], default=(0.0, {}, ms))
        if promise <= 0:
            return found
        found.append((plan.replace(changed), after))


def _finer(space: Space, layer: str, coarse: Option) -> Option | None:
    """The dense Option of the next more bits."""
    dense = [option for option in space.options[layer] if option.structure == "dense" and option.bits > coarse.bits]
    return min(dense, key=lambda option: option.bits, default=None)


def _runs(space: Space, left: Mapping[str, Option]) -> list[dict[str, Option]]:
    """Changes of some of the Layers in a row, from each one on."""
    names = [layer.name for layer in space.layers]
    windows = (names[first : first + LONGEST] for first in range(len(names)))
    growing = (accumulate(({name: left[name]} for name in window if name in left), dict.__or__) for window in windows)
    return [run for runs in growing for run in runs]
