"""Which hyperparameters a tuning job tries next.

A proposal is a function of what the store holds: the seed, the number of the child, and the evaluations so far. Nothing is
kept in between, so that a service that was killed goes on as if it had not been.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from phalanx.jobs.tuning.space import Space

STARTUP = 10
"""Evaluations of random hyperparameters before the Bayesian strategy has a model; a quarter of those there may be, if fewer."""
LEAST_STARTUP = 3
REDRAWS = 20
"""How often a combination that was tried already is drawn anew, before the first untried one is taken."""

optuna.logging.set_verbosity(optuna.logging.WARNING)

Strategy = Literal["Bayesian", "Random", "Grid", "Hyperband"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A child as strategies see it: its hyperparameters, and its objective once that is known. One that `failed` has none."""

    parameters: Mapping[str, str]
    value: float | None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Prior:
    """What parent tuning jobs of a warm start found, each parent's evaluations on their own.

    `comparable` says that the parents' objective is this job's own (IdenticalDataAndAlgorithm). Where it is not
    (TransferLearning), each job's values are standardised: what was good there, by its own measure, is worth trying here.
    """

    parents: tuple[tuple[Evaluation, ...], ...] = ()
    comparable: bool = True


@dataclass(frozen=True, slots=True)
class Search:
    """What to search: `budget` is the number of evaluations that there may be."""

    strategy: Strategy
    space: Space
    minimize: bool
    seed: int
    budget: int
    prior: Prior = Prior()


def propose(search: Search, number: int, evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """The hyperparameters of evaluation `number` (from 0), given those of all earlier ones.

    Grid takes combinations in order and raises IndexError after the last. The others do not try a combination twice while
    there are untried ones.
    """
    if search.strategy == "Grid":
        combination = next(islice(search.space.combinations(), number, None), None)
        if combination is None:
            raise IndexError(f"the grid has no combination {number}")
        return combination
    tried = {tuple(each.parameters.items()) for each in evaluations}
    study = _study(search, evaluations)
    distributions = search.space.distributions
    for attempt in range(REDRAWS):
        bayesian = search.strategy in ("Bayesian", "Hyperband") and attempt == 0
        study.sampler = _sampler(search, number, attempt, bayesian)
        found = search.space.decode(_ask(study, distributions))
        if tuple(found.items()) not in tried:
            return found
    if search.space.size > len(tried):
        return next(each for each in search.space.combinations() if tuple(each.items()) not in tried)
    return found


def _sampler(search: Search, number: int, attempt: int, bayesian: bool) -> BaseSampler:
    # Each proposal has a generator of its own: it does not depend on how many were drawn before in this process.
    seed = int(numpy.random.SeedSequence([search.seed, number, attempt]).generate_state(1)[0])
    if not bayesian:
        return RandomSampler(seed=seed)
    startup = min(STARTUP, max(LEAST_STARTUP, search.budget // 4))
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)


def _ask(study: optuna.Study, distributions: dict[str, BaseDistribution]) -> dict[str, float | str]:
    trial = study.ask(distributions)
    study.tell(trial, state=TrialState.FAIL)
    return trial.params


def _study(search: Search, evaluations: Sequence[Evaluation]) -> optuna.Study:
    """The study that these evaluations make. Kept in memory and thrown away: the store has all that it knows."""
    study = optuna.create_study(direction="minimize" if search.minimize else "maximize")
    if search.strategy == "Random":
        return study
    own = [each for each in evaluations if not each.failed]
    groups = [*search.prior.parents, own]
    distributions = search.space.distributions
    for group in groups:
        values = _standardised(group) if not search.prior.comparable else [each.value for each in group]
        for each, value in zip(group, values, strict=True):
            trial = _trial(search.space, distributions, each, value)
            if trial is not None:
                study.add_trial(trial)
    return study


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
