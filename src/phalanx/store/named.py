"""What SageMaker's resources with a name of their own and an ARN are kept in."""

from __future__ import annotations

from typing import Any

from phalanx.store.experiments import Algorithm, Experiment, Trial, TrialComponent
from phalanx.store.jobs import TrainingJob
from phalanx.store.tuning import TuningJob

NAMED: dict[str, Any] = {
    "training-job": TrainingJob,
    "hyper-parameter-tuning-job": TuningJob,
    "algorithm": Algorithm,
    "experiment": Experiment,
    "experiment-trial": Trial,
    "experiment-trial-component": TrialComponent,
}
"""By the resource type in the ARN; each has the columns `name` and `arn`."""
