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

_ROUNDING = 1e-6
"""Of the mean: a smaller deviation is none."""


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
    sample = records.drawn(parameters.num_point_for_scaler, mesh)
    features, labels = sample.features, sample.labels.astype(np.float64)
    if not isinstance(features, np.ndarray):
        features = csr_matrix(features).astype(np.float64)
        features.sum_duplicates()
    sums = [[sample.rows], np.asarray(features.sum(axis=0, dtype=np.float64)).ravel(), [labels.sum()]]
    summed = mesh.sum(torch.from_numpy(np.concatenate(sums, dtype=np.float64))).numpy()
    count = max(summed[0], 1.0)
    mean, label_mean = summed[1:-1] / count, summed[-1] / count
    # Around the mean in a second step: the difference of two sums of squares would lose the digits that matter.
    squares = np.concatenate([_squares(features, mean), [((labels - label_mean) ** 2).sum()]])
    deviation = np.sqrt(mesh.sum(torch.from_numpy(squares)).numpy() / count)
    shifted = parameters.unbias_data and not sparse
    return Scaling(
        mean if shifted else np.zeros(columns),
        _scale(deviation[:-1], mean) if parameters.normalize_data else np.ones(columns),
        float(label_mean) if parameters.unbias_label else 0.0,
        float(_scale(deviation[-1], label_mean)) if parameters.normalize_label else 1.0,
    )


def _squares(features: Any, mean: Any) -> Any:
    """Sums of the columns' squared distances from `mean`."""
    if isinstance(features, np.ndarray):
        return ((features - mean) ** 2).sum(axis=0)
    stored = np.bincount(features.indices, (features.data - mean[features.indices]) ** 2, len(mean))
    return stored + (features.shape[0] - np.bincount(features.indices, minlength=len(mean))) * mean**2


def _scale(deviation: Any, mean: Any) -> Any:
    """What to divide by: the deviation, or the size of what is constant but for float32's rounding, which would be blown up."""
    size = np.abs(mean)
    return np.where(deviation > _ROUNDING * size, deviation, np.where(size > 0, size, 1.0))
