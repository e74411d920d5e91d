from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autocompress.kernels.calls import Problem
from autocompress.kernels.core_model import (
    FITTED,
    FITTED_X86,
    VERSION,
    _dense_tiles,
    _row_tiles,
    _sparse_tiles,
    _tiles,
    band_of,
    calibration,
    op_time_us,
    quantile,
    supports,
)
from autocompress.kernels.geometry import Geometry, KernelOp, takes_winograd
from autocompress.kernels.native import Library, _Problem
from autocompress.kernels.targets import Core, list_targets, load_target
from autocompress.kernels.toolchain import HOST, build

X1 = load_target("pixel7").core("X1")
CORES = [core for name in list_targets() for core in load_target(name).cores]
OPTIONS = [
    ("dense", 32),
    ("unstructured", 32),
    ("block4x1", 32),
    ("dense", 16),
    ("unstructured", 16),
    ("block4x1", 16),
    ("dense", 8),
    ("block1x4", 8),
    ("block4x4", 8),
    ("dense", 4),
]

deterministic = settings(derandomize=True, deadline=None)
channels = st.integers(1, 600)
sizes = st.sampled_from([1, 2, 4, 7, 9, 14, 28, 56, 112])
kernels = st.sampled_from([1, 3, 5])
strides = st.sampled_from([1, 2])
options = st.sampled_from(OPTIONS)
cores = st.sampled_from(CORES)


