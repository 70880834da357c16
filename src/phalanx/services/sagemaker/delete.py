"""DeleteTrainingJob."""

from __future__ import annotations

from sqlalchemy import delete

from phalanx.jobs import warm_pools
from phalanx.jobs.control import JobControl
from phalanx.services.sagemaker import tags, trial_components
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import DeletedJob, TrainingJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members


def delete_training_job(database: Database, control: JobControl, _: Caller, members: Members) -> Members:
    """Forget a job that has ended: with its transitions, tags, evidence, metrics and logs. Its artifacts in S3 stay, and of one
    that trained on several instances what `phalanx audit` tells. Raises ResourceNotFound, ResourceInUse."""
    name = members["TrainingJobName"]
    with database.write() as session:
        job = session.get(TrainingJob, name)
        if job is None:
            raise AwsError("ResourceNotFound", "Requested resource not found.")
        if job.stage != "ended":
            raise AwsError(
                "ResourceInUse",
                f"The training job {name} is in status {job.status}. Only a job that is Completed, Failed or Stopped can be"
                " deleted: stop it first.",
            )
        if any(pool.name == name for pool in warm_pools.available(session)):
            raise AwsError(
                "ResourceInUse",
                f"The training job {name} retains an Available warm pool. End that first: UpdateTrainingJob with a"
                " KeepAlivePeriodInSeconds of 0.",
            )
        if job.instances > 1 and job.training_started is not None:
            session.add(
                DeletedJob(
                    name=name,
                    created=job.created,
                    arn=job.arn,
                    instances=job.instances,
                    status=job.status,
                    encrypted=job.encrypted,
                    doubt=control.doubt(job),
                    evidence=control.signed_summary(job),
                    deleted=now_ms(),
                )
            )
        trial_components.leave(session, name)
        tags.forget(session, job.arn)
        session.execute(delete(TrainingJob).where(TrainingJob.name == name))
    return {}
