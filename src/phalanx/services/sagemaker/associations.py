"""AddAssociation, DeleteAssociation, ListAssociations: which artifact went into which run, and which came out of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from phalanx.services.sagemaker import authored
from phalanx.services.sagemaker.errors import no_such, over_limit, validation
from phalanx.services.sagemaker.paging import Orders, between, page
from phalanx.services.times import moment
from phalanx.store.database import Database
from phalanx.store.experiments import Experiment, TrialComponent
from phalanx.store.lineage import Artifact, Association
from phalanx.wire.service import Caller, Members

ASSOCIATIONS = 100_000
"""Most associations of the account. What SageMaker allows by default is not on record."""

_KINDS: dict[str, Any] = {
    "artifact": Artifact,
    "experiment": Experiment,
    "experiment-trial-component": TrialComponent,
}
"""What can be associated, by the resource type in the ARN; the model names actions and contexts, too, which nobody can make."""
_PAIR = (Association.source, Association.destination)
_ORDERS: Orders = {
    "CreationTime": (Association.created, *_PAIR),
    "SourceArn": _PAIR,
    "DestinationArn": (Association.destination, Association.source),
    "SourceType": (Association.source_type, *_PAIR),
    "DestinationType": (Association.destination_type, *_PAIR),
}
_FILTERS = {
    "SourceArn": Association.source,
    "DestinationArn": Association.destination,
    "SourceType": Association.source_type,
    "DestinationType": Association.destination_type,
    "AssociationType": Association.type,
}


def add(database: Database, caller: Caller, members: Members) -> Members:
    """Associate two things. Raises ResourceNotFound, and ValidationException where they are associated."""
    source, destination = members["SourceArn"], members["DestinationArn"]
    with database.write() as session:
        types = [_type(_find(session, arn)) for arn in (source, destination)]
        if session.get(Association, (source, destination)) is not None:
            raise validation(f"An association from {source} to {destination} already exists.")
        if (session.scalar(select(func.count()).select_from(Association)) or 0) >= ASSOCIATIONS:
            raise over_limit("Associations", ASSOCIATIONS)
        made = authored.made(caller)
        session.add(
            Association(
                source=source,
                destination=destination,
                source_type=types[0],
                destination_type=types[1],
                type=members.get("AssociationType"),
                created=made["created"],
                created_by=made["created_by"],
            )
        )
    return {"SourceArn": source, "DestinationArn": destination}


def delete(database: Database, _: Caller, members: Members) -> Members:
    """Forget that two things have to do with each other. Raises ResourceNotFound."""
    source, destination = members["SourceArn"], members["DestinationArn"]
    with database.write() as session:
        association = session.get(Association, (source, destination))
        if association is None:
            raise no_such("Association", f"{source} to {destination}")
        session.delete(association)
    return {"SourceArn": source, "DestinationArn": destination}


def listing(database: Database, _: Caller, members: Members) -> Members:
    """A page of associations, newest first unless another order is asked for."""
    query = select(Association, *Association.__table__.columns).where(
        *between(members, Association.created, "Created"),
        *(column == members[name] for name, column in _FILTERS.items() if name in members),
    )
    with database.read() as session:
        rows, more = page(session, query, _ORDERS, members, descending=True)
        found = [row[0] for row in rows]
        names = _names(session, {arn for each in found for arn in (each.source, each.destination)})
    summaries = [
        {
            "SourceArn": each.source,
            "DestinationArn": each.destination,
            "SourceType": each.source_type,
            "DestinationType": each.destination_type,
            "AssociationType": each.type,
            "SourceName": names.get(each.source),
            "DestinationName": names.get(each.destination),
            "CreationTime": moment(each.created),
            "CreatedBy": each.created_by,
        }
        for each in found
    ]
    return {"AssociationSummaries": summaries, **more}


def count(session: Session, arn: str) -> int:
    """How many associations something is in."""
    return session.scalar(select(func.count()).select_from(Association).where(_of(arn))) or 0


def forget(session: Session, arn: str) -> None:
    """Remove the associations of an experiment or trial component that is being deleted. SageMaker asks nobody to delete them
    first: what the SDK deletes an experiment with, its runs and all, does not."""
    session.execute(delete_rows(Association).where(_of(arn)))


def follow(session: Session, component: TrialComponent) -> None:
    """Have associations know a trial component as what it has become: one that follows a training job."""
    kind = _type(component)
    session.execute(update(Association).where(Association.source == component.arn).values(source_type=kind))
    session.execute(update(Association).where(Association.destination == component.arn).values(destination_type=kind))


def _of(arn: str) -> Any:
    return or_(Association.source == arn, Association.destination == arn)


def _find(session: Session, arn: str) -> Any:
    kind = arn.split(":", 5)[-1].partition("/")[0]
    table = _KINDS.get(kind)
    row = None if table is None else session.scalar(select(table).where(table.arn == arn))
    if row is None:
        raise no_such(kind.replace("-", " ").title().replace(" ", ""), arn)
    return row


def _type(row: Artifact | Experiment | TrialComponent) -> str:
    if isinstance(row, Artifact):
        return row.type
    if isinstance(row, TrialComponent):
        return "SageMakerTrainingJob" if row.source else "SageMakerExperimentTrialComponent"
    return "SageMakerExperiment"


def _names(session: Session, arns: Iterable[str]) -> dict[str, str | None]:
    """What is called how, by ARN."""
    columns = ((Artifact, Artifact.title), (Experiment, Experiment.name), (TrialComponent, TrialComponent.name))
    found: dict[str, str | None] = {}
    for table, name in columns:
        found |= {row.arn: row[1] for row in session.execute(select(table.arn, name).where(table.arn.in_(arns)))}
    return found
