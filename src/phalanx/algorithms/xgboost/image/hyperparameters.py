"""The hyperparameters of SageMaker's XGBoost: checked as SageMaker checks them, and turned into XGBoost's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import values as check
from contract import UserError
from values import OutOfRange, Parser, choice, integer, real

OBJECTIVES = [
    "reg:squarederror",
    "reg:squaredlogerror",
    "reg:logistic",
    "reg:pseudohubererror",
    "reg:absoluteerror",
    "reg:quantileerror",
    "reg:gamma",
    "reg:tweedie",
    "reg:linear",
    "binary:logistic",
    "binary:logitraw",
    "binary:hinge",
    "count:poisson",
    "survival:cox",
    "survival:aft",
    "multi:softmax",
    "multi:softprob",
    "rank:pairwise",
    "rank:ndcg",
    "rank:map",
]
METRICS = [
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
CLASSIFICATION_METRICS = [
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_binary",
    "f1_macro",
    "precision",
    "precision_macro",
    "precision_micro",
    "recall",
    "recall_macro",
    "recall_micro",
]
OWN_METRICS = ["mse", "r2", *CLASSIFICATION_METRICS]
"""Those of SageMaker's XGBoost that XGBoost itself does not have."""
_AREAS = ("auc", "aucpr")
"""Those that XGBoost finds of each host's own rows."""

_IGNORED = [
    "deterministic_histogram",
    "dsplit",
    "lambda_bias",
    "predictor",
    "prob_buffer_row",
    "silent",
    "single_precision_histogram",
    "sketch_eps",
    "use_dask_gpu_training",
]
"""Of older versions; XGBoost no longer knows them."""
_ALIASES = {"learning_rate": "eta", "min_split_loss": "gamma", "reg_alpha": "alpha", "reg_lambda": "lambda"}


@dataclass(frozen=True)
class Hyperparameters:
    """What was asked for. `parameters` are XGBoost's own, by its names; early stopping looks at `watched_metric`, or at the
    objective's own where it is None."""

    num_round: int
    early_stopping_rounds: int | None
    csv_weights: bool
    save_model_on_termination: bool
    own_metrics: tuple[str, ...] = ()
    watched_metric: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ranking(self) -> bool:
        """Whether rows belong to query groups."""
        return str(self.parameters.get("objective", "")).startswith("rank:")

    def together(self) -> Hyperparameters:
        """The same for hosts that evaluate a model together: areas under curves are metrics of our own, except of many classes.

        Not where rows have query groups: there XGBoost takes the mean over the groups of all hosts.
        """
        asked = self.parameters.get("eval_metric", [])
        areas = tuple(name for name in asked if name in _AREAS)
        if not areas or str(self.parameters.get("objective", "")).startswith("multi:"):
            return self
        return replace(self, own_metrics=self.own_metrics + areas, parameters={**self.parameters, **_evaluated(asked, areas)})

    @property
    def linear(self) -> bool:
        """Whether the model is linear, and has no trees."""
        return self.parameters.get("booster") == "gblinear"

    @property
    def survival_times(self) -> bool:
        """Whether labels are times of events, which XGBoost takes as bounds between which they were."""
        return self.parameters.get("objective") == "survival:aft"

    @property
    def labels(self) -> tuple[float, float]:
        """Least and greatest label that the objective takes."""
        objective = str(self.parameters.get("objective", ""))
        if objective.startswith("binary:") or objective == "reg:logistic":
            return 0, 1
        if objective.startswith("multi:"):
            return 0, self.parameters["num_class"] - 1
        if objective in ("count:poisson", "reg:gamma", "reg:tweedie", "survival:aft"):
            return 0, math.inf
        return -math.inf, math.inf


