"""CreateTrainingJob: a job is refused for a reason, or it is stored whole."""

from __future__ import annotations

import re
from typing import Literal

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from phalanx.jobs import backends, instance_groups, instance_types, keyring, metric_definitions, warm_pools
from phalanx.jobs.control import JobControl
from phalanx.jobs.interfaces import InterfaceError, check_vpc_config
from phalanx.services.sagemaker import algorithms, channels, tags, trial_components
from phalanx.services.sagemaker.errors import constraint, missing, validation
from phalanx.services.sagemaker.fields import refuse_unsupported
from phalanx.store.base import Json, now_ms
from phalanx.store.database import Database, session_on
from phalanx.store.jobs import TrainingJob, Transition
from phalanx.store.statement import Statement
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

DEFAULT_MAX_RUNTIME = 86_400
"""StoppingCondition.MaxRuntimeInSeconds where the request has none: one day, as in SageMaker."""
LONGEST_RUNTIME = 28 * 86_400
"""The most that SageMaker grants for one job, in seconds."""
INSTANCES_PER_JOB = 100
"""Most instances of one type in a job."""

_ECR = re.compile(r"(?P<registry>\d{12})\.dkr\.ecr[^/]*/(?P<repository>[^:@]+)")
_S3_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/.*)?")

_ARN = Statement(select(TrainingJob.arn).where(TrainingJob.name == bindparam("job")))
_JOB = Statement(
    insert(TrainingJob.metadata.tables["training_jobs"]),
    *("name", "arn", "request", "status", "secondary_status", "created", "modified"),
    *("instances", "encrypted", "caller", "tuning_job_arn"),
)
_FIRST = Statement(
    insert(Transition.metadata.tables["transitions"]).values(number=0, status="Starting", message="Starting the training job"),
    "job",
    "started",
)

EncryptionPolicy = Literal["refuse", "upgrade"]
"""What becomes of a job of several instances that does not ask for encryption; where there is no policy, it is as it asks."""


def create(
    database: Database,
    control: JobControl,
    policy: EncryptionPolicy | None,
    caller: Caller,
    members: Members,
    tuning_job_arn: str | None = None,
) -> Members:
    """Check a request against all that the service model does not say, store the job, and wake the queue.

    `tuning_job_arn`: the hyperparameter tuning job that starts it.
    """
    request = accepted(database, control, policy, caller, members)
    name = request["TrainingJobName"]
    arn = caller.arn_of("sagemaker", f"training-job/{name}")
    with database.changes(may_wait=True) as connection:
        existing = _ARN.first(connection, job=name)
        if existing is not None:
            raise AwsError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, "
                f"and a training job with this name already exists ({existing.arn})",
            )
        now = now_ms()
        _JOB.run(
            connection,
            name=name,
            arn=arn,
            request=request,
            status="InProgress",
            secondary_status="Starting",
            created=now,
            modified=now,
            instances=instance_groups.instances(request["ResourceConfig"]),
            encrypted=request["EnableInterContainerTrafficEncryption"],
            caller=caller.arn,
            tuning_job_arn=tuning_job_arn,
        )
        _FIRST.run(connection, job=name, started=now)
        if "VpcConfig" in request or "Tags" in members or "ExperimentConfig" in request:
            with session_on(connection) as session:
                check_network(session, request)
                tags.attach(session, arn, members.get("Tags", []))
                trial_components.follow(session, caller, request.get("ExperimentConfig", {}), request, arn)
    control.wake()
    return {"TrainingJobArn": arn}


def accepted(
    database: Database,
    control: JobControl,
    policy: EncryptionPolicy | None,
    caller: Caller,
    members: Members,
    action: str = "CreateTrainingJob",
    resource: str | None = None,
) -> Json:
    """A request as it is stored, once it has passed every check but those of names and networks.

    `action` and `resource` (an ARN, the job's unless given) are what the caller asked for. Raises AwsError.
    """
    request = _accepted(database, control, caller, members)
    resource = resource or caller.arn_of("sagemaker", f"training-job/{request['TrainingJobName']}")
    _require_encryption(policy, caller, request, action, resource)
    _refuse_rdma(request)
    channels.check(request)
    _check_keys(database, control, request)
    _check_image(control, request)
    _check_metrics(request)
    _check_data(control, caller, request)
    return request


def check_network(session: Session, request: Json) -> None:
    """Raise ValidationException for a VpcConfig that cannot be used."""
    vpc = request.get("VpcConfig")
    if vpc:
        try:
            check_vpc_config(session, vpc["Subnets"], vpc["SecurityGroupIds"])
        except InterfaceError as error:
            raise validation(str(error)) from error


