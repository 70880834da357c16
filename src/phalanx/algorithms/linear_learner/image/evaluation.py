"""The scores of a finished model on a channel, as SageMaker's linear learner reports them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from calibration import f_score, rates
from hyperparameters import Hyperparameters
from mesh import Mesh
from torch import Tensor

LOSSES = ("mse", "absolute_loss")
"""Scores of which less is better, beside objectives."""


def binary(scores: Tensor, labels: Tensor, threshold: float, parameters: Hyperparameters, mesh: Mesh) -> dict[str, float]:
    """Of scores and labels (rows,) on this host, together with those of all hosts."""
    scores, labels = mesh.collect(torch.stack([scores, labels], 1)).unbind(1)
    said, true = scores >= threshold, labels > 0
    hits, taken, positives = (said & true).sum().double(), said.sum().double(), float(true.sum())
    precision, recall = rates(hits, taken, positives)
    return {
        "binary_classification_accuracy": float((said == true).double().mean()),
        f"binary_f_{parameters.f_beta:.3f}": float(f_score(precision, recall, parameters.f_beta)),
        "precision": float(precision),
        "recall": float(recall),
        "roc_auc_score": _auc(scores, true),
    }


def multiclass(parts: Iterable[tuple[Tensor, Tensor]], parameters: Hyperparameters, mesh: Mesh) -> dict[str, float]:
    """Of scores (rows, classes) and labels (rows,) on this host, part by part, together with those of all hosts."""
    size = parameters.classes
    sums, counts = torch.zeros(4, dtype=torch.float64), torch.zeros((3, size), dtype=torch.float64)
    for scores, labels in parts:
        truth, said = labels.long(), scores.argmax(1)
        rank = (scores > scores.gather(1, truth[:, None])).sum(1)
        gains = 1 / torch.log2(rank + 2.0)
        sums += torch.stack(
            [
                torch.tensor(len(truth)),
                (rank == 0).sum(),
                (rank < parameters.accuracy_top_k).sum(),
                gains.sum(dtype=torch.float64),
            ]
        )
        counts += torch.stack([each.bincount(minlength=size) for each in (truth[said == truth], said, truth)])
    rows, first, among, gain = mesh.sum(sums).tolist()
    hits, taken, present = mesh.sum(counts)
    precision, recall = hits / taken.clamp(min=1), hits / present.clamp(min=1)
    rows = max(rows, 1.0)
    return {
        "multiclass_accuracy": first / rows,
        f"multiclass_top_k_accuracy_{parameters.accuracy_top_k}": among / rows,
        "dcg": gain / rows,
        "macro_recall": float(recall.mean()),
        "macro_precision": float(precision.mean()),
        f"macro_f_{parameters.f_beta:.3f}": float(f_score(precision, recall, parameters.f_beta).mean()),
    }


def regression(scores: Tensor, labels: Tensor, mesh: Mesh) -> dict[str, float]:
    """Of scores and labels (rows,) on this host, together with those of all hosts."""
    error = (scores - labels).double()
    squares, absolute, rows = mesh.sum(
        torch.stack([(error**2).sum(), error.abs().sum(), torch.tensor(1.0 * len(error))])
    ).tolist()
    return {"mse": squares / max(rows, 1.0), "absolute_loss": absolute / max(rows, 1.0)}


def _auc(scores: Tensor, true: Tensor) -> float:
    """Area under the ROC curve, by the ranks of the scores; equal ones share theirs. 0.5 where there is one class alone."""
    _, group, sizes = torch.unique(scores, return_inverse=True, return_counts=True)
    ends = sizes.cumsum(0).double()
    ranks = (ends - (sizes - 1) / 2)[group]
    positives, negatives = float(true.sum()), float((~true).sum())
    if not positives or not negatives:
        return 0.5
    return float((ranks[true].sum() - positives * (positives + 1) / 2) / (positives * negatives))
