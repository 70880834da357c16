"""What scripts import at their top that are a model's server as well, such as those of SageMaker's inference pipelines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import flask
from sagemaker_training import (
    content_types,
    encoders,
    entry_point,
    errors,
    files,
    functions,
    mapping,
    modules,
    params,
    process,
    runner,
    trainer,
)
from sagemaker_training import environment as env
from sagemaker_training import logging_config as logging

from sagemaker_containers import training_env


class Response(flask.Response):
    """What a script's `output_fn` answers, JSON unless it says otherwise; `accept` makes no difference."""

    default_mimetype = "application/json"

    def __init__(self, response: Any = None, accept: str | None = None, status: int = 200, **options: Any) -> None:
        super().__init__(response, status, **options)


worker = SimpleNamespace(Response=Response)
# Phalanx serves no models: of these there is the name alone.
server = transformer = SimpleNamespace()

__all__ = [
    "content_types",
    "encoders",
    "entry_point",
    "env",
    "errors",
    "files",
    "functions",
    "logging",
    "mapping",
    "modules",
    "params",
    "process",
    "runner",
    "server",
    "trainer",
    "training_env",
    "transformer",
    "worker",
]
