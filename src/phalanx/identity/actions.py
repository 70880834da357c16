"""What an operation needs permission for: actions, and the resources that they are on.

The names of members tell, as SageMaker's and EC2's name them by one rule: `TrainingJobName` is a training job's,
`SecurityGroupIds` are security groups. Operations that are added are covered by the rule, too: a resource that no rule finds
is `*`, which only statements about everything allow ("Actions, resources, and condition keys for AWS services").
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator

from phalanx.identity import names
from phalanx.store.lineage import artifact_name
from phalanx.store.network import BY_PREFIX
from phalanx.wire.service import Caller, Members

Need = tuple[str, str]
"""Action and resource."""
Find = Callable[[str, str], list[str]]
"""Looks a resource up by what a request calls it: kind and name in, what its ARN ends with out. Kinds are `user` and `role`
(paths), `key`, `alias` and the types of SageMaker's resources (ARNs), the members of EC2's requests that name resources by
something else than their ids, and `Vpc`: of a resource, by its id."""

PREFIXES = {"sagemaker-metrics": "sagemaker"}
"""Services whose actions are another's."""
_FREE = {("sts", "GetCallerIdentity"), ("sts", "GetSessionToken")}
"""Operations that need no permission, as on AWS."""
_VERBS = re.compile(
    r"(?:Create|Describe|Update|Stop|Start|Delete|Disassociate|Associate|Batch(?:Get|Put|Describe)|List|Get|Put|Add|Register"
    r"|Deregister|Search|Query|Import|Retry|Send|Render|Attach|Detach)(?P<rest>[A-Z]\w*)"
)
_RENAMED = {"auto-ml-job": "automl-job", "trial": "experiment-trial", "trial-component": "experiment-trial-component"}
"""Types whose ARNs have another name than their members have."""
_WORD = re.compile(r"[A-Z](?:[a-z0-9]+|[A-Z0-9]*(?![a-z]))")

_EC2_TYPES = {
    "Vpc": "vpc",
    "PeeringVpc": "vpc",
    "Subnet": "subnet",
    "Group": "security-group",
    "SecurityGroup": "security-group",
    "SecurityGroupRule": "security-group-rule",
    "RouteTable": "route-table",
    "InternetGateway": "internet-gateway",
    "NatGateway": "natgateway",
    "Allocation": "elastic-ip",
    "VpcEndpoint": "vpc-endpoint",
    "DhcpOptions": "dhcp-options",
    "PrefixList": "prefix-list",
    "NetworkInterface": "network-interface",
    "NetworkAcl": "network-acl",
    "AddSecurityGroup": "security-group",
    "RemoveSecurityGroup": "security-group",
    "AddRouteTable": "route-table",
    "RemoveRouteTable": "route-table",
    "AddSubnet": "subnet",
    "RemoveSubnet": "subnet",
    "Gateway": "internet-gateway",
}
"""Resource types by what members with their ids are called, without `Id` or `Ids`."""
_EC2_MADE = {
    "CreateVpc": "vpc",
    "CreateDefaultVpc": "vpc",
    "CreateSubnet": "subnet",
    "CreateSecurityGroup": "security-group",
    "CreateRouteTable": "route-table",
    "CreateInternetGateway": "internet-gateway",
    "CreateNatGateway": "natgateway",
    "CreateManagedPrefixList": "prefix-list",
    "CreateVpcEndpoint": "vpc-endpoint",
    "CreateDhcpOptions": "dhcp-options",
    "CreateNetworkAcl": "network-acl",
    "AllocateAddress": "elastic-ip",
}
_S3_ACTIONS = {
    "ListBuckets": "ListAllMyBuckets",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "ListParts": "ListMultipartUploadParts",
}
"""Actions that are not called as the operations are that need them."""
_EC2_LOOKED_UP = ("AssociationId", "GroupName", "PublicIp")


