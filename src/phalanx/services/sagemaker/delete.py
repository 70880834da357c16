"""DeleteTrainingJob."""

from __future__ import annotations

from sqlalchemy import delete, select

from phalanx.jobs import warm_pools
from phalanx.services.sagemaker import tags, trial_components
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members


def delete_training_job(database: Database, _: Caller, members: Members) -> Members:
    """Forget a job that has ended: with its transitions, tags, evidence, metrics and logs. Its artifacts in S3 stay."""
    name = members["TrainingJobName"]
    with database.write() as session:
        row = session.execute(select(TrainingJob.arn, TrainingJob.stage, TrainingJob.status).filter_by(name=name)).first()
        if row is None:
            raise AwsError("ResourceNotFound", "Requested resource not found.")
        if row.stage != "ended":
            raise AwsError(
                "ResourceInUse",
                f"The training job {name} is in status {row.status}. Only a job that is Completed, Failed or Stopped can be"
                " deleted: stop it first.",
            )
        if any(pool.name == name for pool in warm_pools.available(session)):
            raise AwsError(
                "ResourceInUse",
                f"The training job {name} retains an Available warm pool. End that first: UpdateTrainingJob with a"
                " KeepAlivePeriodInSeconds of 0.",
            )
        trial_components.leave(session, name)
        tags.forget(session, row.arn)
        session.execute(delete(TrainingJob).where(TrainingJob.name == name))
    return {}
