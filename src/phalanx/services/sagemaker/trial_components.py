"""CreateTrialComponent, DescribeTrialComponent, UpdateTrialComponent, DeleteTrialComponent, ListTrialComponents."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from phalanx.services.sagemaker import associations, authored, series, tags, trials
from phalanx.services.sagemaker.describe import described as described_job
from phalanx.services.sagemaker.errors import over_limit, taken, validation
from phalanx.services.sagemaker.paging import Orders, between, page
from phalanx.services.times import milliseconds, moment
from phalanx.store.base import Json
from phalanx.store.database import Database
from phalanx.store.experiments import Experiment, Trial, TrialComponent, TrialMember
from phalanx.store.jobs import TrainingJob
from phalanx.wire.service import Caller, Members

COMPONENTS = 100_000
"""Most trial components of the account. What SageMaker allows by default is not on record."""
PARAMETERS = 300
ARTIFACTS = 60
"""Most parameters, and most input or output artifacts, of a component (the model's limits of one request)."""
PARAMETER_CHARACTERS = 2500
"""Characters of a parameter's StringValue."""

_ORDERS: Orders = {"Name": (TrialComponent.name,), "CreationTime": (TrialComponent.created, TrialComponent.name)}
_MAPS = {"Parameters": PARAMETERS, "InputArtifacts": ARTIFACTS, "OutputArtifacts": ARTIFACTS}
_MEDIA_TYPE = re.compile(r"[-\w]+/[-\w+]+", re.ASCII)
_STATUS = {"InProgress", "Completed", "Failed", "Stopping", "Stopped"}


def create(database: Database, caller: Caller, members: Members) -> Members:
    """Store a trial component."""
    tags.check(members.get("Tags", []))
    with database.write() as session:
        component = _add(session, caller, members["TrialComponentName"], members.get("DisplayName"))
        component.content = _content({}, members)
        tags.attach(session, component.arn, members.get("Tags", []))
    return {"TrialComponentArn": component.arn}


def follow(session: Session, caller: Caller, config: Members, request: Members, job_arn: str) -> None:
    """What ExperimentConfig asks for: a component that follows a new training job, in the trial that it names or a new one.

    A run (RunName is the name of its component) that follows no job yet follows this one. What a deleted job of the same name
    has left in the experiment stays as it is: its trial is taken up again, its component is not. Raises ResourceNotFound,
    ResourceLimitExceeded and ValidationException.
    """
    if not config:
        return
    job = request["TrainingJobName"]
    trial = None
    if "TrialName" in config:
        trial = authored.find(session, Trial, config["TrialName"])
        if config.get("ExperimentName", trial.experiment) != trial.experiment:
            raise validation(
                f"The trial {trial.name} belongs to the experiment {trial.experiment}, not to {config['ExperimentName']}."
            )
    elif "ExperimentName" in config:
        name, experiment = f"{job}-aws-trial", config["ExperimentName"]
        known = session.get(Trial, name)
        if known is not None and known.experiment == experiment:
            trial = known
        else:
            trial = trials.begin(session, caller, _free(session, Trial, name), experiment)
    component = authored.find(session, TrialComponent, config["RunName"]) if "RunName" in config else None
    if component is None or component.source is not None:
        name = _free(session, TrialComponent, f"{job}-aws-training-job")
        component = _add(session, caller, name, config.get("TrialComponentDisplayName"))
    component.source = job_arn
    component.run = config.get("RunName")
    associations.follow(session, component)
    authored.touch(component, caller)
    if trial is not None:
        trials.join(session, trial, component)


def leave(session: Session, job: str) -> None:
    """Keep in a component what its training job had come to, before the job is deleted. From then on it follows no job, though
    there be one again under that name."""
    row = session.get_one(TrainingJob, job)
    for component in session.scalars(select(TrialComponent).where(TrialComponent.source == row.arn)):
        if _settled(component):
            continue
        known = _merged(component, row)
        for name in ("StartTime", "EndTime"):
            if name in known:
                known[name] = milliseconds(known[name])
        known["Metrics"] = logged(component) + [
            {**each, **({"TimeStamp": milliseconds(each["TimeStamp"])} if "TimeStamp" in each else {})}
            for each in series.summaries(session, row)
        ]
        component.content = {**component.content, **known, "Settled": True}
        component.modified = max(component.modified, row.modified)


def logged(component: TrialComponent) -> list[Json]:
    """The summaries of metrics that programs have logged; those that a deleted job came to have its ARN."""
    return [each for each in component.content.get("Metrics", []) if "SourceArn" not in each]


def describe(database: Database, _: Caller, members: Members) -> Members:
    """All that is known of a trial component, by its name or ARN."""
    with database.read() as session:
        component = authored.find(session, TrialComponent, members["TrialComponentName"].rpartition("/")[2])
        job = _jobs(session, [component]).get(component.name)
        return _described(session, component, job)


def update(database: Database, caller: Caller, members: Members) -> Members:
    """Change what is given: maps are merged, and lose the keys to remove."""
    with database.write() as session:
        component = authored.find(session, TrialComponent, members["TrialComponentName"])
        component.content = _content(component.content, members)
        component.display_name = members.get("DisplayName", component.display_name)
        authored.touch(component, caller)
        return {"TrialComponentArn": component.arn}


def delete(database: Database, _: Caller, members: Members) -> Members:
    """Forget a trial component that belongs to no trial any more."""
    with database.write() as session:
        component = authored.find(session, TrialComponent, members["TrialComponentName"])
        trial = session.scalar(select(TrialMember.trial).where(TrialMember.component == component.name).limit(1))
        if trial is not None:
            raise validation(
                f"The trial component {component.name} is associated with the trial {trial}. Only one without a trial can be "
                "deleted: disassociate it first."
            )
        tags.forget(session, component.arn)
        associations.forget(session, component.arn)
        session.delete(component)
    return {"TrialComponentArn": component.arn}


def listing(database: Database, _: Caller, members: Members) -> Members:
    """A page of trial components, newest first unless another order is asked for."""
    given = [name for name in ("ExperimentName", "TrialName", "SourceArn") if name in members]
    if len(given) > 1:
        raise validation(f"Filter by one of ExperimentName, TrialName and SourceArn, not by {' and '.join(given)}.")
    query = select(TrialComponent, TrialComponent.name, TrialComponent.created)
    query = query.where(*between(members, TrialComponent.created, "Created"))
    with database.read() as session:
        belongs = select(TrialMember.component)
        if "ExperimentName" in members:
            name = authored.find(session, Experiment, members["ExperimentName"]).name
            belongs = belongs.join(Trial, Trial.name == TrialMember.trial).where(Trial.experiment == name)
            query = query.where(TrialComponent.name.in_(belongs))
        if "TrialName" in members:
            belongs = belongs.where(TrialMember.trial == authored.find(session, Trial, members["TrialName"]).name)
            query = query.where(TrialComponent.name.in_(belongs))
        if "SourceArn" in members:
            query = query.where(TrialComponent.source == members["SourceArn"])
        rows, more = page(session, query, _ORDERS, members, descending=True)
        components = [row[0] for row in rows]
        jobs = _jobs(session, components)
        summaries = [_summary(component, jobs.get(component.name)) for component in components]
    return {"TrialComponentSummaries": summaries, **more}


def records(session: Session, rows: Sequence[TrialComponent]) -> Iterator[Members]:
    """Trial components as Search finds them."""
    tagged = tags.of(session, [row.arn for row in rows])
    jobs = _jobs(session, rows)
    parents: dict[str, list[Json]] = {}
    query = select(TrialMember.component, Trial.name, Trial.experiment).join(Trial, Trial.name == TrialMember.trial)
    query = query.where(TrialMember.component.in_([row.name for row in rows])).order_by(Trial.created, Trial.name)
    for component, trial, experiment in session.execute(query):
        parents.setdefault(component, []).append({"TrialName": trial, "ExperimentName": experiment})
    for row in rows:
        job = jobs.get(row.name)
        detail = {"SourceArn": row.source, "TrainingJob": described_job(job, []) if job else None}
        yield {
            **_described(session, row, job),
            "Tags": tagged.get(row.arn, []),
            "Parents": parents.get(row.name, []),
            "SourceDetail": detail if row.source else None,
            "RunName": row.run,
        }


def _add(session: Session, caller: Caller, name: str, display_name: str | None) -> TrialComponent:
    if session.get(TrialComponent, name) is not None:
        raise taken("TrialComponent", name)
    if (session.scalar(select(func.count()).select_from(TrialComponent)) or 0) >= COMPONENTS:
        raise over_limit("Trial components", COMPONENTS)
    component = TrialComponent(
        name=name,
        arn=caller.arn_of("sagemaker", f"experiment-trial-component/{name}"),
        display_name=display_name or name,
        content={},
        **authored.made(caller),
    )
    session.add(component)
    return component


def _content(before: Json, members: Members) -> Json:
    """What a component holds after a request to create or update it."""
    content: Json = {**before, **{name: members[name] for name in ("Status", "MetadataProperties") if name in members}}
    content |= {name: milliseconds(members[name]) for name in ("StartTime", "EndTime") if name in members}
    for name, most in _MAPS.items():
        kept = {key: value for key, value in before.get(name, {}).items() if key not in members.get(f"{name}ToRemove", [])}
        content[name] = {**kept, **members.get(name, {})}
        if len(content[name]) > most:
            raise validation(f"A trial component can have at most {most} {name}; this one would have {len(content[name])}.")
    # SQLite and PostgreSQL keep JSON, which has no such numbers.
    for key, value in members.get("Parameters", {}).items():
        if not math.isfinite(value.get("NumberValue", 0.0)):
            raise validation(f"The parameter {key} must be a finite number.")
    return content


def _jobs(session: Session, components: Sequence[TrialComponent]) -> dict[str, TrainingJob]:
    """The training jobs that components follow, by the component's name, those that there still are."""
    sources = {component.name: component.source for component in components if component.source and not _settled(component)}
    if not sources:
        return {}
    query = select(TrainingJob).where(TrainingJob.arn.in_(sources.values()))
    query = query.options(defer(TrainingJob.evidence), defer(TrainingJob.plan))
    jobs = {job.arn: job for job in session.scalars(query)}
    return {name: jobs[arn] for name, arn in sources.items() if arn in jobs}


def _settled(component: TrialComponent) -> bool:
    """Whether its training job was deleted, and all that it came to stands in the component."""
    return "Settled" in component.content


def _free(session: Session, table: type[Trial] | type[TrialComponent], name: str) -> str:
    """The name, or the first with a number that nobody has."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if session.get(table, each) is None)


def _merged(component: TrialComponent, job: TrainingJob | None) -> Members:
    """Content of a component: what its job has come to, and over that what requests have said."""
    own = component.content
    content: Members = _of_job(job) if job else {}
    for name in _MAPS:
        content[name] = {**content.get(name, {}), **own.get(name, {})}
    content |= {name: own[name] for name in ("Status", "MetadataProperties") if name in own}
    return content | {name: moment(own[name]) for name in ("StartTime", "EndTime") if name in own}


def _of_job(job: TrainingJob) -> Members:
    request = job.request
    resources = request["ResourceConfig"]
    parameters = {name: _parameter(value) for name, value in request.get("HyperParameters", {}).items()}
    for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB"):
        if name in resources:
            parameters[f"SageMaker.{name}"] = _parameter(resources[name])
    # Programs look for it here and there: SageMaker has shown it as an artifact and as a parameter.
    image = request["AlgorithmSpecification"].get("TrainingImage")
    if image is not None:
        parameters["SageMaker.ImageUri"] = _parameter(image)
    inputs = {
        channel["ChannelName"]: {
            "Value": channel["DataSource"]["S3DataSource"]["S3Uri"],
            **_media_type(channel.get("ContentType", "")),
        }
        for channel in request.get("InputDataConfig", [])
        if "S3DataSource" in channel["DataSource"]
    }
    if image is not None:
        inputs["SageMaker.ImageUri"] = {"Value": image}
    message = job.failure_reason or f"Status: {job.secondary_status}"
    return {
        "Status": {
            "PrimaryStatus": job.status if job.status in _STATUS else "InProgress",
            "Message": message[:1024],
        },
        "Parameters": dict(list(parameters.items())[:PARAMETERS]),
        "InputArtifacts": inputs,
        "OutputArtifacts": {"SageMaker.ModelArtifact": {"Value": job.model_uri}} if job.model_uri else {},
        **({"StartTime": moment(job.training_started)} if job.training_started else {}),
        **({"EndTime": moment(job.training_ended)} if job.training_ended else {}),
    }


def _parameter(value: Any) -> Json:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    return {"NumberValue": number} if math.isfinite(number) else {"StringValue": str(value)[:PARAMETER_CHARACTERS]}


def _media_type(content_type: str) -> Json:
    """A channel's ContentType as an artifact's MediaType, where it is one."""
    return {"MediaType": content_type} if _MEDIA_TYPE.fullmatch(content_type) and len(content_type) <= 64 else {}


def _summary(component: TrialComponent, job: TrainingJob | None, source: str = "TrialComponentSource") -> Members:
    content = _merged(component, job)
    return {
        **authored.described("TrialComponent", component),
        source: trials.source(component),
        **{name: content.get(name) for name in ("Status", "StartTime", "EndTime")},
        "LastModifiedTime": moment(max(component.modified, job.modified) if job else component.modified),
    }


def _described(session: Session, component: TrialComponent, job: TrainingJob | None) -> Members:
    known = component.content.get("Metrics", [])
    kept = [{**each, **({"TimeStamp": moment(each["TimeStamp"])} if "TimeStamp" in each else {})} for each in known]
    return {
        **_summary(component, job, "Source"),
        **_merged(component, job),
        "Metrics": kept + (series.summaries(session, job) if job else []),
    }
