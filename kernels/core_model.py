"""The analytic latency model of one op on one core: what a LatencyTable holds where nothing was measured.

time = max(compute / efficiency, memory) + overhead of an op, where

compute is the kernels' own loop nest (csrc): the tiles that the walk over positions takes, each at the steady rate of its inner
    loop or at what loads and the latency of sums allow; the start, end and epilogue of every tile; the gather of dense panels,
    whose tiles hold nothing but outputs; in other kernels tiles that run over the end of a row of outputs and are scattered; the
    padded copy of the input, split by phases, where the kernel makes one;
memory is every byte that the op must move, at the bandwidth of the cache level that can hold it; inside the loops a tile's
    inputs, and weights with their indices, come from the level that holds them.

Layouts: planar CHW for fp32 and fp16, [C/4][H*W][4] for int8. csrc/view.h says how windows become offsets.

Pure functions; times in microseconds, sizes in bytes, rates per cycle unless their name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, hypot, isfinite
from statistics import NormalDist

from .geometry import Geometry, takes_winograd
from .targets import Core

#: Increases whenever the model's formulas change: part of every table's fingerprint.
VERSION = 7

#: weight bits -> activation data type.
DTYPES = {32: "fp32", 16: "fp16", 8: "int8", 4: "int8"}
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
_WEIGHTED = ("conv", "depthwise", "linear")
#: output channels x input channels of a block of weights that share one index.
_BLOCKS = {"unstructured": (1, 1), "block4x1": (4, 1), "block1x4": (1, 4), "block4x4": (4, 4)}
_LINE = 64
#: Quads of inputs that a dense kernel gathers at a time, and by instruction set inputs of a floating-point one; planes from
#: which on windows are gathered without a copy; most tiles of a floating-point panel that holds a part of the inputs, which has
#: more than one if weights take more bytes than that (csrc/panel.h, float_4oc_dense.h).
_PANEL_DEPTH = 256
_FLOAT_DEPTH = {16: 256, 32: 192}
#: Elements of the copy of a band of rows that float depthwise kernels of 3x3 and 5x5 read (csrc/bands.h).
_BAND_REALS = 2048
_FEWEST_PLANES = 16
_PART_TILES = 2
#: Of int8 windows of at least so many quads on x86: pixels of a tile, tiles of a panel, quads of a part (csrc/s8_dense_pairs.h).
_FEWEST_PAIRS = 24
_PAIR_PIXELS, _PAIR_TILES, _PAIR_QUADS = 6, 5, 80
_NEAR_BYTES = 1 << 18
#: Winograd's products: rows whose sums are kept at a time (csrc/f32_winograd.c).
_WINOGRAD_ROWS = 64
#: Sparse floating-point kernels of 4 rows: most tiles that come together for every 4 rows, and by instruction set the bytes of
#: inputs that these read at most (csrc/float_sparse.h, float_4oc.h).
_MOST_SPOTS = 16
_SPOT_BYTES = {16: 1 << 14, 32: 1 << 17}
#: Positions of a dense tile with SMMLA (csrc/s8_dense_mmla.h), the widest first. Of block4x4 only the widest tile has it.
_MMLA_WIDTHS = (24, 8, 4)

# Start and end of a register tile in cycles: pointers, the mispredicted loop exit; sparse rows differ in length, so their exit is
# mispredicted nearly always.
_TILE_CYCLES = 10.0
_SPARSE_TILE_CYCLES = 8.0
# Finding the pieces in which a tile is gathered at one position of the window.
_CUT_CYCLES = 50.0
# Cycles between two multiply-adds to the same sum: Arm forwards sums (optimization guides: 2 for FMLA, 1 for SDOT), x86 does not.
_CHAIN = {16: {"fp32": 2.0, "fp16": 2.0, "int8": 1.0}, 32: {"fp32": 4.0, "fp16": 4.0, "int8": 1.0}}
# SIMD instructions of the epilogue for one register of sums. Floats: bias, two bounds. int8: start, conversion to float, FMA with
# scale and bias, two bounds, rounding, and the putting together of four rows.
_EPILOGUE = {"fp32": 3.0, "fp16": 3.0, "int8": 7.75}
# One row of a padded or phase-split copy, and one row of outputs of a tile that is scattered: calls, short loops, their exits.
_COPY_ROW_CYCLES = 18.0
_SCATTER_CYCLES = 16.0
# Of those depthwise kernels: one band or strip of up to 4 rows of outputs, its pointers, its copied or shared weights, its calls.
_BAND_CYCLES = 30.0
_STRIP_CYCLES = 12.0
# Winograd's tiles, a register of them: SIMD instructions (x86 shuffles twice), loads and stores that transform inputs of one
# column, and sums of one row.
_TRANSFORM = {16: (48.0, 32.0), 32: (64.0, 32.0)}
_TRANSFORM_BACK = {16: (38.0, 28.0), 32: (42.0, 28.0)}
# SIMD instructions of a depthwise tap for one register: int8 inputs are widened to int16, pairs of products to int32.
_TAP = {16: {"fp32": 1.0, "fp16": 1.0, "int8": 3.0}, 32: {"fp32": 1.0, "fp16": 1.0, "int8": 6.0}}
# Tiles of int8 depthwise planes (csrc/s8_depthwise_plane.h). SIMD instructions to load and turn a register of inputs, of a dot
# product, and of the end of 4 registers of sums: start, scale, bias, bounds, rounding, codes put together.
_TURN = {16: 1.5, 32: 2.0}
_DOT = {16: 1.0, 32: 4.0}
_TILE_END = {16: 32.0, 32: 26.0}
# Cycles of a plane besides its tiles (weights, constants), and of a row of tiles or of the padded copy (a loop's exit).
_PLANE_CYCLES = 20.0
_LINE_CYCLES = 5.0
# Cycles to spread one weight of a quad to int16, for windows that have no such tiles.
_SPREAD_CYCLES = 1.0
# SIMD instructions that turn int4 weights into one register of int8: a shift or a mask, the factor 16 goes into the scale.
_UNPACK = 1.0
# A pixel of a max pool that fills no vector: a step of its window, and its copy when a line is picked apart (csrc/max_pool.h).
_SINGLE_CYCLES = 1.5
# SIMD instructions per register of elements of the ops without weights; int8 is computed in float32, 4 registers for one.
_ELEMENTWISE = {
    "add": {"fp32": 4.0, "fp16": 4.0, "int8": 64.0},
    "mul": {"fp32": 4.0, "fp16": 4.0, "int8": 64.0},
    "activation": {"fp32": 24.0, "fp16": 44.0, "int8": 0.0},
    "copy": {"fp32": 2.0, "fp16": 2.0, "int8": 0.0},
    "gather": {"fp32": 16.0, "fp16": 32.0, "int8": 64.0},  # four for every element
    "convert": {"fp32": 6.0, "fp16": 4.0, "int8": 80.0},
    "widen": {"fp32": 6.0, "fp16": 4.0, "int8": 80.0},
    "global_pool": {"fp32": 2.0, "fp16": 4.0, "int8": 6.0},
}
# int8 activation and copy look every element up in a table.
_LOOKUPS = ("activation", "copy")


@dataclass(frozen=True)
class Calibration:
    """The model's fitted constants and how far they can be trusted.

    Spreads are standard deviations of ln(true / modelled). Errors of the rows of one network are taken as equal, all too high or
    all too low, so that the quantiles of rows add up to that of the network. How far a single row strays from its network comes
    on top for the row alone; it averages out over a network, and the networks' scored errors hold what is left of it.

    Attributes:
        efficiency: share of the ideal compute rate that kernels reach, in (0, 1].
        depthwise: further factor on the compute time of the depthwise kernels.
        op_cycles: cycles that every op costs whatever its size (dispatch, cold code and weights).
        core: the micro-architecture that the fit is about.
        spread: of whole dense int8 networks that the fit has not seen.
        spread_elsewhere: the same on other cores or in floating point.
        spread_i8mm: the same in int8 on cores with I8MM.
        spread_sparse: what sparse weights add to it, in squares.
        spread_row: what a single row adds to it, in squares.
        provenance: the data behind the fit.
    """

    efficiency: float
    depthwise: float
    op_cycles: float
    core: str
    spread: float
    spread_elsewhere: float
    spread_i8mm: float
    spread_sparse: float
    spread_row: float
    provenance: str

    def __post_init__(self) -> None:
        spreads = (self.spread, self.spread_elsewhere, self.spread_i8mm, self.spread_sparse, self.spread_row)
        numbers = (self.efficiency, self.depthwise, self.op_cycles, *spreads)
        if not all(isfinite(number) and number >= 0.0 for number in numbers) or not 0.0 < self.efficiency <= 1.0:
            raise ValueError(f"constants out of range: {self}")

    def network_spread(self, structure: str, bits: int, core: Core) -> float:
        """Spread of what rows of this kind contribute to a network."""
        if bits <= 8 and "i8mm" in core.features:
            spread = self.spread_i8mm
        else:
            spread = self.spread if core.model == self.core and bits <= 8 else self.spread_elsewhere
        return spread if structure == "dense" else hypot(spread, self.spread_sparse)

    def row_spread(self, structure: str, bits: int, core: Core) -> float:
        """Spread of a single row."""
        return hypot(self.network_spread(structure, bits, core), self.spread_row)


def quantile(microseconds: float, spread: float, share: float) -> float:
    """The time that a share of true times stays below, when the error is log-normal around `microseconds`."""
    return microseconds * exp(NormalDist().inv_cdf(share) * spread)


#: Both are printed by benchmarks/phone_model.py, which says what was fitted on what; its result holds the errors.
FITTED = Calibration(
    efficiency=0.889,
    depthwise=1.0,
    op_cycles=4910.0,
    core="cortex-x1",
    spread=0.0803,
    spread_elsewhere=0.116,
    spread_i8mm=0.175,
    spread_sparse=0.0745,
    spread_row=0.138,
    provenance="constants fitted on five int8 networks published for a Pixel 6 Cortex-X1",
)
FITTED_X86 = Calibration(
    efficiency=0.88,
    depthwise=0.95,
    op_cycles=570.0,
    core="zen3",
    spread=0.13,
    spread_elsewhere=0.138,
    spread_i8mm=0.138,
    spread_sparse=0.0865,
    spread_row=0.138,
    provenance="constants fitted on kernels measured on an AMD Zen 3",
)


def calibration(core: Core) -> Calibration:
    """The constants for a core: those of x86 where registers are wider than Arm's 16 bytes."""
    return FITTED if _isa(core) == 16 else FITTED_X86


