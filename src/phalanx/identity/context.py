"""The condition keys of a request, from who asks and what is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from botocore.model import StructureShape

from phalanx.identity.actions import Find, Need, definitions_of
from phalanx.identity.conditions import Context, Value
from phalanx.identity.directory import Identity
from phalanx.wire.loader import service_model
from phalanx.wire.service import Caller, Members

Tags = Callable[[str], dict[str, str]]
"""The tags of a resource by its ARN."""

_FLAGS = {
    "EnableInterContainerTrafficEncryption": "sagemaker:intercontainertrafficencryption",
    "EnableNetworkIsolation": "sagemaker:networkisolation",
}
"""Members that are false where a request leaves them out."""
_OF_S3 = {
    "s3:prefix": "Prefix",
    "s3:delimiter": "Delimiter",
    "s3:if-match": "IfMatch",
    "s3:if-none-match": "IfNoneMatch",
    "s3:max-keys": "MaxKeys",
    "s3:x-amz-acl": "ACL",
    "s3:x-amz-server-side-encryption": "ServerSideEncryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
}
_IN_A_VPC = ("subnet", "security-group", "route-table", "network-acl", "network-interface")
"""Types of EC2's resources that have ec2:Vpc ("Actions, resources, and condition keys for Amazon EC2")."""


def of(
    caller: Caller, who: Identity, service: str, operation: str, members: Members, need: Need, tags: Tags, find: Find
) -> list[Context]:
    """The contexts of an action that a request needs on one resource, each of which has to be allowed: one, or one for each
    training job that a tuning job defines."""
    action, resource = need
    found = functools.partial(_global, caller, who)
    tagged = functools.partial(_tags, members, resource, tags)
    if service != "sagemaker":
        making = {"ec2:createaction": Value((operation,))} if action == "ec2:CreateTags" != f"ec2:{operation}" else {}
        placed = [functools.partial(_vpc, caller, members, resource, find)] if service == "ec2" else []
        return [Context(making, functools.partial(_others, service, members), found, tagged, *placed)]
    definitions = definitions_of(members) or [members]
    return [Context({}, functools.partial(_sagemaker, operation, definition), found, tagged) for definition in definitions]


def of_passing(caller: Caller, who: Identity, role: str, tags: Tags) -> Context:
    """The context of iam:PassRole to SageMaker; `role` is an ARN."""
    passed = {"iam:passedtoservice": Value(("sagemaker.amazonaws.com",))}
    return Context(passed, functools.partial(_global, caller, who), functools.partial(_tags, {}, role, tags))


def of_assuming(caller: Caller, who: Identity, members: Members, tags: Tags) -> Context:
    """The context in which a role's trust policy is asked, and what the caller's own say of the role."""
    of_role = functools.partial(_tags, {}, members["RoleArn"], tags)
    return Context({}, functools.partial(_others, "sts", members), functools.partial(_global, caller, who), of_role)


def _global(caller: Caller, who: Identity) -> dict[str, Value]:
    now = datetime.now(UTC)
    kind = {"user": "User", "role": "AssumedRole"}[who.kind]
    found = {
        "aws:currenttime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:epochtime": str(int(now.timestamp())),
        "aws:principalaccount": caller.account,
        "aws:principalarn": who.arn,
        "aws:principalisawsservice": "false",
        "aws:principaltype": kind,
        "aws:requestedregion": caller.region,
        "aws:resourceaccount": caller.account,
        "aws:securetransport": "true" if caller.client.secure else "false",
        "aws:useragent": caller.client.user_agent,
        "aws:userid": caller.user_id,
        "aws:viaawsservice": "false",
        "ec2:region": caller.region,
    }
    if caller.client.address:
        found["aws:sourceip"] = caller.client.address
    if who.kind == "user":
        found["aws:username"] = who.name
    if who.session and who.begun is not None:
        found["aws:multifactorauthpresent"] = "false"
        found["aws:tokenissuetime"] = who.begun.strftime("%Y-%m-%dT%H:%M:%SZ")
    values = {key: Value((text,)) for key, text in found.items()}
    return values | {f"aws:principaltag/{key.lower()}": Value((value,)) for key, value in who.tags.items()}


