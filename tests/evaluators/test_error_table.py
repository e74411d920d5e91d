from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocompress.api import Prepared
from autocompress.errors import UserError
from autocompress.evaluators.error_table import EXPONENTS, ErrorTable, _Curve, base, measure_errors
from autocompress.spaces.groups import Group
from autocompress.spaces.option import Option
from autocompress.spaces.plan import Plan
from autocompress.spaces.space import Space

POSITIVE = st.floats(1e-6, 1e2)


class Losses:
    """Losses of Plans that add up over Layers, and how often they were asked for."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[Plan] = []
        self.fail_after = fail_after

    def __call__(self, plan: Plan) -> float:
        if self.fail_after is not None and len(self.asked) == self.fail_after:
            raise KeyboardInterrupt
        self.asked.append(plan)
        return 0.01 + sum(reconstruction(layer, option) for layer, option in plan.items())


def reconstruction(layer: str, option: Option) -> float:
    """Rises with sparsity and with fewer bits; more in some Layers than in others."""
    rounding = {32: 0.0, 16: 1e-6, 8: 1e-4, 4: 1e-2}[option.bits]
    return (len(layer) % 5 + 1) * (option.sparsity**2 + rounding) / 10


def group_error(group: Group, share: float) -> float:
    return share / 2 * len(group.consumers)


def measure(space: Space, store: Path, losses: Losses, fingerprint: str = "one") -> ErrorTable:
    return measure_errors(space, reconstruction, group_error, losses, store, fingerprint, lambda done, total, what: None)


@pytest.fixture(scope="module")
def space(tiny: Prepared) -> Space:
    return tiny.profile.space


@given(
    st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=2).map(sorted),
    st.lists(st.floats(0.0, 1e3), min_size=2, max_size=30).map(sorted),
)
@settings(max_examples=300, deadline=None)
def test_curves_never_fall(anchors: list[tuple[float, float]], errors: list[float]) -> None:
    curve = _Curve(tuple(anchors))
    values = [curve(error) for error in errors]
    assert all(later >= earlier * (1 - 1e-9) for earlier, later in itertools.pairwise(values))
    assert all(value > 0 for value in values)


@given(POSITIVE, st.floats(1.1, 100.0), POSITIVE, st.floats(1.0, 100.0))
@settings(max_examples=100, deadline=None)
def test_curves_meet_their_anchors(x: float, wider: float, y: float, higher: float) -> None:
    curve = _Curve(((x, y), (x * wider, y * higher)))
    assert curve(x) == pytest.approx(y)
    assert curve(x * wider) == pytest.approx(y * higher)
    # Beyond them the loss grows with a sane exponent.
    assert 2 ** EXPONENTS[0] - 1e-6 <= curve(2 * x * wider) / (y * higher) <= 2 ** EXPONENTS[1] + 1e-6


def test_the_table_covers_the_space_and_rises_with_reconstruction_error(space: Space, tmp_path: Path) -> None:
    losses = Losses()
    table = measure(space, tmp_path / "losses.json", losses)
    assert table.base == pytest.approx(losses(base(space)))
    compared = 0
    for layer in space.layers:
        rows = table.errors[layer.name]
        assert tuple(rows) == space.options[layer.name]
        for one in rows:
            for other in rows:
                if one.structure != "dense" and (one.structure, one.bits) == (other.structure, other.bits):
                    compared += one.sparsity < other.sparsity
                    assert one.sparsity >= other.sparsity or rows[one] <= rows[other] * (1 + 1e-9)
    assert compared > 100
    plan = base(space)
    assert table.predict(plan) == pytest.approx(table.base, rel=1e-6)


def test_what_int8_costs_each_layer_is_measured_without_the_noise_of_the_others(space: Space, tmp_path: Path) -> None:
    weights = {layer.name: 0.001 * (place + 1) ** 2 for place, layer in enumerate(space.layers)}

    def loss(plan: Plan) -> float:
        rounded = [layer for layer, option in plan.items() if option.bits <= 8]
        # Layers together cost less than the sum, and each has its own noise beside others.
        noise = 0.3 * weights[rounded[-1]] if len(rounded) > 1 else 0.0
        return 0.7 * sum(weights[layer] for layer in rounded) + noise + sum(o.sparsity for o in plan.values())

    table = measure_errors(
        space, reconstruction, group_error, loss, tmp_path / "losses.json", "one", lambda done, total, what: None
    )
    costs = {name: errors[Option("dense", 0.0, 8)] for name, errors in table.errors.items()}
    total = sum(weights.values())
    assert costs == pytest.approx({name: table.base * weight / total for name, weight in weights.items()})
    assert all(errors[Option("dense", 0.0, 32)] == 0 for errors in table.errors.values())


def test_only_the_first_producer_carries_the_error_of_its_group(space: Space, tmp_path: Path) -> None:
    table = measure(space, tmp_path / "losses.json", Losses())
    followers = [(group.producers[0].op, span.op) for group in space.groups for span in group.producers[1:]]
    assert followers
    for leader, follower in followers:
        rows = {
            name: [e for o, e in table.errors[name].items() if o.structure == "channel" and o.bits == 8]
            for name in (leader, follower)
        }
        assert len(rows[leader]) > 2 and len(set(rows[leader])) == len(rows[leader])
        assert set(rows[follower]) == {table.errors[follower][Option("dense", 0.0, 8)]}, "more than its own rounding"


def test_an_interrupted_measurement_goes_on_where_it_stopped(space: Space, tmp_path: Path) -> None:
    whole = Losses()
    expected = measure(space, tmp_path / "whole.json", whole)
    assert len(whole.asked) > 6
    with pytest.raises(KeyboardInterrupt):
        measure(space, tmp_path / "losses.json", Losses(fail_after=5))
    rest = Losses()
    assert measure(space, tmp_path / "losses.json", rest) == expected
    assert rest.asked == whole.asked[5:]
    again = Losses()
    assert measure(space, tmp_path / "losses.json", again) == expected
    assert not again.asked


def test_another_fingerprint_is_measured_anew(space: Space, tmp_path: Path) -> None:
    store = tmp_path / "losses.json"
    first, second = Losses(), Losses()
    measure(space, store, first)
    measure(space, store, second, "two")
    assert second.asked == first.asked
    assert json.loads(store.read_text())["fingerprint"] == "two"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: '{"fingerprint": "one", "losses": {"base": "low"}}',
        lambda text: '{"fingerprint": "one", "losses": 3}',
    ],
    ids=["cut off", "empty", "a list", "no fields", "a word for a loss", "a number for losses"],
)
def test_a_damaged_store_is_refused_and_kept(space: Space, tmp_path: Path, damage: Callable[[str], str]) -> None:
    store = tmp_path / "losses.json"
    measure(space, store, Losses())
    store.write_text(damage(store.read_text()))
    before = store.read_text()
    with pytest.raises(UserError, match=r"losses\.json is damaged .*Remove it"):
        measure(space, store, Losses())
    assert store.read_text() == before
