"""The built-in algorithms and framework images, and which training image URIs mean them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phalanx.algorithms import deepar, linear_learner, xgboost

_URI = re.compile(
    r"(?:[^\s/]+/)*"
    r"(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)
_URI_CHARACTERS = 255
"""AlgorithmSpecification.TrainingImage takes no more."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A built-in algorithm, or a framework's image for scripts of the user.

    `repositories` are the repository names of its images in SageMaker's registries; `contexts` are the directories that its
    image is built from, each on the one before (a Containerfile, `requirements.txt` …); `metrics` are (Name, Regex) as in
    AlgorithmSpecification.MetricDefinitions; `ranges` are where SageMaker's documentation recommends to search for
    hyperparameters: name to kind, bounds and scaling type.
    """

    name: str
    repositories: frozenset[str]
    contexts: tuple[Path, ...]
    metrics: tuple[tuple[str, str], ...] = ()
    ranges: Mapping[str, tuple[str, str, str, str]] = field(default_factory=dict)


def _image(name: str) -> Path:
    return Path(__file__).parent / name / "image"


def _packages(name: str) -> Path:
    """What the program needs, a layer of its own: it stays where only the program changes."""
    return Path(__file__).parent / name / "packages"


ALGORITHMS = (
    Algorithm(
        name="xgboost",
        repositories=frozenset({"sagemaker-xgboost", "xgboost"}),
        contexts=(_image("toolkit"), _packages("xgboost"), _image("xgboost")),
        metrics=xgboost.METRICS,
        ranges=xgboost.RANGES,
    ),
    Algorithm(
        name="linear-learner",
        repositories=frozenset({"linear-learner"}),
        contexts=(_image("torch"), _image("linear_learner")),
        metrics=linear_learner.METRICS,
    ),
    Algorithm(
        name="deepar",
        repositories=frozenset({"forecasting-deepar"}),
        contexts=(_image("torch"), _packages("deepar"), _image("deepar")),
        metrics=deepar.METRICS,
    ),
    Algorithm(
        name="scikit-learn",
        repositories=frozenset({"sagemaker-scikit-learn"}),
        contexts=(_image("toolkit"), _packages("xgboost"), _image("scikit_learn")),
    ),
    Algorithm(
        name="pytorch",
        repositories=frozenset({"pytorch-training"}),
        contexts=(_image("torch"), _image("toolkit"), _image("pytorch")),
    ),
)


def find(image_uri: str) -> Algorithm | None:
    """The algorithm that a training image URI means, by its repository's name alone: registry, account and tag do not matter.

    So what `sagemaker.image_uris.retrieve` returns works unmodified in every region. None for other or malformed URIs.
    """
    match = _URI.fullmatch(image_uri) if len(image_uri) <= _URI_CHARACTERS else None
    if match is None:
        return None
    return next((algorithm for algorithm in ALGORITHMS if match["repository"] in algorithm.repositories), None)
