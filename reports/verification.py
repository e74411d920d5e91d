"""A Verification on a terminal, and as part of a report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table

from ..deployment.verify import OpRow, Verification
from ..kernels.toolchain import kernels_hash
from ..spaces.plan import Plan
from .verified import Verified, VerifiedOp

#: Ops that are listed; the others are summed up in one line.
_LISTED = 20


def timed_ops(rows: Sequence[OpRow]) -> tuple[VerifiedOp, ...]:
    """The ops that have a predicted and a measured time."""
    return tuple(
        VerifiedOp(row.name, row.kernel, row.predicted, row.measured)
        for row in rows
        if row.predicted is not None and row.measured is not None
    )


def verified_of(found: Verification, plan: Plan) -> Verified | None:
    """What a report says of a Verification; None where nothing was timed."""
    if found.measured_ms is None or found.measured_low_ms is None or found.measured_high_ms is None:
        return None
    return Verified(
        plan=plan.key,
        where=f"{found.product}, {found.url}, CPU {found.cpu}",
        fingerprint=found.fingerprint,
        kernels=kernels_hash(),
        source=found.source,
        predicted_ms=found.predicted_ms,
        measured_ms=found.measured_ms,
        measured_low_ms=found.measured_low_ms,
        measured_high_ms=found.measured_high_ms,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ops=timed_ops(found.ops),
    )


def print_verification(found: Verification, console: Console) -> None:
    """What agrees, and predicted against measured times."""
    console.print(f"{found.product}, {found.url}, CPU {found.cpu}; {found.samples} inputs", markup=False, highlight=False)
    verdict = "[green]the ops compute what was evaluated[/]" if found.agrees else "[red]ops compute something else[/]"
    console.print(
        f"{verdict}: {found.equal:.2%} of the int8 codes of the worst op are equal, none is off by more than {found.worst}; "
        f"relative error of the worst op {found.fp32:.1e} in fp32, {found.fp16:.1e} in fp16",
        highlight=False,
    )
    console.print(
        f"outputs: relative error {found.error:.1e} against the network in exact arithmetic, {found.simulated_error:.1e} against "
        f"the search's simulation; {'the bytes' if found.same_as_kernels else 'not the bytes'} that these kernels give here",
        highlight=False,
    )
    predicted = (
        f"predicted {found.predicted_ms:.3f} ms ({found.source}; {found.predicted_low_ms:.3f} to {found.predicted_high_ms:.3f})"
    )
    if found.measured_ms is None:
        console.print(f"{predicted}; not timed", highlight=False)
        return
    off = found.predicted_ms / found.measured_ms - 1
    console.print(
        f"{predicted}, [bold]measured {found.measured_ms:.3f} ms[/] ({found.measured_low_ms:.3f} to "
        f"{found.measured_high_ms:.3f}): {off:+.1%}",
        highlight=False,
    )
    if not found.steady:
        console.print("[yellow]unsteady:[/] no two rounds of runs took the same time; let the device cool, and verify again")
    table = Table("op", "kernel", "predicted us", "measured us", "difference us", box=None, pad_edge=False)
    for row in found.ops[:_LISTED]:
        difference = "" if row.measured is None or row.predicted is None else f"{row.predicted - row.measured:+.1f}"
        table.add_row(row.name, row.kernel, _shown(row.predicted), _shown(row.measured), difference)
    rest = found.ops[_LISTED:]
    if rest:
        sums = [sum(filter(None, column)) for column in zip(*((row.predicted, row.measured) for row in rest), strict=True)]
        table.add_row(f"{len(rest)} more", "", *(f"{value:.1f}" for value in sums), f"{sums[0] - sums[1]:+.1f}")
    console.print(table)


def _shown(microseconds: float | None) -> str:
    return "-" if microseconds is None else f"{microseconds:.1f}"
