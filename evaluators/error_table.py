"""ErrorTable: the loss that each Option of each Layer is expected to add.

Within one Layer the reconstruction error orders all Options; between Layers it says nothing. So the loss is measured with
one Layer swapped at a time, for a few Options of each Layer (the anchors), and carried to its other Options along their
reconstruction errors: straight lines in logarithmic scales.

What int8 costs each Layer is measured the other way round, one Layer rounded in a network that is not: beside the noise of all
the others its own would not be seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..files import write_json
from ..spaces.groups import Group
from ..spaces.option import Option
from ..spaces.plan import Plan
from ..spaces.space import Space

#: Ranks, among a Layer's sparse Options ordered by reconstruction error, of those that are measured.
ANCHOR_RANKS = (0.15, 0.6)
#: Bounds of the exponent with which the loss grows with the reconstruction error, outside of the anchors.
EXPONENTS = (0.5, 2.0)
#: The least loss that a measurement can tell from zero, in nats.
FLOOR = 1e-6

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ErrorTable:
    """Expected additional loss of each (Layer, Option); that of a `channel` Option stands at the Group's first producer.

    Attributes:
        base: loss of the Plan around which the anchors were measured (all Layers dense, at the fewest bits of at least 8).
        errors: by Layer and Option.
    """

    base: float
    errors: Mapping[str, Mapping[Option, float]]

    def predict(self, plan: Plan) -> float:
        """Expected loss of a Plan: the sum over its Layers."""
        return math.fsum(self.errors[layer][option] for layer, option in plan.items())


@dataclass(frozen=True)
class _Curve:
    """Loss against reconstruction error through one or two anchors; it never falls."""

    anchors: tuple[tuple[float, float], ...]

    def __call__(self, error: float) -> float:
        error = max(error, 1e-12)
        (x0, y0), (x1, y1) = self.anchors[0], self.anchors[-1]
        if x1 <= x0 * 1.01 or y1 < y0:
            # One point, or two whose order is noise: their middle stands for both.
            slope = EXPONENTS[0] if x1 > x0 * 1.01 else 1.0
            x0, y0 = x1, y1 = math.sqrt(x0 * x1), math.sqrt(y0 * y1)
        else:
            slope = math.log(y1 / y0) / math.log(x1 / x0)
        if x0 < error < x1:
            return float(y0 * (error / x0) ** slope)
        x, y = (x0, y0) if error <= x0 else (x1, y1)
        return float(y * (error / x) ** min(max(slope, EXPONENTS[0]), EXPONENTS[1]))


def measure_errors(
    space: Space,
    layer_errors: Callable[[str, Option], float],
    group_errors: Callable[[Group, float], float],
    loss: Callable[[Plan], float],
    store: Path,
    fingerprint: str,
    progress: Progress,
) -> ErrorTable:
    """Measure the anchors that `store` does not have yet, and derive the table.

    Args:
        layer_errors: reconstruction error of (Layer, Option); `channel` Options are asked of `group_errors`.
        group_errors: reconstruction error of removing a share of a Group's channels.
        loss: measured loss of a Plan.
        store: JSON file that keeps the measurements; written after each, so that a killed run goes on where it stopped.
        fingerprint: of all that the measurements depend on; a store with another one is measured anew.
        progress: called with (done, total, what).
    """
    base_plan = base(space)
    leaders = {group.producers[0].op: group for group in space.groups}
    swaps: dict[tuple[str, Option], Plan] = {}
    for layer in space.layers:
        sparse = [o for o in space.options[layer.name] if o.structure != "channel" and (o.structure != "dense" or o.bits == 4)]
        for option in _anchors(sparse, [layer_errors(layer.name, option) for option in sparse]):
            swaps[layer.name, option] = base_plan.replace({layer.name: option})
        if layer.name in leaders:
            group = leaders[layer.name]
            channel = [o for o in space.options[layer.name] if o.structure == "channel" and o.bits == base_plan[layer.name].bits]
            for option in _anchors(channel, [group_errors(group, option.sparsity) for option in channel]):
                together = {s.op: Option("channel", option.sparsity, base_plan[s.op].bits) for s in group.producers}
                swaps[layer.name, option] = base_plan.replace(together)

    finest_plan = finest(space)
    rounded = [name for name, option in base_plan.items() if option != finest_plan[name]]
    measured = _load(store, fingerprint)
    plans = {"base": base_plan} | {f"{layer}: {option}": plan for (layer, option), plan in swaps.items()}
    plans |= {f"{layer} alone": finest_plan.replace({layer: base_plan[layer]}) for layer in rounded}
    for done, (name, plan) in enumerate(plans.items()):
        progress(done, len(plans), name)
        if name not in measured:
            measured[name] = loss(plan)
            write_json(store, {"fingerprint": fingerprint, "losses": measured})
    progress(len(plans), len(plans), "done")

    added = {key: max(measured[f"{key[0]}: {key[1]}"] - measured["base"], FLOOR) for key in swaps}
    alone = {layer: max(measured[f"{layer} alone"], FLOOR) for layer in rounded}
    # A tensor between two Layers is rounded for each of them, so that all alone are more than all together.
    together_over_alone = measured["base"] / math.fsum(alone.values()) if alone else 0.0
    errors: dict[str, dict[Option, float]] = {}
    for layer in space.layers:
        points = [(option, value) for (name, option), value in added.items() if name == layer.name]
        own = _curve([(layer_errors(layer.name, o), value) for o, value in points if o.structure != "channel"])
        led = leaders.get(layer.name)
        shared = _curve([(group_errors(led, o.sparsity), v) for o, v in points if o.structure == "channel"]) if led else None
        errors[layer.name] = {}
        for option in space.options[layer.name]:
            rounding = together_over_alone * alone.get(layer.name, 0.0) * {32: 0.0, 16: 0.01}.get(option.bits, 1.0)
            if option.structure == "channel":
                extra = shared(group_errors(led, option.sparsity)) if led and shared else 0.0
            elif option.structure == "dense" and option.bits >= 8:
                extra = 0.0
            else:
                extra = own(layer_errors(layer.name, option)) if own else 0.0
            errors[layer.name][option] = rounding + extra
    return ErrorTable(measured["base"], errors)


def base(space: Space) -> Plan:
    """The dense Plan at the fewest bits of at least 8 that each Layer offers."""
    dense = {
        layer.name: min(
            (option for option in space.options[layer.name] if option.structure == "dense" and option.bits >= 8),
            key=lambda option: option.bits,
        )
        for layer in space.layers
    }
    return Plan.of(dense)


def finest(space: Space) -> Plan:
    """The dense Plan at the most bits that each Layer offers."""
    offered = {layer.name: [o for o in space.options[layer.name] if o.structure == "dense"] for layer in space.layers}
    return Plan.of({name: max(options, key=lambda option: option.bits) for name, options in offered.items()})


def _anchors(options: Sequence[Option], errors: Sequence[float]) -> list[Option]:
    """The Options to measure: those at fixed ranks in the order of reconstruction error."""
    ordered = [option for _, option in sorted(zip(errors, options, strict=True))]
    chosen = {ordered[round(rank * (len(ordered) - 1))]: None for rank in ANCHOR_RANKS} if ordered else {}
    return list(chosen)


def _curve(anchors: list[tuple[float, float]]) -> _Curve | None:
    return _Curve(tuple(sorted((max(x, 1e-12), max(y, FLOOR)) for x, y in anchors))) if anchors else None


def _load(store: Path, fingerprint: str) -> dict[str, float]:
    if not store.exists():
        return {}
    try:
        content = json.loads(store.read_text(encoding="utf-8"))
        if content["fingerprint"] != fingerprint:
            return {}
        return {str(name): float(value) for name, value in content["losses"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the file {store} is damaged ({error}). Remove it: its measurements will be made again.") from error
