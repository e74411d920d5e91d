"""The analytic latency model of one op on one core: what a LatencyTable holds where nothing was measured.

time = max(compute, memory) + overhead of an op, where

compute is the kernels' own loop nest: register tiles of 4 output channels by 16 pixels (dense, block4x1, block4x4) or of 1 by
    32 (unstructured, block1x4) at the inner loop's steady rate, pixel tails by 8-, 4- and 1-pixel kernels, the start and end of
    every tile, and the epilogue (bias, activation, requantisation, store);
memory is every byte that the op must move, at the bandwidth of the cache level that can hold it, and the inner loop's own traffic
    where its working set leaves the L1 cache.

Layouts: planar CHW for fp32 and fp16, [C/4][H*W][4] for int8. A k x k convolution reads shifted planes of a padded copy of its
input, so it computes and drops the columns between rows; stride 2 works on planes split by parity.

Pure functions; times in microseconds, sizes in bytes, rates per cycle unless their name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, hypot, isfinite

from .geometry import Geometry
from .targets import Core

#: Increases whenever the model's formulas change: part of every table's fingerprint.
VERSION = 1

#: weight bits -> activation data type.
DTYPES = {32: "fp32", 16: "fp16", 8: "int8", 4: "int8"}
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
_WEIGHTED = ("conv", "depthwise", "linear")
#: output channels x input channels of a block of weights that share one index.
_BLOCKS = {"unstructured": (1, 1), "block4x1": (4, 1), "block1x4": (1, 4), "block4x4": (4, 4)}

# Start and end of a register tile in cycles: pointers, the mispredicted loop exit; sparse rows differ in length, so their exit is
# mispredicted nearly always.
_TILE_CYCLES = 12.0
_SPARSE_TILE_CYCLES = 20.0
# SIMD instructions of the epilogue for one register of accumulators (a register of fp lanes; of int32 lanes for int8).
_EPILOGUE = {"fp32": 4.0, "fp16": 4.0, "int8": 7.0}
# SIMD instructions of a depthwise tap for one register of inputs: int8 widens twice.
_TAP = {"fp32": 1.0, "fp16": 1.0, "int8": 5.0}
# SIMD instructions that turn int4 weights into one register of int8: a shift or a mask, the factor 16 goes into the scale.
_UNPACK = 1.0
# tile -> (pixels, cost) of the kernels for what is left of a plane, in pixels of the full tile: fewer accumulators in flight,
# fewer uses of each load of weights (and of an index, in the sparse tile of 32).
_TAILS = {16: ((8, 10.0), (4, 6.0), (1, 3.0)), 32: ((16, 19.0), (8, 11.0), (4, 8.0), (1, 8.0))}
# SIMD instructions per register of output elements of the ops without weights.
_ELEMENTWISE = {
    "add": {"fp32": 3.0, "fp16": 3.0, "int8": 22.0},
    "mul": {"fp32": 3.0, "fp16": 3.0, "int8": 22.0},
    "activation": {"fp32": 8.0, "fp16": 8.0, "int8": 10.0},
    "copy": {"fp32": 2.0, "fp16": 2.0, "int8": 2.0},
    "gather": {"fp32": 16.0, "fp16": 32.0, "int8": 64.0},  # four for every element
    "convert": {"fp32": 6.0, "fp16": 4.0, "int8": 14.0},
    "global_pool": {"fp32": 2.0, "fp16": 2.0, "int8": 5.0},
}


@dataclass(frozen=True)
class Calibration:
    """The model's fitted constants and how far they can be trusted.

    Attributes:
        efficiency: share of the ideal compute rate that kernels reach, in (0, 1].
        depthwise: further factor on the compute time of the depthwise kernels.
        op_cycles: cycles that every op costs whatever its size (dispatch, cold code and weights).
        core: the micro-architecture that the fit is about.
        spread: standard deviation of ln(published / modelled) of whole dense int8 networks that the fit has not seen.
        spread_elsewhere: the same on other cores or in floating point.
        spread_sparse: what sparse weights add to it; no sparse network was fitted.
        provenance: the data behind the fit.
    """

    efficiency: float
    depthwise: float
    op_cycles: float
    core: str
    spread: float
    spread_elsewhere: float
    spread_sparse: float
    provenance: str

    def __post_init__(self) -> None:
        numbers = (self.efficiency, self.depthwise, self.op_cycles, self.spread, self.spread_elsewhere, self.spread_sparse)
        if not all(isfinite(number) and number >= 0.0 for number in numbers) or not 0.0 < self.efficiency <= 1.0:
            raise ValueError(f"constants out of range: {self}")

    def row_spread(self, structure: str, bits: int, core: Core) -> float:
        """Standard deviation of ln(true / modelled) of a row."""
        spread = self.spread if core.model == self.core and bits <= 8 else self.spread_elsewhere
        return spread if structure == "dense" else hypot(spread, self.spread_sparse)

    def interval(self, microseconds: float, spread: float) -> tuple[float, float]:
        """10th and 90th percentile of a time whose error is log-normal.

        The spread is that of whole networks: the errors of a network's rows are taken as equal, so that the sum of its rows' lows
        is the network's low. A single row can be further off.
        """
        width = exp(1.2815515655446004 * spread)
        return microseconds / width, microseconds * width


#: Printed by benchmarks/phone_model.py, which says what was fitted on what; results/benchmarks/phone_model.json holds the errors.
FITTED = Calibration(
    efficiency=0.797,
    depthwise=1.13,
    op_cycles=11900.0,
    core="cortex-x1",
    spread=0.0762,
    spread_elsewhere=0.118,
    spread_sparse=0.222,
    provenance="constants fitted on five int8 networks published for a Pixel 6 Cortex-X1",
)


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


def op_time_us(geometry: Geometry, structure: str, sparsity: float, bits: int, core: Core, constants: Calibration) -> float:
    """Modelled time of one op in microseconds.

    Args:
        structure: of the weights; `dense` for ops without any. Channel pruning is `dense` at the smaller geometry.
        sparsity: share of zero weights, over in_channels x kernel window x out_channels, in [0, 1).
        bits: of the weights; for ops without weights, of the data (of the result for `convert`).

    Raises:
        ValueError: no such kernel, or a sparsity that does not fit.
    """
    if not supports(geometry, structure, bits, core):
        raise ValueError(f"no {structure} kernel at {bits} bits for {geometry} on {core.name}")
    if not 0.0 <= sparsity < 1.0 or (structure == "dense" and sparsity != 0.0):
        raise ValueError(f"sparsity {sparsity} does not fit structure {structure}")
    if geometry.op == "depthwise":
        compute, memory = _depthwise_cycles(geometry, DTYPES[bits], core)
        compute *= constants.depthwise
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
    tile_rows, tile_pixels = (1, 32) if block_rows == 1 else (4, 16)
    rows = _round_up(ceil(geometry.out_channels / geometry.groups), tile_rows) * geometry.groups
    weights = rows * in_group * window * (1.0 - sparsity)
    blocks = weights / (block_rows * block_columns)
    pixels = _computed_pixels(geometry)

    if pixels == 1 and structure == "dense":
        compute = _column_cycles(weights, bits, core)
    else:
        rate = core.rate(dtype, structure)
        if rate is None:
            raise ValueError(f"{core.name} has no {structure} kernel for {dtype}")
        slots = _slots(pixels, tile_pixels)
        # Every block of weights takes a tile of its input channels. Past the L1 cache that is what limits the loop.
        taken = blocks * block_columns * slots * size
        span = in_group * geometry.kernel[0] * (tile_pixels + geometry.kernel[1] - 1) * size
        tiles = rows / tile_rows * slots / tile_pixels
        edges = tiles * (_TILE_CYCLES if structure == "dense" else _SPARSE_TILE_CYCLES)
        compute = max(weights * slots / rate, taken / _bytes_per_cycle(span, core)) + edges
        if bits == 4:  # unpacked and stored once, before the loops
            compute += weights / core.vector_bytes * (_UNPACK + 1.0) / core.vector_ops
    accumulators = core.vector_bytes / (4 if dtype == "int8" else size)
    compute += rows * _round_up(pixels, 4) / accumulators * _EPILOGUE[dtype] / core.vector_ops

    read, written = _activation_bytes(geometry, size)
    if window > 1 or geometry.stride != (1, 1):
        # The padded or parity-split copy of the input: a load and a store a register, a few cycles a row.
        compute += read / core.vector_bytes * 2.0 / core.loads + geometry.in_channels / quad * geometry.in_height * 4.0
    packed = weights * bits / 8 + (0.0 if structure == "dense" else 4.0 * blocks)
    return compute, _weight_cycles(packed, core) + _data_cycles(read + written, core)


def _column_cycles(weights: float, bits: int, core: Core) -> float:
    """Inner loop of a dense matrix by one column: every weight is loaded for one multiply-accumulate."""
    instructions = weights * _BYTES[DTYPES[bits]] / core.vector_bytes * (1.0 + (_UNPACK if bits == 4 else 0.0))
    return max(weights * bits / 8 / core.vector_bytes / core.loads, instructions / core.vector_ops)


def _depthwise_cycles(geometry: Geometry, dtype: str, core: Core) -> tuple[float, float]:
    """Compute and memory cycles of a depthwise convolution: a load and a multiply-accumulate for every tap and register."""
    size = _BYTES[dtype]
    quad = 4 if dtype == "int8" else 1
    window = geometry.kernel[0] * geometry.kernel[1]
    rows = _round_up(geometry.out_channels, quad) // quad * geometry.out_height
    registers = rows * ceil(geometry.out_width * quad * size / core.vector_bytes)
    loads = 2.0 if geometry.stride[1] > 1 else 1.0
    taps = registers * window * max(_TAP[dtype] / core.vector_ops, loads / core.loads)
    accumulators = registers * (4 if dtype == "int8" else 1)
    compute = taps + accumulators * _EPILOGUE[dtype] / core.vector_ops + rows * 4.0
    moved = sum(_activation_bytes(geometry, size))
    return compute, _data_cycles(moved, core) + _weight_cycles(geometry.out_channels * window * size, core)


def _elementwise_cycles(geometry: Geometry, dtype: str, core: Core) -> tuple[float, float]:
    """Compute and memory cycles of an op without weights."""
    size = _BYTES[dtype]
    read, written = _activation_bytes(geometry, size)
    processed = read if geometry.op == "global_pool" else written
    if geometry.op == "pool":
        instructions = 2.0 * geometry.kernel[0] * geometry.kernel[1] + 4.0
    else:
        instructions = _ELEMENTWISE[geometry.op][dtype]
    if geometry.op in ("add", "mul"):
        read += written  # the other operand, which has the result's shape
    elif geometry.op == "gather":
        read += written * 4 / size  # the offsets
    elif geometry.op == "convert":
        read *= (2 if dtype == "fp32" else 4) / size  # a Geometry does not tell the source type: the widest likely one
    return processed / core.vector_bytes * instructions / core.vector_ops, _data_cycles(read + written, core)


def _computed_pixels(geometry: Geometry) -> int:
    """Pixels that the matrix kernels compute, the dropped columns between rows included."""
    between = 0
    if geometry.kernel[1] > 1:
        between = ceil((geometry.kernel[1] - 1) * geometry.dilation[1] / geometry.stride[1])
    return geometry.out_height * (geometry.out_width + between) - between


def _slots(pixels: int, tile: int) -> float:
    """Pixels in units of a full tile's cost per pixel: the tail is done by 8-, 4- and 1-pixel kernels, or by a full tile."""
    whole, tail = divmod(pixels, tile)
    return whole * tile + _TAIL_COSTS[tile][tail]


def _tail_costs(tile: int) -> tuple[float, ...]:
    """Cost of 0..tile-1 remaining pixels; never more than computing some pixels too many."""
    costs = [0.0] * (tile + 1)
    for pixels in range(1, tile + 1):
        costs[pixels] = min(cost + costs[max(0, pixels - step)] for step, cost in (*_TAILS[tile], (tile, float(tile))))
    return tuple(costs[:tile])


_TAIL_COSTS = {tile: _tail_costs(tile) for tile in _TAILS}


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


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