def parse(given: Mapping[str, str]) -> Hyperparameters:
    """Check all hyperparameters. Raises UserError for the first that is missing, unknown, malformed or out of range."""
    values = check.parse(given, _PARSERS, _IGNORED)
    for alias, name in _ALIASES.items():
        if alias in values:
            if name in values:
                raise UserError(f"Hyperparameters {name} and {alias} are the same: give one of them")
            values[name] = values.pop(alias)
    if "num_round" not in values:
        raise UserError("Missing required hyperparameter: num_round")
    for name in ("_kfold", "_num_cv_round"):
        if name in given:
            raise UserError(f"Hyperparameter {name}: cross-validation is not supported")
    objective = values.get("objective", "reg:squarederror")
    if objective == "reg:linear":
        values["objective"] = "reg:squarederror"
    if objective.startswith("multi:") and "num_class" not in values:
        raise UserError("Require input for parameter 'num_class' for multi-classification")
    _add_tuned_metric(values, given.get("_tuning_objective_metric"))
    asked = values.get("eval_metric", [])
    if not objective.startswith(("binary:", "multi:", "reg:logistic")):
        wrong = [name for name in asked if name in CLASSIFICATION_METRICS]
        if wrong:
            raise UserError(f"Hyperparameter eval_metric: {wrong[0]} is of classification, not of objective {objective}")
    own = tuple(name for name in asked if name in OWN_METRICS)
    values |= _evaluated(asked, own) if asked else {}
    return Hyperparameters(
        num_round=values.pop("num_round"),
        early_stopping_rounds=values.pop("early_stopping_rounds", None),
        csv_weights=values.pop("csv_weights", 0) == 1,
        save_model_on_termination=values.pop("save_model_on_termination", "false") == "true",
        own_metrics=own,
        watched_metric=asked[-1] if asked else None,
        parameters=values,
    )


def _evaluated(asked: list[str], own: tuple[str, ...]) -> dict[str, Any]:
    """What XGBoost is told of the metrics that were asked for, where `own` are none of its business."""
    left = [name for name in asked if name not in own]
    # Without a metric of its own XGBoost would add the objective's.
    return {"eval_metric": left} | ({} if left else {"disable_default_eval_metric": 1})


def _add_tuned_metric(values: dict[str, Any], metric: str | None) -> None:
    """A tuning job names the metric it looks at (`validation:auc`); it must be evaluated, asked for or not."""
    if metric and ":" in metric:
        name = _metrics(metric.split(":", 1)[1])
        values["eval_metric"] = [m for m in values.get("eval_metric", []) if m not in name] + name


def _metrics(text: str) -> list[str]:
    found = [name.strip().strip("'\"") for name in text.strip("[]").split(",")]
    for name in found:
        if name.split("@")[0] not in METRICS and name not in OWN_METRICS:
            raise OutOfRange("[" + ", ".join([*METRICS, *OWN_METRICS]) + "]")
    return found


def _text(text: str) -> str:
    return text


_fraction = real(0, 1)
_sample = real(0, 1, over=True)
_positive = real(0)

_PARSERS: dict[str, Parser] = {
    "aft_loss_distribution": choice("normal", "logistic", "extreme"),
    "aft_loss_distribution_scale": real(0, over=True),
    "alpha": _positive,
    "base_score": real(),
    "booster": choice("gbtree", "gblinear", "dart"),
    "colsample_bylevel": _sample,
    "colsample_bynode": _sample,
    "colsample_bytree": _sample,
    "csv_weights": integer(0, 1),
    "early_stopping_rounds": integer(1),
    "eta": _fraction,
    "eval_metric": _metrics,
    "gamma": _positive,
    "grow_policy": choice("depthwise", "lossguide"),
    "huber_slope": real(0, over=True),
    "interaction_constraints": _text,
    "lambda": _positive,
    "max_bin": integer(2),
    "max_cached_hist_node": integer(1),
    "max_delta_step": _positive,
    "max_depth": integer(0),
    "max_leaves": integer(0),
    "min_child_weight": _positive,
    "monotone_constraints": _text,
    "normalize_type": choice("tree", "forest"),
    "nthread": integer(1),
    "num_class": integer(2),
    "num_parallel_tree": integer(1),
    "num_round": integer(1),
    "objective": choice(*OBJECTIVES),
    "one_drop": integer(0, 1),
    "process_type": choice("default"),
    "quantile_alpha": real(0, 1, over=True, under=True),
    "rate_drop": _fraction,
    "refresh_leaf": integer(0, 1),
    "sample_type": choice("uniform", "weighted"),
    "sampling_method": choice("uniform"),
    "save_model_on_termination": choice("true", "false"),
    "scale_pos_weight": real(),
    "seed": integer(-(2**31), 2**31 - 1),
    "skip_drop": _fraction,
    "subsample": _sample,
    "tree_method": choice("auto", "exact", "approx", "hist"),
    "tweedie_variance_power": real(1, 2, over=True, under=True),
    "updater": _text,
    "verbosity": integer(0, 3),
}
_PARSERS |= {alias: _PARSERS[name] for alias, name in _ALIASES.items()}