def needs(caller: Caller, service: str, operation: str, members: Members, find: Find) -> list[Need]:
    """All that the caller has to be allowed, each action on each resource; nothing where anybody may."""
    if (service, operation) in _FREE:
        return []
    if service == "s3":
        return list(_s3(operation, members))
    prefix = PREFIXES.get(service, service)
    action = f"{prefix}:{operation}"
    base = caller.arn_of(prefix, "")
    if prefix == "sagemaker":
        found = list(_sagemaker(base, operation, members, find))
    elif prefix == "ec2":
        found = list(_ec2(base, operation, members, find))
    elif prefix == "logs":
        found = [_logs(base, members)]
    elif prefix == "iam":
        found = list(_iam(f"arn:{names.PARTITION}:iam::{caller.account}:", operation, members, caller, find))
    elif prefix == "kms":
        found = list(_kms(base, members, find))
    elif prefix == "sts":
        found = [members["RoleArn"]] if "RoleArn" in members else []
    elif prefix == "phalanx" and "TrainingJobName" in members:
        found = [_named(caller.arn_of("sagemaker", ""), "TrainingJob", members["TrainingJobName"], find)]
    else:
        found = []
    asked = [(action, resource) for resource in dict.fromkeys(found) or ["*"]]
    return asked + list(_tagging(base, prefix, operation, members, [resource for _, resource in asked]))


def _tagging(base: str, prefix: str, operation: str, members: Members, made: list[str]) -> Iterator[Need]:
    """What is needed besides to make something with tags, which AWS asks for as if they were given afterwards."""
    if not operation.startswith(("Create", "Allocate", "Authorize")) or operation == "CreateTags":
        return
    for specification in members.get("TagSpecifications") or []:
        if specification.get("Tags"):
            yield "ec2:CreateTags", f"{base}{specification.get('ResourceType', '*')}/*"
    if not members.get("Tags"):
        return
    if prefix == "kms":
        yield "kms:TagResource", f"{base}key/*"
    elif prefix in ("sagemaker", "iam"):
        action = "sagemaker:AddTags" if prefix == "sagemaker" else f"iam:Tag{operation.removeprefix('Create')}"
        yield from ((action, resource) for resource in made)


def passed_roles(members: Members) -> list[str]:
    """The roles that a request of SageMaker's hands over, its own and those of its definitions."""
    definitions = [members, *definitions_of(members)]
    return list(dict.fromkeys(each["RoleArn"] for each in definitions if isinstance(each.get("RoleArn"), str)))


def definitions_of(members: Members) -> list[Members]:
    """The training jobs that a tuning job's request defines."""
    one, several = members.get("TrainingJobDefinition"), members.get("TrainingJobDefinitions") or []
    return [each for each in ([one] if one else []) + several if isinstance(each, dict)]


def _sagemaker(base: str, operation: str, members: Members, find: Find) -> Iterator[str]:
    if "ResourceArn" in members:
        yield members["ResourceArn"]
        return
    if operation == "BatchGetMetrics":
        yield from (query["ResourceArn"] for query in members["MetricQueries"])
        return
    if operation in ("AddAssociation", "DeleteAssociation"):
        yield from (members["SourceArn"], members["DestinationArn"])
        return
    if operation in ("CreateArtifact", "DeleteArtifact") and "Source" in members:
        yield _named(base, "Artifact", artifact_name(members["Source"]), find)
        return
    verb = _VERBS.fullmatch(operation)
    rest = verb["rest"] if verb else operation
    # ListTrainingJobsForHyperParameterTuningJob is about the latter.
    noun = rest.partition("For")[2] if operation.startswith("List") and "For" in rest else rest
    if operation == "BatchPutMetrics":
        noun = "TrialComponent"
    for name in (f"{noun}Name", f"{noun}Arn"):
        if isinstance(members.get(name), str):
            yield _named(base, noun, members[name], find)
            break
    if operation in ("AssociateTrialComponent", "DisassociateTrialComponent", "CreateTrial"):
        for noun in ("Trial", "Experiment"):
            if isinstance(members.get(f"{noun}Name"), str):
                yield _named(base, noun, members[f"{noun}Name"], find)


