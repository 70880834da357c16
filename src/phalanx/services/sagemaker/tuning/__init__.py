"""The operations on hyperparameter tuning jobs."""

from phalanx.services.sagemaker.tuning.create import create
from phalanx.services.sagemaker.tuning.describe import describe, records
from phalanx.services.sagemaker.tuning.listing import list_training_jobs, list_tuning_jobs
from phalanx.services.sagemaker.tuning.stop import delete_tuning_job, stop

__all__ = ["create", "delete_tuning_job", "describe", "list_training_jobs", "list_tuning_jobs", "records", "stop"]
