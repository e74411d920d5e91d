"""Study: an Optuna study of Plans, resumable, with baselines as its first trials."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
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
from ..evaluators.score import Score
from ..spaces.plan import Plan
from .baselines import BASELINE
from .evopress import EvoPressSampler
from .parameters import Parameters
from .problem import Objective, Problem
from .proposing import ProposingSampler
from .sampler import PlanSampler
from .spdy import SpdySampler

#: Other people's searches that propose Plans within a budget.
RIVALS: dict[str, Callable[[Problem, float, int], ProposingSampler]] = {"spdy": SpdySampler, "evopress": EvoPressSampler}
#: Samplers of Optuna's that learn only from parameters which every trial has.
STATIC = ("nsga2", "nsga3", "gp")
SAMPLERS = ("ours", "tpe", "nsga2", "nsga3", "random", "gp", *RIVALS)
#: Names of the constraints: latency minus budget in milliseconds, bytes minus the largest size; feasible when at most zero.
CONSTRAINT, SIZE_CONSTRAINT = "latency_ms", "size_bytes"
#: What studies of earlier versions do not say of themselves.
_EARLIER = {"max size": None, "objectives": "latency"}
#: Losses are cut here, so that a network which overflows is a bad trial and no failed one.
LOSS_CEILING = 1e6
_FINGERPRINT = "autocompress"
#: The attribute of a trial that holds all of its Score but the loss.
SCORE = "score"

Progress = Callable[[int, int, str], None]
#: The Score of a Plan, stopped where it is hopeless beside a rival's.
Scoring = Callable[[Plan, Score | None], Score]


@dataclass(frozen=True)
class Evaluated:
    """One finished trial; `size` in bytes. A trial of another program has no Score, but a loss."""

    number: int
    plan: Plan
    loss: float
    ms: float
    seconds: float
    baseline: str | None
    size: int
    score: Score | None = None

    @property
    def whole(self) -> bool:
        """Whether its loss is that of all samples."""
        return self.score is None or self.score.whole

    def within(self, budget_ms: float | None, max_bytes: int | None) -> bool:
        """Whether it keeps to both budgets."""
        return (budget_ms is None or self.ms <= budget_ms) and (max_bytes is None or self.size <= max_bytes)


def open_study(storage: BaseStorage, name: str, fingerprint: Mapping[str, Any], minimised: int) -> optuna.Study:
    """The study of that name, made if there is none.

    Args:
        fingerprint: what the losses and latencies depend on, by name; a study made with other values is refused.
        minimised: number of objectives beside the loss.

    Raises:
        UserError: the study was made with something else, or the storage is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [StudyDirection.MINIMIZE] * (1 + minimised)
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
    made_with = {**_EARLIER, **json.loads(stored)}
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
        raise UserError(
            f"sampler {name} searches within a budget: add --budget, or --max-size for objective size; or use one of {others}."
        )


