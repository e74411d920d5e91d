"""Cycles of the kernels' inner loops on phone cores, by analysis of the compiled loops: nothing is run, no phone is needed.

    python benchmarks/arm_cycles.py [--show KERNEL] [--write]

Every matrix and depthwise kernel is compiled for Cortex-X1, Cortex-A78 and Cortex-A55 with the options of kernels/toolchain.py.
Variants with SMMLA (I8MM) are compiled for Cortex-X3, and for Cortex-A715 in the build for all Armv8.2 cores.
The innermost loop of the widest tile is found in the assembly; of float depthwise kernels that is all of a tile of 4 rows of
outputs, with its end and its stores, for a window of 3x3 and stride 1. Then
  - the MACs of an iteration are counted from its multiply instructions;
  - `allowed` is what the busiest port leaves possible if nothing ever waited (PORTS, or the issue rules of the Cortex-A55);
  - `cycles` are those of llvm-mca: LLVM has no model of X1 and A78, so neoverse-v1 stands for the X1, whose pipes it shares, and
    neoverse-n1, which has one load pipe fewer, bounds the A78 from below; neoverse-v2 stands for the X3, neoverse-n2 for the
    A715, which has two SIMD pipes, too. LLVM's Cortex-A55 issues two 128-bit FMLA a cycle,
    which that core does not; its cycles come from the in-order model here, and LLVM's are kept beside them.
With --write the result goes to results/benchmarks/arm_cycles.json, which belongs to the repository:
tests/kernels/test_arm_cycles.py fails when the kernels have changed since.

What the figures leave out: caches (every load hits L1), what lies around the loop, changing clocks, mispredicted branches at the
end of short loops. LLVM makes every FMLA wait 4 cycles for the sum of the one before; Arm's optimization guides of these cores
give 2 (sums are forwarded), so chains go to llvm-mca taken apart into two registers each.

Needs llvm-mca of LLVM 19 (Debian, Ubuntu: apt install llvm-19) and the extra `kernels`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from autocompress.errors import UserError
from autocompress.files import write_json
from autocompress.kernels.toolchain import GENERIC_ARM, OPTIONS, SOURCES, kernels_hash

RESULT = Path(__file__).resolve().parent.parent / "results" / "benchmarks" / "arm_cycles.json"
MCA = "llvm-mca-19"
TRIPLE = "aarch64-linux-musl"


@dataclass(frozen=True)
class Kernel:
    """A kernel's source, what it is in the core table, and what tells the loop of its widest tile from others.

    Attributes:
        sums: registers of sums that an iteration adds to; 0 where it is a whole tile, from first products to stored outputs.
        multiplies: of a whole tile: multiply instructions, those of the scales among them.
        macs: of a whole tile: products of weights and inputs, without taps that only fill a register.
        i8mm: the loop is that of the variant with SMMLA.
    """

    source: str
    dtype: str
    structure: str
    sums: int
    multiplies: int = 0
    macs: int = 0
    i8mm: bool = False


KERNELS = (
    Kernel("f32_dense", "fp32", "dense", 16),
    Kernel("f32_winograd", "fp32", "dense", 16),
    Kernel("f32_block4x1", "fp32", "block4x1", 16),
    Kernel("f32_unstructured", "fp32", "unstructured", 8),
    Kernel("f16_dense", "fp16", "dense", 16),
    Kernel("f16_block4x1", "fp16", "block4x1", 16),
    Kernel("f16_unstructured", "fp16", "unstructured", 8),
    Kernel("s8_dense", "int8", "dense", 16),
    Kernel("s8_block4x4", "int8", "block4x4", 16),
    Kernel("s8_block1x4", "int8", "block1x4", 8),
    # A window of 3 x 3 with stride 1: a register of positions in 4 rows; of int8 4 positions of 4 channels in 2 rows.
    Kernel("f32_depthwise", "fp32", "depthwise", 0, 4 * 9),
    Kernel("f16_depthwise", "fp16", "depthwise", 0, 4 * 9),
    Kernel("s8_depthwise", "int8", "depthwise", 0, 3 * 8 + 8, 9 * 32),
)


#: Variants for cores with I8MM: 4 rows x 24 pixels, and 4 x 16.
I8MM_KERNELS = (
    Kernel("s8_dense", "int8", "dense", 24, i8mm=True),
    Kernel("s8_block4x4", "int8", "block4x4", 16, i8mm=True),
)


@dataclass(frozen=True)
class Chip:
    """A core: what the compiler and llvm-mca call it, and whether it issues in order."""

    name: str
    cpu: str
    mca: str
    in_order: bool


CHIPS = (
    Chip("cortex-x1", "cortex_x1", "neoverse-v1", False),
    Chip("cortex-a78", "cortex_a78", "neoverse-n1", False),
    Chip("cortex-a55", "cortex_a55", "cortex-a55", True),
)
#: Cores with I8MM. The build for all Armv8.2 cores knows nothing of it: only the variants' functions do.
I8MM_CHIPS = (
    Chip("cortex-x3", "cortex_x3", "neoverse-v2", False),
    Chip("cortex-a715", GENERIC_ARM, "neoverse-n2", False),
)
#: The rows of the table.
PAIRS = (
    *((kernel, chip) for kernel in KERNELS for chip in CHIPS),
    *((kernel, chip) for kernel in I8MM_KERNELS for chip in I8MM_CHIPS),
)

#: How much each port of the cores that issue out of order does in a cycle. `dispatch` counts instructions; `vector` every SIMD
#: instruction; integer multiplies and shifts run on some of the vector pipes only; `load` counts registers of 16 bytes. Pipes are
#: those of LLVM's models, neoverse-v1 for the X1, neoverse-n1 for the A78 (a bound: it has one load pipe fewer), neoverse-v2 for
#: the X3, neoverse-n2 for the A715. Dispatch: Arm's disclosures of X1 (8), A78 (6), A710 (5), as AnandTech reports them; the X3's
#: is taken as the X1's, the A715's as the A710's.
PORTS: dict[str, dict[str, float]] = {
    "cortex-x1": {"vector": 4, "multiply": 2, "shift": 2, "load": 3, "store": 2, "integer": 4, "branch": 2, "dispatch": 8},
    "cortex-a78": {"vector": 2, "multiply": 0.5, "shift": 1, "load": 2, "store": 2, "integer": 3, "branch": 1, "dispatch": 6},
    "cortex-x3": {"vector": 4, "multiply": 2, "shift": 2, "load": 3, "store": 2, "integer": 6, "branch": 2, "dispatch": 8},
    "cortex-a715": {"vector": 2, "multiply": 1, "shift": 1, "load": 3, "store": 2, "integer": 4, "branch": 2, "dispatch": 5},
}
#: The same of the Cortex-A55, which issues two instructions a cycle in order; see _in_order_ports.
IN_ORDER_PORTS: dict[str, float] = {"issue": 2, "vector": 1, "load": 1}

#: Cycles until a result can be used on a Cortex-A55: LLVM's and SLOTHY's models of it, both after Arm's optimization guide.
LATENCIES = {
    **{"fma": 4, "multiply": 4, "real": 4, "shift": 2, "widen": 3, "move": 2, "add": 2},
    **{"load": 3, "store": 1, "integer": 1, "branch": 1},
}

#: What an instruction is, by its mnemonic; of those that exist in both, the vector and the integer form.
VECTOR = {
    **dict.fromkeys(("fmla", "sdot", "smmla"), "fma"),
    **dict.fromkeys(("mul", "mla"), "multiply"),
    **dict.fromkeys(("sshll", "sshll2"), "shift"),
    **dict.fromkeys(("saddw", "saddw2"), "widen"),
    **dict.fromkeys(("mov", "dup", "ins", "tbl", "uzp1", "zip1", "zip2", "bif", "bit", "bsl"), "move"),
    **dict.fromkeys(("fadd", "fmax", "fmin", "fcmgt"), "real"),
    **dict.fromkeys(("add",), "add"),
}
INTEGER = ("add", "sub", "subs", "cmp", "csel", "csinc", "cinc", "mov", "lsl", "sxtw", "sbfiz", "madd")
LOADS = ("ldr", "ldur", "ldp", "ldrsw", "ldursw", "ldpsw", "ld1r", "ldrb", "ldrh")
STORES = ("str", "stur", "stp")
BRANCH = re.compile(r"(b|b\.\w+|cbn?z|tbn?z)$")
LABEL = re.compile(r"(\.L\w+|[A-Za-z_]\w*):")
REGISTER_BYTES = {"q": 16, "d": 8, "s": 4, "h": 2, "b": 1, "x": 8, "w": 4}
LANES = {"4s": 4, "2s": 2, "8h": 8, "4h": 4, "16b": 16}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a loop.

    Attributes:
        text: as in the assembly, blanks made single.
        kind: `fma`, `multiply`, `real`, `shift`, `widen`, `move`, `add` (all of vectors), `load`, `store`, `integer` or `branch`.
        writes, reads: registers (`v3`, `x7`) and `flags`.
        macs: products of weights and inputs.
        loaded: bytes of each register that is loaded.
    """

    text: str
    kind: str
    writes: frozenset[str]
    reads: frozenset[str]
    macs: int
    loaded: tuple[int, ...]


