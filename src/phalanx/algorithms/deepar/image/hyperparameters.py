"""The hyperparameters of SageMaker's DeepAR, checked as SageMaker checks them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contract import UserError
from values import OutOfRange, choice, integer, listed, or_words, parse, real

LIKELIHOODS = ("gaussian", "beta", "negative-binomial", "student-T", "deterministic-L1")
_REQUIRED = ("context_length", "epochs", "prediction_length", "time_freq")


def _frequency(text: str) -> str:
    if not re.fullmatch(r"([1-9][0-9]*)?(M|W|D|H|min)", text):
        raise OutOfRange("[M, W, D, H, min] and their multiples, such as 5min")
    # pandas has new names for hours.
    return text.replace("H", "h")


def _quantiles(text: str) -> tuple[float, ...]:
    found = tuple(listed(real(0, 1, over=True, under=True))(text))
    if not found:
        raise OutOfRange("arrays of one or more quantiles")
    return found


_feature_count = or_words(integer(1), "auto", "ignore", "")

_PARSERS = {
    "cardinality": or_words(listed(integer(1)), "auto", "ignore", ""),
    "context_length": integer(1),
    "dropout_rate": real(0, 1, under=True),
    "early_stopping_patience": or_words(integer(1), ""),
    "embedding_dimension": integer(1),
    "epochs": integer(1),
    "learning_rate": real(0, over=True),
    "likelihood": choice(*LIKELIHOODS, "student-t"),
    "mini_batch_size": integer(1),
    "num_cells": integer(1),
    "num_dynamic_feat": _feature_count,
    "num_eval_samples": integer(1),
    "num_layers": integer(1),
    "prediction_length": integer(1),
    "test_quantiles": _quantiles,
    "time_freq": _frequency,
}


@dataclass(frozen=True)
class Hyperparameters:
    """What was asked for, by the documentation's names. `cardinality` and `num_dynamic_feat` may be `auto` or `ignore`."""

    context_length: int
    epochs: int
    prediction_length: int
    time_freq: str
    cardinality: list[int] | str = "auto"
    dropout_rate: float = 0.1
    early_stopping_patience: int | None = None
    embedding_dimension: int = 10
    learning_rate: float = 1e-3
    likelihood: str = "student-T"
    mini_batch_size: int = 128
    num_cells: int = 40
    num_dynamic_feat: int | str = "auto"
    num_eval_samples: int = 100
    num_layers: int = 2
    test_quantiles: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def read(given: Mapping[str, str]) -> Hyperparameters:
    """Check all hyperparameters. Raises UserError for the first that is missing, unknown, malformed or out of range."""
    values: dict[str, Any] = {name: value for name, value in parse(given, _PARSERS).items() if value != ""}
    for name in _REQUIRED:
        if name not in values:
            raise UserError(f"Missing required hyperparameter: {name}")
    if values.get("likelihood") == "student-t":
        values["likelihood"] = "student-T"
    return Hyperparameters(**values)
