"""Verification: a compressed network on its device, beside the network that was evaluated and the time that was predicted."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..compressors.candidate import Candidate
from ..compressors.exact import ExactCandidate
from ..evaluators.latency import OpLatency, PlanLatency
from ..kernels.artifact import read_artifact, write_artifact
from ..kernels.interpret import Interpreter
from ..kernels.line import Line, add_point, fitted, load_points, usable
from ..kernels.remote import StepTiming, run_on_device
from ..kernels.table import LatencyTable, points_path
from ..kernels.targets import Core, Target
from ..kernels.toolchain import kernels_hash
from ..spaces.plan import Plan
from .agreement import agreement, relative_error
from .program import lower

#: Largest relative error of an fp32 and of an fp16 op, and smallest share of equal int8 codes.
FP32_LIMIT, FP16_LIMIT, CODES_LIMIT = 1e-4, 1e-2, 0.999

_CONVERTED = {"f32": "fp32", "f16": "fp16", "s8": "int8"}


@dataclass(frozen=True)
class OpRow:
    """One op: microseconds measured and predicted; None where there is nothing on that side."""

    name: str
    kernel: str
    measured: float | None
    predicted: float | None


@dataclass(frozen=True)
class Verification:
    """What `autocompress verify` found.

    Attributes:
        url, product, cpu, fingerprint: where the network ran.
        samples: inputs that were compared.
        equal, worst: int8 codes of single ops: smallest share that the evaluated network has too, and largest difference.
        fp32, fp16: largest relative errors of single ops.
        same_as_kernels: whether the device's outputs are to the bit those of the same kernels on this machine.
        error: largest relative error of the device's output, against the evaluated network in the kernels' exact arithmetic.
        simulated_error: the same against the network as the search computed it.
        measured_ms, measured_low_ms, measured_high_ms: of a run from end to end; None when nothing was timed.
        predicted_ms, predicted_low_ms, predicted_high_ms, source: as the search had it.
        ops: sorted by the larger time, the largest first.
        steady: whether rounds of runs agree; False when nothing was timed.
    """

    url: str
    product: str
    cpu: int
    fingerprint: str
    samples: int
    equal: float
    worst: int
    fp32: float
    fp16: float
    same_as_kernels: bool
    error: float
    simulated_error: float
    measured_ms: float | None
    measured_low_ms: float | None
    measured_high_ms: float | None
    predicted_ms: float
    predicted_low_ms: float
    predicted_high_ms: float
    source: str
    ops: tuple[OpRow, ...]
    steady: bool

    @property
    def agrees(self) -> bool:
        """Whether every op computes what the evaluated network computes, within the limits of this module."""
        codes = self.equal >= CODES_LIMIT and self.worst <= 1
        return codes and self.fp32 <= FP32_LIMIT and self.fp16 <= FP16_LIMIT

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, "agrees": self.agrees, **asdict(self)}


def verify(
    candidate: Candidate,
    samples: torch.Tensor,
    predicted: PlanLatency,
    source: str,
    target: Target,
    core: Core,
    *,
    artifact: Path | None = None,
    device: str | None = None,
    cpu: int | None = None,
    repeat: int = 100,
) -> Verification:
    """Run a network on its device and compare.

    Args:
        candidate: the evaluated network.
        samples: shape (samples, ...), at least one.
        predicted, source: latency of its Plan, and whether that is measured or modelled.
        artifact: its model file; by default one is made.
        device, cpu, repeat: as for `run_on_device`.

    Raises:
        UserError: the device cannot be used, or the model cannot run there.
    """
    lowered = lower(candidate)
    exact = ExactCandidate.like(candidate)
    runner = Interpreter(lowered.program)
    found = [agreement(candidate, lowered, sample, runner) for sample in samples]
    with torch.inference_mode():
        wanted, simulated = exact.run(samples), candidate.run(samples)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = artifact
        if path is None:
            path = Path(folder) / "model.acm"
            write_artifact(lowered.program, path)
        here = Interpreter(read_artifact(path))
        own = np.stack([here(sample) for sample in samples.numpy()])
        done = run_on_device(
            target, core, path, samples.numpy(), lowered.program.output_shape, device=device, cpu=cpu, repeat=repeat
        )
    outputs = torch.from_numpy(done.outputs)
    errors = [
        max(relative_error(got, right) for got, right in zip(outputs, reference, strict=True))
        for reference in (wanted, simulated)
    ]
    whole = None if done.timed is None else done.timed.whole
    # A few codes of the smaller tensors say little alone: the shares are those over all samples.
    return Verification(
        done.url,
        done.product,
        done.cpu,
        done.fingerprint,
        len(samples),
        min(float(np.mean(shares)) for shares in zip(*([op.equal for op in each.ops] for each in found), strict=True)),
        max(each.worst for each in found),
        max(each.largest_error("fp32") for each in found),
        max(each.largest_error("fp16") for each in found),
        bool(np.array_equal(done.outputs, own)),
        errors[0],
        errors[1],
        None if whole is None else whole.microseconds / 1e3,
        None if whole is None else whole.low / 1e3,
        None if whole is None else whole.high / 1e3,
        predicted.ms,
        predicted.low_ms,
        predicted.high_ms,
        source,
        op_rows(() if done.timed is None else done.timed.steps, predicted.ops),
        done.steady,
    )


def remember(
    measured_ms: float, fingerprint: str, network: str, plan: Plan, predicted: PlanLatency, table: LatencyTable
) -> Line | None:
    """Add a timed network to those through which its core's end-to-end line is fitted.

    Args:
        measured_ms, fingerprint: its time, and on which device.
        network: its name.
        predicted: the latency of its Plan, from `table`.

    Returns:
        The new line, or None if the network says nothing of the table: some of its rows are modelled, or of another device.

    Raises:
        UserError: the file of verified networks is damaged, or cannot be written.
    """
    if fingerprint != table.device or any(op.source != "measured" for op in predicted.ops):
        return None
    path = points_path(table.target, table.core)
    total = math.fsum(op.median for op in predicted.ops)
    add_point(path, network, plan.key, total, measured_ms * 1e3, kernels_hash(), fingerprint)
    return fitted(usable(load_points(path), kernels_hash(), fingerprint))


def op_rows(steps: Sequence[StepTiming], predicted: Sequence[OpLatency]) -> tuple[OpRow, ...]:
    """Measured and predicted times side by side, the largest first; an op of several steps is their sum."""
    expected = {row.name: row.microseconds for row in predicted}
    measured: dict[str, float] = {}
    kernels: dict[str, str] = {}
    for step in steps:
        name = _predicted_name(step.name, expected)
        measured[name] = measured.get(name, 0.0) + step.microseconds
        kernels[name] = step.kernel
    names = [*measured, *(name for name in expected if name not in measured)]
    rows = [OpRow(name, kernels.get(name, ""), measured.get(name), expected.get(name)) for name in names]
    return tuple(sorted(rows, key=lambda row: -max(row.measured or 0.0, row.predicted or 0.0)))


def _predicted_name(step: str, expected: dict[str, float]) -> str:
    """The name of a step's row in the prediction: conversions are told as `tensor: int8 to fp32` there."""
    tensor, _, type_ = step.rpartition("/")
    if step in expected or type_ not in _CONVERTED:
        return step
    told = (name for name in expected if name.startswith(f"{tensor}: ") and name.endswith(f" to {_CONVERTED[type_]}"))
    return next(told, step)
