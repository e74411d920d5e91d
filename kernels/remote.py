"""A model file on a device: its outputs there, and how long it takes."""

from __future__ import annotations

import base64
import binascii
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .bench import AGREEMENT, build_for, check_features, choose_cpu, device_url, line_value, refuse_emulators
from .devices import Device, open_transport
from .targets import Core, Target

#: Rounds at most.
ROUNDS = 5
_PROGRAM, _MODEL, _INPUT, _OUTPUT = "acrun", "model.acm", "input", "output"


@dataclass(frozen=True)
class Timing:
    """Times of many runs.

    Attributes:
        microseconds, low, high: the median, and the 10th and 90th percentile.
        sentinel_ns: the slowest time of the sentinel beside the runs that count: the clock, as of a row.
    """

    microseconds: float
    low: float
    high: float
    sentinel_ns: float


@dataclass(frozen=True)
class StepTiming:
    """One step of a model file, timed by itself."""

    name: str
    kernel: str
    microseconds: float


@dataclass(frozen=True)
class Round:
    """Some runs of a model file, one after the other: of the whole, and as many with every step timed."""

    whole: Timing
    steps: tuple[StepTiming, ...]


@dataclass(frozen=True)
class DeviceRun:
    """What a model file did on a device.

    Attributes:
        url, product, cpu: where.
        fingerprint: of the device.
        outputs: float32, shape (samples, *output shape).
        timed: one run and its steps (`fastest_round`); None when they were not timed.
        steady: whether the rounds agree.
    """

    url: str
    product: str
    cpu: int
    fingerprint: str
    outputs: NDArray[np.float32]
    timed: Round | None
    steady: bool


def fastest_round(rounds: Sequence[Round]) -> Round:
    """What rounds of one model file come to. Noise only makes things slower, so the smallest counts.

    Of each step that is its fastest round. Of the whole it is the fastest round too, or the sum of the steps where that is less:
    steps are so short that many of them run undisturbed, when a neighbour that comes and goes leaves no whole run alone.

    Args:
        rounds: at least one.
    """
    steps = tuple(min(same, key=lambda step: step.microseconds) for same in zip(*(one.steps for one in rounds), strict=True))
    best = min((one.whole for one in rounds), key=lambda whole: whole.microseconds)
    total = math.fsum(step.microseconds for step in steps)
    if total < best.microseconds:
        best = replace(best, microseconds=total, low=min(best.low, total))
    return Round(best, steps)


def rounds_agree(rounds: Sequence[Round]) -> bool:
    """Whether the two fastest rounds are within AGREEMENT of each other, as it is asked of rows."""
    times = sorted(fastest_round([one]).whole.microseconds for one in rounds)
    return len(times) > 1 and times[1] <= AGREEMENT * times[0]


def run_on_device(
    target: Target,
    core: Core,
    model: Path,
    inputs: NDArray[np.float32],
    output_shape: tuple[int, ...],
    *,
    device: str | None = None,
    cpu: int | None = None,
    repeat: int = 100,
    rounds: int = ROUNDS,
) -> DeviceRun:
    """Run a model file for some samples, then time it on one CPU, in rounds until the fastest two agree.

    Args:
        inputs: shape (samples, *input shape), at least one sample.
        output_shape: of one sample.
        device: URL; by default as the target says.
        cpu: by default the last one of the core's kind.
        repeat: runs of a round, and as many in which every step is timed; 0 times nothing.
        rounds: at most.

    Raises:
        UserError: no such device or CPU, it is not the target's, or it is an emulator and was to be timed; or the model cannot
            run there.
    """
    url = device_url(target, device)
    with Device(open_transport(url)) as there, tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        info = there.describe()
        if repeat:
            refuse_emulators(there.url, info)
        chosen = choose_cpu(there.url, info, target, core, cpu)
        check_features(there.url, info, core)
        there.put(build_for(url, info, core, "acrun"), _PROGRAM)
        there.put(model, _MODEL)
        outputs = []
        for sample in inputs:
            path = Path(folder) / _INPUT
            path.write_bytes(np.ascontiguousarray(sample, "<f4").tobytes())
            there.put(path, _INPUT)
            header = _lines(there, _MODEL, _INPUT, _OUTPUT, "--cpu", str(chosen))[0]
            _check_header(header, there.url, info.machine, timed=repeat > 0)
            outputs.append(_fetched(there, output_shape))
        found: list[Round] = []
        timed = ("--profile", "--repeat", str(repeat), "--cpu", str(chosen))
        while repeat and len(found) < rounds and not rounds_agree(found):
            _, whole, *steps = _lines(there, _MODEL, *timed)
            found.append(Round(_timing(whole), tuple(map(_step, steps))))
        return DeviceRun(
            there.url,
            info.product or info.machine,
            chosen,
            info.fingerprint,
            np.stack(outputs),
            fastest_round(found) if found else None,
            rounds_agree(found),
        )


def _lines(there: Device, *words: str) -> list[Mapping[str, Any]]:
    """What acrun prints."""
    values = [line_value(line, there.url, "result") for line in there.run(f"./{_PROGRAM}", *words, "--json")]
    if len(values) < 2 or "run" not in values[1]:
        raise UserError(f"the program on {there.url} ended too early: run it again.")
    return values


def _check_header(header: Mapping[str, Any], url: str, machine: str, timed: bool) -> None:
    emulated = header.get("machine") != machine or not header.get("vdso")
    if timed and emulated:
        raise UserError(f"{url} runs programs in an emulator: its times mean nothing; add --no-times, or use the real device.")


def _fetched(there: Device, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        content = base64.b64decode("".join(line.strip() for line in there.run("base64", _OUTPUT)), validate=True)
        return np.frombuffer(content, "<f4").reshape(shape).astype(np.float32)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"the output on {there.url} cannot be read ({error}): run the same command again.") from error


def _timing(value: Any) -> Timing:
    run = value["run"]
    return Timing(float(run["us"]), float(run["low"]), float(run["high"]), float(value["sentinel"]))


def _step(value: Any) -> StepTiming:
    return StepTiming(str(value["name"]), str(value["kernel"]), float(value["us"]))