def parse(line: str) -> Instruction:
    """Read one instruction.

    Raises:
        UserError: an instruction that the tables here do not know.
    """
    text = " ".join(line.split())
    mnemonic, _, rest = text.partition(" ")
    operands = [operand.strip() for operand in re.findall(r"\{[^}]*\}(?:\[\d+\])?|\[[^]]*\]!?|[^,\s][^,]*", rest)]
    registers = [_registers(operand) for operand in operands]
    everything = frozenset().union(*registers) if registers else frozenset()
    if BRANCH.match(mnemonic):
        return Instruction(text, "branch", frozenset(), everything | {"flags"}, 0, ())
    if mnemonic in LOADS:
        at = next(i for i, operand in enumerate(operands) if operand.startswith("["))
        written = frozenset().union(*registers[:at])
        updated = registers[at] if len(operands) > at + 1 or operands[at].endswith("!") else frozenset()
        if mnemonic == "ld1r":
            loaded = [REGISTER_BYTES[letter] for letter in re.findall(r"\.\d+([bhsd])", operands[0])]
        else:
            word = 4 if mnemonic.endswith("sw") else {"ldrb": 1, "ldrh": 2}.get(mnemonic, 0)
            loaded = [word or REGISTER_BYTES[operand[0]] for operand in operands[:at]]
        return Instruction(text, "load", written | updated, frozenset().union(*registers[at:]), 0, tuple(loaded))
    if mnemonic in STORES:
        at = next(i for i, operand in enumerate(operands) if operand.startswith("["))
        updated = registers[at] if len(operands) > at + 1 or operands[at].endswith("!") else frozenset()
        return Instruction(text, "store", updated, everything, 0, ())
    vector = operands and operands[0].startswith("v")
    if vector and mnemonic in VECTOR:
        kind = VECTOR[mnemonic]
        adds = mnemonic in ("fmla", "sdot", "smmla", "mla", "bif", "bit", "bsl") or "[" in operands[0]
        reads = frozenset().union(*registers[1:], registers[0] if adds else frozenset())
        macs = LANES[operands[1].split(".")[1]] * (2 if mnemonic == "smmla" else 1) if kind in ("fma", "multiply") else 0
        return Instruction(text, kind, registers[0], reads, macs, ())
    if not vector and mnemonic in INTEGER:
        flags = frozenset({"flags"})
        writes = flags if mnemonic == "cmp" else registers[0] | (flags if mnemonic == "subs" else frozenset())
        reads = everything if mnemonic == "cmp" else frozenset().union(*registers[1:])
        return Instruction(text, "integer", writes, reads | (flags if mnemonic.startswith("c") else frozenset()), 0, ())
    raise UserError(
        f"the loop has an instruction without a row in the tables: `{text}`. Add it to VECTOR, INTEGER, LOADS or STORES."
    )