def make_sampler(name: str, problem: Problem, budget_ms: float | None, seed: int) -> BaseSampler:
    """A sampler by its name.

    Raises:
        UserError: no such sampler, or one that cannot do without a budget.
    """
    check_sampler(name, not problem.minimised(budget_ms))
    if name == "ours":
        return PlanSampler(problem, budget_ms, seed)
    if name in RIVALS:
        return RIVALS[name](problem, math.inf if budget_ms is None else budget_ms, seed)
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
    scoring: Scoring,
    sampler: str,
    budget_ms: float | None,
    trials: int,
    timeout: float | None,
    seed: int,
    progress: Progress,
) -> None:
    """Evaluate Plans until the study holds `trials` finished ones, or `timeout` seconds have passed.

    Cheap evaluations come first: a Plan that some finished trial beats at no higher costs, by far on the first samples or clearly
    on the ordinary ones, is not computed on the others. Baselines always are.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    # A sampler that proposes from the seed and the finished trials alone is made once: it remembers what it has worked out.
    once = make_sampler(sampler, problem, budget_ms, seed) if sampler == "ours" or sampler in RIVALS else None
    parameters = Parameters(problem.space)
    best, looked_at, rivals = math.inf, set[int](), _Rivals()
    while True:
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        for done in finished:
            if done.number in looked_at:
                continue
            looked_at.add(done.number)
            if all(value <= 0 for value in done.constraints.values()):
                best = min(best, done.values[0])
            known, done_plan = _score(done), parameters.plan_of(done.params)
            if known is not None and done_plan is not None:
                rivals.add(_compared(problem, done_plan), known)
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
            costs = {"latency": problem.latency.ms(plan), "size": problem.sizes.bytes(plan)}
            if budget_ms is not None:
                trial.set_constraint(CONSTRAINT, costs["latency"] - budget_ms)
            if problem.max_bytes is not None:
                trial.set_constraint(SIZE_CONSTRAINT, costs["size"] - problem.max_bytes)
            found = scoring(plan, None if BASELINE in trial.user_attrs else rivals.best(_compared(problem, plan)))
            partial = [_bounded(loss) for loss in found.partial]
            trial.set_user_attr(SCORE, [partial, found.inputs, found.samples])
            study.tell(trial, [_bounded(found.loss), *[costs[objective] for objective in problem.minimised(budget_ms)]])
        except (Exception, KeyboardInterrupt):
            # An interrupt may come when the trial has just been told.
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise


def _bounded(loss: float) -> float:
    return min(loss, LOSS_CEILING) if math.isfinite(loss) else LOSS_CEILING


class _Rivals:
    """Finished trials that were computed on all samples, beside which others may be hopeless."""

    def __init__(self) -> None:
        self._known: list[tuple[tuple[float, ...], Score]] = []

    def add(self, costs: tuple[float, ...], score: Score) -> None:
        if score.whole:
            self._known.append((costs, score))

    def best(self, costs: tuple[float, ...]) -> Score | None:
        """The one of least loss among those with no higher cost of any kind."""
        fitting = (score for known, score in self._known if all(one <= other for one, other in zip(known, costs, strict=True)))
        return min(fitting, key=lambda score: (score.loss, score.partial), default=None)


def _compared(problem: Problem, plan: Plan) -> tuple[float, ...]:
    """The costs in which no Plan may be worse than one that it stops; bytes only where they matter."""
    sized = "size" in problem.objectives or problem.max_bytes is not None
    return (problem.latency.ms(plan), *([float(problem.sizes.bytes(plan))] if sized else []))


def _score(trial: FrozenTrial) -> Score | None:
    """The Score of a finished trial; None where it is of another program."""
    stored = trial.user_attrs.get(SCORE)
    if stored is None:
        return None
    partial, inputs, samples = stored
    return Score(trial.values[0], tuple(partial), inputs, samples)


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
            ms, size = problem.latency.ms(plan), problem.sizes.bytes(plan)
            found.append(Evaluated(trial.number, plan, trial.values[0], ms, _seconds(trial), baseline, size, _score(trial)))
    return found


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration is not None else 0.0


def eligible(trials: Sequence[Evaluated], problem: Problem, budget_ms: float | None) -> list[Evaluated]:
    """The trials of which a front is: those beyond a budget of what is no objective are left out, since a front of loss and
    latency within a size is not about larger networks.
    """
    limits = (
        None if "latency" in problem.objectives else budget_ms,
        None if "size" in problem.objectives else problem.max_bytes,
    )
    return [trial for trial in trials if trial.within(*limits)]


def front(trials: Sequence[Evaluated], objectives: Sequence[Objective] = ("latency",)) -> set[int]:
    """Numbers of the trials that no other one beats or equals in loss and in all objectives."""
    chosen: list[tuple[float, ...]] = []
    numbers = set()
    for trial in sorted(trials, key=lambda trial: (*_costs(trial, objectives), trial.loss, trial.number)):
        costs = *_costs(trial, objectives), trial.loss
        if not any(all(one <= other for one, other in zip(better, costs, strict=True)) for better in chosen):
            chosen.append(costs)
            numbers.add(trial.number)
    return numbers


def _costs(trial: Evaluated, objectives: Sequence[Objective]) -> tuple[float, ...]:
    return tuple([trial.ms if objective == "latency" else trial.size for objective in objectives])
