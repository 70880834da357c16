"""XGBoost: what the control plane must know of it. The training program itself is in `image`."""

_EVALUATED = [
    "aft-nloglik",
    "auc",
    "aucpr",
    "cox-nloglik",
    "error",
    "gamma-deviance",
    "gamma-nloglik",
    "interval-regression-accuracy",
    "logloss",
    "mae",
    "map",
    "mape",
    "merror",
    "mlogloss",
    "mphe",
    "ndcg",
    "poisson-nloglik",
    "pre",
    "quantile",
    "rmse",
    "rmsle",
    "tweedie-nloglik",
]
_NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"

METRICS = tuple(
    (f"{channel}:{name}", rf"\[[0-9]+\].*\t{channel}-{name}(?:@[^:\t]*)?:{_NUMBER}")
    for channel in ("train", "validation")
    for name in _EVALUATED
)
"""Metric definitions over lines like `[12:34:56] [3]<tab>train-auc:0.99123<tab>validation-auc:0.98765`."""
