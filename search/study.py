"""Study: an Optuna study of Plans, resumable, with baselines as its first trials."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..errors import UserError
from ..spaces.plan import Plan
from .baselines import BASELINE
from .evopress import EvoPressSampler
from .parameters import Parameters
from .problem import Problem
from .proposing import ProposingSampler
from .sampler import PlanSampler
from .spdy import SpdySampler

#: Other people's searches that propose Plans within a budget.
RIVALS: dict[str, Callable[[Problem, float, int], ProposingSampler]] = {"spdy": SpdySampler, "evopress": EvoPressSampler}
#: Samplers of Optuna's that learn only from parameters which every trial has.
STATIC = ("nsga2", "nsga3", "gp")
SAMPLERS = ("ours", "tpe", "nsga2", "nsga3", "random", "gp", *RIVALS)
#: Name of the constraint: latency minus budget in milliseconds; feasible when at most zero.
CONSTRAINT = "latency_ms"
#: Losses are cut here, so that a network which overflows is a bad trial and no failed one.
LOSS_CEILING = 1e6
_FINGERPRINT = "autocompress"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Evaluated:
    """One finished trial."""

    number: int
    plan: Plan
    loss: float
    ms: float
    seconds: float
    baseline: str | None


def open_study(storage: BaseStorage, name: str, fingerprint: Mapping[str, Any], budget_ms: float | None) -> optuna.Study:
    """The study of that name, made if there is none.

    Args:
        fingerprint: what the losses and latencies depend on, by name; a study made with other values is refused.

    Raises:
        UserError: the study was made with something else, or the storage is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [StudyDirection.MINIMIZE] * (1 if budget_ms is not None else 2)
    try:
        try:
            study = optuna.create_study(storage=storage, study_name=name, directions=directions)
            study.set_user_attr(_FINGERPRINT, json.dumps(fingerprint, sort_keys=True))
        except DuplicatedStudyError:
            study = optuna.load_study(storage=storage, study_name=name)
        stored = study.user_attrs.get(_FINGERPRINT)
        if stored is None and not study.get_trials(deepcopy=False):
            # A process was killed between making the study and describing it.
            study.set_user_attr(_FINGERPRINT, stored := json.dumps(fingerprint, sort_keys=True))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"cannot read study {name}: {type(error).__name__}: {error}. Its storage is left as it is: restore it from a copy, "
            "or choose another name with --study."
        ) from error
    if stored is None:
        raise UserError(f"study {name} was not made by autocompress. Choose another name with --study.")
    made_with = json.loads(stored)
    other = [key for key in fingerprint if made_with.get(key) != fingerprint[key]]
    if other:
        details = "; ".join(f"{key}: {made_with.get(key)} then, {fingerprint[key]} now" for key in other)
        raise UserError(
            f"study {name} was made with another {' and '.join(other)} ({details}). Choose another name with --study."
        )
    return study


def check_sampler(name: str, bounded: bool) -> None:
    """Refuse a sampler that there is not, or that cannot search without a budget.

    Raises:
        UserError: with the names that there are.
    """
    if name not in SAMPLERS:
        raise UserError(f"unknown sampler {name!r}: use one of {', '.join(SAMPLERS)}.")
    if name in RIVALS and not bounded:
        others = ", ".join(other for other in SAMPLERS if other not in RIVALS)
        raise UserError(f"sampler {name} searches within a budget: add --budget, or use one of {others}.")


def make_sampler(name: str, problem: Problem, budget_ms: float | None, seed: int) -> BaseSampler:
    """A sampler by its name.

    Raises:
        UserError: no such sampler, or one that cannot do without a budget.
    """
    check_sampler(name, budget_ms is not None)
    if name == "ours":
        return PlanSampler(problem, budget_ms, seed)
    if name in RIVALS:
        assert budget_ms is not None
        return RIVALS[name](problem, budget_ms, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
        if name == "nsga3":
            return optuna.samplers.NSGAIIISampler(seed=seed)
        if name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.GPSampler(seed=seed)


def enqueue_baselines(study: optuna.Study, parameters: Mapping[str, dict[str, Any]]) -> None:
    """Queue the baselines that the study does not have yet; one that a killed process had begun is queued again."""
    there = {
        trial.user_attrs[BASELINE]
        for trial in study.get_trials(deepcopy=False)
        if BASELINE in trial.user_attrs and trial.state != TrialState.FAIL
    }
    for name, values in parameters.items():
        if name not in there:
            study.enqueue_trial(values, user_attrs={BASELINE: name})


def fail_stale_trials(study: optuna.Study) -> None:
    """Close the trials that a killed process left running.

    A journal belongs to this process alone (its folder is locked); a database knows by heartbeat whose process is gone.
    """
    if isinstance(study._storage, JournalStorage):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)


