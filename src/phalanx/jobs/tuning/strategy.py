"""Which hyperparameters a tuning job tries next.

A proposal is a function of what the store holds: the seed, the number of the child, and the evaluations so far. Nothing is
kept in between, so that a service that was killed goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from phalanx.jobs.tuning.search import Evaluation, Search

REDRAWS = 20
"""How often a combination that was tried already is drawn anew, before the first untried one is taken."""


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
    # Optuna takes 0.2 s to be imported, which each start of a service would wait for, whether it tunes or not.
    from phalanx.jobs.tuning.study import Study

    study = Study(search, evaluations)
    for attempt in range(REDRAWS):
        bayesian = search.strategy in ("Bayesian", "Hyperband") and attempt == 0
        found = study.draw(number, attempt, bayesian=bayesian)
        if tuple(found.items()) not in tried:
            return found
    if search.space.size > len(tried):
        return next(each for each in search.space.combinations() if tuple(each.items()) not in tried)
    return found
