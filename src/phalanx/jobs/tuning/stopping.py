"""Which running children a tuning job stops because others do better, by the values of the objective that they have emitted.

A curve is what one child has emitted so far, oldest first. Each emission counts as one epoch, as in SageMaker. Both rules are
functions of the curves, so that any later service decides the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

LEAST_PREVIOUS = 3
"""Completed children that the median rule needs before it stops any."""
REDUCTION = 3
"""Hyperband lets one of so many go on from each rung to the next."""
MAX_RESOURCE = 20_000
"""Largest HyperbandStrategyConfig.MaxResource."""

Curve = Sequence[float]


def below_median(curve: Curve, previous: Sequence[Curve], minimize: bool) -> bool:
    """The median rule of early stopping type Auto: whether the last value is worse than the median of the running averages
    that previous children had at the same epoch (SageMaker developer guide, "Stop Training Jobs Early")."""
    epoch = len(curve)
    averages = [statistics.fmean(each[:epoch]) for each in previous if len(each) >= epoch > 0]
    if len(averages) < LEAST_PREVIOUS:
        return False
    median = statistics.median(averages)
    return curve[-1] > median if minimize else curve[-1] < median


def halved(curves: Mapping[int, Curve], number: int, least: int, most: int, minimize: bool) -> bool:
    """Hyperband: whether child `number` is not among the best at the last rung that it reached, or has had over `most` epochs.

    `curves` holds those of all children by their numbers. In bracket b, rungs lie at `least` * REDUCTION^b epochs and each
    REDUCTION times further (Li et al., "Hyperband", JMLR 18, 2018, with the asynchronous rungs of Li et al., "A System for
    Massively Parallel Hyperparameter Tuning", MLSys 2020). A child that went on while there were few to compare it with is
    stopped later, once others turn out better at the same rung: Optuna's pruner, whose promotions are for good, does not.
    """
    curve = curves[number]
    if len(curve) > most:
        return True
    brackets = _brackets(least, most)
    own = _bracket(number, brackets)
    rung = 0
    # The last rung before `most`: a child that has come to the end is not stopped there.
    for exponent in range(own, len(brackets)):
        epoch = least * REDUCTION**exponent
        rung = epoch if epoch <= len(curve) and epoch < most else rung
    if not rung:
        return False
    rivals = [each[rung - 1] for other, each in curves.items() if len(each) >= rung and _bracket(other, brackets) == own]
    rivals.sort(reverse=not minimize)
    last = rivals[max(len(rivals) // REDUCTION, 1) - 1]
    return curve[rung - 1] > last if minimize else curve[rung - 1] < last


def _brackets(least: int, most: int) -> list[int]:
    """How many children of a round each bracket gets, the one that stops earliest first."""
    count = 1
    while least * REDUCTION**count <= most:
        count += 1
    return [math.ceil(count * REDUCTION**s / (s + 1)) for s in reversed(range(count))]


def _bracket(number: int, brackets: Sequence[int]) -> int:
    position = number % sum(brackets)
    for bracket, size in enumerate(brackets):
        if position < size:
            return bracket
        position -= size
    raise AssertionError("unreachable")
