"""CreateAlgorithm, DescribeAlgorithm, ListAlgorithms, DeleteAlgorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.jobs import metric_definitions
from phalanx.services.sagemaker import hyperparameters, tags
from phalanx.services.sagemaker.errors import not_found, taken, validation
from phalanx.services.sagemaker.paging import Orders, between, page
from phalanx.services.times import moment
from phalanx.store.base import Json, now_ms
from phalanx.store.database import Database
from phalanx.store.experiments import Algorithm
from phalanx.wire.service import Caller, Members

_ORDERS: Orders = {"Name": (Algorithm.name,), "CreationTime": (Algorithm.created, Algorithm.name)}
_REFUSED = {
    "ValidationSpecification": "an algorithm is not tried out when it is made. Start a training job with it instead",
    "CertifyForMarketplace": "there is no marketplace",
}


def create(database: Database, caller: Caller, members: Members) -> Members:
    """Store an algorithm. Whether its image is there is looked at when a job is started with it."""
    name, training = members["AlgorithmName"], members["TrainingSpecification"]
    for member, reason in _REFUSED.items():
        if members.get(member):
            raise validation(f"{member} is not supported by this version of Phalanx: {reason}. Leave it out.")
    for member in ("TrainingImageDigest", "AdditionalS3DataSource"):
        if member in training:
            hint = "Give TrainingImage as name@sha256:…" if member == "TrainingImageDigest" else "Give the data as a channel"
            raise validation(f"TrainingSpecification.{member} is not supported by this version of Phalanx. {hint}.")
    tags.check(members.get("Tags", []))
    hyperparameters.check_specification(training.get("SupportedHyperParameters", []))
    _check_metrics(training)
    channels = [channel["Name"] for channel in training["TrainingChannels"]]
    if len(set(channels)) < len(channels):
        raise validation("TrainingChannels must have unique names.")
    with database.write() as session:
        if session.get(Algorithm, name) is not None:
            raise taken("Algorithm", name)
        algorithm = Algorithm(
            name=name,
            arn=caller.arn_of("sagemaker", f"algorithm/{name}"),
            request={key: value for key, value in members.items() if key not in ("Tags", "CertifyForMarketplace")},
            created=now_ms(),
        )
        session.add(algorithm)
        tags.attach(session, algorithm.arn, members.get("Tags", []))
    return {"AlgorithmArn": algorithm.arn}


def _check_metrics(training: Json) -> None:
    definitions = training.get("MetricDefinitions", [])
    fault = metric_definitions.fault(definitions)
    if fault is not None:
        raise validation(fault)
    names = {item["Name"] for item in definitions}
    for objective in training.get("SupportedTuningJobObjectiveMetrics", []):
        if objective["MetricName"] not in names:
            raise validation(
                f"The objective metric {objective['MetricName']} is none of MetricDefinitions. Define it, or leave it out."
            )


def describe(database: Database, _: Caller, members: Members) -> Members:
    """All that is known of an algorithm, by its name or ARN."""
    with database.read() as session:
        algorithm = find(session, members["AlgorithmName"])
    return {
        **algorithm.request,
        "AlgorithmArn": algorithm.arn,
        "CreationTime": moment(algorithm.created),
        "AlgorithmStatus": "Completed",
        "AlgorithmStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
    }


def listing(database: Database, _: Caller, members: Members) -> Members:
    """A page of algorithms, in the order of their creation unless another is asked for."""
    query = select(Algorithm.name, Algorithm.arn, Algorithm.request, Algorithm.created)
    query = query.where(*between(members, Algorithm.created, "CreationTime"))
    if members.get("NameContains"):
        query = query.where(Algorithm.name.icontains(members["NameContains"], autoescape=True))
    with database.read() as session:
        rows, more = page(session, query, _ORDERS, members, descending=False)
    summaries = [
        {
            "AlgorithmName": row.name,
            "AlgorithmArn": row.arn,
            "CreationTime": moment(row.created),
            "AlgorithmStatus": "Completed",
            "AlgorithmDescription": row.request.get("AlgorithmDescription"),
        }
        for row in rows
    ]
    return {"AlgorithmSummaryList": summaries, **more}


def delete(database: Database, _: Caller, members: Members) -> Members:
    """Forget an algorithm. Jobs that were started with it have taken what they need, and go on."""
    with database.write() as session:
        algorithm = find(session, members["AlgorithmName"])
        tags.forget(session, algorithm.arn)
        session.delete(algorithm)
    return {}


def find(session: Session, name: str) -> Algorithm:
    """The algorithm of that name or ARN. Raises ValidationException."""
    algorithm = session.get(Algorithm, name.rpartition("/")[2])
    if algorithm is None or ("/" in name and algorithm.arn != name):
        raise not_found()
    return algorithm


def applied(database: Database, members: Members) -> Members:
    """A request to train with AlgorithmSpecification.AlgorithmName as the same request with all that the algorithm says.

    Image, metric definitions and defaults of hyperparameters are taken over; AlgorithmName becomes the ARN. Raises
    ValidationException where the request does not fit the algorithm.
    """
    specification = members["AlgorithmSpecification"]
    with database.read() as session:
        algorithm = find(session, specification["AlgorithmName"])
    training = algorithm.request["TrainingSpecification"]
    _check_instances(algorithm.name, training, members.get("ResourceConfig", {}))
    _check_channels(algorithm.name, training, specification["TrainingInputMode"], members.get("InputDataConfig", []))
    metrics = {item["Name"]: item for item in training.get("MetricDefinitions", [])}
    metrics |= {item["Name"]: item for item in specification.get("MetricDefinitions", [])}
    given = hyperparameters.completed(
        algorithm.name, training.get("SupportedHyperParameters", []), members.get("HyperParameters", {})
    )
    return {
        **members,
        "AlgorithmSpecification": {
            **specification,
            "AlgorithmName": algorithm.arn,
            "TrainingImage": training["TrainingImage"],
            **({"MetricDefinitions": list(metrics.values())} if metrics else {}),
        },
        **({"HyperParameters": given} if given else {}),
    }


def check_tuning(database: Database, name: str, objective: Json, bounds: Mapping[str, Sequence[str]]) -> None:
    """Raise ValidationException unless an algorithm can be tuned by this objective, over these hyperparameters between these
    ends of their ranges."""
    with database.read() as session:
        algorithm = find(session, name)
    training = algorithm.request["TrainingSpecification"]
    supported = training.get("SupportedTuningJobObjectiveMetrics", [])
    if supported and objective not in supported:
        known = ", ".join(f"{each['Type']} {each['MetricName']}" for each in supported)
        raise validation(
            f"The objective {objective['Type']} {objective['MetricName']} is not supported by algorithm {algorithm.name}. "
            f"Supported are: {known}."
        )
    hyperparameters.check_tunable(algorithm.name, training.get("SupportedHyperParameters", []), bounds)


def _check_instances(name: str, training: Json, resources: Json) -> None:
    groups = resources.get("InstanceGroups") or [resources]
    supported = training["SupportedTrainingInstanceTypes"]
    for group in groups:
        if "InstanceType" in group and group["InstanceType"] not in supported:
            raise validation(
                f"The instance type {group['InstanceType']} is not supported by algorithm {name}. "
                f"Supported are: {', '.join(supported)}."
            )
    if not training.get("SupportsDistributedTraining", False) and sum(group.get("InstanceCount", 1) for group in groups) > 1:
        raise validation(f"Distributed training is not supported by algorithm {name}. Set InstanceCount to 1.")


def _check_channels(name: str, training: Json, mode: str, channels: Sequence[Json]) -> None:
    defined = {channel["Name"]: channel for channel in training["TrainingChannels"]}
    for channel in channels:
        channel_name = channel["ChannelName"]
        if channel_name not in defined:
            raise validation(
                f"The channel {channel_name} is not supported by algorithm {name}, which has {', '.join(defined)}."
            )
        for member, value, supported in (
            ("ContentType", channel.get("ContentType"), defined[channel_name].get("SupportedContentTypes")),
            ("CompressionType", channel.get("CompressionType"), defined[channel_name].get("SupportedCompressionTypes")),
            ("InputMode", channel.get("InputMode", mode), defined[channel_name].get("SupportedInputModes")),
        ):
            if value is not None and value != "None" and supported and value not in supported:
                raise validation(
                    f"The {member} {value} of channel {channel_name} is not supported by algorithm {name}. "
                    f"Supported are: {', '.join(supported)}."
                )
    given = {channel["ChannelName"] for channel in channels}
    for channel_name, channel in defined.items():
        if channel.get("IsRequired") and channel_name not in given:
            raise validation(f"The channel {channel_name} is required by algorithm {name}.")
