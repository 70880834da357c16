"""Metrics of SageMaker's XGBoost that XGBoost itself does not have, or not of the rows of all hosts."""

from __future__ import annotations

from collections.abc import Callable
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

    def metric(predictions: Any, data: xgboost.DMatrix) -> list[tuple[str, float]]:
        labels = data.get_label()
        sums = np.zeros(classes * classes + 4)
        if predictions.ndim == 1:
            error = labels - predictions
            sums[-4:] = len(labels), (error**2).sum(dtype=float), labels.sum(dtype=float), (labels**2).sum(dtype=float)
        if any(name in CLASSIFICATION_METRICS for name in parameters.own_metrics):
            said = predictions.argmax(1) if predictions.ndim > 1 else predictions
            if not objective.startswith("multi:"):
                said = predictions > middle
            np.add.at(sums, labels.astype(int) * classes + said.astype(int), 1)
        if collective.is_distributed():
            sums = collective.allreduce(sums, collective.Op.SUM)
        found = {**_regression(*sums[-4:]), **_classification(sums[:-4].reshape(classes, classes))}
        if areas:
            grown = curve.positives(predictions, labels, data.get_weight())
            found |= {"auc": curve.roc(*grown), "aucpr": curve.precision_recall(*grown)}
        return [(name, float(found[name])) for name in parameters.own_metrics]

    return metric


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
