"""XGBoost: what the control plane must know of it. The training program itself is in `image`."""

_EVALUATED = [
    "accuracy",
    "aft-nloglik",
    "auc",
    "aucpr",
    "balanced_accuracy",
    "cox-nloglik",
    "error",
    "f1",
    "f1_binary",
    "f1_macro",
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
    "mse",
    "ndcg",
    "poisson-nloglik",
    "pre",
    "precision",
    "precision_macro",
    "precision_micro",
    "quantile",
    "r2",
    "recall",
    "recall_macro",
    "recall_micro",
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

RANGES = {
    "alpha": ("Continuous", "0", "1000", "Linear"),
    "colsample_bylevel": ("Continuous", "0.1", "1", "Linear"),
    "colsample_bynode": ("Continuous", "0.1", "1", "Linear"),
    "colsample_bytree": ("Continuous", "0.5", "1", "Linear"),
    "eta": ("Continuous", "0.1", "0.5", "Linear"),
    "gamma": ("Continuous", "0", "5", "Linear"),
    "lambda": ("Continuous", "0", "1000", "Linear"),
    "max_delta_step": ("Integer", "0", "10", "Linear"),
    "max_depth": ("Integer", "0", "10", "Linear"),
    "min_child_weight": ("Continuous", "0", "120", "Linear"),
    "num_round": ("Integer", "1", "4000", "Linear"),
    "subsample": ("Continuous", "0.5", "1", "Linear"),
}
"""Where SageMaker's documentation recommends to search ("Tune an XGBoost Model"): kind, bounds and scaling type by name."""

ALIASES = {"learning_rate": "eta", "min_split_loss": "gamma", "reg_alpha": "alpha", "reg_lambda": "lambda"}
"""Other names of hyperparameters, which may be searched over as well."""

RANGES |= {alias: RANGES[name] for alias, name in ALIASES.items()}
