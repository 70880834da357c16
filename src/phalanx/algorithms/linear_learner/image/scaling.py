"""What is done to features and labels before training, and undone in the weights after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hyperparameters import Hyperparameters
from mesh import Mesh
from records import Records
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """Features are (x - shift) / scale, labels (y - label_shift) / label_scale; shift and scale are (columns,), float64."""

    shift: Any
    scale: Any
    label_shift: float = 0.0
    label_scale: float = 1.0

    def apply(self, records: Records) -> Records:
        """Scaled records; sparse ones are not shifted, so that they stay sparse."""
        if records.sparse:
            features = records.features.multiply(1 / self.scale).tocsr().astype(np.float32)
        else:
            features = ((records.features - self.shift) / self.scale).astype(np.float32)
        return Records(features, ((records.labels - self.label_shift) / self.label_scale).astype(np.float32))

    def undo(self, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (columns, outputs) and bias (outputs,) for features and labels as they were given."""
        plain = weights.double() / torch.from_numpy(self.scale)[:, None] * self.label_scale
        return plain.float(), (
            bias.double() * self.label_scale + self.label_shift - torch.from_numpy(self.shift) @ plain
        ).float()


def measure(records: Records, parameters: Hyperparameters, mesh: Mesh, columns: int, sparse: bool) -> Scaling:
    """The scaling that `parameters` ask for, from a sample of num_point_for_scaler rows of all hosts."""
    total = float(mesh.sum(torch.tensor([records.rows], dtype=torch.float64)))
    share = min(1.0, parameters.num_point_for_scaler / total)
    chosen = np.sort(np.random.default_rng(mesh.rank).permutation(records.rows)[: round(share * records.rows)])
    features = records.features[chosen]
    if not isinstance(features, np.ndarray):
        features = csr_matrix(features).astype(np.float64)
    labels = records.labels[chosen].astype(np.float64)
    moments = [np.array([len(chosen)]), *_sums(features, columns), np.array([labels.sum()])]
    summed = mesh.sum(torch.from_numpy(np.concatenate(moments))).numpy()
    count = max(summed[0], 1.0)
    mean, label_mean = summed[1 : columns + 1] / count, float(summed[-1] / count)
    # Around the mean in a second step: the difference of two sums of squares would lose the digits that matter.
    second = np.concatenate([*_sums(features, columns, mean)[1:], np.array([((labels - label_mean) ** 2).sum()])])
    spread = mesh.sum(torch.from_numpy(second)).numpy() / count
    deviation, label_deviation = np.sqrt(spread[:-1]), float(np.sqrt(spread[-1]))
    shifted = parameters.unbias_data and not sparse
    return Scaling(
        mean if shifted else np.zeros(columns),
        np.where(deviation > 0, deviation, 1.0) if parameters.normalize_data else np.ones(columns),
        label_mean if parameters.unbias_label else 0.0,
        label_deviation if parameters.normalize_label and label_deviation > 0 else 1.0,
    )


def _sums(features: Any, columns: int, mean: Any = None) -> list[Any]:
    """Sums of the columns; with `mean`, also of the squared distances from it."""
    if not features.shape[0]:
        return [np.zeros(columns)] * (1 if mean is None else 2)
    total = np.asarray(features.sum(axis=0), np.float64).ravel()
    if mean is None:
        return [total]
    if isinstance(features, np.ndarray):
        return [total, ((features - mean) ** 2).sum(axis=0, dtype=np.float64)]
    rows = features.shape[0]
    squares = np.asarray(features.multiply(features).sum(axis=0), np.float64).ravel()
    return [total, squares - 2 * mean * total + rows * mean**2]
