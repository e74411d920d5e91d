"""benchmarks/arm_cycles.py: its committed table is of these kernels, and its arithmetic is right. Needs no LLVM."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from autocompress.errors import UserError
from autocompress.kernels.core_model import _row_tile_cycles
from autocompress.kernels.targets import load_target
from autocompress.kernels.toolchain import OPTIONS, kernels_hash

from ..scripts import load_script

ROOT = Path(__file__).resolve().parents[2]


arm_cycles = load_script("arm_cycles")
RESULT: dict[str, Any] = json.loads(arm_cycles.RESULT.read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = RESULT["rows"]
CHIPS = {chip.name: chip for chip in arm_cycles.CHIPS}
KERNELS = {kernel.source: kernel for kernel in arm_cycles.KERNELS}
PAIRS = {(kernel.source, chip.name): (kernel, chip) for kernel, chip in arm_cycles.PAIRS}
I8MM = [(kernel.source, chip.name) for kernel in arm_cycles.I8MM_KERNELS for chip in arm_cycles.I8MM_CHIPS]


def row_of(kernel: str, core: str) -> dict[str, Any]:
    (row,) = (row for row in ROWS if (row["kernel"], row["core"]) == (kernel, core))
    return row


def test_the_table_is_of_these_kernels() -> None:
    again = "the kernels have changed since: run `python benchmarks/arm_cycles.py --write` again and read what it says"
    assert RESULT["kernels_hash"] == kernels_hash(), again
    assert RESULT["options"] == list(OPTIONS), again


def test_the_page_shows_the_table() -> None:
    assert arm_cycles.markdown(ROWS) in (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")


def test_every_kernel_has_a_row_for_every_core() -> None:
    assert [(row["kernel"], row["core"]) for row in ROWS] == [*((kernel, core) for kernel in KERNELS for core in CHIPS), *I8MM]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['kernel']}-{row['core']}" for row in ROWS])
def test_figures_follow_from_the_loop(row: dict[str, Any]) -> None:
    loop = [arm_cycles.parse(line) for line in row["loop"]]
    kernel, chip = PAIRS[row["kernel"], row["core"]]
    assert row == arm_cycles.analyse(kernel, chip, loop, row["mca_cycles"])
    assert arm_cycles.sums_of(row["loop"]) == kernel.sums
    assert any(line.startswith("smmla") for line in row["loop"]) == kernel.i8mm
    assert row["macs"] > 0
    assert 0.0 < row["share"] <= 1.0


@pytest.mark.parametrize("kernel", ["f32_dense", "f32_block4x1", "f16_dense", "f16_block4x1", "s8_dense", "s8_block4x4"])
@pytest.mark.parametrize("core", list(CHIPS))
def test_loops_of_four_rows_are_bound_by_products(kernel: str, core: str) -> None:
    assert row_of(kernel, core)["port"] == "vector"


@pytest.mark.parametrize(("kernel", "core"), list(PAIRS))
def test_all_loops_use_their_port(kernel: str, core: str) -> None:
    assert row_of(kernel, core)["share"] >= 0.85


@pytest.mark.parametrize(("kernel", "core"), I8MM)
def test_i8mm_makes_more_products_a_cycle(kernel: str, core: str) -> None:
    """Of the same pipes: 92 % of twice as many in the dense kernel, whose permutations are shared by 24 pixels."""
    row = row_of(kernel, core)
    pipes = arm_cycles.PORTS[core]["vector"]
    assert row["port"] == "vector"
    assert row["macs_per_cycle"] >= {"s8_dense": 0.9 * 32, "s8_block4x4": 1.2 * 16}[kernel] * pipes


@pytest.mark.parametrize(("kernel", "core"), I8MM)
def test_the_core_model_prices_loops_with_i8mm(kernel: str, core: str) -> None:
    row = row_of(kernel, core)
    (own,) = (own for own in load_target("galaxy-s23").cores if own.model == core)
    rate = own.rate("i8mm", row["structure"])
    assert rate is not None
    assert 1 / 1.05 <= rate / row["macs_per_cycle"] <= 1.05


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["structure"] != "depthwise" and row["core"] in CHIPS],
    ids=lambda row: f"{row['kernel']}-{row['core']}",
)
def test_the_core_model_prices_these_loops(row: dict[str, Any]) -> None:
    (core,) = (core for core in load_target("pixel7").cores if core.model == row["core"])
    rate = core.rate(row["dtype"], row["structure"])
    assert rate is not None
    # One load pipe more than the model's core lifts the A78's loops that wait for loads up to what its SIMD pipes allow.
    above = 1.35 if row["core"] == "cortex-a78" and row["port"] == "load" else 1.05
    assert 1 / 1.05 <= rate / row["macs_per_cycle"] <= above


@pytest.mark.parametrize("core", list(CHIPS))
def test_the_core_model_prices_tiles_of_int8_depthwise(core: str) -> None:
    (own,) = (own for own in load_target("pixel7").cores if own.model == core)
    assert 0.9 <= _row_tile_cycles(3, 1, 2, own) / row_of("s8_depthwise", core)["cycles"] <= 1.1


def test_parse() -> None:
    fmla = arm_cycles.parse("fmla\tv7.4s, v16.4s, v18.s[0]")
    assert (fmla.kind, fmla.macs, fmla.writes, fmla.reads) == ("fma", 4, {"v7"}, {"v7", "v16", "v18"})
    sdot = arm_cycles.parse("sdot v0.4s, v1.16b, v2.4b[3]")
    assert (sdot.kind, sdot.macs) == ("fma", 16)
    smmla = arm_cycles.parse("smmla v0.4s, v1.16b, v2.16b")
    assert (smmla.kind, smmla.macs, smmla.reads) == ("fma", 32, {"v0", "v1", "v2"})
    assert arm_cycles.parse("zip1 v1.4s, v2.4s, v3.4s").kind == "move"
    assert arm_cycles.parse("mla v1.8h, v2.8h, v3.8h").macs == 8
    pair = arm_cycles.parse("ldp q1, q2, [x3], #32")
    assert (pair.kind, pair.loaded, pair.writes, pair.reads) == ("load", (16, 16), {"v1", "v2", "x3"}, {"x3"})
    one = arm_cycles.parse("ld1r { v3.4s }, [x12], #4")
    assert (one.loaded, one.writes, one.reads) == ((4,), {"v3", "x12"}, {"x12"})
    assert arm_cycles.parse("ldpsw x1, x2, [x9]").loaded == (4, 4)
    assert arm_cycles.parse("ldrsw x1, [x9, x3, lsl #2]").reads == {"x9", "x3"}
    assert arm_cycles.parse("cmp x1, w2, sxtw").writes == {"flags"}
    assert "flags" in arm_cycles.parse("b.ne .LBB0_1").reads
    stored = arm_cycles.parse("str q1, [x16, x0]")
    assert (stored.kind, stored.writes, stored.reads) == ("store", frozenset(), {"v1", "x16", "x0"})
    assert arm_cycles.parse("stp q1, q2, [x3], #32").writes == {"x3"}
    assert arm_cycles.parse("tbl v1.16b, { v2.16b }, v17.16b").reads == {"v2", "v17"}
    with pytest.raises(UserError, match=r"`frobnicate x1, x2`.*Add it"):
        arm_cycles.parse("frobnicate x1, x2")


LOOP = """\
f:
	mov	x1, #0
