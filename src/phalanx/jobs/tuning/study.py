"""Optuna's study of what has been found so far, which draws what to try next. In memory: the store has all that it knows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from phalanx.jobs.tuning.search import Evaluation, Search
from phalanx.jobs.tuning.space import Categorical, Continuous, Integer, Parameter, Space

STARTUP = 10
"""Evaluations of random hyperparameters before the Bayesian strategy has a model; a quarter of those there may be, if fewer."""
LEAST_STARTUP = 3

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """What the evaluations of a search tell Optuna."""

    def __init__(self, search: Search, evaluations: Sequence[Evaluation]) -> None:
        self._search = search
        self._distributions = {each.name: distribution(each) for each in search.space.parameters}
        self._study = optuna.create_study(direction="minimize" if search.minimize else "maximize")
        if search.strategy == "Random":
            return
        own = [each for each in evaluations if not each.failed]
        for group in [*search.prior.parents, own]:
            values = _standardised(group) if not search.prior.comparable else [each.value for each in group]
            for each, value in zip(group, values, strict=True):
                trial = _trial(search.space, self._distributions, each, value)
                if trial is not None:
                    self._study.add_trial(trial)

    def draw(self, number: int, attempt: int, *, bayesian: bool) -> dict[str, str]:
        """The `attempt`-th hyperparameters for evaluation `number`: those that the model takes for the best, or random ones."""
        self._study.sampler = _sampler(self._search, number, attempt, bayesian)
        trial = self._study.ask(self._distributions)
        self._study.tell(trial, state=TrialState.FAIL)
        return self._search.space.decode(trial.params)


def distribution(parameter: Parameter) -> BaseDistribution:
    """A range as Optuna has it."""
    match parameter:
        case Integer(low=low, high=high):
            return IntDistribution(low, high, log=parameter.logarithmic)
        case Continuous(low=low, high=high) if parameter.reverse:
            return FloatDistribution(1 - high, 1 - low, log=True)
        case Continuous(low=low, high=high):
            return FloatDistribution(low, high, log=parameter.logarithmic)
        case Categorical():
            return CategoricalDistribution(parameter.choices)


def _sampler(search: Search, number: int, attempt: int, bayesian: bool) -> BaseSampler:
    # Each proposal has a generator of its own: it does not depend on how many were drawn before in this process.
    seed = int(numpy.random.SeedSequence([search.seed, number, attempt]).generate_state(1)[0])
    if not bayesian:
        return RandomSampler(seed=seed)
    startup = min(STARTUP, max(LEAST_STARTUP, search.budget // 4))
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)


def _standardised(group: Sequence[Evaluation]) -> list[float | None]:
    known = [each.value for each in group if each.value is not None]
    mean = statistics.fmean(known) if known else 0.0
    spread = statistics.pstdev(known) if known else 0.0
    return [None if each.value is None else (each.value - mean) / spread if spread else 0.0 for each in group]


def _trial(
    space: Space, distributions: dict[str, BaseDistribution], evaluation: Evaluation, value: float | None
) -> FrozenTrial | None:
    """None for an evaluation outside of the space: a parent's ranges may have been wider."""
    parameters = space.encode(evaluation.parameters)
    if parameters is None:
        return None
    state = TrialState.RUNNING if value is None else TrialState.COMPLETE
    return create_trial(state=state, value=value, params=parameters, distributions=distributions)
