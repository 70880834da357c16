"""Algorithms, experiments, trials and trial components."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import Base, Json


class Algorithm(Base):
    """An algorithm: the request that made it, as accepted."""

    __tablename__ = "algorithms"
    __table_args__ = (Index("ix_algorithms_created", "created", "name"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    arn: Mapped[str] = mapped_column(unique=True)
    request: Mapped[Json]
    created: Mapped[int]


class Authored(Base):
    """Something that somebody made and changed. `created_by` and `modified_by` are UserContexts of the service model."""

    __abstract__ = True

    name: Mapped[str] = mapped_column(primary_key=True)
    arn: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    created: Mapped[int]
    created_by: Mapped[Json]
    modified: Mapped[int]
    modified_by: Mapped[Json]


class Experiment(Authored):
    """An experiment."""

    __tablename__ = "experiments"
    __table_args__ = (Index("ix_experiments_created", "created", "name"),)

    description: Mapped[str | None]


class Trial(Authored):
    """A trial of an experiment."""

    __tablename__ = "trials"
    __table_args__ = (Index("ix_trials_created", "created", "name"),)

    experiment: Mapped[str] = mapped_column(ForeignKey("experiments.name"), index=True)
    properties: Mapped[Json]
    """MetadataProperties, where the request had them."""


class TrialComponent(Authored):
    """A trial component. One with a `source`, the ARN of a training job, follows that job while it exists."""

    __tablename__ = "trial_components"
    __table_args__ = (Index("ix_trial_components_created", "created", "name"),)

    source: Mapped[str | None] = mapped_column(index=True)
    run: Mapped[str | None]
    """RunName of the ExperimentConfig that brought the source."""
    content: Mapped[Json]
    """What requests have said of it: Status, Parameters, InputArtifacts, OutputArtifacts, MetadataProperties, and StartTime and
    EndTime in milliseconds; and of a source that was deleted, what it had come to, with Settled."""


class LoggedValue(Base):
    """A value of a metric that a program logged for a trial component; `number` is the how-manieth of that metric, from 1."""

    __tablename__ = "logged_values"
    # The key is the table: half the bytes on the disk.
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012

    component: Mapped[str] = mapped_column(ForeignKey("trial_components.name", ondelete="CASCADE"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int | None]
    at: Mapped[int]
    value: Mapped[float]


class TrialMember(Base):
    """A trial component that is associated with a trial."""

    __tablename__ = "trial_members"

    trial: Mapped[str] = mapped_column(ForeignKey("trials.name"), primary_key=True)
    component: Mapped[str] = mapped_column(ForeignKey("trial_components.name"), primary_key=True, index=True)
