"""StopHyperParameterTuningJob and DeleteHyperParameterTuningJob."""

from __future__ import annotations

from sqlalchemy import delete

from phalanx.jobs.control import JobControl
from phalanx.services.sagemaker import tags
from phalanx.services.sagemaker.errors import validation
from phalanx.services.sagemaker.tuning.describe import find
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import UNFINISHED
from phalanx.store.tuning import TuningJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members


def stop(database: Database, control: JobControl, _: Caller, members: Members) -> Members:
    """Ask a tuning job and its running training jobs to stop. One that has ended is refused: SDK v2 takes that for stopped."""
    with database.write() as session:
        job = find(session, members["HyperParameterTuningJobName"])
        if job.status not in UNFINISHED:
            raise validation(f"The request was rejected because the hyperparameter tuning job is in status {job.status}.")
        if job.status == "InProgress":
            job.status = "Stopping"
            job.modified = now_ms()
    control.wake()
    return {}


def delete_tuning_job(database: Database, _: Caller, members: Members) -> Members:
    """Forget a tuning job that has ended, and its tags. Its training jobs stay."""
    with database.write() as session:
        job = find(session, members["HyperParameterTuningJobName"])
        if job.status in UNFINISHED:
            raise AwsError(
                "ResourceInUse",
                f"The hyperparameter tuning job {job.name} is in status {job.status}. Only a job that is Completed, Failed or "
                "Stopped can be deleted: stop it first.",
            )
        tags.forget(session, job.arn)
        session.execute(delete(TuningJob).where(TuningJob.name == job.name))
    return {}
