"""CreateExperiment, DescribeExperiment, UpdateExperiment, DeleteExperiment, ListExperiments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from phalanx.services.sagemaker import associations, authored, tags
from phalanx.services.sagemaker.errors import over_limit, taken, validation
from phalanx.services.sagemaker.paging import Orders, between, page
from phalanx.store.database import Database
from phalanx.store.experiments import Experiment, Trial
from phalanx.wire.service import Caller, Members

EXPERIMENTS = 10_000
"""Most experiments of the account. What SageMaker allows by default is not on record."""

_ORDERS: Orders = {"Name": (Experiment.name,), "CreationTime": (Experiment.created, Experiment.name)}


def create(database: Database, caller: Caller, members: Members) -> Members:
    """Store an experiment."""
    name = members["ExperimentName"]
    tags.check(members.get("Tags", []))
    with database.write() as session:
        if session.get(Experiment, name) is not None:
            raise taken("Experiment", name)
        if (session.scalar(select(func.count()).select_from(Experiment)) or 0) >= EXPERIMENTS:
            raise over_limit("Experiments", EXPERIMENTS)
        experiment = Experiment(
            name=name,
            arn=caller.arn_of("sagemaker", f"experiment/{name}"),
            display_name=members.get("DisplayName", name),
            description=members.get("Description"),
            **authored.made(caller),
        )
        session.add(experiment)
        tags.attach(session, experiment.arn, members.get("Tags", []))
    return {"ExperimentArn": experiment.arn}


def describe(database: Database, _: Caller, members: Members) -> Members:
    """All that is known of an experiment."""
    with database.read() as session:
        return _described(authored.find(session, Experiment, members["ExperimentName"]))


def update(database: Database, caller: Caller, members: Members) -> Members:
    """Change display name and description, those that are given."""
    with database.write() as session:
        experiment = authored.find(session, Experiment, members["ExperimentName"])
        experiment.display_name = members.get("DisplayName", experiment.display_name)
        experiment.description = members.get("Description", experiment.description)
        authored.touch(experiment, caller)
        return {"ExperimentArn": experiment.arn}


def delete(database: Database, _: Caller, members: Members) -> Members:
    """Forget an experiment that has no trials any more."""
    with database.write() as session:
        experiment = authored.find(session, Experiment, members["ExperimentName"])
        trials = session.scalar(select(func.count()).select_from(Trial).where(Trial.experiment == experiment.name))
        if trials:
            raise validation(
                f"The experiment {experiment.name} has {trials} trials. Only an experiment without trials can be deleted: "
                "delete them first."
            )
        tags.forget(session, experiment.arn)
        associations.forget(session, experiment.arn)
        session.delete(experiment)
    return {"ExperimentArn": experiment.arn}


def listing(database: Database, _: Caller, members: Members) -> Members:
    """A page of experiments, newest first unless another order is asked for."""
    query = select(Experiment.name, Experiment.arn, Experiment.display_name, Experiment.created, Experiment.modified).where(
        *between(members, Experiment.created, "Created")
    )
    with database.read() as session:
        rows, more = page(session, query, _ORDERS, members, descending=True)
    return {"ExperimentSummaries": [authored.summary("Experiment", row) for row in rows], **more}


def records(session: Session, rows: Sequence[Experiment]) -> Iterator[Members]:
    """Experiments as Search finds them."""
    tagged = tags.of(session, [row.arn for row in rows])
    for row in rows:
        yield {**_described(row), "Tags": tagged.get(row.arn, [])}


def _described(experiment: Experiment) -> Members:
    return {**authored.described("Experiment", experiment), "Description": experiment.description}