def _accepted(database: Database, control: JobControl, caller: Caller, members: Members) -> Json:
    """The request with SageMaker's defaults filled in and without its tags, which live on their own."""
    algorithm = members.get("AlgorithmSpecification", {})
    if "AlgorithmName" in algorithm and "TrainingImage" in algorithm:
        raise validation("You can specify either AlgorithmName or TrainingImage in AlgorithmSpecification, not both.")
    stopping = members.get("StoppingCondition", {})
    spot = members.get("EnableManagedSpotTraining", False)
    if "MaxWaitTimeInSeconds" in stopping and not spot:
        raise validation("Invalid MaxWaitTimeInSeconds. It is only supported when EnableManagedSpotTraining is set to true")
    refuse_unsupported(members)
    if "AlgorithmSpecification" not in members:
        raise missing("algorithmSpecification")
    if "AlgorithmName" in algorithm:
        members = algorithms.applied(database, members)
    elif "TrainingImage" not in algorithm:
        raise validation("You must specify either AlgorithmName or TrainingImage in AlgorithmSpecification.")
    if "ResourceConfig" not in members:
        raise missing("resourceConfig")
    _check_instances(control, members["ResourceConfig"])
    runtime = stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME)
    if runtime > LONGEST_RUNTIME:
        raise _limit("Longest run time for a training job", LONGEST_RUNTIME, runtime, "Seconds")
    if spot and stopping.get("MaxWaitTimeInSeconds", 0) < runtime:
        raise validation("Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds")
    if warm_pools.keep_alive(members) and (spot or members["ResourceConfig"].get("InstanceGroups")):
        raise validation(
            "KeepAlivePeriodInSeconds cannot be used with managed spot training or with InstanceGroups. Leave it out."
        )
    if members["RoleArn"].split(":")[4] != caller.account:
        raise validation("RoleArn: Cross-account pass role is not allowed.")
    tags.check(members.get("Tags", []))
    return {
        **{name: value for name, value in members.items() if name != "Tags"},
        **_channels(members),
        "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP", **members["OutputDataConfig"]},
        "StoppingCondition": {**stopping, "MaxRuntimeInSeconds": runtime},
        "EnableNetworkIsolation": members.get("EnableNetworkIsolation", False),
        "EnableInterContainerTrafficEncryption": members.get("EnableInterContainerTrafficEncryption", False),
        "EnableManagedSpotTraining": spot,
    }


def _require_encryption(policy: EncryptionPolicy | None, caller: Caller, request: Json, action: str, resource: str) -> None:
    """What an IAM condition on sagemaker:InterContainerTrafficEncryption does; or the flag is set, as the account wants it."""
    if policy is None or request["EnableInterContainerTrafficEncryption"]:
        return
    if instance_groups.instances(request["ResourceConfig"]) == 1:
        return
    if policy == "refuse":
        raise AwsError(
            "AccessDeniedException",
            f"User: {caller.arn} is not authorized to perform: sagemaker:{action} on resource: {resource} with an explicit "
            "deny: this service requires inter-container traffic encryption for jobs of several instances "
            "(phalanx serve --require-encryption refuse). Set EnableInterContainerTrafficEncryption to true.",
        )
    request["EnableInterContainerTrafficEncryption"] = True


def _refuse_rdma(request: Json) -> None:
    if not request["EnableInterContainerTrafficEncryption"] or instance_groups.instances(request["ResourceConfig"]) == 1:
        return
    asked = backends.rdma(request.get("Environment", {}))
    if asked is not None:
        raise validation(
            f"Environment: {asked} asks for RDMA, which bypasses IPsec, so that traffic between the instances could not be "
            "encrypted. Remove the variable, or set EnableInterContainerTrafficEncryption to false."
        )


def _channels(members: Members) -> Json:
    if "InputDataConfig" not in members:
        return {}
    return {"InputDataConfig": [_channel(number, channel) for number, channel in enumerate(members["InputDataConfig"], 1)]}


def _channel(number: int, channel: Json) -> Json:
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise missing(f"inputDataConfig.{number}.member.dataSource.s3DataSource")
    return {
        "CompressionType": "None",
        "RecordWrapperType": "None",
        **channel,
        "DataSource": {"S3DataSource": {"S3DataDistributionType": "FullyReplicated", **source}},
    }


def _check_instances(control: JobControl, resources: Json) -> None:
    if resources.get("InstanceGroups"):
        if "InstanceType" in resources or "InstanceCount" in resources:
            raise validation(
                "You can specify either InstanceGroups or InstanceType and InstanceCount in ResourceConfig, not both."
            )
        names = [group["InstanceGroupName"] for group in resources["InstanceGroups"]]
        if len(set(names)) < len(names):
            raise validation("InstanceGroups must have names that differ from each other.")
    else:
        for name in ("InstanceType", "InstanceCount"):
            if name not in resources:
                raise missing(f"resourceConfig.{name[0].lower()}{name[1:]}")
    for group in instance_groups.groups(resources):
        _check_group(control, group)