def _registers(operand: str) -> frozenset[str]:
    """Register names of one operand, `v` for every view of a vector register and `x` for every view of an integer one."""
    found = re.findall(r"(?<![\w.#])([vqdshbxw])(\d+)\b", operand)
    names = {("x" if letter in "xw" else "v") + number for letter, number in found}
    return frozenset(names | ({"sp"} if re.search(r"\bsp\b", operand) else set()))


def inner_loops(assembly: str) -> list[list[str]]:
    """The innermost loops of all functions: the instructions of their blocks in the order of the file, from the loop's head."""
    loops = []
    for function in re.split(r"^(?=[A-Za-z_]\w*:)", assembly, flags=re.MULTILINE):
        loops += _inner_loops(_blocks(function))
    return loops


def _blocks(function: str) -> dict[str, list[str]]:
    """Basic blocks by label, in the order of the file; a block after a branch in the middle has a made-up label."""
    blocks: dict[str, list[str]] = {"entry": []}
    current = "entry"
    for line in function.splitlines():
        code = line.split("//")[0].strip()
        label = LABEL.match(code)
        if label:
            current = label[1]
            blocks[current] = []
        elif code and not code.startswith("."):
            blocks[current].append(code)
            if BRANCH.match(code.split()[0]) or code.split()[0] in ("ret", "br"):
                current = f"after {len(blocks)}"
                blocks[current] = []
    return blocks