def kernel_name(geometry: Geometry, structure: str, bits: int) -> str:
    """The kernel that a row is about, as `conv_int8_block4x4`."""
    dtype = "int4" if bits == 4 else DTYPES[bits]
    return f"{geometry.op}_{dtype}" + (f"_{structure}" if geometry.op in _WEIGHTED else "")


def supports(geometry: Geometry, structure: str, bits: int, core: Core) -> bool:
    """Whether there is a kernel: sparse structures for ungrouped conv and linear only, int4 for dense conv and linear only."""
    if bits not in DTYPES or core.rate(DTYPES[bits], "dense") is None:
        return False
    if geometry.op not in ("conv", "linear"):
        return structure == "dense" and bits != 4
    if structure == "dense":
        return True
    return bits != 4 and geometry.groups == 1 and core.rate(DTYPES[bits], structure) is not None


def op_time_us(
    geometry: Geometry,
    structure: str,
    sparsity: float,
    bits: int,
    core: Core,
    constants: Calibration,
    published: bool = False,
) -> float:
    """Modelled time of one op in microseconds.

    Args:
        structure: of the weights; `dense` for ops without any. Channel pruning is `dense` at the smaller geometry.
        sparsity: share of zero weights, over in_channels x kernel window x out_channels, in [0, 1).
        bits: of the weights; for ops without weights, of the data (the narrower side of `convert` and `widen`).
        published: as the kernels of published runtimes, where ours are others: depthwise ones load an input for each product, as
            ours of unusual windows do, and dense fp32 windows of 3x3 are multiplied directly, without Winograd.

    Raises:
        ValueError: no such kernel, or a sparsity that does not fit.
    """
    if not supports(geometry, structure, bits, core):
        raise ValueError(f"no {structure} kernel at {bits} bits for {geometry} on {core.name}")
    if not 0.0 <= sparsity < 1.0 or (structure == "dense" and sparsity != 0.0):
        raise ValueError(f"sparsity {sparsity} does not fit structure {structure}")
    if geometry.op == "depthwise":
        compute, memory = _depthwise_cycles(geometry, DTYPES[bits], core, published)
        compute *= constants.depthwise
    elif (structure, bits) == ("dense", 32) and takes_winograd(geometry) and not published:
        compute, memory = _winograd_cycles(geometry, core)
    elif geometry.op in ("conv", "linear"):
        compute, memory = _matrix_cycles(geometry, structure, sparsity, bits, core)
    else:
        compute, memory = _elementwise_cycles(geometry, DTYPES[bits], core)
    return (max(compute / constants.efficiency, memory) + constants.op_cycles) / (core.ghz * 1e3)


