"""How true and false positives grow as the threshold falls, over the rows of all hosts, and the areas that are made of it.

XGBoost finds them on each host's own rows and takes the mean, which is another number where hosts have unlike rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from xgboost import collective

_PARTS = 512
"""Into so many parts of equal weight each host's thresholds divide each class of its rows. Rows of a part cannot be told apart:
of the pairs that the area under the ROC curve counts, at most one in so many, half of which are taken to be in order."""
_THRESHOLDS = 4 * _PARTS
"""Of each host, at most: those that end a part of either class, and the ones before, which keep rows of equal score apart."""


def positives(scores: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
    """The weights of true and of false positives at falling thresholds, from nothing to everything.

    Of every score, where no host has more than _THRESHOLDS different ones.

    `scores` and `labels` (0 to 1) are (rows,) of this host; so are `weights`, or they are empty where all weigh the same. Every
    host must call it.
    """
    order = np.argsort(-scores)
    falling, labels = -scores[order], labels[order].astype(float)
    weights = weights[order].astype(float) if len(weights) else np.ones(len(order))
    grown = np.zeros((2, len(order) + 1))
    np.cumsum([weights * labels, weights * (1 - labels)], axis=1, out=grown[:, 1:])
    rows = np.searchsorted(falling, _thresholds(falling, grown[:, 1:]), side="right")
    true, false = collective.allreduce(grown[:, rows], collective.Op.SUM).reshape(2, -1)
    return true, false


def _thresholds(falling: Any, grown: Any) -> Any:
    """Those of all hosts, negated as the scores are; the last one lets everything through."""
    ends = np.flatnonzero(np.diff(falling, append=np.nan) != 0)
    if len(ends) > _THRESHOLDS:
        parts = np.arange(1, _PARTS + 1) / _PARTS
        chosen = np.concatenate([np.searchsorted(each[ends], each[-1] * parts) for each in grown])
        ends = ends[np.unique(np.concatenate([chosen, chosen - 1]).clip(0, len(ends) - 1))]
    table = np.zeros((collective.get_world_size(), _THRESHOLDS), np.float32)
    mine = table[collective.get_rank()]
    mine[:] = np.inf
    mine[: len(ends)] = falling[ends]
    return np.unique(np.append(collective.allreduce(table, collective.Op.SUM), np.float32([-np.inf, np.inf])))


def roc(true: Any, false: Any) -> float:
    """The area under the ROC curve; NaN where there is one class alone, as XGBoost has it."""
    whole = true[-1] * false[-1]
    return float(np.trapezoid(true, false) / whole) if whole > 0 else math.nan


def precision_recall(true: Any, false: Any) -> float:
    """The area under precision against recall; NaN where there is one class alone.

    Between two thresholds false positives grow in proportion to true ones (Davis and Goadrich 2006, Keilwagen et al. 2014), as
    XGBoost has it.
    """
    if not true[-1] * false[-1] > 0:
        return math.nan
    steps = np.diff(true) > 0
    taken = true + false
    before, after = taken[:-1][steps], taken[1:][steps]
    more = np.diff(true)[steps]
    # With t true positives a * t + b are taken: the area is the integral of t / (a * t + b).
    a = (after - before) / more
    b = before - a * true[:-1][steps]
    begun = before > 0
    logarithm = np.log(after / np.where(begun, before, 1.0)) * begun
    return float((more / a - b / a**2 * logarithm).sum() / true[-1])