def _check_group(control: JobControl, group: instance_groups.InstanceGroup) -> None:
    if group.count < 1:
        raise constraint(
            f"'{group.count}'", "resourceConfig.instanceCount", "Member must have value greater than or equal to 1"
        )
    known = instance_types.CATALOGUE.get(group.instance_type)
    # A type whose hardware is not here is what an account without quota for it sees in SageMaker.
    limit, hint = 0, " Phalanx does not know this type: choose another, such as ml.m5.xlarge."
    if known is not None:
        limit, hint = INSTANCES_PER_JOB, ""
        if known.gpus:
            there = control.gpus()
            limit = min(limit, there // known.gpus)
            hint = (
                f" One has {known.gpus} GPU(s), and this service has {there} (by CDI: docs/gpus.md): choose a type without"
                " accelerators, such as ml.m5.xlarge, or one with fewer."
            )
    if group.count > limit:
        raise _limit(f"{group.instance_type} for training job usage", limit, group.count, "Instances", hint)


def _limit(quota: str, limit: int, requested: int, unit: str, hint: str = "") -> AwsError:
    return AwsError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{quota}' is {limit} {unit}, with current utilization of 0 {unit} and a request "
        f"delta of {requested} {unit}. Please use AWS Service Quotas to request an increase for this quota. "
        "If AWS Service Quotas is not available, contact AWS support to request an increase for this quota." + hint,
    )


def _check_keys(database: Database, control: JobControl, request: Json) -> None:
    """A job must not begin under a key that cannot encrypt what it will write, nor on a disk that keeps no promise."""
    output, resources = request["OutputDataConfig"], request["ResourceConfig"]
    given = {"OutputDataConfig.KmsKeyId": output["KmsKeyId"], "ResourceConfig.VolumeKmsKeyId": resources.get("VolumeKmsKeyId")}
    for member, key in given.items():
        if key:
            try:
                with database.read() as session:
                    arn = keyring.usable(session, key).arn
            except keyring.KeyFault as fault:
                raise validation(f"Invalid {member}: {fault.message} ({fault.code})") from fault
            if key == output["KmsKeyId"] and not control.may_encrypt(request["RoleArn"], arn):
                raise validation(f"Invalid {member}: {keyring.not_allowed(request['RoleArn'], arn)}")
    if resources.get("VolumeKmsKeyId") and not control.disk_is_encrypted():
        raise validation(
            "ResourceConfig.VolumeKmsKeyId asks for encrypted volumes, and the disk under this service's data directory is not"
            " encrypted. Put the data directory on dm-crypt (LUKS), or leave VolumeKmsKeyId out."
        )


def _check_image(control: JobControl, request: Json) -> None:
    uri = request["AlgorithmSpecification"]["TrainingImage"]
    if control.knows_image(uri):
        return
    ecr = _ECR.match(uri)
    if ecr is None:
        raise validation(f"Cannot find the requested image: {uri}")
    raise validation(
        f"Cannot find repository: {ecr['repository']} in registry ID: {ecr['registry']} Please check if your ECR repository "
        f"and image exist and role {request['RoleArn']} has proper pull permissions for SageMaker: "
        "ecr:BatchCheckLayerAvailability, ecr:BatchGetImage, ecr:GetDownloadUrlForLayer"
    )


def _check_metrics(request: Json) -> None:
    fault = metric_definitions.fault(request["AlgorithmSpecification"].get("MetricDefinitions", []))
    if fault is not None:
        raise validation(fault)


def _check_data(control: JobControl, caller: Caller, request: Json) -> None:
    uris = [channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in request.get("InputDataConfig", [])]
    places = [request["OutputDataConfig"]["S3OutputPath"]]
    if "CheckpointConfig" in request:
        places.append(request["CheckpointConfig"]["S3Uri"])
    for uri in (*uris, *places):
        if _S3_URI.fullmatch(uri) is None:
            raise validation(f'The S3 URI "{uri}" is not valid. Give it as s3://bucket/prefix.')
    for uri in places:
        if not control.keeps(uri):
            raise validation(
                f'The S3 URI "{uri}" is not valid: in this S3 no part of a key between slashes is empty, "." or "..", or '
                "longer than 255 bytes. Give another prefix."
            )
    for uri in dict.fromkeys(uris):
        if not control.has_objects(uri, request["RoleArn"]):
            bucket = uri.split("/")[2]
            raise validation(
                f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists '
                f"in the selected region ({caller.region}), that objects exist under that S3 prefix, and that the role "
                f'"{request["RoleArn"]}" has "s3:ListBucket" permissions on bucket "{bucket}".'
            )
