"""Training jobs, their transitions, logs and tags, and what is left of deleted ones."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import TEXT, Base, Json

Stage = Literal["starting", "downloading", "training", "uploading", "interrupted", "ending", "ended"]
"""Where a job's runner is: in all but the last there is something left to do."""


UNFINISHED = ("InProgress", "Stopping")
"""The statuses of training and of tuning jobs that have not ended."""


class TrainingJob(Base):
    """A training job: the request as accepted, and what became of it.

    `status` and `secondary_status` are SageMaker's.
    """

    __tablename__ = "training_jobs"
    __table_args__ = (
        Index("ix_training_jobs_created", "created", "name"),
        Index("ix_training_jobs_status", "status", "created"),
        Index("ix_training_jobs_warm_pool", "warm_pool"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    arn: Mapped[str] = mapped_column(unique=True)
    request: Mapped[Json]
    status: Mapped[str]
    secondary_status: Mapped[str]
    failure_reason: Mapped[str | None]
    stop_requested: Mapped[bool] = mapped_column(default=False)
    # With its type: of a Literal alone SQLAlchemy makes an enumeration.
    stage: Mapped[Stage] = mapped_column(TEXT, default="starting")
    outcome: Mapped[Json | None]
    """How the job ends, decided before it is taken down: {status, secondary_status, message, failure_reason}."""
    retries: Mapped[int] = mapped_column(default=0)
    """How many times the job was started again after an InternalServerError (RetryStrategy)."""
    created: Mapped[int]
    modified: Mapped[int]
    training_started: Mapped[int | None]
    training_ended: Mapped[int | None]
    idle: Mapped[int] = mapped_column(default=0)
    """Milliseconds between the two in which the job had no instances: after interruptions and before new attempts."""
    idle_since: Mapped[int | None]
    """Since when the job, once started, has no instances; null while it has."""
    interrupt: Mapped[int | None]
    """Somebody asked to interrupt this spot job, and to give it instances again after so many milliseconds."""
    away_until: Mapped[int | None]
    """No instances are to be had for this spot job before then."""
    warm_pool: Mapped[str | None]
    """WarmPoolStatus.Status; null where the job has nothing to do with warm pools."""
    warm_since: Mapped[int | None]
    """When the job left its pool."""
    warm_ended: Mapped[int | None]
    """When the pool was reused or given up."""
    warm_from: Mapped[int | None]
    """When the first of the jobs was created that handed the pool on to this one."""
    warm_reused_by: Mapped[str | None]
    instances: Mapped[int]
    """InstanceCount."""
    encrypted: Mapped[bool]
    """EnableInterContainerTrafficEncryption as requested."""
    caller: Mapped[str] = mapped_column(default="")
    """ARN of who asked for it."""
    tuning_job_arn: Mapped[str | None]
    """The hyperparameter tuning job that started it."""
    plan: Mapped[Json | None]
    """The instances that the fleet was told to prepare; null before Starting and after clean-up."""
    model_uri: Mapped[str | None]
    """S3 URI of the model artifact."""
    metrics: Mapped[Json | None]
    """Final value of each metric: {name: [value, time in ms]}."""
    attempts: Mapped[Json | None]
    """{"reports": …} of attempts that were followed by another, the oldest first, until they are in the evidence."""
    evidence: Mapped[Json | None]
    """The signed encryption report, once the job has ended."""


class DeletedJob(Base):
    """What is kept of a deleted training job of several instances that has trained, so that `phalanx audit` still tells of it.

    A deleted job's name may be taken again.
    """

    __tablename__ = "deleted_jobs"

    name: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[int] = mapped_column(primary_key=True)
    arn: Mapped[str]
    instances: Mapped[int]
    status: Mapped[str]
    encrypted: Mapped[bool]
    doubt: Mapped[str | None]
    """Why it could not be shown that its traffic was encrypted; null where it could."""
    evidence: Mapped[Json | None]
    """The summary of its report."""
    deleted: Mapped[int]


class Transition(Base):
    """One entry of SecondaryStatusTransitions; `ended` of the last one is null until the job has ended."""

    __tablename__ = "transitions"

    job: Mapped[str] = mapped_column(ForeignKey("training_jobs.name", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    message: Mapped[str]
    started: Mapped[int]
    ended: Mapped[int | None]


class LogStream(Base):
    """A log stream `<job>/algo-N-<epoch>` of the group `/aws/sagemaker/TrainingJobs`. `position` is how far into the
    instance's log file its events have been read, in bytes."""

    __tablename__ = "log_streams"

    name: Mapped[str] = mapped_column(primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("training_jobs.name", ondelete="CASCADE"), index=True)
    host: Mapped[str]
    created: Mapped[int]
    position: Mapped[int] = mapped_column(default=0)
    events: Mapped[int] = mapped_column(default=0)
    """Number of events stored; also the next event's number."""
    first_event: Mapped[int | None]
    last_event: Mapped[int | None]
    last_ingestion: Mapped[int | None]


class LogEvent(Base):
    """One line of a log stream, numbered from 0 in the order it was written."""

    __tablename__ = "log_events"

    stream: Mapped[str] = mapped_column(ForeignKey("log_streams.name", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    timestamp: Mapped[int]
    ingested: Mapped[int]
    message: Mapped[str]


class Tag(Base):
    """A tag of any resource, by ARN (SageMaker, KMS)."""

    __tablename__ = "tags"

    arn: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
