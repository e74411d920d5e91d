from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autocompress.api import Prepared
from autocompress.evaluators.latency import LatencyEvaluator
from autocompress.evaluators.needed_rows import needed_rows
from autocompress.kernels.geometry import Geometry
from autocompress.kernels.table import LatencyTable, RowKey
from autocompress.kernels.targets import load_target
from autocompress.spaces.capture import capture
from autocompress.spaces.layers import find_layers
from autocompress.spaces.option import Bits, Option
from autocompress.spaces.plan import Plan

often = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_a_plan_takes_the_sum_of_its_rows(tiny: Prepared) -> None:
    latency, table = tiny.profile.latency, tiny.profile.latency.table
    plan = tiny.profile.space.uniform(Option("dense", 0.0, 8))
    told = latency(plan)
    rows: dict[str, float] = {}
    for layer in find_layers(tiny.profile.network):
        op = "depthwise" if layer.depthwise else "conv" if layer.kind == "conv2d" else "linear"
        geometry = Geometry(
            op,
            layer.in_channels,
            layer.out_channels,
            *layer.in_size,
            *layer.out_size,
            kernel=layer.kernel,
            stride=layer.stride,
            dilation=layer.dilation,
            groups=layer.groups,
        )
        rows[layer.name] = table.row(geometry, "dense", 0.0, 8).microseconds
    # The network's other ops: two residual additions and the global pooling; and the conversion of its input.
    add = table.row(Geometry("add", 16, 16, 12, 12, 12, 12), "dense", 0.0, 8).microseconds
    pool = table.row(Geometry("global_pool", 64, 64, 12, 12, 1, 1), "dense", 0.0, 8).microseconds
    convert = table.row(Geometry("convert", 3, 3, 24, 24, 24, 24), "dense", 0.0, 8).microseconds
    expected = sum(rows.values()) + 2 * add + pool + convert
    assert told.ms == pytest.approx(table.total_ms(expected))
    assert {row.name: row.microseconds for row in told.ops if row.name in plan} == pytest.approx(rows)
    assert sorted(row.op for row in told.ops if row.name not in plan) == ["adaptive_avg_pool", "add", "add", "convert"]


@given(seed=st.integers(0, 10**9))
@often
def test_totals_are_on_the_end_to_end_line(tiny: Prepared, random_plan: Callable[[int], Plan], seed: int) -> None:
    latency = tiny.profile.latency
    told = latency(random_plan(seed))
    target = latency.table.target
    total = target.intercept_ms + target.slope * math.fsum(row.microseconds for row in told.ops) / 1e3
    assert told.ms == pytest.approx(total)
    assert told.low_ms < told.ms < told.high_ms
    assert all(0 < row.low <= row.microseconds <= row.high for row in told.ops)


@given(seed=st.integers(0, 10**9))
@often
def test_pessimism_counts_a_higher_quantile(tiny: Prepared, random_plan: Callable[[int], Plan], seed: int) -> None:
    profile, plan = tiny.profile, random_plan(seed)
    table = LatencyTable.for_target(load_target("pixel7"), pessimism=0.9)
    pessimist = LatencyEvaluator(profile.network, profile.space.groups, table)
    usual, told = profile.latency(plan), pessimist(plan)
    assert usual.ms == usual.median_ms
    assert (told.median_ms, told.low_ms, told.high_ms) == pytest.approx((usual.median_ms, usual.low_ms, usual.high_ms))
    assert told.ms == pytest.approx(usual.high_ms) == pytest.approx(pessimist.ms(plan))


def small_latency(activation: torch.nn.Module) -> LatencyEvaluator:
    model = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 1), activation, torch.nn.Conv2d(16, 8, 1)).eval()
    return LatencyEvaluator(capture(model, torch.zeros(1, 8, 14, 14)), (), LatencyTable.for_target(load_target("pixel7")))


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_activations_that_bend_cost_as_much_as_alone(bits: Bits) -> None:
    plain, bent = small_latency(torch.nn.ReLU6()), small_latency(torch.nn.Hardswish())
    plan = Plan.of(dict.fromkeys(plain.layers, Option("dense", 0.0, bits)))
    alone = plain.table.row(Geometry("activation", 16, 16, 14, 14, 14, 14), "dense", 0.0, bits).microseconds
    assert bent.ms(plan) - plain.ms(plan) == pytest.approx(alone / 1e3)
    assert RowKey(Geometry("activation", 16, 16, 14, 14, 14, 14), "dense", 0.0, bits) in needed_rows(bent)
    assert not any(key.geometry.op == "activation" for key in needed_rows(plain))


