"""DescribeTrainingJob."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select

from phalanx.services.sagemaker.errors import not_found
from phalanx.services.times import moment
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob, Transition
from phalanx.store.statement import Statement
from phalanx.wire.service import Caller, Members

_JOB = Statement(
    select(*(column for column in TrainingJob.__table__.c if column.key not in ("evidence", "plan"))).where(
        TrainingJob.name == bindparam("job")
    )
)
_TRANSITIONS = Statement(select(Transition.__table__).where(Transition.job == bindparam("job")).order_by(Transition.number))


def describe(database: Database, _: Caller, members: Members) -> Members:
    """All that is known of a job. Members whose value is not known (yet) are None, or absent."""
    name = members["TrainingJobName"]
    with database.rows() as connection:
        job = _JOB.first(connection, job=name)
        if job is None:
            raise not_found()
        transitions = _TRANSITIONS.all(connection, job=name)
    return described(job, transitions)


def described(job: Any, transitions: Sequence[Any]) -> Members:
    """A job (a TrainingJob or a row of its table) with its transitions in the model's shape."""
    return {
        **job.request,
        "AlgorithmSpecification": _algorithm(job.request["AlgorithmSpecification"]),
        "TrainingJobArn": job.arn,
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary_status,
        "CreationTime": moment(job.created),
        "LastModifiedTime": moment(job.modified),
        "SecondaryStatusTransitions": [_transition(each) for each in transitions],
        "FinalMetricDataList": [
            {"MetricName": name, "Value": value, "Timestamp": moment(at)} for name, (value, at) in (job.metrics or {}).items()
        ],
        "FailureReason": job.failure_reason or None,
        "TuningJobArn": job.tuning_job_arn,
        "ModelArtifacts": {"S3ModelArtifacts": job.model_uri} if job.model_uri else None,
        **_times(job),
        "WarmPoolStatus": warm_pool(job),
    }


def warm_pool(job: Any) -> Members | None:
    """WarmPoolStatus of a job (or a row with its columns); None where it has nothing to do with warm pools."""
    if not job.warm_pool:
        return None
    status: Members = {"Status": job.warm_pool, "ReusedByJob": job.warm_reused_by}
    if job.warm_since is not None:
        kept = (job.warm_ended or now_ms()) - job.warm_since
        status["ResourceRetainedBillableTimeInSeconds"] = max(0, round(kept / 1000))
    return status


def _algorithm(specification: Members) -> Members:
    """One that names an algorithm shows no image, which is the algorithm's."""
    hidden = {"TrainingImage"} if "AlgorithmName" in specification else set()
    return {name: value for name, value in specification.items() if name not in hidden}


def _times(job: Any) -> Members:
    """BillableTimeInSeconds is the wall-clock time of one instance; SageMaker leaves the product with InstanceCount to you."""
    if job.training_started is None:
        return {}
    times: Members = {"TrainingStartTime": moment(job.training_started)}
    if job.training_ended is not None:
        seconds = max(1, round((job.training_ended - job.training_started) / 1000))
        times |= {
            "TrainingEndTime": moment(job.training_ended),
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": min(seconds, max(1, round((job.training_ended - job.training_started - job.idle) / 1000))),
        }
    return times


def _transition(transition: Any) -> Members:
    return {
        "Status": transition.status,
        "StartTime": moment(transition.started),
        "EndTime": moment(transition.ended),
        "StatusMessage": transition.message,
    }
