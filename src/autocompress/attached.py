"""A search with its device attached: the best Plans run there, and the budget is tightened by what they take too long."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from .api import Attached, Search, more_trials
from .deployment.program import program
from .deployment.verify import op_rows, remember
from .evaluators.latency import PlanLatency
from .kernels.artifact import write_artifact
from .kernels.remote import run_on_device
from .kernels.toolchain import kernels_hash
from .outcome import finalists
from .progress import Update
from .reports.verification import timed_ops
from .reports.verified import Verified, add_verified, load_verified
from .search.journal import folder_lock
from .search.study import Evaluated, evaluated
from .spaces.plan import Plan

#: Trials that follow each tightening, and tightenings at most.
EXTRA_TRIALS, MOST_ROUNDS = 10, 5
#: Milliseconds that a Plan is timed for, and its fewest runs.
TIMED_MS, FEWEST_RUNS = 500.0, 20

#: Runs a trial's network on the device.
Timer = Callable[[Evaluated], Verified]


def verify_best(search: Search) -> Search:
    """Run the finalists of a search on its device; while one takes longer than the budget, tighten it and search on.

    The limit is the budget divided by the largest measured / predicted: a Plan that was too slow is above it. Without a device
    the search is returned as it is.

    Raises:
        UserError: the device cannot be used, or no Plan can meet the limit.
    """
    device, budget_ms = search.settings.device, search.budget_ms
    if device is None or budget_ms is None:
        return search
    with folder_lock(search.folder), search.phases.phase("device") as update:
        found = tighten(search, device, budget_ms, device_timer(search, device), update)
    search.phases.display.note(
        f"{len(found.measured_ms)} networks ran on {device}: at most {found.bias:.3f} x as long as predicted"
        + (f"; plans were searched within {found.limit_ms:.4g} ms" if found.limit_ms < budget_ms else "")
    )
    return replace(search, attached=found, evaluation_seconds=search.evaluation_seconds + found.evaluation_seconds)


def tighten(search: Search, device: str, budget_ms: float, timer: Timer, update: Update) -> Attached:
    """Time finalists, and tighten the budget and search on while one of them is too slow; at most MOST_ROUNDS times.

    Of Plans that ran the measured time counts, of others the predicted one.
    """
    measured: dict[Plan, float] = {}
    limit, bias, seconds = budget_ms, 1.0, 0.0
    for extra in range(MOST_ROUNDS + 1):
        trials = [t for t in evaluated(search.study, search.problem) if t.within(None, search.problem.max_bytes)]
        in_time = [t for t in trials if (measured[t.plan] <= budget_ms if t.plan in measured else t.ms <= limit)]
        new = [trial for trial in finalists(in_time) if trial.plan not in measured]
        for done, trial in enumerate(new):
            update(done, len(new), f"trial {trial.number}")
            measured[trial.plan] = timer(trial).measured_ms
            bias = max(bias, measured[trial.plan] / trial.ms)
        update(len(new), len(new), f"{limit:.4g} ms")
        if all(measured[trial.plan] <= budget_ms for trial in new) or extra == MOST_ROUNDS:
            break
        limit = budget_ms / bias
        search.problem.check_budget(limit, search.prepared.target.name)
        seconds += more_trials(search, limit, search.settings.trials + (extra + 1) * EXTRA_TRIALS, update)
    return Attached(device, limit, bias, measured, seconds)


def device_timer(search: Search, device: str) -> Timer:
    """Times a trial on the device, or says what it took there before; every time is kept with the study and its target's line."""
    latency = search.prepared.profile.latency
    before = {each.plan: each for each in load_verified(search.folder) if each.kernels == kernels_hash()}

    def timed(trial: Evaluated) -> Verified:
        known = before.get(trial.plan.key)
        if known is not None and known.predicted_ms == trial.ms:
            return known
        found = run_plan(search, trial.plan, device)
        add_verified(search.folder, [found])
        remember(found.measured_ms, found.fingerprint, search.prepared.task.name, trial.plan, latency(trial.plan), latency.table)
        return found

    return timed


def run_plan(search: Search, plan: Plan, device: str) -> Verified:
    """Time a Plan's network on a device.

    Raises:
        UserError: the device cannot be used, or the network cannot run there.
    """
    prepared, latency = search.prepared, search.prepared.profile.latency
    predicted = latency(plan)
    made = program(prepared.recovered(plan))
    sample = prepared.evaluator.samples[:1].numpy().astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder) / "model.acm"
        write_artifact(made, path)
        done = run_on_device(
            latency.table.target,
            latency.table.core,
            path,
            sample,
            made.output_shape,
            device=device,
            repeat=max(FEWEST_RUNS, round(TIMED_MS / predicted.ms)),
        )
    assert done.timed is not None
    whole = done.timed.whole
    return Verified(
        plan=plan.key,
        where=f"{done.product}, {done.url}, CPU {done.cpu}",
        fingerprint=done.fingerprint,
        kernels=kernels_hash(),
        source=_source(predicted),
        predicted_ms=predicted.ms,
        measured_ms=whole.microseconds / 1e3,
        measured_low_ms=whole.low / 1e3,
        measured_high_ms=whole.high / 1e3,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ops=timed_ops(op_rows(done.timed.steps, predicted.ops)),
    )


def _source(predicted: PlanLatency) -> str:
    return "modelled" if any(op.source == "modelled" for op in predicted.ops) else "measured"
