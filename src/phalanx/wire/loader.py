"""Service models: botocore's, and our own in `models`."""

from __future__ import annotations

import functools
from pathlib import Path

from botocore.loaders import Loader
from botocore.model import ServiceModel

OWN_MODELS = str(Path(__file__).parent / "models")
"""Models of services that AWS does not have, in botocore's layout: AWS_DATA_PATH lets boto3 and the AWS CLI speak them."""


@functools.cache
def service_model(name: str) -> ServiceModel:
    """The newest model of a service, botocore's or our own. Models that a user keeps in ~/.aws are not looked at."""
    return ServiceModel(_loader().load_service_model(name, "service-2"), name)


@functools.cache
def _loader() -> Loader:
    # One for all models: each looks through the directories of 400 services once.
    return Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH, OWN_MODELS], include_default_search_paths=False)