def _named(base: str, noun: str, given: str, find: Find) -> str:
    """The ARN that what is there has, wherever it was made and however it is asked for; else the one it would get."""
    word = "-".join(word.lower() for word in _WORD.findall(noun))
    kind, name = _RENAMED.get(word, word), given.rpartition("/")[2]
    found = find(kind, name)
    return found[0] if found else f"{base}{kind}/{name}"


def _ec2(base: str, operation: str, members: Members, find: Find) -> Iterator[str]:
    if operation.startswith("Describe"):
        return
    if operation in _EC2_MADE:
        yield f"{base}{_EC2_MADE[operation]}/*"
    for name, value in members.items():
        stem = re.sub(r"Ids?$", "", name)
        ids = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
        if name == "Resources":
            yield from (f"{base}{_type_of(each, '*')}/{each}" for each in ids)
        elif stem != name and stem in _EC2_TYPES:
            yield from (f"{base}{_type_of(each, _EC2_TYPES[stem])}/{each}" for each in ids)
        elif name in _EC2_LOOKED_UP and not operation.startswith("Create"):
            for given in ids:
                yield from (f"{base}{_type_of(each, '*')}/{each}" for each in find(name, given))


def _type_of(id: str, otherwise: str) -> str:
    """The type of an EC2 resource by how its id begins."""
    table = BY_PREFIX.get(id.partition("-")[0])
    return otherwise if table is None else table.type_name


def _s3(operation: str, members: Members) -> Iterator[Need]:
    base = f"arn:{names.PARTITION}:s3:::"
    name = "*"
    if "Bucket" in members:
        name = base + members["Bucket"] + (f"/{members['Key']}" if "Key" in members else "")
    yield f"s3:{_S3_ACTIONS.get(operation, operation)}", name
    if "CopySource" in members:
        yield "s3:GetObject", base + members["CopySource"]


def _logs(base: str, members: Members) -> str:
    group = members.get("logGroupName") or members.get("logGroupIdentifier") or members.get("resourceArn") or ""
    if group.startswith("arn:"):
        group = group.split(":", 6)[-1].removesuffix(":*")
    return f"{base}log-group:{group}:log-stream:{members.get('logStreamName', '')}"


def _kms(base: str, members: Members, find: Find) -> Iterator[str]:
    given = [members[name] for name in ("KeyId", "TargetKeyId") if name in members]
    if not given and isinstance(members.get("CiphertextBlob"), bytes):
        # A ciphertext begins with a byte of version and the id of its key (jobs.keyring).
        blob = members["CiphertextBlob"][1:17]
        given = [str(uuid.UUID(bytes=blob))] if len(blob) == 16 else []
    for name in given:
        found = find("key", name)
        yield from found or [name if name.startswith("arn:") else f"{base}key/{name}"]
    if "AliasName" in members:
        yield from find("alias", members["AliasName"]) or [f"{base}{members['AliasName']}"]


def _iam(base: str, operation: str, members: Members, caller: Caller, find: Find) -> Iterator[str]:
    if "PolicySourceArn" in members:
        yield members["PolicySourceArn"]
    elif "UserName" in members:
        yield base + (find("user", members["UserName"]) or [f"user{members.get('Path', '/')}{members['UserName']}"])[0]
    elif "RoleName" in members:
        yield base + (find("role", members["RoleName"]) or [f"role{members.get('Path', '/')}{members['RoleName']}"])[0]
    elif "PolicyArn" in members:
        yield members["PolicyArn"]
    elif "PolicyName" in members:
        yield f"{base}policy{members.get('Path', '/')}{members['PolicyName']}"
    elif operation in ("GetUser", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey"):
        # Without a name they are about whoever asks.
        yield caller.arn
