"""DeleteTrainingJob."""

from __future__ import annotations

from sqlalchemy import delete, select

from phalanx.jobs import warm_pools
from phalanx.jobs.control import JobControl
from phalanx.services.sagemaker import tags, trial_components
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import DeletedJob, LogEvent, LogStream, TrainingJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

PORTION = 10_000
"""Log events that one transaction deletes at most, some 5 µs each: all that write wait for it."""


def delete_training_job(database: Database, control: JobControl, _: Caller, members: Members) -> Members:
    """Forget a job that has ended: with its transitions, tags, evidence, metrics and logs. Its artifacts in S3 stay, and of one
    that trained on several instances what `phalanx audit` tells. Raises ResourceNotFound, ResourceInUse.

    A long log goes in portions, the oldest lines first, and all else with the last of them: until then the job is there. Where
    the service is killed meanwhile it still is, with what is left of its log; nobody was told otherwise, and AWS's clients
    ask again.
    """
    while not _forget(database, control, members["TrainingJobName"]):
        pass
    return {}


def _forget(database: Database, control: JobControl, name: str) -> bool:
    """In one transaction delete a portion of the job's log, or the job with what is left of it. Whether the job is gone."""
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
        streams = session.scalars(select(LogStream.name).where(LogStream.job == name)).all()
        order = (LogEvent.stream, LogEvent.number)
        log = select(*order).where(LogEvent.stream.in_(streams)).order_by(*order)
        if rest := session.execute(log.offset(PORTION).limit(1)).one_or_none():
            # In two statements, each of which finds its rows by the index.
            session.execute(delete(LogEvent).where(LogEvent.stream.in_([each for each in streams if each < rest.stream])))
            session.execute(delete(LogEvent).where(LogEvent.stream == rest.stream, LogEvent.number < rest.number))
            return False
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
    return True