.LBB0_1:
	ldr	q2, [x0], #16
	b.eq	.LBB0_3
.LBB0_2:
	ldr	q1, [x0]
	fmla	v0.4s, v1.4s, v2.s[0]
	subs	x1, x1, #1
	b.eq	.LBB0_4
	ldr	q3, [x0, #16]
	b	.LBB0_2
.LBB0_4:
	cbnz	x2, .LBB0_1
.LBB0_3:
	ret
"""


def test_inner_loops_are_found_across_blocks() -> None:
    (loop,) = arm_cycles.inner_loops(LOOP)
    assert [line.split()[0] for line in loop] == ["ldr", "fmla", "subs", "b.eq", "ldr", "b"]
    assert arm_cycles.sums_of(loop) == 1


def test_sums_in_memory_do_not_count() -> None:
    spilled = ["ldr q0, [sp]", "fmla v0.4s, v1.4s, v2.4s", "str q0, [sp]", "saddw v3.4s, v4.4s, v5.4h"]
    assert arm_cycles.sums_of(spilled) == 1
    kernel = arm_cycles.Kernel("made_up", "fp32", "dense", 16)
    with pytest.raises(UserError, match="made_up: no inner loop with 16 registers of sums"):
        arm_cycles.main_loop(LOOP, kernel)


TILES = """\
f:
.LBB0_1:
	mov	v0.16b, v9.16b
	ldr	q1, [x0], #16
	sdot	v0.4s, v1.16b, v2.16b
	sdot	v0.4s, v1.16b, v3.16b
	str	q0, [x1], #16
	b.ne	.LBB0_1
	ret
"""


def test_a_loop_with_i8mm_is_not_that_without() -> None:
    smmla = TILES.replace("sdot", "smmla")
    with_i8mm = arm_cycles.Kernel("made_up", "int8", "dense", 0, 2, i8mm=True)
    without = dataclasses.replace(with_i8mm, i8mm=False)
    for kernel, own, other in ((with_i8mm, smmla, TILES), (without, TILES, smmla)):
        assert sum(instruction.kind == "fma" for instruction in arm_cycles.main_loop(own, kernel)) == 2
        with pytest.raises(UserError, match="made_up: no inner loop"):
            arm_cycles.main_loop(other, kernel)


def test_a_loop_of_whole_tiles_is_found_by_its_multiplications() -> None:
    kernel = arm_cycles.Kernel("made_up", "int8", "depthwise", 0, 2, 24)
    loop = arm_cycles.main_loop(TILES, kernel)
    assert [instruction.kind for instruction in loop] == ["move", "load", "fma", "fma", "store", "branch"]
    assert arm_cycles.analyse(kernel, CHIPS["cortex-x1"], loop, 3.0)["macs"] == 24
    with pytest.raises(UserError, match="made_up: no inner loop with 3 multiplications"):
        arm_cycles.main_loop(TILES, arm_cycles.Kernel("made_up", "int8", "depthwise", 0, 3, 24))


def parsed(*lines: str) -> list[Any]:
    return [arm_cycles.parse(line) for line in lines]


FMLA = [f"fmla v{n}.4s, v30.4s, v31.s[0]" for n in range(8)]


@pytest.mark.parametrize(
    ("lines", "cycles"),
    [
        (FMLA, 8),  # one 128-bit product a cycle
        (FMLA[:1], 4),  # a chain waits for its sum
        ([*FMLA, "add x1, x2, x3"], 8),  # which takes a free slot
        ([*FMLA, "ldr x1, [x2]"], 8),
        ([*FMLA, "ldr q29, [x2]"], 10),  # blocks two cycles
        ([*FMLA, "ldp q28, q29, [x2]"], 12),
        (["add x1, x2, x3", "add x4, x2, x3"], 1),
        (["add x1, x1, x3", "add x1, x1, x3"], 2),
        (["ldr x1, [x2]", "add x1, x1, x3", "add x4, x1, x3"], 4),  # the next load goes with the last addition
    ],
)
def test_cycles_of_the_in_order_core(lines: list[str], cycles: float) -> None:
    assert arm_cycles.in_order_cycles(parsed(*lines)) == cycles


def test_ports() -> None:
    x1, a55 = CHIPS["cortex-x1"], CHIPS["cortex-a55"]
    assert arm_cycles.port_cycles(parsed(*FMLA), x1) == ("vector", 2.0)
    assert arm_cycles.port_cycles(parsed("ldp q0, q1, [x0]", "ldp q2, q3, [x0]", "ldp x1, x2, [x0]", *FMLA[:4]), x1) == (
        "load",
        5 / 3,
    )
    assert arm_cycles.port_cycles(parsed(*FMLA, "ldp q28, q29, [x2]"), a55) == ("vector", 12.0)


def test_forwarded_sums_alternate_between_registers() -> None:
    lines = arm_cycles.forwarded(parsed(*FMLA[:2], "add x1, x1, #4"))
    assert [line.split(",")[0] for line in lines] == ["fmla v0.4s", "fmla v1.4s", "add x1", "fmla v2.4s", "fmla v3.4s", "add x1"]


def test_chains_that_begin_in_the_loop_begin_twice() -> None:
    lines = arm_cycles.forwarded(parsed("mov v0.16b, v9.16b", *FMLA[:1] * 3, "fmax v1.4s, v0.4s, v9.4s"))
    names = ["mov", "fmla", "fmul", "fmla", "fmax"]
    assert [line.split()[0] for line in lines] == names * 2
    assert [line.split()[1] for line in lines[:4]] == ["v0.16b,", "v0.4s,", "v2.4s,", "v0.4s,"]


def test_stores_and_bounds() -> None:
    store = arm_cycles.parse("str q20, [x18, x13]")
    assert (store.kind, store.macs, store.writes, store.reads) == ("store", 0, frozenset(), {"v20", "x18", "x13"})
    assert arm_cycles.parse("stp q1, q2, [x3], #32").writes == {"x3"}
    assert arm_cycles.parse("fmax v1.4s, v0.4s, v9.4s").kind == "real"
    assert arm_cycles.parse("bif v1.16b, v0.16b, v9.16b").reads == {"v0", "v1", "v9"}
    assert arm_cycles.port_cycles(parsed("str q20, [x18]", "stp q1, q2, [x18]"), CHIPS["cortex-x1"]) == ("store", 1.0)


def test_products_tell_loops_apart() -> None:
    kernel = arm_cycles.Kernel("made_up", "fp32", "depthwise", 1, 1)
    assert arm_cycles.products_of(line.text for line in arm_cycles.main_loop(LOOP, kernel)) == 1
    with pytest.raises(UserError, match="no inner loop"):
        arm_cycles.main_loop(LOOP, arm_cycles.Kernel("made_up", "fp32", "depthwise", 1, 2))
