"""The loss functions: of scores (rows, models, classes) and labels (rows,), for each row and model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hyperparameters import Hyperparameters
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]


def loss(parameters: Hyperparameters, unit: float = 1.0) -> Loss:
    """The loss that was asked for; `unit` is how much 1 of scores and labels is in the labels' own units."""
    kind = parameters.loss
    if kind == "softmax_loss":
        return _softmax
    delta, width = parameters.huber_delta / unit, parameters.loss_insensitivity / unit

    def logistic(scores: Tensor, labels: Tensor) -> Tensor:
        return functional.softplus(scores) - labels * scores

    def hinge(scores: Tensor, labels: Tensor) -> Tensor:
        return functional.relu(parameters.margin - (2 * labels - 1) * scores)

    def quantile(scores: Tensor, labels: Tensor) -> Tensor:
        error = labels - scores
        return torch.maximum(parameters.quantile * error, (parameters.quantile - 1) * error)

    def huber(scores: Tensor, labels: Tensor) -> Tensor:
        error = (scores - labels).abs()
        return torch.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))

    each: dict[str, Loss] = {
        "logistic": logistic,
        "hinge_loss": hinge,
        "squared_loss": lambda scores, labels: (scores - labels) ** 2,
        "absolute_loss": lambda scores, labels: (scores - labels).abs(),
        "eps_insensitive_squared_loss": lambda scores, labels: functional.relu((scores - labels).abs() - width) ** 2,
        "eps_insensitive_absolute_loss": lambda scores, labels: functional.relu((scores - labels).abs() - width),
        "quantile_loss": quantile,
        "huber_loss": huber,
    }
    return lambda scores, labels: each[kind](scores.squeeze(2), labels[:, None])


def in_units(parameters: Hyperparameters, unit: float) -> float:
    """What a loss of 1 is in the labels' own units: squared for losses that square."""
    return unit**2 if parameters.loss in ("squared_loss", "eps_insensitive_squared_loss", "huber_loss") else unit


def _softmax(scores: Tensor, labels: Tensor) -> Tensor:
    chosen = labels.long()[:, None, None].expand(-1, scores.shape[1], 1)
    return torch.logsumexp(scores, 2) - scores.gather(2, chosen).squeeze(2)
