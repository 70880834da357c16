"""The hyperparameters of SageMaker's XGBoost: checked as SageMaker checks them, and turned into XGBoost's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contract import UserError

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

Parser = Callable[[str], Any]


@dataclass(frozen=True)
class Hyperparameters:
    """What was asked for. `parameters` are XGBoost's own, by its names."""

    num_round: int
    early_stopping_rounds: int | None
    csv_weights: bool
    save_model_on_termination: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ranking(self) -> bool:
        """Whether rows belong to query groups."""
        return str(self.parameters.get("objective", "")).startswith("rank:")

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
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name.startswith(("_", "sagemaker_")):
            continue
        if name in _IGNORED:
            print(f"Hyperparameter {name} has no effect in this version of XGBoost")
            continue
        if name not in _PARSERS:
            raise UserError(f"Extraneous hyperparameter found: {name}")
        try:
            values[name] = _PARSERS[name](text.strip())
        except _OutOfRange as error:
            raise UserError(f"Hyperparameter {name}: {text} is not in {error}") from error
        except ValueError as error:
            raise UserError(f"Hyperparameter {name}: could not parse value: {text}") from error
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
    return Hyperparameters(
        num_round=values.pop("num_round"),
        early_stopping_rounds=values.pop("early_stopping_rounds", None),
        csv_weights=values.pop("csv_weights", 0) == 1,
        save_model_on_termination=values.pop("save_model_on_termination", "false") == "true",
        parameters=values,
    )


def _add_tuned_metric(values: dict[str, Any], metric: str | None) -> None:
    """A tuning job names the metric it looks at (`validation:auc`); it must be evaluated, asked for or not."""
    if metric and ":" in metric:
        name = _metrics(metric.split(":", 1)[1])
        values["eval_metric"] = [m for m in values.get("eval_metric", []) if m not in name] + name


class _OutOfRange(ValueError):
    """The text is the range."""


def _integer(low: int, high: float = math.inf) -> Parser:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise _OutOfRange(f"[{low}, {high}]")
        return value

    return parse


def _real(low: float = -math.inf, high: float = math.inf, *, over: bool = False, under: bool = False) -> Parser:
    """A number from `low` to `high`; without `low` itself if `over`, without `high` itself if `under`."""

    def parse(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(text)
        if not low <= value <= high or (over and value == low) or (under and value == high):
            raise _OutOfRange(f"{'(' if over else '['}{low}, {high}{')' if under else ']'}")
        return value

    return parse


def _choice(*choices: str) -> Parser:
    def parse(text: str) -> str:
        if text not in choices:
            raise _OutOfRange("[" + ", ".join(choices) + "]")
        return text

    return parse


def _metrics(text: str) -> list[str]:
    found = [name.strip().strip("'\"") for name in text.strip("[]").split(",")]
    for name in found:
        if name.split("@")[0] not in METRICS:
            raise _OutOfRange("[" + ", ".join(METRICS) + "]")
    return found


def _text(text: str) -> str:
    return text


_fraction = _real(0, 1)
_sample = _real(0, 1, over=True)
_positive = _real(0)

_PARSERS: dict[str, Parser] = {
    "aft_loss_distribution": _choice("normal", "logistic", "extreme"),
    "aft_loss_distribution_scale": _real(0, over=True),
    "alpha": _positive,
    "base_score": _real(),
    "booster": _choice("gbtree", "gblinear", "dart"),
    "colsample_bylevel": _sample,
    "colsample_bynode": _sample,
    "colsample_bytree": _sample,
    "csv_weights": _integer(0, 1),
    "early_stopping_rounds": _integer(1),
    "eta": _fraction,
    "eval_metric": _metrics,
    "gamma": _positive,
    "grow_policy": _choice("depthwise", "lossguide"),
    "huber_slope": _real(0, over=True),
    "interaction_constraints": _text,
    "lambda": _positive,
    "max_bin": _integer(2),
    "max_cached_hist_node": _integer(1),
    "max_delta_step": _positive,
    "max_depth": _integer(0),
    "max_leaves": _integer(0),
    "min_child_weight": _positive,
    "monotone_constraints": _text,
    "normalize_type": _choice("tree", "forest"),
    "nthread": _integer(1),
    "num_class": _integer(2),
    "num_parallel_tree": _integer(1),
    "num_round": _integer(1),
    "objective": _choice(*OBJECTIVES),
    "one_drop": _integer(0, 1),
    "process_type": _choice("default"),
    "quantile_alpha": _real(0, 1, over=True, under=True),
    "rate_drop": _fraction,
    "refresh_leaf": _integer(0, 1),
    "sample_type": _choice("uniform", "weighted"),
    "sampling_method": _choice("uniform"),
    "save_model_on_termination": _choice("true", "false"),
    "scale_pos_weight": _real(),
    "seed": _integer(-(2**31), 2**31 - 1),
    "skip_drop": _fraction,
    "subsample": _sample,
    "tree_method": _choice("auto", "exact", "approx", "hist"),
    "tweedie_variance_power": _real(1, 2, over=True, under=True),
    "updater": _text,
    "verbosity": _integer(0, 3),
}
