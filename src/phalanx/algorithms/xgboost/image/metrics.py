"""Metrics of SageMaker's XGBoost that XGBoost itself does not have, or not of the rows of all hosts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import curve
import numpy as np
import xgboost
from hyperparameters import CLASSIFICATION_METRICS, Hyperparameters
from xgboost import collective

Metric = Callable[[Any, xgboost.DMatrix], list[tuple[str, float]]]


_RISING = {"auc", "aucpr", "interval-regression-accuracy", "map", "ndcg", "pre", "r2", *CLASSIFICATION_METRICS}


def rises(name: str) -> bool:
    """Whether more is better of a metric, as it was asked for (`ndcg@5`)."""
    return name.partition("@")[0] in _RISING


def of(parameters: Hyperparameters) -> Metric:
    """XGBoost's `custom_metric` for `parameters.own_metrics`. Every host must call it as often as the others."""
    objective = str(parameters.parameters.get("objective", ""))
    classes = int(parameters.parameters.get("num_class", 2))
    # XGBoost gives what its objective makes of scores; of those that leave them raw, 0 is the middle.
    middle = 0.0 if objective in ("binary:logitraw", "binary:hinge") else 0.5
    areas = "auc" in parameters.own_metrics or "aucpr" in parameters.own_metrics

    @cache
    def middle_label(data: xgboost.DMatrix) -> float:
        """The mean of all hosts' labels, which do not change."""
        labels = data.get_label()
        total, rows = _sum(np.array([labels.sum(dtype=float), len(labels)]))
        return float(total / max(rows, 1.0))

    def metric(predictions: Any, data: xgboost.DMatrix) -> list[tuple[str, float]]:
        labels = data.get_label().astype(float)
        # As they are, the squares of labels far from 0 would have no digits left for how far they are from each other.
        centred = labels - middle_label(data)
        sums = np.zeros(classes * classes + 4)
        # Without rows a host has not the columns of many classes: nothing that hosts do together may depend on them.
        if predictions.ndim == 1:
            error = labels - predictions
            sums[-4:] = len(labels), error @ error, centred.sum(), centred @ centred
        if any(name in CLASSIFICATION_METRICS for name in parameters.own_metrics):
            said = predictions.argmax(1) if predictions.ndim > 1 else predictions
            if not objective.startswith("multi:"):
                said = predictions > middle
            sums[:-4] = np.bincount(labels.astype(int) * classes + said.astype(int), minlength=classes * classes)
        sums = _sum(sums)
        found = {**_regression(*sums[-4:]), **_classification(sums[:-4].reshape(classes, classes))}
        if areas:
            grown = curve.positives(predictions, labels, data.get_weight())
            found |= {"auc": curve.roc(*grown), "aucpr": curve.precision_recall(*grown)}
        return [(name, float(found[name])) for name in parameters.own_metrics]

    return metric


def _sum(numbers: Any) -> Any:
    """The sum over all hosts."""
    return collective.allreduce(numbers, collective.Op.SUM) if collective.is_distributed() else numbers


def _regression(rows: float, squares: float, total: float, total_squares: float) -> dict[str, float]:
    rows = max(rows, 1.0)
    spread = total_squares - total**2 / rows
    return {"mse": squares / rows, "r2": 1 - squares / spread if spread > 0 else 0.0}


def _classification(table: Any) -> dict[str, float]:
    """Of counts by true class and said class. As SageMaker's XGBoost has them: `precision` and `recall` of two classes are of
    class 1, `f1` is a mean of both."""
    hits, true, said = np.diag(table), table.sum(1), table.sum(0)
    recall, precision = hits / np.maximum(true, 1), hits / np.maximum(said, 1)
    f1 = 2 * hits / np.maximum(true + said, 1)
    present = (true > 0) | (said > 0)
    macro = {
        name: float(each[present].mean()) if present.any() else 0.0
        for name, each in (("recall", recall), ("precision", precision), ("f1", f1))
    }
    accuracy = hits.sum() / max(table.sum(), 1)
    binary = len(table) == 2
    return {
        "accuracy": accuracy,
        "balanced_accuracy": float(recall[true > 0].mean()) if (true > 0).any() else 0.0,
        "f1": macro["f1"],
        "f1_binary": f1[1],
        "f1_macro": macro["f1"],
        "precision": precision[1] if binary else macro["precision"],
        "precision_macro": macro["precision"],
        "precision_micro": accuracy,
        "recall": recall[1] if binary else macro["recall"],
        "recall_macro": macro["recall"],
        "recall_micro": accuracy,
    }
