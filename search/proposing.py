"""What samplers that propose whole Plans have in common: parameters in, parameters out, and the finished trials as Plans."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from ..spaces.plan import Plan
from .baselines import BASELINE
from .parameters import Parameters
from .problem import Problem


@dataclass(frozen=True)
class Finished:
    """A finished trial of the Space.

    Attributes:
        baseline: its name, or None for what a sampler proposed.
        note: what the sampler that proposed it wrote down.
    """

    number: int
    plan: Plan
    loss: float
    baseline: str | None
    note: str | None


class ProposingSampler(BaseSampler):
    """Proposes whole Plans, from the seed and the finished trials alone."""

    #: Attribute of a trial that holds the sampler's note.
    NOTE = "autocompress:note"

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem = problem
        self._seed = seed
        self._parameters = Parameters(problem.space)
        self._independent = RandomSampler(seed)
        self._finished: dict[int, Finished | None] = {}

    @abstractmethod
    def next_plan(self, history: Sequence[Finished], rng: np.random.Generator) -> tuple[Plan, str | None]:
        """The next Plan to evaluate, and a note that its trial shall carry.

        Args:
            history: the finished trials, baselines first.
        """

    def reseed_rng(self) -> None:
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._parameters.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        history = self._history(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        plan, note = self.next_plan(history, np.random.default_rng([self._seed, len(history)]))
        if note is not None:
            study._storage.set_trial_system_attr(trial._trial_id, self.NOTE, note)
        return self._parameters.of(plan)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _history(self, trials: Sequence[FrozenTrial]) -> list[Finished]:
        """The finished trials that are of this Space: baselines, of which one that a killed process had begun comes later, in an
        order of their own; then the others, oldest first.
        """
        found = []
        for trial in trials:
            if trial.number not in self._finished:
                self._finished[trial.number] = self._of_space(trial)
            finished = self._finished[trial.number]
            if finished is not None:
                found.append(finished)
        return sorted(found, key=lambda one: (one.baseline is None, one.baseline or "", one.number))

    def _of_space(self, trial: FrozenTrial) -> Finished | None:
        """A finished trial; None where it is of another program or has no loss."""
        plan = self._parameters.plan_of(trial.params)
        if plan is None or not math.isfinite(trial.values[0]):
            return None
        baseline, note = trial.user_attrs.get(BASELINE), trial.system_attrs.get(self.NOTE)
        return Finished(trial.number, plan, trial.values[0], baseline, note)
