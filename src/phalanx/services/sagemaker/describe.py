"""DescribeTrainingJob."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import defer

from phalanx.services.sagemaker.errors import not_found
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob, Transition
from phalanx.wire.service import Caller, Members


def moment(milliseconds: int) -> datetime:
    """A time of the store as a timestamp of the service model."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def describe(database: Database, _: Caller, members: Members) -> Members:
    """All that is known of a job. Members whose value is not known (yet) are absent."""
    with database.read() as session:
        job = session.scalar(
            select(TrainingJob)
            .where(TrainingJob.name == members["TrainingJobName"])
            .options(defer(TrainingJob.evidence), defer(TrainingJob.plan))
        )
        if job is None:
            raise not_found()
        transitions = session.scalars(select(Transition).where(Transition.job == job.name).order_by(Transition.number)).all()
    return described(job, transitions)


def described(job: TrainingJob, transitions: Sequence[Transition]) -> Members:
    """A job with its transitions in the model's shape."""
    return {
        **job.request,
        "TrainingJobArn": job.arn,
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary_status,
        "CreationTime": moment(job.created),
        "LastModifiedTime": moment(job.modified),
        "SecondaryStatusTransitions": [_transition(each) for each in transitions],
        "FinalMetricDataList": [
            {"MetricName": name, "Value": value, "Timestamp": moment(at)} for name, (value, at) in (job.metrics or {}).items()
        ],
        **({"FailureReason": job.failure_reason} if job.failure_reason else {}),
        **({"ModelArtifacts": {"S3ModelArtifacts": job.model_uri}} if job.model_uri else {}),
        **_times(job),
    }


def _times(job: TrainingJob) -> Members:
    """BillableTimeInSeconds is the wall-clock time of one instance; SageMaker leaves the product with InstanceCount to you."""
    if job.training_started is None:
        return {}
    times: Members = {"TrainingStartTime": moment(job.training_started)}
    if job.training_ended is not None:
        seconds = max(1, round((job.training_ended - job.training_started) / 1000))
        times |= {
            "TrainingEndTime": moment(job.training_ended),
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": seconds,
        }
    return times


def _transition(transition: Transition) -> Members:
    return {
        "Status": transition.status,
        "StartTime": moment(transition.started),
        **({} if transition.ended is None else {"EndTime": moment(transition.ended)}),
        "StatusMessage": transition.message,
    }