def _inner_loops(blocks: dict[str, list[str]]) -> list[list[str]]:
    names = list(blocks)
    successors: dict[str, list[str]] = {}
    for name, following in zip(names, [*names[1:], None], strict=True):
        last = blocks[name][-1].split() if blocks[name] else [""]
        jump = last[-1] if BRANCH.match(last[0]) and last[-1] in blocks else None
        falls = following if last[0] not in ("b", "ret", "br") else None
        successors[name] = [to for to in (jump, falls) if to is not None]
    predecessors: dict[str, list[str]] = {name: [] for name in names}
    for name, following_names in successors.items():
        for to in following_names:
            predecessors[to].append(name)
    loops: dict[str, set[str]] = {}
    for tail, head in _back_edges(successors):
        members, todo = {head, tail}, [tail]
        while todo:
            name = todo.pop()
            if name == head:
                continue
            new = [other for other in predecessors[name] if other not in members]
            members.update(new)
            todo += new
        loops[head] = loops.get(head, set()) | members
    inner = [(head, members) for head, members in loops.items() if not any(h != head and h in members for h in loops)]
    order = {name: at for at, name in enumerate(names)}
    result = []
    for head, members in inner:
        ordered = sorted(members, key=lambda name: (order[name] < order[head], order[name]))
        result.append([line for name in ordered for line in blocks[name]])
    return result