def _sagemaker(operation: str, members: Members) -> dict[str, Value]:
    """Keys of SageMaker, of a request or of one of the training jobs that it defines."""
    found: dict[str, Value] = {}
    for flag, key in _FLAGS.items():
        if flag in members:
            found[key] = Value(("true" if members[flag] else "false",))
        elif flag in _flags_of(operation):
            found[key] = Value(("false",), given=False)
    vpc = members.get("VpcConfig")
    if isinstance(vpc, dict):
        found["sagemaker:vpcsubnets"] = Value(tuple(vpc.get("Subnets") or ()))
        found["sagemaker:vpcsecuritygroupids"] = Value(tuple(vpc.get("SecurityGroupIds") or ()))
    resources = [
        each
        for name in ("ResourceConfig", "HyperParameterTuningResourceConfig")
        for each in [members.get(name)]
        if isinstance(each, dict)
    ]
    types = [
        each["InstanceType"]
        for resource in resources
        for each in [resource, *(resource.get("InstanceGroups") or []), *(resource.get("InstanceConfigs") or [])]
        if "InstanceType" in each
    ]
    if types:
        found["sagemaker:instancetypes"] = Value(tuple(dict.fromkeys(types)))
    for key, holder, member in (
        ("sagemaker:volumekmskey", "ResourceConfig", "VolumeKmsKeyId"),
        ("sagemaker:outputkmskey", "OutputDataConfig", "KmsKeyId"),
        ("sagemaker:maxruntimeinseconds", "StoppingCondition", "MaxRuntimeInSeconds"),
        ("sagemaker:keepaliveperiod", "ResourceConfig", "KeepAlivePeriodInSeconds"),
        ("sagemaker:enableremotedebug", "RemoteDebugConfig", "EnableRemoteDebug"),
    ):
        value = (members.get(holder) or {}).get(member)
        if value not in (None, ""):
            found[key] = Value((str(value).lower() if isinstance(value, bool) else str(value),))
    return found


@functools.cache
def _flags_of(operation: str) -> frozenset[str]:
    """Which of the flags an operation of SageMaker takes at all, for itself or for the training jobs that it defines."""
    shape = service_model("sagemaker").operation_model(operation).input_shape
    found: set[str] = set()
    if isinstance(shape, StructureShape):
        for part in (shape, shape.members.get("TrainingJobDefinition")):
            if isinstance(part, StructureShape):
                found.update(flag for flag in _FLAGS if flag in part.members)
    return frozenset(found)


def _others(service: str, members: Members) -> dict[str, Value]:
    """Keys of the other services."""
    found: dict[str, Value] = {}
    if service == "iam" and isinstance(members.get("PolicyArn"), str):
        found["iam:policyarn"] = Value((members["PolicyArn"],))
    if service == "kms" and members.get("EncryptionContext"):
        given = members["EncryptionContext"]
        found["kms:encryptioncontextkeys"] = Value(tuple(given))
        found |= {f"kms:encryptioncontext:{name.lower()}": Value((value,)) for name, value in given.items()}
    if service == "s3":
        found |= {key: Value((str(members[member]),)) for key, member in _OF_S3.items() if member in members}
    for key, member in (("sts:externalid", "ExternalId"), ("sts:rolesessionname", "RoleSessionName")):
        if service == "sts" and isinstance(members.get(member), str):
            found[key] = Value((members[member],))
    return found


def _vpc(caller: Caller, members: Members, resource: str, find: Find) -> dict[str, Value]:
    """The VPC that a resource is in, or else the one that a request names: its ARN."""
    kind, _, id = resource.rpartition(":")[2].partition("/")
    given = members.get("VpcId")
    inside = find("Vpc", id) if kind in _IN_A_VPC else []
    ids = inside or ([given] if isinstance(given, str) else [])
    return {"ec2:vpc": Value((caller.arn_of("ec2", f"vpc/{ids[0]}"),))} if ids else {}


def _tags(members: Members, resource: str, tags: Tags) -> dict[str, Value]:
    """Tags in the request, and of the resource."""
    given = list(members.get("Tags") or [])
    for specification in members.get("TagSpecifications") or []:
        given += specification.get("Tags") or []
    # KMS calls them otherwise than all others.
    pairs = [(tag.get("Key", tag.get("TagKey")), tag.get("Value", tag.get("TagValue", ""))) for tag in given]
    found = {f"aws:requesttag/{key}": value for key, value in _folded((key, value) for key, value in pairs if key is not None)}
    keys = [key for key, _ in pairs if key is not None] + list(members.get("TagKeys") or [])
    if keys:
        found["aws:tagkeys"] = Value(tuple(dict.fromkeys(keys)))
    # By whose resource it is: not all operations on training jobs are of SageMaker's own service.
    owner = resource.split(":", 3)[2] if resource.count(":") > 2 else ""
    for key, value in _folded(tags(resource).items()):
        for prefix in ("aws", owner):
            found[f"{prefix}:resourcetag/{key}"] = value
    return found


def _folded(tags: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Value]]:
    """Tags by their keys in lower case, as condition keys have them. Of several that differ in case alone each value counts:
    who may add a tag `team` must not hide what `Team` says."""
    values: dict[str, list[str]] = {}
    for key, value in tags:
        values.setdefault(key.lower(), []).append(value)
    return ((key, Value(tuple(each))) for key, each in values.items())
