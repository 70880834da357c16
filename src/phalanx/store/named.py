"""What SageMaker's resources with a name and an ARN are kept in."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from phalanx.store.experiments import Algorithm, Experiment, Trial, TrialComponent
from phalanx.store.jobs import TrainingJob
from phalanx.store.lineage import Artifact
from phalanx.store.tuning import TuningJob

NAMED: dict[str, Any] = {
    "training-job": TrainingJob,
    "hyper-parameter-tuning-job": TuningJob,
    "algorithm": Algorithm,
    "experiment": Experiment,
    "experiment-trial": Trial,
    "experiment-trial-component": TrialComponent,
    "artifact": Artifact,
}
"""By the resource type in the ARN; each has the columns `name` and `arn`."""

_ARNS: dict[str, Select[Any]] = {
    kind: select(table.arn).where(table.name == bindparam("name")) for kind, table in NAMED.items()
}
"""Made once: every request of SageMaker's asks one."""


def arns(connection: Connection, kind: str, name: str) -> list[str]:
    """The ARN of what has a name, in a list; empty where nothing has. Raises KeyError for a type that `NAMED` does not have."""
    return list(connection.execute(_ARNS[kind], {"name": name}).scalars())
