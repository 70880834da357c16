"""How good forecasts of the last prediction_length points of test series are, as SageMaker's DeepAR measures it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hyperparameters import Hyperparameters
from mesh import Mesh
from series import Series


def scores(predictor: Any, series: list[Series], parameters: Hyperparameters, mesh: Mesh) -> dict[str, float]:
    """RMSE, the mean quantile losses and each quantile's, over the test series of all hosts; `series` are this one's share.

    Nothing where all values that are forecast are missing: a loss of 0 would be the best that there can be.
    """
    horizon = parameters.prediction_length
    sums = np.zeros(3 + len(parameters.test_quantiles))
    entries = [each.entry(-horizon) for each in series]
    for each, forecast in zip(series, predictor.predict(entries, num_samples=parameters.num_eval_samples), strict=True):
        truth = each.target[-horizon:].astype(np.float64)
        known = ~np.isnan(truth)
        truth, samples = truth[known], forecast.samples[:, known]
        losses = [
            2 * np.maximum(q * error, (q - 1) * error).sum()
            for q, error in ((q, truth - np.quantile(samples, q, axis=0)) for q in parameters.test_quantiles)
        ]
        sums += [len(truth), ((truth - samples.mean(0)) ** 2).sum(), np.abs(truth).sum(), *losses]
    count, squares, total, *losses = mesh.sum(torch.from_numpy(sums)).tolist()
    if not count:
        return {}
    weighted = [loss / max(total, 1e-300) for loss in losses]
    return {
        "RMSE": float(np.sqrt(squares / count)),
        "mean_absolute_QuantileLoss": float(np.mean(losses)),
        "mean_wQuantileLoss": float(np.mean(weighted)),
        **{f"wQuantileLoss[{q}]": loss for q, loss in zip(parameters.test_quantiles, weighted, strict=True)},
    }
