"""What a strategy is asked: what to search, and what has been found so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from phalanx.jobs.tuning.space import Space

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
