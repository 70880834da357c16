"""Hyperparameter tuning jobs, the training jobs that they start, and the objective values that these emit."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import Base, Json


class TuningJob(Base):
    """A hyperparameter tuning job: the request as accepted, and what became of it. `status` is SageMaker's."""

    __tablename__ = "tuning_jobs"
    __table_args__ = (
        Index("ix_tuning_jobs_created", "created", "name"),
        Index("ix_tuning_jobs_status", "status", "created"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    arn: Mapped[str] = mapped_column(unique=True)
    request: Mapped[Json]
    caller: Mapped[str]
    """ARN of the principal that created it, for whom its training jobs are created."""
    seed: Mapped[int]
    """RandomSeed, or one that was drawn."""
    warm: Mapped[Json]
    """What its parents had found when it was created: {observations, best}, by jobs.tuning.warm."""
    status: Mapped[str]
    failure_reason: Mapped[str | None]
    outcome: Mapped[Json | None]
    """How the job ends, decided before its training jobs are stopped: {status, failure_reason}."""
    converged: Mapped[int | None]
    created: Mapped[int]
    modified: Mapped[int]
    ended: Mapped[int | None]


class TuningChild(Base):
    """A training job that a tuning job starts. The row is there first: a job of that name is created from it once, whenever the
    service is killed."""

    __tablename__ = "tuning_children"
    __table_args__ = (UniqueConstraint("tuning", "number"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    """Name of the training job."""
    tuning: Mapped[str] = mapped_column(ForeignKey("tuning_jobs.name", ondelete="CASCADE"))
    number: Mapped[int]
    """From 0, in the order of creation."""
    definition: Mapped[int]
    """Index of its training job definition."""
    parameters: Mapped[Json]
    """Values of the hyperparameters that are searched over: {name: text}."""
    launched: Mapped[bool] = mapped_column(default=False)
    """Whether the training job was created."""
    counted: Mapped[str] = mapped_column(default="InProgress")
    """The one of TrainingJobStatusCounters that counts it; terminal once `settled`."""
    objective: Mapped[float | None]
    """Final value of the objective metric."""
    objective_status: Mapped[str] = mapped_column(default="Pending")
    failure_reason: Mapped[str | None]
    """Why the training job could not be created."""
    settled: Mapped[int | None]
    """Its place in the order in which the tuning job's evaluations ended, from 0; null while it runs."""


class ObjectiveValue(Base):
    """A value of the objective metric that a tuning job's training job has emitted, numbered per host from 0."""

    __tablename__ = "objective_values"

    job: Mapped[str] = mapped_column(ForeignKey("training_jobs.name", ondelete="CASCADE"), primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    timestamp: Mapped[int]
    value: Mapped[float]
