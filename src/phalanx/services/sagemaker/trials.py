"""CreateTrial, DescribeTrial, UpdateTrial, DeleteTrial, ListTrials, and which trial components belong to a trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from phalanx.services.sagemaker import authored, tags
from phalanx.services.sagemaker.errors import over_limit, taken, validation
from phalanx.services.sagemaker.paging import Orders, between, page
from phalanx.services.times import moment
from phalanx.store.base import Json
from phalanx.store.database import Database
from phalanx.store.experiments import Experiment, Trial, TrialComponent, TrialMember
from phalanx.wire.service import Caller, Members

TRIALS_PER_EXPERIMENT = 1000
COMPONENTS_PER_TRIAL = 1000
"""Most of them. What SageMaker allows by default is not on record."""

_ORDERS: Orders = {"Name": (Trial.name,), "CreationTime": (Trial.created, Trial.name)}


def create(database: Database, caller: Caller, members: Members) -> Members:
    """Store a trial of an experiment."""
    tags.check(members.get("Tags", []))
    with database.write() as session:
        trial = begin(session, caller, members["TrialName"], members["ExperimentName"])
        trial.display_name = members.get("DisplayName", trial.name)
        trial.properties = members.get("MetadataProperties", {})
        tags.attach(session, trial.arn, members.get("Tags", []))
    return {"TrialArn": trial.arn}


def begin(session: Session, caller: Caller, name: str, experiment: str) -> Trial:
    """A new trial. Raises ResourceNotFound, ResourceLimitExceeded, or ValidationException for a name that is taken."""
    authored.find(session, Experiment, experiment)
    if session.get(Trial, name) is not None:
        raise taken("Trial", name)
    if (session.scalar(select(func.count()).where(Trial.experiment == experiment)) or 0) >= TRIALS_PER_EXPERIMENT:
        raise over_limit("Trials in an experiment", TRIALS_PER_EXPERIMENT)
    trial = Trial(
        name=name,
        arn=caller.arn_of("sagemaker", f"experiment-trial/{name}"),
        display_name=name,
        experiment=experiment,
        properties={},
        **authored.made(caller),
    )
    session.add(trial)
    return trial


def describe(database: Database, _: Caller, members: Members) -> Members:
    """All that is known of a trial."""
    with database.read() as session:
        return _described(authored.find(session, Trial, members["TrialName"]))


def update(database: Database, caller: Caller, members: Members) -> Members:
    """Change the display name, where one is given."""
    with database.write() as session:
        trial = authored.find(session, Trial, members["TrialName"])
        trial.display_name = members.get("DisplayName", trial.display_name)
        authored.touch(trial, caller)
        return {"TrialArn": trial.arn}


def delete(database: Database, _: Caller, members: Members) -> Members:
    """Forget a trial that no trial components are associated with any more."""
    with database.write() as session:
        trial = authored.find(session, Trial, members["TrialName"])
        count = session.scalar(select(func.count()).where(TrialMember.trial == trial.name))
        if count:
            raise validation(
                f"The trial {trial.name} has {count} trial components. Only a trial without trial components can be deleted: "
                "disassociate them first."
            )
        tags.forget(session, trial.arn)
        session.delete(trial)
    return {"TrialArn": trial.arn}


def listing(database: Database, _: Caller, members: Members) -> Members:
    """A page of trials, newest first unless another order is asked for."""
    query = select(Trial.name, Trial.arn, Trial.display_name, Trial.created, Trial.modified)
    query = query.where(*between(members, Trial.created, "Created"))
    with database.read() as session:
        if "ExperimentName" in members:
            query = query.where(Trial.experiment == authored.find(session, Experiment, members["ExperimentName"]).name)
        if "TrialComponentName" in members:
            component = authored.find(session, TrialComponent, members["TrialComponentName"])
            query = query.join(TrialMember, TrialMember.trial == Trial.name).where(TrialMember.component == component.name)
        rows, more = page(session, query, _ORDERS, members, descending=True)
    return {"TrialSummaries": [authored.summary("Trial", row) for row in rows], **more}


def associate(database: Database, _: Caller, members: Members) -> Members:
    """Put a trial component into a trial; one that is in it already stays so."""
    with database.write() as session:
        component = authored.find(session, TrialComponent, members["TrialComponentName"])
        trial = authored.find(session, Trial, members["TrialName"])
        join(session, trial, component)
    return {"TrialComponentArn": component.arn, "TrialArn": trial.arn}


def disassociate(database: Database, _: Caller, members: Members) -> Members:
    """Take a trial component out of a trial; one that is not in it stays so."""
    with database.write() as session:
        component = authored.find(session, TrialComponent, members["TrialComponentName"])
        trial = authored.find(session, Trial, members["TrialName"])
        session.execute(
            delete_rows(TrialMember).where(TrialMember.trial == trial.name, TrialMember.component == component.name)
        )
    return {"TrialComponentArn": component.arn, "TrialArn": trial.arn}


def join(session: Session, trial: Trial, component: TrialComponent) -> None:
    """Associate a component with a trial. Raises ResourceLimitExceeded."""
    session.flush()
    if session.get(TrialMember, (trial.name, component.name)) is not None:
        return
    if (session.scalar(select(func.count()).where(TrialMember.trial == trial.name)) or 0) >= COMPONENTS_PER_TRIAL:
        raise over_limit("Trial components in a trial", COMPONENTS_PER_TRIAL)
    session.add(TrialMember(trial=trial.name, component=component.name))


def source(component: TrialComponent) -> Members | None:
    """TrialComponentSource of a component that follows a training job."""
    return {"SourceArn": component.source, "SourceType": "SageMakerTrainingJob"} if component.source else None


def records(session: Session, rows: Sequence[Trial]) -> Iterator[Members]:
    """Trials as Search finds them."""
    tagged = tags.of(session, [row.arn for row in rows])
    components: dict[str, list[Json]] = {}
    query = select(TrialMember.trial, TrialComponent).join(TrialComponent, TrialComponent.name == TrialMember.component)
    query = query.where(TrialMember.trial.in_([row.name for row in rows]))
    for trial, component in session.execute(query.order_by(TrialComponent.created, TrialComponent.name)):
        summary = {
            "TrialComponentName": component.name,
            "TrialComponentArn": component.arn,
            "CreationTime": moment(component.created),
            "CreatedBy": component.created_by,
            "TrialComponentSource": source(component),
        }
        components.setdefault(trial, []).append(summary)
    for row in rows:
        yield {
            **_described(row),
            "Tags": tagged.get(row.arn, []),
            "TrialComponentSummaries": components.get(row.name, []),
        }


def _described(trial: Trial) -> Members:
    return {
        **authored.described("Trial", trial),
        "ExperimentName": trial.experiment,
        "MetadataProperties": trial.properties or None,
    }