def open_storage(url: str) -> BaseStorage:
    """A storage by URL: `sqlite:///study.db`, `postgresql://...`, `mysql://...`.

    Raises:
        UserError: not a URL, or nothing answers there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the heartbeat is marked as one
            return RDBStorage(url, heartbeat_interval=30, grace_period=120)
    except Exception as error:
        raise UserError(
            f"cannot open storage {url}: {type(error).__name__}: {error}. Use a URL such as sqlite:///study.db."
        ) from error


def run_trials(
    study: optuna.Study,
    problem: Problem,
    loss: Callable[[Plan], float],
    sampler: str,
    budget_ms: float | None,
    trials: int,
    timeout: float | None,
    seed: int,
    progress: Progress,
) -> None:
    """Evaluate Plans until the study holds `trials` finished ones, or `timeout` seconds have passed."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    # A sampler that proposes from the seed and the finished trials alone is made once: it remembers what it has worked out.
    once = make_sampler(sampler, problem, budget_ms, seed) if sampler == "ours" or sampler in RIVALS else None
    parameters = Parameters(problem.space)
    best = math.inf
    while True:
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        for done in finished:
            if budget_ms is None or all(value <= 0 for value in done.constraints.values()):
                best = min(best, done.values[0])
        progress(len(finished), trials, f"best loss {best:.4g}" if math.isfinite(best) else "")
        if len(finished) >= trials or time.monotonic() >= end:
            return
        # Another one that is made anew for each trial, from the number of finished ones, survives any kill unchanged too.
        study.sampler = once or make_sampler(sampler, problem, budget_ms, seed * 1_000_003 + len(finished))
        trial = _begin(study)
        try:
            if sampler in STATIC:
                # Sparsity too, where nothing is removed: left out there, they would draw it at random wherever it is needed.
                for name, distribution in parameters.distributions.items():
                    trial.suggest_categorical(name, distribution.choices)
            plan = parameters.plan(_suggest(trial))
            ms = problem.latency.ms(plan)
            if budget_ms is not None:
                trial.set_constraint(CONSTRAINT, ms - budget_ms)
            value = loss(plan)
            value = min(value, LOSS_CEILING) if math.isfinite(value) else LOSS_CEILING
            study.tell(trial, value if budget_ms is not None else (value, ms))
        except (Exception, KeyboardInterrupt):
            # An interrupt may come when the trial has just been told.
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise


def _begin(study: optuna.Study) -> optuna.Trial:
    """The next trial; a storage that knows by heartbeat whose process is gone is told that this one is alive."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")  # Optuna records it in `optimize` alone
        trial = study.ask()
    if isinstance(study._storage, BaseHeartbeat):
        study._storage.record_heartbeat(trial._trial_id)
    return trial


def _suggest(trial: optuna.Trial) -> Callable[[str, CategoricalDistribution], Any]:
    return lambda name, distribution: trial.suggest_categorical(name, distribution.choices)


def evaluated(study: optuna.Study, problem: Problem) -> list[Evaluated]:
    """All finished trials by number; trials of another program are left out."""
    found = []
    parameters = Parameters(problem.space)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        plan = parameters.plan_of(trial.params)
        if plan is not None:
            baseline = trial.user_attrs.get(BASELINE)
            found.append(Evaluated(trial.number, plan, trial.values[0], problem.latency.ms(plan), _seconds(trial), baseline))
    return found


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration is not None else 0.0


def front(trials: list[Evaluated]) -> set[int]:
    """Numbers of the trials that no other one beats or equals in both loss and latency."""
    best = math.inf
    numbers = set()
    for trial in sorted(trials, key=lambda trial: (trial.ms, trial.loss, trial.number)):
        if trial.loss < best:
            best = trial.loss
            numbers.add(trial.number)
    return numbers
