"""When a tuning job has found what it can: its completion criteria (SageMaker developer guide, "Set completion criteria")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SIGNIFICANT = 0.01
"""An evaluation improves on the best one if it is better by more than this part of it."""
CONVERGED = 10
"""Evaluations without significant improvement after which a search has converged; more where there are many hyperparameters."""
CONVERGED_PER_HYPERPARAMETER = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the evaluations have come: the best value, and how many there were since one improved significantly."""

    best: float | None = None
    not_improving: int = 0


def progress(values: Sequence[float], minimize: bool) -> Progress:
    """The progress that these objective values make, in the order in which they became known."""
    best = reference = None
    since = 0
    for value in values:
        sign = -1 if minimize else 1
        if reference is None or sign * (value - reference) > SIGNIFICANT * abs(reference):
            reference, since = value, 0
        else:
            since += 1
        best = value if best is None or sign * (value - best) > 0 else best
    return Progress(best, since)


def converged(found: Progress, hyperparameters: int) -> bool:
    """Whether a search over so many hyperparameters is unlikely to improve any more."""
    return found.best is not None and found.not_improving >= max(CONVERGED, CONVERGED_PER_HYPERPARAMETER * hyperparameters)


def reached(best: float | None, target: float | None, minimize: bool) -> bool:
    """Whether the best value is as good as the target."""
    if best is None or target is None:
        return False
    return best <= target if minimize else best >= target
