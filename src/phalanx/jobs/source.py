"""The user's own source code of script mode: where the SDK put it, and where the container finds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath

from phalanx.data.model import Channel

PLACE = PurePosixPath("/opt/ml/input/source")
"""The container's directory that the archive is brought to."""
_SUBMITTED = "sagemaker_submit_directory"
"""The hyperparameter by which SDK v2 tells the image's toolkit where the archive is."""


def brought(hyperparameters: Mapping[str, str]) -> tuple[dict[str, str], Channel | None]:
    """The hyperparameters as the container gets them, and what is to be brought to PLACE before it starts.

    In SageMaker the toolkit in the container fetches the archive from S3, with the role's keys. Here the container has no keys
    and perhaps no way to S3: the platform brings the archive, and names the local copy, as the SDK itself does for jobs
    with network isolation.
    """
    uri = _bare(hyperparameters.get(_SUBMITTED, ""))
    if not uri.startswith("s3://"):
        return dict(hyperparameters), None
    copy = PLACE / PurePosixPath(uri).name
    return {**hyperparameters, _SUBMITTED: json.dumps(str(copy))}, Channel(PLACE.name, uri)


def _bare(value: str) -> str:
    """A hyperparameter without the JSON quotes that the SDK gives to those of framework estimators."""
    return value.removeprefix('"').removesuffix('"')
