"""The threshold of a binary classifier: the one that serves the model selection criterion best."""

from __future__ import annotations

import torch
from hyperparameters import Hyperparameters
from torch import Tensor


def threshold(scores: Tensor, labels: Tensor, parameters: Hyperparameters, default: float) -> tuple[float, float]:
    """The threshold from which on a score means 1, and what the criterion is with it (more is better).

    Where several serve equally, the one next to `default`. `scores` and `labels` are (rows,).
    """
    order = torch.argsort(scores, descending=True)
    ordered, truth = scores[order].double(), labels[order].double()
    # Position k: the k highest scores mean 1. Equal scores cannot be told apart.
    parts = torch.ones(len(ordered) + 1, dtype=torch.bool)
    parts[1:-1] = ordered[1:] < ordered[:-1]
    hits = torch.cat([torch.zeros(1, dtype=torch.float64), truth.cumsum(0)])[parts]
    taken = torch.arange(len(ordered) + 1, dtype=torch.float64)[parts]
    edges = torch.cat([ordered[:1] + 1e-6, (ordered[1:] + ordered[:-1]) / 2, ordered[-1:]])[parts]
    value = _criterion(hits, taken, float(truth.sum()), len(ordered), parameters)
    best = float(value.max())
    serving = edges[value >= best - 1e-12]
    return float(serving[(serving - default).abs().argmin()]), best


def rates(hits: Tensor, taken: Tensor, positives: float) -> tuple[Tensor, Tensor]:
    """Precision and recall; 1 and 0 where there is nothing to count."""
    return torch.where(taken > 0, hits / taken.clamp(min=1), 1.0), hits / max(positives, 1.0)


def f_score(precision: Tensor, recall: Tensor, beta: float) -> Tensor:
    """F-beta; 0 where both are 0."""
    below = beta**2 * precision + recall
    return torch.where(below > 0, (1 + beta**2) * precision * recall / below.clamp(min=1e-300), 0.0)


def _criterion(hits: Tensor, taken: Tensor, positives: float, rows: int, parameters: Hyperparameters) -> Tensor:
    precision, recall = rates(hits, taken, positives)
    criterion = parameters.binary_classifier_model_selection_criteria
    if criterion in ("f1", "f_beta"):
        return f_score(precision, recall, 1.0 if criterion == "f1" else parameters.f_beta)
    # Where a target cannot be met, what comes nearest to it.
    if criterion == "precision_at_target_recall":
        return torch.where(recall >= parameters.target_recall, 1 + precision, recall) - 1
    if criterion == "recall_at_target_precision":
        return torch.where((precision >= parameters.target_precision) & (taken > 0), 1 + recall, precision * (taken > 0)) - 1
    return (2 * hits - taken + rows - positives) / rows