def _matrix_cycles(geometry: Geometry, structure: str, sparsity: float, bits: int, core: Core) -> tuple[float, float]:
    """Compute and memory cycles of a convolution or linear op."""
    dtype = DTYPES[bits]
    size = _BYTES[dtype]
    quad = 4 if dtype == "int8" else 1
    window = geometry.kernel[0] * geometry.kernel[1]
    block_rows, block_columns = _BLOCKS.get(structure, (4, quad))  # dense: as its kernel takes them
    in_group = _round_up(ceil(geometry.in_channels / geometry.groups), quad)
    rows = _round_up(geometry.out_channels, 4)
    inputs = in_group * window
    weights = rows * inputs * (1.0 - sparsity)
    blocks = weights / (block_rows * block_columns)
    # Groups of a dense convolution are the blocks on the diagonal of a sparse one.
    sparse = structure != "dense" or geometry.groups > 1
    packed = weights * bits / 8 + (4.0 * blocks if sparse else 0.0)
    view = _view(geometry)
    outputs = geometry.out_height * geometry.out_width
    mmla = _mmla_rate(dtype, "block4x4" if sparse and structure == "dense" else structure, core)
    gathered = not sparse and (dtype != "int8" or ((window > 1 or mmla is not None) and outputs >= 4))
    planes = ceil(geometry.in_channels / quad)
    in_place = gathered and view.copied and geometry.stride[1] <= 2 and planes >= _FEWEST_PLANES
    widths = _MMLA_WIDTHS if gathered and mmla is not None else _widths(dtype, block_rows, core)
    if gathered:
        tiles = _tiles(outputs, False, widths) if dtype == "int8" else _dense_tiles(outputs, widths)
    else:
        tiles = (_sparse_tiles if sparse and dtype != "int8" else _tiles)(view.positions, view.copied, widths)
    stored = rows / 4 if dtype == "int8" else rows  # runs of outputs that lie together
    together = _PART_TILES if dtype != "int8" and rows * inputs * size > _NEAR_BYTES else 1
    panel_rows = inputs / quad
    most_rows = _PANEL_DEPTH if dtype == "int8" else _FLOAT_DEPTH[_isa(core)]
    parts = 1 if panel_rows <= most_rows else ceil(panel_rows / (most_rows // together))

    pairs = gathered and dtype == "int8" and _isa(core) == 32 and panel_rows >= _FEWEST_PAIRS
    compute = _pairs_cycles(outputs, rows, panel_rows, window if in_place else 1, core) if pairs else 0.0
    for width, count in () if pairs else tiles:
        if not count:
            continue
        if width == 1:
            compute += count * _column_cycles(weights, structure if sparse else "dense", bits, core)
            continue
        paired = mmla is not None and (gathered or width == widths[0])
        if mmla is not None and paired:
            step = _mmla_step_cycles(mmla, width, widths[0], core)
        else:
            step = _step_cycles(dtype, structure, (block_rows, block_columns), width, core)
        if not gathered:
            spots = _spots(geometry, width * size, core) if block_rows == 4 and dtype != "int8" else 1
            step = max(step, _input_cycles(geometry, step, width * size, spots, block_columns, core))
        inner = max(blocks * step, packed / _bytes_per_cycle(packed, core) / (together if gathered and parts > 1 else 1))
        registers = width * size / core.vector_bytes if dtype != "int8" else 4.0 * width / core.vector_bytes
        edge = _SPARSE_TILE_CYCLES if sparse else _TILE_CYCLES
        end = _EPILOGUE[dtype] + (1.0 if paired else 0.0)
        edges = rows / block_rows * edge + rows * registers * max(end / core.vector_ops, 2.0 / core.loads)
        if gathered:
            # Where rows of x are as long as those of outputs, one run is read and masked.
            masked = in_place and geometry.stride == (1, 1) and geometry.in_width == geometry.out_width
            runs = 1.0 if masked or view.width == geometry.out_width else 1.0 + (width - 1) / geometry.out_width
            edges += panel_rows * ((registers + runs - 1.0) * 3.0 / core.loads + 2.0)
            edges += (parts - 1) * (rows * registers * 3.0 / core.loads + rows / 4 * _TILE_CYCLES)
            edges += (window if in_place else 1) * _CUT_CYCLES if window > 1 or paired else 0.0
            if paired:  # quads are put side by side, in a second pass unless they lie in one run
                edges += panel_rows * registers * (1.0 / core.vector_ops + (3.0 / core.loads if window > 1 else 0.0))
        else:
            edges += _scattered(view, width) * stored * (_SCATTER_CYCLES + registers * 3.0 / core.loads)
        compute += count * (inner + edges)
    if bits == 4 and view.positions > 1:  # unpacked and stored once, before the loops
        compute += weights / core.vector_bytes * (_UNPACK + 1.0) / core.vector_ops
    if not in_place:
        compute += _copy_cycles(view, planes, size * quad, core)
    read, written = _activation_bytes(geometry, size)
    return compute, _weight_cycles(packed, core) + _data_cycles(read + written, core)


def _pairs_cycles(outputs: int, rows: int, quads: float, windows: int, core: Core) -> float:
    """Cycles of a dense int8 convolution by pairs of int16: 8 rows of a few pixels at a time."""
    tiles = ceil(outputs / _PAIR_PIXELS)
    panels, parts = ceil(tiles / _PAIR_TILES), ceil(quads / _PAIR_QUADS)
    pixels, groups = outputs / tiles, ceil(rows / 8)
    # As many products a cycle as dot products of 4 make: with half as many in an instruction, and half as many instructions.
    inner = groups * quads * pixels / 8.0 * _step_cycles("int8", "dense", (4, 4), 16, core)
    edges = groups * (parts * _TILE_CYCLES + pixels * _EPILOGUE["int8"] / core.vector_ops)
    edges += (parts - 1) * groups * 2.0 * pixels * 3.0 / core.loads
    # Gathered, and widened to twice the bytes.
    gather = quads * (pixels * 12.0 / core.vector_bytes * 3.0 / core.loads + 4.0)
    return tiles * (inner + edges + gather) + panels * windows * _CUT_CYCLES


def _winograd_cycles(geometry: Geometry, core: Core) -> tuple[float, float]:
    """Compute and memory cycles of a dense fp32 convolution as 16 matrix products over tiles of 2x2 outputs (Winograd)."""
    lanes = min(core.vector_bytes // 4, 8)
    widest, columns, rows = _widths("fp32", 4, core)[0], geometry.in_channels, _round_up(geometry.out_channels, 4)
    lines, across = ceil(geometry.out_height / 2), ceil(geometry.out_width / 2)
    packed = 16 * rows * columns * 4
    whole, left = divmod(lines * across, widest)
    blocks = [(widest, whole)] if whole else []
    if left:
        blocks.append((1 if left == 1 else min(width for width in (4, 8, 16, widest) if width >= left), 1))
    compute = 0.0
    for width, count in blocks:
        registers = ceil(width / lanes)
        if width == 1:
            multiply = _column_cycles(packed / 4, "dense", 32, core)
        else:
            multiply = packed / 16 * _step_cycles("fp32", "dense", (4, 1), width, core)
        # The rest behind whole blocks finds weights in L2.
        near = whole and width != widest
        read = packed / (core.l2_bytes_per_cycle if near else _bytes_per_cycle(packed, core))
        edges = 16 * rows / 4 * _TILE_CYCLES + 16 * rows * registers / core.loads * (2 * ceil(columns / _PANEL_DEPTH) - 1)
        back = rows * registers * _beside(*_TRANSFORM_BACK[_isa(core)], core)
        back += geometry.out_channels * 2.0 * (width / across + 1.0) * _LINE_CYCLES
        # Inputs are written once and read for every part of the rows, sums are written and read; what L1 holds costs nothing.
        span = 64.0 * width * (columns + min(rows, _WINOGRAD_ROWS))
        moved = 64.0 * width * (columns * (1 + ceil(rows / _WINOGRAD_ROWS)) + 2 * rows)
        spilled = moved / _bytes_per_cycle(span, core) if span > core.l1_kb * 1024 else 0.0
        compute += count * (max(multiply, read) + edges + back + spilled)
    # A block begins and ends anywhere in a row of tiles, and so cuts a register.
    pieces = lines * ceil(across / lanes) + sum(count for _, count in blocks)
    compute += columns * pieces * (_TILE_CYCLES + _beside(*_TRANSFORM[_isa(core)], core))
    read_bytes, written_bytes = _activation_bytes(geometry, 4)
    return compute, _weight_cycles(packed, core) + _data_cycles(read_bytes + written_bytes, core)


def _beside(instructions: float, accesses: float, core: Core) -> float:
    """Cycles of SIMD instructions beside loads and stores: a core that issues in order does one after the other."""
    busy = (instructions / core.vector_ops, accesses / core.loads)
    return sum(busy) if core.in_order else max(busy)


def _window_rows(geometry: Geometry) -> int:
    """Rows of inputs under a row of outputs; with a stride also columns that lie apart."""
    return geometry.kernel[0] * min(geometry.kernel[1], geometry.stride[1])


def _spots(geometry: Geometry, run: int, core: Core) -> int:
    """Tiles, of `run` bytes of every channel, that a sparse kernel of 4 rows in floating point takes together."""
    room = _SPOT_BYTES[_isa(core)] // (geometry.in_channels * _window_rows(geometry) * run)
    return min(max(room, 1), _MOST_SPOTS)


def _input_cycles(geometry: Geometry, step: float, run: int, spots: int, columns: int, core: Core) -> float:
    """Cycles of a step whose inputs partly come from L2: tiles go round `run` bytes each of every channel at every position.

    Rows of planes begin anywhere in a cache line, so half a line more is read.
    """
    span = geometry.in_channels * _window_rows(geometry) * (run * spots + _LINE / 2 / columns)
    missed = max(0.0, 1.0 - core.l1_kb * 1024 / span)
    return (1.0 - missed) * step + missed * (run * columns + _LINE / 2) / core.l2_bytes_per_cycle


@dataclass(frozen=True)
class _View:
    """How a kernel with a window sees its input (csrc/view.h)."""

    copied: bool
    width: int
    out_width: int
    positions: int
    copied_rows: int  # of one plane
    copied_step: int


@lru_cache(maxsize=4096)
def _view(geometry: Geometry) -> _View:
    reach = [(kernel - 1) * dilation for kernel, dilation in zip(geometry.kernel, geometry.dilation, strict=True)]
    copied = (
        geometry.stride != (1, 1)
        or geometry.in_height < geometry.out_height + reach[0]
        or geometry.in_width < geometry.out_width + reach[1]
    )
    phases = 1
    for kernel, stride, dilation in zip(geometry.kernel, geometry.stride, geometry.dilation, strict=True):
        phases *= 1 if kernel == 1 or dilation % stride == 0 else stride
    width = geometry.out_width + reach[1] // geometry.stride[1] if copied else geometry.in_width
    positions = (geometry.out_height - 1) * width + geometry.out_width
    rows = phases * (geometry.out_height + reach[0] // geometry.stride[0]) if copied else 0
    return _View(copied, width, geometry.out_width, positions, rows, geometry.stride[1])


def _copy_cycles(view: _View, planes: int, element: int, core: Core) -> float:
    """Making the padded or phase-split copy of an input: rows, and a load and a store a register (two loads with a stride)."""
    registers = view.copied_rows * ceil(view.width * element / core.vector_bytes)
    return planes * (view.copied_rows * _COPY_ROW_CYCLES + registers * (3.0 if view.copied_step == 1 else 5.0) / core.loads)


def _scattered(view: _View, width: int) -> float:
    """Rows of outputs, for a tile on average, that are copied one by one because the tile goes over the end of a row."""
    if view.width == view.out_width:
        return 0.0
    return min(1.0, (view.width - view.out_width + width - 1) / view.width) * (1.0 + width / view.width)


@lru_cache(maxsize=4096)
def _tiles(positions: int, copied: bool, widths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(width, number) of the tiles that ac_next_tile of csrc/view.h cuts positions into.

    Args:
        widths: of the kernel's tiles, the widest first.
    """
    fitting = widths if copied else tuple(width for width in widths if width <= positions)
    fitting += (1,) if copied or not fitting else ()
    count = dict.fromkeys((*widths, 1), 0)
    # The widest as long as the next one would not hold what is left, then one tile that does.
    held = fitting[1] if len(fitting) > 1 else 0
    count[fitting[0]] = max(0, ceil((positions - held) / fitting[0]))
    left = positions - count[fitting[0]] * fitting[0]
    if left > 0:
        count[min(width for width in fitting if width >= left)] += 1
    return tuple(count.items())


def _sparse_tiles(positions: int, copied: bool, widths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The same of the floating-point sparse kernels (csrc/float_sparse.h): a last position is a tile of its own."""
    fitting = (*(width for width in widths if copied or width <= positions), 1)
    count = dict.fromkeys((*widths, 1), 0)
    count[fitting[0]] = max(0, positions // fitting[0] - 1)
    left = positions - count[fitting[0]] * fitting[0]
    while left > 0:
        kind = max((kind for kind, width in enumerate(fitting) if width >= left), default=0)
        if kind + 2 < len(fitting) - 1 and fitting[kind] > left and fitting[kind + 1] + fitting[kind + 2] >= left:
            kind += 1
        count[fitting[kind]] += 1
        left -= fitting[kind]
    return tuple(count.items())


def _dense_tiles(positions: int, widths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The same of the floating-point dense kernels (csrc/float_4oc_dense.h): what the two narrower tiles hold is no wide one."""
    wide, middle, narrow = widths
    count = dict.fromkeys((*widths, 1), 0)
    count[wide] = max(0, ceil((positions - middle - narrow) / wide)) if positions >= wide else 0
    left = positions - count[wide] * wide
    while left > 0:
        width = 1 if left == 1 or positions < narrow else middle if left > narrow and positions >= middle else narrow
        count[width] += 1
        left -= width
    return tuple(count.items())


def _widths(dtype: str, block_rows: int, core: Core) -> tuple[int, ...]:
    """Positions of the tiles of a matrix kernel (csrc/float_4oc.h, float_1oc.h, s8_4oc.h, s8_block1x4.c), the widest first."""
    if dtype == "int8":
        return (16, 8, 4) if block_rows == 4 else (32, 8, 4)
    lanes = core.vector_bytes // _BYTES[dtype]
    if block_rows == 1:
        return 8 * lanes, 4 * lanes, 2 * lanes, 4
    return {4: (16, 8, 4), 8: (24, 8, 4) if dtype == "fp32" else (32, 16, 4), 16: (32, 16, 4)}.get(lanes, (32, 16, 4))


def _mmla_rate(dtype: str, structure: str, core: Core) -> float | None:
    """Multiply-accumulates per cycle of the widest tile with SMMLA, or None where the kernel does without."""
    return core.rate("i8mm", structure) if dtype == "int8" and "i8mm" in core.features else None


def _mmla_step_cycles(rate: float, width: int, widest: int, core: Core) -> float:
    """The same as `_step_cycles` for a block of 4 x 4 weights: in narrow tiles the permutations of weights weigh more."""
    steady = 16.0 * width / rate * (1.0 + 2.0 / width) / (1.0 + 2.0 / widest)
    return steady if width == widest else max(steady, (width / 4.0 + 2.0) / core.loads, _CHAIN[16]["int8"])


def _step_cycles(dtype: str, structure: str, block: tuple[int, int], width: int, core: Core) -> float:
    """Cycles of an inner loop for a block of weights: the steady rate in the widest tile; loads and chains of sums in others."""
    rate = core.rate(dtype, structure)
    if rate is None:
        raise ValueError(f"{core.name} has no {structure} kernel for {dtype}")
    lane = 4 if dtype == "int8" else _BYTES[dtype]
    vectors = max(1.0, width * lane / core.vector_bytes)
    others = 2.0 if core.vector_bytes == 16 or block[0] == 1 else 5.0  # weights (x86: a broadcast for each row) and an index
    chain = _CHAIN[_isa(core)][dtype]
    if _isa(core) == 32 and dtype != "int8" and (block[0] == 1 or vectors == 1.0):
        chain /= 2.0  # every other block has sums of its own
    steady = block[0] * block[1] * vectors * core.vector_bytes / lane / rate
    if width == _widths(dtype, block[0], core)[0]:
        return steady
    return max(steady, (vectors + others) / core.loads, chain)


def _column_cycles(weights: float, structure: str, bits: int, core: Core) -> float:
    """Inner loop of a matrix by one position: the lanes are 4 rows, or 4 kept blocks of a row that has inputs of its own."""
    dtype = DTYPES[bits]
    macs = 16 if dtype == "int8" else 4
    steps = weights / macs
    rate = core.rate(dtype, "dense")
    if rate is None:
        raise ValueError(f"{core.name} has no dense kernel for {dtype}")
    multiply = macs * core.vector_bytes / 16 / rate * (2 if dtype == "fp16" else 1)
    if structure in ("unstructured", "block1x4"):  # 4 inputs are put into lanes one by one, after their indices
        loads, instructions = 9.0, 4.0
    elif structure == "dense":
        loads, instructions = 2.0, 0.0
    else:  # x86 loads the weights of two blocks at once, if they are no bytes
        loads, instructions = 2.5 if _isa(core) == 32 and dtype != "int8" else 3.0, 0.0
    if bits == 4:
        loads, instructions = loads - 0.5, instructions + _UNPACK
    if dtype == "int8" and "dotprod" not in core.features:  # what rows of a tile share in emulating a dot product
        instructions += 2.0
    return steps * max(loads / core.loads, multiply + instructions / core.vector_ops)


def _depthwise_cycles(geometry: Geometry, dtype: str, core: Core, plain: bool) -> tuple[float, float]:
    """Compute and memory cycles of a depthwise convolution, one channel (int8: quad of channels) after the other."""
    size = _BYTES[dtype]
    quad = 4 if dtype == "int8" else 1
    window = geometry.kernel[0] * geometry.kernel[1]
    planes = _round_up(geometry.out_channels, quad) // quad
    weights = window * size
    if dtype == "int8":
        weights = geometry.kernel[0] * _round_up(geometry.kernel[1], 4)
    if not plain and dtype == "int8" and _has_row_tiles(geometry, core):
        compute = planes * _row_tiles_cycles(geometry, core)
    elif not plain and dtype != "int8" and _is_banded(geometry):
        compute = planes * _bands_cycles(geometry, dtype, core)
    else:
        view = _view(geometry)
        compute = _copy_cycles(view, planes, size * quad, core)
        compute += planes * _plane_cycles(view, dtype, window, _EPILOGUE[dtype], core)
        compute += planes * window * quad * _SPREAD_CYCLES if dtype == "int8" else 0.0
    moved = sum(_activation_bytes(geometry, size))
    return compute, _data_cycles(moved, core) + _weight_cycles(geometry.out_channels * weights, core)


def _has_row_tiles(geometry: Geometry, core: Core) -> bool:
    """Whether int8 takes the tiles of csrc/s8_depthwise_plane.h."""
    square = geometry.kernel in ((3, 3), (5, 5)) and geometry.stride in ((1, 1), (2, 2)) and geometry.dilation == (1, 1)
    return square and ("dotprod" in core.features or _isa(core) == 32)


def _row_tiles(height: int, width: int, lanes: int) -> tuple[int, int, int]:
    """Pairs of rows, single rows, and tiles of each: the last rows of a narrow plane stand alone, because tiles run over them."""
    paired = height - ((lanes - 1) // width if width < lanes else 0)
    pairs = max(paired, 0) // 2
    return pairs, height - 2 * pairs, ceil(width / lanes)


def _row_tile_cycles(window: int, stride: int, rows: int, core: Core) -> float:
    """Cycles of a tile of 4 registers of sums in one or two rows, from loads to stores."""
    isa, parts = _isa(core), ceil(window / 4)
    inputs = 2 * parts if stride == 1 else 4 * parts if isa == 32 else 2 + 2 * parts  # registers of a row of inputs
    turned = ((rows - 1) * stride + window) * inputs
    instructions = turned * _TURN[isa] + rows * (4 * parts * window * _DOT[isa] + _TILE_END[isa])
    # Registers hold the weights of 3 x 3; those of 5 x 5 are loaded again.
    loads = turned + rows + (window * parts * (2 if stride == 1 else 1) if window > 3 else 0)
    if core.in_order:  # a load of 16 bytes goes along with nothing
        return instructions / core.vector_ops + loads / core.loads
    return max(instructions / core.vector_ops, loads / core.loads)


def _row_tiles_cycles(geometry: Geometry, core: Core) -> float:
    """Cycles of one quad of channels, padded copy included."""
    isa = _isa(core)
    pairs, singles, tiles = _row_tiles(geometry.out_height, geometry.out_width, isa // 4)
    cycles = _PLANE_CYCLES
    for rows, count in ((2, pairs), (1, singles)):
        cycles += count * (_LINE_CYCLES + tiles * _row_tile_cycles(geometry.kernel[0], geometry.stride[0], rows, core))
    registers = geometry.in_height * ceil(geometry.in_width * 4 / isa)
    return cycles + geometry.in_height * _LINE_CYCLES + registers * 2.0 / core.loads


def _is_banded(geometry: Geometry) -> bool:
    """Whether float kernels take it rows at a time (csrc/bands.h)."""
    kernel, stride = geometry.kernel, geometry.stride
    return kernel in ((3, 3), (5, 5)) and stride in ((1, 1), (2, 2)) and geometry.dilation == (1, 1)


def band_of(
    size: int, stride: int, in_width: int, out_width: int, out_height: int, pad_left: int, lanes: int
) -> tuple[int, int, int]:
    """A band of a banded depthwise kernel, as ac_bands_of of csrc/bands.h makes it.

    Args:
        size, stride: of the square window.
        lanes: fp32 lanes of the widest vector.

    Returns:
        Elements of a row of its copy, rows of its outputs, and columns of the input that are read.
    """
    lanes = max(lanes, 8)
    columns = min(max((out_width - 1) * stride + size - pad_left, 0), in_width)
    written = ceil(columns / (stride * lanes)) * lanes + (0 if stride == 1 else (pad_left + 1) // 2)
    row = stride * _round_up(max(out_width + (size - 1) // stride, written), 8)
    inputs = _BAND_REALS // row - size
    outputs = 0 if inputs < 0 else (inputs // stride + 1) // 4 * 4
    return row, min(max(outputs, 4), out_height), columns


def _bands_cycles(geometry: Geometry, dtype: str, core: Core) -> float:
    """Cycles of one plane of outputs of a banded depthwise kernel: strips of 4 rows, and one of what is left."""
    size, stride, width = geometry.kernel[0], geometry.stride[0], geometry.out_width
    missing = max(0, (width - 1) * stride + size - geometry.in_width)
    _, outputs, columns = band_of(
        size, stride, geometry.in_width, width, geometry.out_height, missing // 2, core.vector_bytes // 4
    )
    lanes = core.vector_bytes // _BYTES[dtype]
    bands = ceil(geometry.out_height / outputs)
    rows = min(geometry.in_height + (bands - 1) * max(0, size - stride), (geometry.out_height - bands) * stride + bands * size)
    if stride == 1:
        copies = rows * ceil(columns / lanes) * (3.0 / core.loads + 0.5 / core.vector_ops)
    else:  # pairs: shuffled, and on x86 put in order across halves
        shuffles = 4.0 if _isa(core) == 16 else 6.0
        copies = rows * ceil(columns / (2 * lanes)) * (6.0 / core.loads + shuffles / core.vector_ops)
    cycles = bands * _BAND_CYCLES + copies
    for count, number in ((4, geometry.out_height // 4), (geometry.out_height % 4, 1)):
        if count:
            tiles = ceil(width / lanes)
            cycles += number * (_STRIP_CYCLES + tiles * _band_tile_cycles(size, stride, count, dtype, core))
    return cycles


def _band_tile_cycles(size: int, stride: int, count: int, dtype: str, core: Core) -> float:
    """Cycles of a vector of outputs in each of `count` rows: an input is loaded once for all rows, the 25 weights of 5x5 once."""
    taps = size * size
    # A sum begins as the bias; 5x5 has two sums, to be added.
    vector = count * (taps + _EPILOGUE[dtype] + (1.0 if size == 5 else 0.0)) / core.vector_ops
    weights = 0.0 if size == 3 else taps / (2.0 if _isa(core) == 16 else 1.0)
    loads = (((count - 1) * stride + size) * size + weights) / core.loads
    chain = taps * _CHAIN[_isa(core)][dtype] / (2.0 if size == 5 else 1.0)
    if core.in_order:  # a load stops everything else
        return max(vector + loads, chain)
    return max(vector, loads, chain / 2.0)  # half of the next tile's runs beside this one


def _plane_cycles(view: _View, dtype: str, taps: int, epilogue: float, core: Core) -> float:
    """Cycles of one plane of outputs of a depthwise kernel: tiles of 4 registers of positions."""
    # int8 works on half registers, which are whole ones once widened; its sums take two of them.
    lanes = core.vector_bytes // (8 if dtype == "int8" else _BYTES[dtype])
    cycles = 0.0
    for width, count in _tiles(view.positions, view.copied, (4 * lanes, min(4, lanes))):
        vectors = max(1.0, width / lanes)
        if dtype == "int8":
            tap = max(vectors * _TAP[_isa(core)][dtype] / core.vector_ops, (vectors + 2.0) / core.loads)
        else:
            chain = _CHAIN[_isa(core)][dtype]
            tap = max(vectors / core.vector_ops, (vectors + 2.0) / core.loads, chain)
        sums = vectors * (2 if dtype == "int8" else 1)
        edges = _TILE_CYCLES + sums * max(epilogue / core.vector_ops, 2.0 / core.loads) + vectors * 3.0 / core.loads
        cycles += count * (taps * tap + edges + _scattered(view, width) * _SCATTER_CYCLES)
    return cycles


def _max_pool_row_cycles(geometry: Geometry, dtype: str, core: Core) -> float:
    """Cycles of one row of outputs of one plane: rows are made one line, its phases are picked apart, then come columns."""
    view, stride = _view(geometry), geometry.stride[1]
    pixel = 4 if dtype == "int8" else _BYTES[dtype]
    phases = 1 if geometry.kernel[1] == 1 or geometry.dilation[1] % stride == 0 else stride
    line = min(geometry.in_width, (view.width - 1) * stride + phases)
    cycles = _TILE_CYCLES + _largest_cycles(line, geometry.kernel[0], dtype, core)
    if stride != 1:
        whole = (view.width - 1) // 8 if stride == 2 else 0
        turned = 8 * pixel / core.vector_bytes * (3.0 / core.loads + (1.0 if _isa(core) == 16 else 3.0) / core.vector_ops)
        cycles += phases * (_TILE_CYCLES + whole * turned + (view.width - 8 * whole) * _SINGLE_CYCLES)
    cycles += _TILE_CYCLES + _largest_cycles(geometry.out_width, geometry.kernel[1], dtype, core)
    bounds = 0.0 if dtype == "int8" else 2.0
    return cycles + geometry.out_width * pixel / core.vector_bytes * bounds / core.vector_ops


def _largest_cycles(length: int, window: int, dtype: str, core: Core) -> float:
    """Cycles of the largest of `window` pixels for each of `length`: vectors, then those of 4 pixels, then single ones."""
    pixel = 4 if dtype == "int8" else _BYTES[dtype]
    wide = 8 if dtype == "int8" else core.vector_bytes // pixel
    cycles = length % wide % 4 * window * _SINGLE_CYCLES
    for registers, vectors in ((wide * pixel / core.vector_bytes, length // wide), (1.0, length % wide // 4)):
        busy = (registers / core.loads, registers / core.vector_ops)
        step = max(1.0, sum(busy) if core.in_order else max(busy))
        cycles += vectors * (window * step + registers)
    return cycles


def _elementwise_cycles(geometry: Geometry, dtype: str, core: Core) -> tuple[float, float]:
    """Compute and memory cycles of an op without weights."""
    size = _BYTES[dtype]
    read, written = _activation_bytes(geometry, size)
    if geometry.op == "pool":
        planes = ceil(geometry.out_channels / (4 if dtype == "int8" else 1))
        row = _max_pool_row_cycles(geometry, dtype, core)
        return planes * geometry.out_height * row, _data_cycles(read + written, core)
    elements = (read if geometry.op == "global_pool" else written) / size
    if dtype == "int8" and geometry.op in _LOOKUPS:
        compute = elements * (4.0 if geometry.op == "activation" else 2.0) / core.loads
    else:
        compute = elements * size / core.vector_bytes * _ELEMENTWISE[geometry.op][dtype] / core.vector_ops
    if geometry.op in ("add", "mul"):
        read += written  # the other operand, which has the result's shape
    elif geometry.op == "gather":
        read += written * 4 / size  # the offsets
    elif geometry.op in ("convert", "widen"):
        read *= (2 if dtype == "fp32" else 4) / size  # the other side is fp32, whichever is read
    return compute, _data_cycles(read + written, core)


def _activation_bytes(geometry: Geometry, size: int) -> tuple[float, float]:
    """Bytes of input and of output."""
    read = geometry.in_channels * geometry.in_height * geometry.in_width * size
    written = geometry.out_channels * geometry.out_height * geometry.out_width * size
    return float(read), float(written)


def _weight_cycles(size: float, core: Core) -> float:
    """Weights are read once per inference, after all the others: never from L2; what exceeds L3 comes from memory."""
    in_l3 = min(size, core.l3_kb * 1024)
    return (in_l3 / core.l3_gbps + (size - in_l3) / core.dram_gbps) * core.ghz


def _data_cycles(size: float, core: Core) -> float:
    """Activations were just written: what fits is in L2, the rest in L3 and memory."""
    in_l2 = min(size, core.l2_kb * 1024)
    in_l3 = min(size - in_l2, (core.l3_kb - core.l2_kb) * 1024)
    rest = size - in_l2 - in_l3
    return in_l2 / core.l2_bytes_per_cycle + (in_l3 / core.l3_gbps + rest / core.dram_gbps) * core.ghz


def _bytes_per_cycle(span: float, core: Core) -> float:
    """Read rate of an inner loop that goes round in `span` bytes."""
    if span <= core.l1_kb * 1024:
        return core.loads * core.vector_bytes
    if span <= core.l2_kb * 1024:
        return core.l2_bytes_per_cycle
    return core.l3_gbps / core.ghz


def _isa(core: Core) -> int:
    """16 for Arm, 32 for x86: what instructions cost besides width."""
    return 16 if core.vector_bytes == 16 else 32


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