def test_a_fitted_line_stretches_and_shifts(tiny: Prepared) -> None:
    profile = tiny.profile
    target = replace(load_target("pixel7"), intercept_ms=0.25, slope=1.5)
    fitted = LatencyEvaluator(profile.network, profile.space.groups, LatencyTable.for_target(target))
    plan = profile.space.uniform(Option("dense", 0.0, 8))
    total = sum(row.microseconds for row in profile.latency(plan).ops)
    assert fitted(plan).ms == pytest.approx(0.25 + 1.5 * total / 1e3)


@given(seed=st.integers(0, 10**9))
@often
def test_removed_channels_cost_what_the_smaller_network_costs(
    tiny: Prepared, random_plan: Callable[[int], Plan], seed: int
) -> None:
    profile, plan = tiny.profile, random_plan(seed)
    smaller = LatencyEvaluator(tiny.evaluator.candidate(plan).network, (), profile.latency.table)
    bare = Plan.of({name: Option("dense", 0.0, o.bits) if o.structure == "channel" else o for name, o in plan.items()})
    expected, told = smaller(bare), profile.latency(plan)
    assert [(row.name, row.op) for row in told.ops] == [(row.name, row.op) for row in expected.ops]
    assert [row.microseconds for row in told.ops] == pytest.approx([row.microseconds for row in expected.ops], rel=1e-9)
    assert told.ms == pytest.approx(expected.ms)


def test_some_random_plans_remove_channels(random_plan: Callable[[int], Plan]) -> None:
    """Else the test above would show nothing."""
    removing = [seed for seed in range(20) if any(o.structure == "channel" for o in random_plan(seed).values())]
    assert len(removing) >= 5


def test_channel_options_alone_are_priced_at_the_smaller_geometry(tiny: Prepared) -> None:
    profile = tiny.profile
    checked = 0
    for layer in profile.layers:
        dense = {o.bits: o for o in profile.space.options[layer.name] if o.structure == "dense"}
        for option in profile.space.options[layer.name]:
            if option.structure == "channel":
                alone = profile.latency.alone_microseconds(layer, option)
                assert alone <= profile.latency.alone_microseconds(layer, dense[option.bits]) + 1e-9
                checked += 1
    assert checked > 10


def test_conversions_are_charged_where_types_meet(tiny: Prepared) -> None:
    latency, space = tiny.profile.latency, tiny.profile.space
    names = [layer.name for layer in space.layers]
    int8, fp32 = Option("dense", 0.0, 8), Option("dense", 0.0, 32)
    mixed = Plan.of({name: fp32 if name == names[-1] else int8 for name in names})
    converted = [row.name for row in latency(mixed).ops if row.op == "convert"]
    assert len(converted) == 2
    assert converted[0] == "input: fp32 to int8" and converted[1].endswith("int8 to fp32")
    assert not [row for row in latency(space.uniform(fp32)).ops if row.op == "convert"]


def test_latencies_are_measured_when_all_rows_of_the_plans_are(tiny: Prepared) -> None:
    profile = tiny.profile
    dense = {bits: profile.space.uniform(Option("dense", 0.0, bits)) for bits in (32, 8)}
    target = profile.latency.table.target
    modelled = LatencyTable(target, target.core())
    LatencyEvaluator(profile.network, profile.space.groups, modelled)(dense[8])
    measured = {key: replace(row, source="measured") for key, row in modelled.rows.items()}
    latency = LatencyEvaluator(profile.network, profile.space.groups, LatencyTable(target, target.core(), measured=measured))
    assert latency.source == "modelled"
    latency(dense[8])
    # Asked for, but in no Plan.
    layer = profile.space.layers[0]
    assert latency.layers_microseconds({})[layer.name][Option("dense", 0.0, 32)] > 0
    assert (latency.source, latency.note) == ("measured", "Times measured on pixel7 X1.")
    latency(dense[32])
    assert latency.source == "modelled"
    assert f"{len(latency(dense[8]).ops)} times are measured on pixel7 X1. " in latency.note and " are modelled (" in latency.note
