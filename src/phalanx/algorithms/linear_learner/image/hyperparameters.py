"""The hyperparameters of SageMaker's linear learner: checked as SageMaker checks them, and what `auto` means."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contract import UserError
from values import boolean, choice, integer, or_words, parse, real

LOSSES = {
    "binary_classifier": ("logistic", "hinge_loss"),
    "multiclass_classifier": ("softmax_loss",),
    "regressor": (
        "squared_loss",
        "absolute_loss",
        "eps_insensitive_squared_loss",
        "eps_insensitive_absolute_loss",
        "quantile_loss",
        "huber_loss",
    ),
}
"""Of each predictor_type; the first is what `auto` means."""

_OBJECTIVES = {
    "logistic": "binary_classification_cross_entropy_objective",
    "softmax_loss": "multiclass_cross_entropy_objective",
    "squared_loss": "mse_objective",
}
_MODELS = 32
_MODEL_NUMBERS = 50_000_000
"""So many models are trained where num_models is `auto`, if all their weights together are no more numbers than this, and all
scores of a mini-batch."""
_LEARNING_RATES = {"adam": (0.005, 0.1), "rmsprop": (0.005, 0.1), "sgd": (0.01, 0.1)}
_WEIGHT_DECAYS = (0.0, 1e-4, 1e-2, 1.0)
_L1 = (0.0, 1e-5, 1e-3, 1e-2)

_positive = real(0, over=True)
_switch = or_words(boolean, "auto")

_PARSERS = {
    "accuracy_top_k": integer(1),
    "balance_multiclass_weights": boolean,
    "beta_1": or_words(real(0, 1, under=True), "auto"),
    "beta_2": or_words(real(0, 1, under=True), "auto"),
    "bias_lr_mult": or_words(_positive, "auto"),
    "bias_wd_mult": or_words(real(0), "auto"),
    "binary_classifier_model_selection_criteria": choice(
        "accuracy",
        "f1",
        "f_beta",
        "precision_at_target_recall",
        "recall_at_target_precision",
        "cross_entropy_loss",
        "loss_function",
    ),
    "early_stopping_patience": integer(1),
    "early_stopping_tolerance": _positive,
    "epochs": integer(1),
    "f_beta": _positive,
    "feature_dim": or_words(integer(1), "auto"),
    "huber_delta": _positive,
    "init_bias": real(),
    "init_method": choice("uniform", "normal"),
    "init_scale": _positive,
    "init_sigma": _positive,
    "l1": or_words(real(0), "auto"),
    "learning_rate": or_words(_positive, "auto"),
    "loss": choice("auto", *itertools.chain(*LOSSES.values())),
    "loss_insensitivity": _positive,
    "lr_scheduler_factor": or_words(real(0, 1, over=True), "auto"),
    "lr_scheduler_minimum_lr": or_words(_positive, "auto"),
    "lr_scheduler_step": or_words(integer(1), "auto"),
    "margin": _positive,
    "mini_batch_size": integer(1),
    "momentum": or_words(real(0, 1, under=True), "auto"),
    "normalize_data": _switch,
    "normalize_label": _switch,
    "num_calibration_samples": or_words(integer(1), "auto"),
    "num_classes": integer(3, 1_000_000),
    "num_models": or_words(integer(1), "auto"),
    "num_point_for_scaler": integer(1),
    "optimizer": choice("auto", "adam", "sgd", "rmsprop"),
    "positive_example_weight_mult": or_words(_positive, "auto", "balanced"),
    "predictor_type": choice(*LOSSES),
    "quantile": real(0, 1, over=True, under=True),
    "target_precision": real(0, 1),
    "target_recall": real(0, 1),
    "unbias_data": _switch,
    "unbias_label": _switch,
    "use_bias": boolean,
    "use_lr_scheduler": boolean,
    "wd": or_words(real(0), "auto"),
}


@dataclass(frozen=True)
class Candidate:
    """What one of the models that are trained side by side has of its own. No positive weight: that of the balance."""

    learning_rate: float
    wd: float
    l1: float
    positive_weight: float | None = 1.0


@dataclass(frozen=True)
class Hyperparameters:
    """What was asked for, by the documentation's names, with `auto` resolved as far as it does not depend on the data."""

    predictor_type: str
    classes: int
    loss: str
    optimizer: str
    learning_rate: float | None
    wd: float | None
    l1: float | None
    positive_example_weight_mult: float | str
    num_models: int | None
    feature_dim: int | None = None
    num_calibration_samples: int | None = None
    accuracy_top_k: int = 3
    balance_multiclass_weights: bool = False
    beta_1: float = 0.9
    beta_2: float = 0.999
    bias_lr_mult: float = 10.0
    bias_wd_mult: float = 0.0
    binary_classifier_model_selection_criteria: str = "accuracy"
    early_stopping_patience: int = 3
    early_stopping_tolerance: float = 0.001
    epochs: int = 15
    f_beta: float = 1.0
    huber_delta: float = 1.0
    init_bias: float = 0.0
    init_method: str = "uniform"
    init_scale: float = 0.07
    init_sigma: float = 0.01
    loss_insensitivity: float = 0.01
    lr_scheduler_factor: float = 0.99
    lr_scheduler_minimum_lr: float = 1e-5
    lr_scheduler_step: int = 100
    margin: float = 1.0
    mini_batch_size: int = 1000
    momentum: float = 0.0
    normalize_data: bool = True
    normalize_label: bool = False
    num_point_for_scaler: int = 10_000
    quantile: float = 0.5
    target_precision: float = 0.8
    target_recall: float = 0.8
    unbias_data: bool = True
    unbias_label: bool = False
    use_bias: bool = True
    use_lr_scheduler: bool = True

    @property
    def binary(self) -> bool:
        """Whether labels are 0 and 1."""
        return self.predictor_type == "binary_classifier"

    @property
    def regression(self) -> bool:
        """Whether labels are any numbers."""
        return self.predictor_type == "regressor"

    @property
    def objective(self) -> str:
        """The objective's name in metrics."""
        return _OBJECTIVES.get(self.loss, f"{self.loss}_objective")

    def candidates(self, features: int) -> list[Candidate]:
        """The models to train: the first as it was asked for, the others close to it."""
        rates = _near(self.learning_rate, _LEARNING_RATES[self.optimizer], (0.5,))
        decays = _near(self.wd, _WEIGHT_DECAYS, (0.1, 10.0))
        l1 = _near(self.l1, _L1, (0.1, 10.0))
        weights: tuple[float | None, ...] = (1.0,)
        if self.positive_example_weight_mult == "auto":
            weights = (1.0, None)
        elif self.positive_example_weight_mult == "balanced":
            weights = (None,)
        elif isinstance(self.positive_example_weight_mult, float):
            weights = (self.positive_example_weight_mult,)
        found = [
            Candidate(rate, decay, sparsity, weight)
            for sparsity, decay, weight, rate in itertools.product(l1, decays, weights, rates)
        ]
        numbers = max(features, self.mini_batch_size) * self.classes
        count = self.num_models or max(1, min(_MODELS, _MODEL_NUMBERS // numbers))
        # More models than there are neighbours differ in the weights that they start from.
        return list(itertools.islice(itertools.cycle(found), count))


def read(given: Mapping[str, str]) -> Hyperparameters:
    """Check all hyperparameters. Raises UserError for the first that is missing, unknown, malformed or out of range."""
    ignored = () if given.get("predictor_type") == "multiclass_classifier" else ("num_classes",)
    values: dict[str, Any] = {name: value for name, value in parse(given, _PARSERS, ignored).items() if value != "auto"}
    if "predictor_type" not in values:
        raise UserError("Missing required hyperparameter: predictor_type")
    kind = values["predictor_type"]
    classes = values.pop("num_classes", None)
    if kind != "multiclass_classifier":
        classes = 1
    elif classes is None:
        raise UserError("Missing required hyperparameter: num_classes, for predictor_type multiclass_classifier")
    loss = values.setdefault("loss", LOSSES[kind][0])
    if loss not in LOSSES[kind]:
        raise UserError(f"Hyperparameter loss: {loss} is not in [auto, {', '.join(LOSSES[kind])}] for predictor_type {kind}")
    bias = values.get("use_bias", True)
    values["unbias_data"] = bias and values.get("unbias_data", True)
    values["normalize_label"] = kind == "regressor" and values.get("normalize_label", True)
    values["unbias_label"] = kind == "regressor" and bias and values.get("unbias_label", True)
    if given.get("_tuning_objective_metric"):
        # A tuning job searches by itself (linear-learner-tuning).
        values["num_models"] = 1
    elif given.get("positive_example_weight_mult") == "auto":
        values["positive_example_weight_mult"] = "auto"
    return Hyperparameters(
        classes=classes,
        optimizer=values.pop("optimizer", "adam"),
        learning_rate=values.pop("learning_rate", None),
        wd=values.pop("wd", None),
        l1=values.pop("l1", None),
        positive_example_weight_mult=values.pop("positive_example_weight_mult", 1.0),
        num_models=values.pop("num_models", None),
        **values,
    )


def _near(value: float | None, otherwise: tuple[float, ...], factors: tuple[float, ...]) -> tuple[float, ...]:
    if value is None:
        return otherwise
    return (value, *(value * factor for factor in factors)) if value else (value,)