def conv(inputs: int, outputs: int, size: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Geometry:
    after = -(-size // stride)
    shape = (inputs, outputs, size, size, after, after)
    return Geometry("conv", *shape, (kernel, kernel), (stride, stride), groups=groups)


def time(geometry: Geometry, structure: str = "dense", sparsity: float = 0.0, bits: int = 8, core: Core = X1) -> float:
    return op_time_us(geometry, structure, sparsity, bits, core, FITTED)


def sparsity_of(structure: str, share: float) -> float:
    return 0.0 if structure == "dense" else share


@deterministic
@given(channels, channels, sizes, kernels, strides, options, st.floats(0.05, 0.99), cores)
def test_times_are_positive_and_above_the_peak(
    inputs: int, outputs: int, size: int, kernel: int, stride: int, option: tuple[str, int], share: float, core: Core
) -> None:
    structure, bits = option
    geometry = conv(inputs, outputs, size, kernel, stride)
    if not supports(geometry, structure, bits, core):
        assert bits == 16  # only a core without fp16 arithmetic lacks one of the kernels
        return
    sparsity = sparsity_of(structure, share)
    micro = time(geometry, structure, sparsity, bits, core)
    dense_rate = core.rate({32: "fp32", 16: "fp16", 8: "int8", 4: "int8"}[bits], "dense")
    assert dense_rate is not None
    if bits <= 8:
        dense_rate = max(dense_rate, core.rate("i8mm", "dense") or 0.0)
    peak = max(1.1 * dense_rate, core.vector_ops * core.vector_bytes / (bits / 8 if bits > 8 else 1))
    # Winograd's 16 products for 36.
    share = 4 / 9 if option == ("dense", 32) and takes_winograd(geometry) else 1 - sparsity
    assert micro > geometry.macs * share / (peak * core.ghz * 1e3)


@deterministic
@given(channels, channels, sizes, kernels, strides, options, st.floats(0.05, 0.95), cores)
def test_more_channels_are_never_faster(
    inputs: int, outputs: int, size: int, kernel: int, stride: int, option: tuple[str, int], share: float, core: Core
) -> None:
    structure, bits = option
    assume(supports(conv(inputs, outputs, size), structure, bits, core))
    sparsity = sparsity_of(structure, share)
    few = conv(inputs, outputs, size, kernel, stride)
    for more in (conv(inputs + 1, outputs, size, kernel, stride), conv(inputs, outputs + 1, size, kernel, stride)):
        if option != ("dense", 32) or takes_winograd(few) == takes_winograd(more):  # from where on Winograd pays, it is faster
            assert time(more, structure, sparsity, bits, core) >= time(few, structure, sparsity, bits, core)


@deterministic
@given(channels, channels, st.integers(64, 200), options, st.floats(0.05, 0.95))
def test_more_pixels_are_never_faster(inputs: int, outputs: int, tokens: int, option: tuple[str, int], share: float) -> None:
    # Beyond one tile and by whole tiles: 16 pixels in one may well be faster than 15 in two.
    structure, bits = option
    sparsity = sparsity_of(structure, share)
    few = Geometry("linear", inputs, outputs, 1, tokens, 1, tokens)
    more = Geometry("linear", inputs, outputs, 1, tokens + 64, 1, tokens + 64)
    assert time(more, structure, sparsity, bits) >= time(few, structure, sparsity, bits)


@deterministic
@given(channels, channels, sizes, kernels, st.sampled_from([o for o in OPTIONS if o[0] != "dense"]), cores, st.data())
def test_more_zeros_are_never_slower(
    inputs: int, outputs: int, size: int, kernel: int, option: tuple[str, int], core: Core, data: st.DataObject
) -> None:
    structure, bits = option
    geometry = conv(inputs, outputs, size, kernel)
    assume(supports(geometry, structure, bits, core))
    fewer = data.draw(st.floats(0.0, 0.98))
    more = data.draw(st.floats(fewer, 0.99))
    assert time(geometry, structure, more, bits, core) <= time(geometry, structure, fewer, bits, core)


@deterministic
@given(st.integers(64, 600), st.integers(64, 600), st.sampled_from([14, 28, 56]), kernels)
def test_fewer_bits_are_never_slower_on_big_layers(inputs: int, outputs: int, size: int, kernel: int) -> None:
    geometry = conv(inputs, outputs, size, kernel)
    direct = op_time_us(geometry, "dense", 0.0, 32, X1, FITTED, published=True)
    assert time(geometry, bits=8) <= time(geometry, bits=16) <= direct


@pytest.mark.parametrize("core", CORES, ids=lambda core: f"{core.name}-{core.model}")
@pytest.mark.parametrize(("count", "size"), [(16, 56), (64, 56), (100, 28), (128, 28), (256, 14), (512, 7), (64, 7)])
def test_winograd_saves_up_to_its_products(count: int, size: int, core: Core) -> None:
    geometry = conv(count, count, size, kernel=3)
    assert takes_winograd(geometry)
    direct = op_time_us(geometry, "dense", 0.0, 32, core, FITTED, published=True)
    assert 1.2 < direct / time(geometry, bits=32, core=core) < 36 / 16


@deterministic
@given(channels, channels, sizes, kernels, strides, options, cores)
def test_published_kernels_are_ours_where_ours_are_direct(
    inputs: int, outputs: int, size: int, kernel: int, stride: int, option: tuple[str, int], core: Core
) -> None:
    structure, bits = option
    geometry = conv(inputs, outputs, size, kernel, stride)
    assume(supports(geometry, structure, bits, core))
    assume(option != ("dense", 32) or not takes_winograd(geometry))
    sparsity = sparsity_of(structure, 0.5)
    ours = time(geometry, structure, sparsity, bits, core)
    assert op_time_us(geometry, structure, sparsity, bits, core, FITTED, published=True) == ours


def test_staircase_of_output_channels() -> None:
    times = [time(conv(128, outputs, 14)) for outputs in range(61, 66)]
    # The tile has 4 output channels: 61 to 64 differ only by the bytes of the result, if at all.
    assert times[3] - times[0] < 0.01 * times[0] < times[4] - times[3]


def test_seven_by_seven_has_tails() -> None:
    per_pixel = {size: time(conv(512, 512, size)) / size**2 for size in (7, 16)}
    assert per_pixel[7] > 1.02 * per_pixel[16]


@pytest.mark.parametrize(("structure", "bits"), [("dense", 8), ("dense", 16), ("block4x4", 8), ("block4x1", 32)])
def test_only_sparse_windows_compute_dropped_columns(structure: str, bits: int) -> None:
    overhead = FITTED.op_cycles / (X1.ghz * 1e3)
    # As many inputs, with a window of one and of nine.
    one, three = conv(256 * 9, 256, 7), conv(256, 256, 7, kernel=3)
    ratio = (time(three, structure, bits=bits) - overhead) / (time(one, structure, bits=bits) - overhead)
    assert ratio > 1.15 if structure != "dense" else 1.0 <= ratio < 1.1


def test_sparse_pays_only_past_a_break_even() -> None:
    geometry = conv(256, 256, 28)
    dense = time(geometry, bits=32)
    assert time(geometry, "unstructured", 0.3, 32) > dense > time(geometry, "unstructured", 0.8, 32)
    assert time(geometry, "block4x1", 0.1, 32) > time(geometry, "block4x1", 0.5, 32) < dense
    assert time(geometry, "block4x4", 0.5, 8) < time(geometry, "block1x4", 0.5, 8)


def test_int4_saves_time_only_where_weights_are_the_traffic() -> None:
    column = Geometry("linear", 2048, 2048, 1, 1, 1, 1)
    overhead = FITTED.op_cycles / (X1.ghz * 1e3)
    assert time(column, bits=4) - overhead < 0.6 * (time(column, bits=8) - overhead)
    plane = conv(256, 256, 28)
    assert time(plane, bits=8) <= time(plane, bits=4) < 1.1 * time(plane, bits=8)


def test_depthwise_runs_far_below_the_rate_of_1x1() -> None:
    depthwise = Geometry("depthwise", 256, 256, 28, 28, 28, 28, (3, 3), groups=256)
    pointwise = conv(256, 256, 28)
    assert depthwise.macs / time(depthwise) < 0.36 * pointwise.macs / time(pointwise)


@deterministic
@given(
    channels,
    channels,
    sizes,
    sizes,
    st.sampled_from(["add", "mul", "activation", "copy", "gather", "convert", "widen", "global_pool", "pool"]),
    cores,
)
def test_ops_without_weights(inputs: int, more: int, size: int, grow: int, op: KernelOp, core: Core) -> None:
    if op == "pool":  # rows of 7 cost more than rows of 8: what fills no vector is taken one by one
        size, grow = 8 * size, 8 * grow
    for bits in (32, 16, 8):
        small = Geometry(op, inputs, inputs, size, size, size, size, (2, 2))
        large = Geometry(op, inputs + more, inputs + more, size + grow, size + grow, size + grow, size + grow, (2, 2))
        if supports(small, "dense", bits, core):
            assert 0 < time(small, bits=bits, core=core) < time(large, bits=bits, core=core)
    assert not supports(small, "dense", 4, core)
    assert not supports(small, "block4x4", 8, core)


@pytest.mark.parametrize(
    ("geometry", "structure", "bits", "expected"),
    [
        (conv(64, 64, 14), "block4x4", 8, True),
        (conv(64, 64, 14), "block1x4", 8, True),
        (conv(64, 64, 14), "unstructured", 8, False),
        (conv(64, 64, 14), "block4x4", 32, False),
        (conv(64, 64, 14), "block4x4", 4, False),
        (conv(64, 64, 14), "channel", 8, False),
        (conv(64, 64, 14), "dense", 2, False),
        (conv(64, 64, 14, groups=4), "block4x4", 8, False),
        (conv(64, 64, 14, groups=4), "dense", 8, True),
        (Geometry("depthwise", 64, 64, 14, 14, 14, 14, (3, 3), groups=64), "dense", 8, True),
        (Geometry("depthwise", 64, 64, 14, 14, 14, 14, (3, 3), groups=64), "dense", 4, False),
        (Geometry("depthwise", 64, 64, 14, 14, 14, 14, (3, 3), groups=64), "unstructured", 32, False),
    ],
)
def test_which_kernels_there_are(geometry: Geometry, structure: str, bits: int, expected: bool) -> None:
    assert supports(geometry, structure, bits, X1) is expected
    if not expected:
        with pytest.raises(ValueError, match=r"^no "):
            time(geometry, structure, 0.5, bits)


@pytest.mark.parametrize(
    ("structure", "sparsity"), [("dense", 0.5), ("block4x4", 1.0), ("block4x4", -0.1), ("block4x4", float("nan"))]
)
def test_sparsity_must_fit(structure: str, sparsity: float) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        time(conv(64, 64, 14), structure, sparsity)


def test_fp16_needs_its_arithmetic() -> None:
    host = load_target("host").core()
    assert not supports(conv(64, 64, 14), "dense", 16, host)
    assert supports(conv(64, 64, 14), "dense", 16, X1)


@deterministic
@given(st.floats(0.0, 0.5), st.floats(0.1, 1e6), st.floats(0.01, 0.98), st.floats(0.001, 0.01))
def test_quantiles_are_ordered_around_the_time(spread: float, microseconds: float, share: float, more: float) -> None:
    assert quantile(microseconds, spread, share) <= quantile(microseconds, spread, share + more)
    assert quantile(microseconds, spread, 0.5) == pytest.approx(microseconds)
    assert quantile(microseconds, spread, 0.1) * quantile(microseconds, spread, 0.9) == pytest.approx(microseconds**2)


def next_tile(left: int, positions: int, copied: bool, wide: int, middle: int, narrow: int) -> int:
    """Width of ac_next_tile in csrc/view.h."""
    width = wide if left > middle else middle if left > narrow else narrow
    if copied:
        return 1 if left == 1 else width
    if width > positions:
        return middle if positions >= middle else narrow if positions >= narrow else 1
    return width


def next_sparse_tile(left: int, positions: int, copied: bool, widths: tuple[int, ...]) -> int:
    """Width of next_tile in csrc/float_sparse.h."""
    chosen = 1
    for width in widths if left > 1 else ():
        if (copied or width <= positions) and (chosen == 1 or width >= left):
            chosen = width
    narrower = [*widths[widths.index(chosen) + 1 :]][:2] if chosen > left else []
    return narrower[0] if len(narrower) == 2 and sum(narrower) >= left else chosen


@deterministic
@given(
    st.integers(1, 4000),
    st.booleans(),
    st.sampled_from([(16, 8, 4), (32, 8, 4), (24, 8, 4), (64, 16, 4), (32, 16, 4), (8, 2, 2), (16, 4, 4), (32, 4, 4)]),
)
def test_tiles_are_those_of_the_kernels(positions: int, copied: bool, widths: tuple[int, int, int]) -> None:
    expected: dict[int, int] = {}
    done = 0
    while done < positions:
        width = next_tile(positions - done, positions, copied, *widths)
        expected[width] = expected.get(width, 0) + 1
        done += width
    assert {width: count for width, count in _tiles(positions, copied, widths) if count} == expected


@deterministic
@given(st.integers(1, 4000), st.sampled_from([(16, 8, 4), (24, 8, 4), (32, 16, 4)]))
def test_tiles_are_those_of_the_dense_float_kernels(positions: int, widths: tuple[int, int, int]) -> None:
    # `cut` of csrc/float_4oc_dense.h.
    wide, middle, narrow = widths
    expected: dict[int, int] = {}
    done = 0
    while done < positions:
        left = positions - done
        width = 1 if left == 1 else next_tile(left, positions, False, *widths)
        if width == wide and left <= middle + narrow:
            width = middle
        expected[width] = expected.get(width, 0) + 1
        done += width
    assert {width: count for width, count in _dense_tiles(positions, widths) if count} == expected


@deterministic
@given(
    st.integers(1, 4000),
    st.booleans(),
    st.sampled_from([(16, 8, 4), (24, 8, 4), (32, 16, 4), (32, 16, 8, 4), (64, 32, 16, 4), (8, 4, 2)]),
)
def test_tiles_are_those_of_the_sparse_float_kernels(positions: int, copied: bool, widths: tuple[int, ...]) -> None:
    expected: dict[int, int] = {}
    done = 0
    while done < positions:
        width = next_sparse_tile(positions - done, positions, copied, widths)
        expected[width] = expected.get(width, 0) + 1
        done += width
    assert {width: count for width, count in _sparse_tiles(positions, copied, widths) if count} == expected


@deterministic
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([4, 8]))
def test_row_tiles_are_those_of_the_depthwise_kernel(height: int, width: int, lanes: int) -> None:
    # The loops of csrc/s8_depthwise_plane.h: rows that may be stored as whole tiles, in pairs and then one by one.
    free_rows = height - ((lanes - 1) // width if width < lanes else 0)
    pairs, row = 0, 0
    while row + 2 <= free_rows:
        pairs, row = pairs + 1, row + 2
    singles = height - row
    tiles = len(range(0, width, lanes))
    assert _row_tiles(height, width, lanes) == (pairs, singles, tiles)
    # A tile that runs over its row ends within the plane.
    assert all((free - 1) * width + max(width, lanes) <= height * width for free in range(1, free_rows + 1))


def test_depthwise_planes_of_int8_are_the_fast_ones() -> None:
    def depthwise(side: int, window: int, stride: int, dilation: int = 1) -> Geometry:
        return Geometry(
            "depthwise", 96, 96, side, side, side // stride, side // stride,
            (window, window), (stride, stride), (dilation, dilation), groups=96,
        )  # fmt: skip

    a72 = load_target("raspberry-pi4").core()
    for side in (7, 14, 28, 56):
        for core in (X1, load_target("host").core()):
            assert time(depthwise(side, 3, 1), core=core) < 0.8 * time(depthwise(side, 3, 1, 2), core=core)
            assert time(depthwise(side, 3, 1), core=core) < time(depthwise(side, 5, 1), core=core)
            if side > 7:
                assert time(depthwise(side, 3, 2), core=core) < time(depthwise(side, 3, 1), core=core)
        # Without dot products there is one way for all windows; dilation only makes the padding wider.
        assert time(depthwise(side, 3, 1), core=a72) > 0.85 * time(depthwise(side, 3, 1, 2), core=a72)


@pytest.mark.parametrize(("cpu", "flags", "lanes"), [("baseline", (), 4), ("native", ("-DAC_F32_LANES=16",), 16)])
@deterministic
@given(
    st.sampled_from([3, 5]),
    st.sampled_from([1, 2]),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.integers(0, 5),
)
def test_bands_are_those_of_the_kernels(
    cpu: str, flags: tuple[str, ...], lanes: int, side: int, stride: int, x: tuple[int, int], y: tuple[int, int], left: int
) -> None:
    row, outputs, columns = band_of(side, stride, x[1], y[1], y[0], left, lanes)
    assert 0 <= columns <= x[1]
    assert outputs == y[0] or outputs % 4 == 0
    problem = Problem(1, 1, *x, *y, side, side, stride, stride, pad_left=left, x_plane=x[0] * x[1], y_plane=y[0] * y[1])
    library = Library(build(HOST, cpu, flags))
    scratch = library.scratch_bytes(library.find(b"f32_depthwise"), _Problem(*dataclasses.astuple(problem)))
    assert scratch == 2 * 4 * (-(-(((outputs - 1) * stride + side) * row + 2 * max(8, lanes)) // 16) * 16)


def test_float_depthwise_rows_share_their_inputs() -> None:
    # Of 3x3 and 5x5 an input is loaded once for 4 rows of outputs; other windows have tiles of one row.
    def rate(kernel: tuple[int, int], bits: int) -> float:
        geometry = Geometry("depthwise", 256, 256, 56, 56, 56, 56, kernel, groups=256)
        return geometry.macs / (time(geometry, bits=bits) - FITTED.op_cycles / (X1.ghz * 1e3))

    for bits in (32, 16):
        assert rate((3, 3), bits) > 1.2 * rate((3, 2), bits)
        assert rate((5, 5), bits) > 1.2 * rate((5, 4), bits)


def test_dense_blocks_of_zeros_cost_less_than_dense_weights_when_there_are_enough() -> None:
    for core in CORES:
        for structure, bits in (("block4x1", 32), ("block4x4", 8)):
            geometry = conv(256, 256, 28, 3)
            assert time(geometry, structure, 0.9, bits, core) < 0.5 * time(geometry, "dense", 0.0, bits, core), core


def test_scattered_and_copied_outputs_cost_more() -> None:
    same, valid = conv(64, 64, 28, 3), Geometry("conv", 64, 64, 30, 30, 28, 28, (3, 3))
    pointwise = conv(64 * 9, 64, 28)
    # The same products: a padded copy, rows that end within a tile, then neither.
    assert time(same) > time(valid) > time(pointwise)


def test_fewer_features_fall_back_to_slower_kernels() -> None:
    a72, a76 = load_target("raspberry-pi4").core(), load_target("raspberry-pi5").core()
    geometry = conv(256, 256, 28)
    assert not supports(geometry, "dense", 16, a72)
    assert time(geometry, bits=8, core=a72) > time(geometry, bits=32, core=a72)  # no dot products
    assert time(geometry, bits=8, core=a76) < time(geometry, bits=32, core=a76)


def test_i8mm_makes_int8_faster_where_a_core_has_it() -> None:
    x3 = load_target("galaxy-s23").core("X3")
    without = dataclasses.replace(x3, features=("dotprod", "fp16"))
    for kernel in (1, 3):
        geometry = conv(256, 256, 28, kernel)
        ratios = {
            structure: time(geometry, structure, sparsity, 8, without) / time(geometry, structure, sparsity, 8, x3)
            for structure, sparsity in (("dense", 0.0), ("block4x4", 0.5), ("block1x4", 0.5))
        }
        assert 1.4 < ratios["dense"] < 1.85
        assert 1.1 < ratios["block4x4"] < 1.25
        assert ratios["block1x4"] == 1.0
    # Groups are the blocks of block4x4; a single pixel, and floats, are as they were.
    grouped = conv(256, 256, 28, 1, groups=4)
    assert 1.05 < time(grouped, core=without) / time(grouped, core=x3) < 1.25
    single = Geometry("linear", 1280, 1000, 1, 1, 1, 1)
    for geometry, structure, bits in ((single, "dense", 8), (single, "block4x4", 8), (conv(64, 64, 28), "dense", 32)):
        sparsity = sparsity_of(structure, 0.5)
        assert time(geometry, structure, sparsity, bits, without) == time(geometry, structure, sparsity, bits, x3)
    # A core whose file gives no rates for it is priced without.
    rates = tuple(rate for rate in x3.macs_per_cycle if rate[0][0] != "i8mm")
    assert time(conv(64, 64, 28), core=dataclasses.replace(x3, macs_per_cycle=rates)) == time(conv(64, 64, 28), core=without)


def test_constants_are_those_of_the_kind_of_core() -> None:
    assert calibration(X1) is FITTED
    assert calibration(load_target("host").core()) is FITTED_X86
    assert FITTED_X86.op_cycles < FITTED.op_cycles


def test_spread_grows_where_less_is_known() -> None:
    a55 = load_target("pixel7").core("A55")
    spread = FITTED.network_spread
    assert spread("dense", 8, X1) < spread("dense", 32, X1) == spread("dense", 8, a55)
    assert spread("block4x4", 8, X1) > spread("dense", 8, X1)
    assert FITTED.row_spread("dense", 8, X1) > spread("dense", 8, X1)
    x3 = load_target("galaxy-s23").core("X3")
    assert spread("dense", 8, x3) == FITTED.spread_i8mm > spread("dense", 32, x3) == FITTED.spread_elsewhere


def test_constants_are_those_of_the_published_score() -> None:
    path = Path(__file__).resolve().parents[2] / "results" / "benchmarks" / "phone_model.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["constants"] == dataclasses.asdict(FITTED)
    assert result["constants_x86"] == dataclasses.asdict(FITTED_X86)
    assert result["model_version"] == VERSION
    assert result["pixel6_left_one_out"]["rows"] == 5
    assert result["pixel6_left_one_out"]["mean_abs_error"] <= 0.08
    assert result["pixel6_left_one_out"]["max_abs_error"] <= 0.20
    assert result["sparse_over_dense"]["max_abs_error"] <= 0.20
    assert FITTED.depthwise == 1.0 and 0.6 <= result["published_depthwise"] <= 1.2
    assert result["host"]["rows"] > 400
    assert result["host"]["median_abs_error"] <= 0.15
    assert result["host"]["pairs_in_order"] >= 0.90
    layers = [rank for name, rank in result["rank_correlation"].items() if name.startswith("TopHub")]
    assert len(layers) == 4 and all(rank["rows"] == 220 and rank["spearman"] >= 0.95 for rank in layers)
    behind = [name for name, rank in result["rank_correlation"].items() if rank["spearman"] < 0.95]
    assert behind == ["blocks, Pixel 1 (Snapdragon 821)"]  # docs/targets.md says why
    assert result["pixel1_block_runtime"]["rows"] == 72
    assert result["pixel1_block_runtime"]["spearman_left_out"] >= 0.95
    assert result["table_seconds"] < 1.0