def _back_edges(successors: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Edges to a block on the path of a depth-first walk: the loops of code without gotos."""
    edges: list[tuple[str, str]] = []
    state: dict[str, int] = {}
    stack = [("entry", iter(successors["entry"]))]
    state["entry"] = 1
    while stack:
        name, rest = stack[-1]
        to = next(rest, None)
        if to is None:
            state[name] = 2
            stack.pop()
        elif state.get(to, 0) == 0:
            state[to] = 1
            stack.append((to, iter(successors[to])))
        elif state[to] == 1:
            edges.append((name, to))
    return edges


ADDING = re.compile(r"(fmla|sdot|smmla|saddw2?)\s+v(\d+)\.\w+,\s*v(\d+)")
WRITING = re.compile(r"(\w+)\s+(?:\{\s*)?[vqdsh](\d+)")
MULTIPLYING = re.compile(r"(fmla|sdot|smmla|mla|mul)\s+v\d")


def sums_of(lines: Iterable[str]) -> int:
    """Registers that enter an iteration with a sum and are added to; sums that the compiler keeps in memory do not count."""
    written: set[str] = set()
    sums: set[str] = set()
    for line in lines:
        adding, writing = ADDING.match(line), WRITING.match(line)
        if adding:
            own = adding[3] if adding[1].startswith("saddw") else adding[2]
            if own not in written:
                sums.add(own)
        if writing and not writing[1].startswith("st"):
            written.add(writing[2])
            if writing[1] == "ldp":
                written.update(re.findall(r",\s*[qds](\d+)", line.split("[")[0]))
    return len(sums)


def products_of(lines: Iterable[str]) -> int:
    """Multiply instructions of vectors."""
    return sum(MULTIPLYING.match(line) is not None for line in lines)


def main_loop(assembly: str, kernel: Kernel) -> list[Instruction]:
    """The inner loop of the widest tile: the kernel's sums and products, and most multiplications an instruction.

    Of kernels whose innermost loop goes from tile to tile, the loop of whole tiles with as many multiplications.

    Raises:
        UserError: there is none, as when the compiler keeps sums in memory, or it has instructions that the tables lack.
    """
    loops = [
        lines
        for lines in inner_loops(assembly)
        if sums_of(lines) == kernel.sums
        and kernel.multiplies in (0, products_of(lines))
        and kernel.i8mm == any(line.startswith("smmla") for line in lines)
    ]
    if not loops:
        wanted = f"{kernel.multiplies} multiplications" if kernel.multiplies else f"{kernel.sums} registers of sums"
        raise UserError(f"{kernel.source}: no inner loop with {wanted}. Read its assembly: sums may have been spilled.")

    def density(lines: Sequence[str]) -> tuple[Fraction, int]:
        return Fraction(products_of(lines), len(lines)), len(lines)

    return [parse(line) for line in max(loops, key=density)]


def port_cycles(loop: Sequence[Instruction], chip: Chip) -> tuple[str, float]:
    """The busiest port of a core and how many cycles of it an iteration takes."""
    used: Counter[str] = Counter()
    for instruction in loop:
        for port, units in (_in_order_ports if chip.in_order else _ports)(instruction).items():
            used[port] += units
    rates = IN_ORDER_PORTS if chip.in_order else PORTS[chip.name]
    cycles = {port: used[port] / rate for port, rate in rates.items()}
    busiest = max(cycles, key=lambda port: cycles[port])
    return busiest, cycles[busiest]


def _ports(instruction: Instruction) -> dict[str, int]:
    """What an instruction takes of the ports of PORTS."""
    used = {"dispatch": 1}
    if instruction.kind == "load":
        used["load"] = sum(ceil(size / 16) for size in _pairs(instruction.loaded))
        if instruction.text.startswith("ld1r"):
            used["vector"] = 1  # the element is spread by a vector pipe
        if "]," in instruction.text or "]!" in instruction.text:
            used["integer"] = 1
    elif instruction.kind in ("store", "integer", "branch"):
        used[instruction.kind] = 1
    else:
        used["vector"] = 1
        if instruction.kind in ("multiply", "shift"):
            used[instruction.kind] = 1
    return used


def _pairs(sizes: Sequence[int]) -> Sequence[int]:
    """A pair of small registers is one load of both."""
    return sizes if max(sizes) == 16 else (sum(sizes),)


def _in_order_ports(instruction: Instruction) -> dict[str, int]:
    """The same on a Cortex-A55: issue slots, cycles of the load unit, and of the vector unit, which blocking loads stop."""
    if instruction.kind == "load":
        blocked = _blocked_cycles(instruction)
        return {"issue": 2 * blocked or 1, "vector": blocked, "load": ceil(sum(instruction.loaded) / 8)}
    if instruction.kind in ("store", "integer", "branch"):
        return {"issue": 1}
    return {"issue": 1, "vector": 1}


def _blocked_cycles(load: Instruction) -> int:
    """Cycles in which a Cortex-A55 issues nothing but this load.

    A load of 16 bytes blocks the pipeline for two cycles; one of 8 bytes goes along with a multiply. Sources:
    docs/developer-guide/arm-a53-a55-dual-issue.md of ncnn and pull request 10754 of onnxruntime, which agree.
    """
    return sum(2 for size in load.loaded if size == 16)


def in_order_cycles(loop: Sequence[Instruction], warm: int = 8, iterations: int = 16) -> float:
    """Cycles of an iteration on a Cortex-A55 in steady state.

    Two instructions a cycle, in order, once what they read is there (LATENCIES). One vector instruction of 128 bits a cycle, one
    branch, 8 bytes of loads; loads of 16 bytes alone.
    """
    ready: dict[str, int] = {}
    cycle, slots, vector, load_free = 0, 2, 1, 0
    started = 0
    for iteration in range(warm + iterations):
        if iteration == warm:
            started = cycle
        for instruction in loop:
            operands = max((ready.get(name, 0) for name in instruction.reads), default=0)
            loads = instruction.kind == "load"
            on_vector = instruction.kind not in ("load", "store", "integer", "branch")
            blocked = _blocked_cycles(instruction) if loads else 0
            while (
                cycle < operands
                or slots == 0
                or (on_vector and vector == 0)
                or (loads and cycle < load_free)
                or (blocked and slots < 2)
            ):
                cycle, slots, vector = cycle + 1, 2, 1
            latency = LATENCIES[instruction.kind]
            if loads:
                taken = ceil(sum(instruction.loaded) / 8)
                load_free = cycle + taken
                latency += taken - 1
            slots -= 1
            vector -= on_vector
            for name in instruction.writes:
                # The address that a load steps on is there a cycle later.
                stepped = loads and name.startswith("x") and name in instruction.reads
                ready[name] = cycle + (1 if stepped else latency)
            if blocked:
                cycle, slots, vector = cycle + blocked, 2, 1
    return (cycle - started) / iterations


def forwarded(loop: Sequence[Instruction]) -> list[str]:
    """Two iterations in which every sum of FMLA is kept in two registers in turn, as far as registers are free.

    A chain then waits 4 cycles for every other product, which is as if it waited 2 for each. Where a chain begins within the
    loop, its second register begins with a product.
    """
    taken = frozenset[str]().union(*(instruction.reads | instruction.writes for instruction in loop))
    free = (f"v{n}" for n in range(32) if f"v{n}" not in taken)
    second: dict[str, str] = {}
    turn: Counter[str] = Counter()
    begins: set[str] = set()
    lines = []
    for instruction in [*loop, *loop]:
        if not instruction.text.startswith("fmla"):
            lines.append(instruction.text)
            begins |= instruction.writes
            turn.update({name: -turn[name] for name in instruction.writes})
            continue
        (own,) = instruction.writes
        if own not in second:
            second[own] = next(free, own)
        text = instruction.text
        if turn[own] % 2:
            text = text.replace(f"{own}.", f"{second[own]}.", 1)
            if own in begins and second[own] != own:
                text = text.replace("fmla", "fmul")
            begins.discard(own)
        lines.append(text)
        turn[own] += 1
    return lines


def mca_cycles(loop: Sequence[Instruction], chip: Chip) -> float:
    """Cycles of an iteration in steady state by llvm-mca."""
    few, many = 200, 600
    lines = [instruction.text for instruction in loop] if chip.in_order else forwarded(loop)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder) / "loop.s"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        totals = []
        for iterations in (few, many):
            arguments = ["-mtriple=aarch64", f"-mcpu={chip.mca}", f"-iterations={iterations}", str(path)]
            found = re.search(r"^Total Cycles:\s+(\d+)$", _output([MCA, *arguments]), re.MULTILINE)
            if found is None:
                raise UserError(f"{MCA} printed no cycles: its version must be LLVM 19.")
            totals.append(int(found[1]))
    return round((totals[1] - totals[0]) / (many - few) * len(loop) / len(lines), 3)


def compile_to_assembly(kernel: Kernel, chip: Chip) -> str:
    """The kernel for one core, with the options of the real build."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder) / "kernel.s"
        source = SOURCES / f"{kernel.source}.c"
        compiler = [sys.executable, "-m", "ziglang", "cc", *OPTIONS, "-target", TRIPLE, f"-mcpu={chip.cpu}"]
        _output([*compiler, "-S", str(source), "-o", str(path)])
        return path.read_text(encoding="utf-8")


def _output(command: Sequence[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise UserError(f"`{' '.join(command)}` failed: read its message below.\n{run.stderr}")
    return run.stdout


def analyse(kernel: Kernel, chip: Chip, loop: Sequence[Instruction], mca: float) -> dict[str, Any]:
    """A row of the table from a loop and llvm-mca's cycles of it."""
    port, allowed = port_cycles(loop, chip)
    macs = kernel.macs or sum(instruction.macs for instruction in loop)
    # What LLVM's model lets pass faster than the ports here allow is not believed.
    cycles = in_order_cycles(loop) if chip.in_order else max(mca, allowed)
    return {
        "kernel": kernel.source,
        "dtype": kernel.dtype,
        "structure": kernel.structure,
        "core": chip.name,
        "instructions": len(loop),
        "macs": macs,
        "mca_model": chip.mca,
        "mca_cycles": mca,
        "cycles": round(cycles, 3),
        "macs_per_cycle": round(macs / cycles, 2),
        "port": port,
        "port_cycles": round(allowed, 3),
        "allowed_macs_per_cycle": round(macs / allowed, 2),
        "share": round(allowed / cycles, 3),
        "loop": [instruction.text for instruction in loop],
    }


def table(rows: Iterable[dict[str, Any]]) -> Table:
    """The rows for people."""
    result = Table(title="Inner loops on phone cores (modelled)")
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "kernel": lambda row: str(row["kernel"]),
        "core": lambda row: str(row["core"]),
        "instructions": lambda row: str(row["instructions"]),
        "MACs": lambda row: str(row["macs"]),
        "cycles of llvm-mca": lambda row: f"{row['mca_cycles']:.2f}",
        "cycles": lambda row: f"{row['cycles']:.2f}",
        "MAC/cycle": lambda row: f"{row['macs_per_cycle']:.1f}",
        "busiest port": lambda row: str(row["port"]),
        "allowed MAC/cycle": lambda row: f"{row['allowed_macs_per_cycle']:.1f}",
        "share": lambda row: f"{row['share']:.0%}",
    }
    for name in columns:
        result.add_column(name, justify="left" if name in ("kernel", "core", "busiest port") else "right")
    for row in rows:
        result.add_row(*(text(row) for text in columns.values()))
    return result


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """MAC per cycle and shares as docs/kernels.md shows them."""
    cells = {(row["kernel"], row["core"]): f"{row['macs_per_cycle']:.1f} ({100 * row['share']:.0f} %)" for row in rows}
    lines = ["| kernel | Cortex-X1 | Cortex-A78, at least | Cortex-A55 |", "|---|---|---|---|"]
    lines += [f"| `{kernel.source}` | {' | '.join(cells[kernel.source, chip.name] for chip in CHIPS)} |" for kernel in KERNELS]
    lines += ["", "| with I8MM | Cortex-X3 | Cortex-A715 |", "|---|---|---|"]
    lines += [
        f"| `{kernel.source}` | {' | '.join(cells[kernel.source, chip.name] for chip in I8MM_CHIPS)} |" for kernel in I8MM_KERNELS
    ]
    return "\n".join(lines) + "\n"


def mca_version() -> str:
    """The version of llvm-mca.

    Raises:
        UserError: it is missing.
    """
    if shutil.which(MCA) is None:
        raise UserError(f"{MCA} is missing: install LLVM 19 (Debian and Ubuntu: apt install llvm-19).")
    found = re.search(r"LLVM version (\S+)", _output([MCA, "--version"]))
    if found is None:
        raise UserError(f"{MCA} does not tell its version: install LLVM 19.")
    return found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cycles of the kernels' inner loops on phone cores, by analysis.")
    parser.add_argument("--show", metavar="KERNEL", help="print the loops of one kernel, such as f32_dense")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    arguments = parser.parse_args()
    version = mca_version()
    rows = []
    for kernel, chip in PAIRS:
        loop = main_loop(compile_to_assembly(kernel, chip), kernel)
        rows.append(analyse(kernel, chip, loop, mca_cycles(loop, chip)))
    console = Console(width=None if sys.stdout.isatty() else 140)
    for row in rows:
        if row["kernel"] == arguments.show:
            console.print(f"\n{row['kernel']} on {row['core']}:", *row["loop"], sep="\n  ", markup=False, highlight=False)
    console.print(table(rows))
    if arguments.write:
        print(f"For docs/kernels.md:\n\n{markdown(rows)}")
        result = {
            "benchmark": "arm_cycles",
            "date": date.today().isoformat(),
            "kernels_hash": kernels_hash(),
            "compiler": f"ziglang {importlib.metadata.version('ziglang')}",
            "options": list(OPTIONS),
            "llvm_mca": version,
            "rows": rows,
        }
        write_json(RESULT, result)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
