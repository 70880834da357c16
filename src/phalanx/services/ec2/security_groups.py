"""Security groups: create, describe, list for a VPC, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import permissions, tags
from phalanx.services.ec2.errors import dependency_violation, invalid_parameter, missing_parameter
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import default_vpc, find, find_all, group_by_name
from phalanx.services.ec2.query import Filters, matching, page
from phalanx.store.network import NetworkInterfaceGroup, SecurityGroup, SecurityGroupRule, Vpc, VpcEndpointGroup
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members


def add_default(session: Session, vpc_id: str) -> None:
    """Add a VPC's default group: all traffic in from the group itself, all out."""
    group = SecurityGroup(vpc_id=vpc_id, name="default", description="default VPC security group", is_default=True)
    _add(session, group)
    session.add(SecurityGroupRule(group_id=group.id, direction="ingress", protocol=permissions.ALL, peer_group=group.id))


def remove(session: Session, group: SecurityGroup) -> None:
    """Delete a group that nothing uses, with its rules and all their tags."""
    rules = list(session.scalars(select(SecurityGroupRule.id).filter_by(group_id=group.id)))
    tags.forget(session, [group.id, *rules])
    session.execute(delete(SecurityGroupRule).where(SecurityGroupRule.group_id == group.id))
    session.delete(group)
    session.flush()


def named(session: Session, request: Members) -> SecurityGroup:
    """The group of a request's GroupId, or GroupName (default VPC only).

    Raises AwsError InvalidGroup.NotFound, InvalidGroupId.Malformed, MissingParameter.
    """
    group_id, name = request.get("GroupId"), request.get("GroupName")
    if group_id is None and name is None:
        raise missing_parameter("groupName or groupId")
    if group_id is None:
        group_id = group_by_name(session, str(name)).id
    return find(session, SecurityGroup, group_id)


def create_security_group(session: Session, caller: Caller, request: Members) -> Members:
    """CreateSecurityGroup, in the default VPC where none is named.

    Raises AwsError InvalidVpcID.NotFound, VPCIdNotSpecified, InvalidGroup.Duplicate, InvalidParameterValue, MissingParameter.
    """
    name = _checked_name(request["GroupName"])
    description: str = request["Description"]
    if not description:
        raise missing_parameter("GroupDescription")
    if not permissions.TEXT.fullmatch(description):
        raise _bad_text("description", "descriptions")
    vpc = _vpc(session, request.get("VpcId"))
    if session.scalar(select(exists().where(SecurityGroup.vpc_id == vpc.id, SecurityGroup.name == name))):
        raise AwsError("InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{vpc.id}'")
    asked = tags.requested(request, SecurityGroup)
    group = SecurityGroup(vpc_id=vpc.id, name=name, description=description)
    _add(session, group)
    tags.attach(session, group.id, asked)
    return {"GroupId": group.id, "SecurityGroupArn": _arn(group, caller), "Tags": tags.as_members(asked)}


def describe_security_groups(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeSecurityGroups. Raises AwsError InvalidGroup.NotFound, InvalidParameterValue, InvalidParameterCombination."""
    ids = list(request.get("GroupIds", []))
    ids += [group_by_name(session, name).id for name in request.get("GroupNames", [])]
    groups = find_all(session, SecurityGroup, ids)
    rules: dict[str, list[SecurityGroupRule]] = {group.id: [] for group in groups}
    query = select(SecurityGroupRule).order_by(SecurityGroupRule.number)
    # Clients ask for single groups among thousands of rules, over and over.
    for rule in session.scalars(query.where(SecurityGroupRule.group_id.in_(ids)) if ids else query):
        rules[rule.group_id].append(rule)
    names = {group.id: group.name for group in session.scalars(select(SecurityGroup))}

    def show(group: SecurityGroup, caller: Caller, attached: Mapping[str, str]) -> Members:
        return {
            "GroupId": group.id,
            "GroupName": group.name,
            "Description": group.description,
            "VpcId": group.vpc_id,
            "OwnerId": caller.account,
            "SecurityGroupArn": _arn(group, caller),
            "IpPermissions": permissions.as_ip_permissions(_of("ingress", rules[group.id]), caller),
            "IpPermissionsEgress": permissions.as_ip_permissions(_of("egress", rules[group.id]), caller),
            "Tags": tags.as_members(attached),
        }

    named_by = "GroupIds" if request.get("GroupIds") else "GroupNames"
    filters = _filters(caller, rules, names)
    described, more = listed(session, caller, request, SecurityGroup, named_by, filters, show, rows=groups)
    return {"SecurityGroups": described, **more}


def get_security_groups_for_vpc(session: Session, caller: Caller, request: Members) -> Members:
    """GetSecurityGroupsForVpc: the groups that interfaces in a VPC may have, which are the VPC's own.

    Raises AwsError InvalidVpcID.NotFound, InvalidParameterValue.
    """
    vpc = find(session, Vpc, request["VpcId"])
    filters: Filters[SecurityGroup] = {
        "group-id": lambda group: (group.id,),
        "group-name": lambda group: (group.name,),
        "description": lambda group: (group.description,),
        "owner-id": lambda _: (caller.account,),
        "primary-vpc-id": lambda group: (group.vpc_id,),
    }
    attached = tags.Tags(session, SecurityGroup)
    groups = session.scalars(select(SecurityGroup).filter_by(vpc_id=vpc.id))
    shown, more = page(request, matching(request, groups, filters, attached.of), lambda group: group.id)
    described = [
        {
            "GroupId": group.id,
            "GroupName": group.name,
            "Description": group.description,
            "OwnerId": caller.account,
            "PrimaryVpcId": group.vpc_id,
            "Tags": tags.as_members(attached.of(group)),
        }
        for group in shown
    ]
    return {"SecurityGroupForVpcs": described, **more}


def describe_stale_security_groups(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeStaleSecurityGroups: none. A rule is stale once a peered VPC's group is gone, and no VPC is peered.

    Raises AwsError InvalidVpcID.NotFound.
    """
    find(session, Vpc, request["VpcId"])
    return {"StaleSecurityGroupSet": []}


def describe_security_group_references(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeSecurityGroupReferences: none. Only groups of peered VPCs count, and no VPC is peered.

    Raises AwsError InvalidGroup.NotFound.
    """
    find_all(session, SecurityGroup, request["GroupId"])
    return {"SecurityGroupReferenceSet": []}


def delete_security_group(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteSecurityGroup.

    Raises AwsError InvalidGroup.NotFound, CannotDelete (a VPC's default group), DependencyViolation (an interface,
    an endpoint or another group's rule refers to it).
    """
    group = named(session, request)
    if group.is_default:
        text = f'the specified group: "{group.id}" name: "{group.name}" cannot be deleted by a user'
        raise AwsError("CannotDelete", text)
    referred = exists().where(SecurityGroupRule.peer_group == group.id, SecurityGroupRule.group_id != group.id)
    used = exists().where(NetworkInterfaceGroup.group_id == group.id)
    of_endpoint = exists().where(VpcEndpointGroup.group_id == group.id)
    if any(session.scalar(select(dependent)) for dependent in (referred, used, of_endpoint)):
        raise dependency_violation(f"resource {group.id} has a dependent object")
    remove(session, group)
    return {"Return": True, "GroupId": group.id}


def _add(session: Session, group: SecurityGroup) -> None:
    session.add(group)
    session.flush()
    session.add(SecurityGroupRule(group_id=group.id, direction="egress", protocol=permissions.ALL, cidr="0.0.0.0/0"))


def _vpc(session: Session, vpc_id: str | None) -> Vpc:
    if vpc_id is not None:
        return find(session, Vpc, vpc_id)
    vpc = default_vpc(session)
    if vpc is None:
        raise AwsError("VPCIdNotSpecified", "No default VPC for this user")
    return vpc


def _checked_name(text: str) -> str:
    # "Any trailing spaces are trimmed" (CreateSecurityGroup).
    name = text.rstrip(" ")
    if name.lower().startswith("sg-"):
        reason = "Group names may not be in the format sg-*."
        raise invalid_parameter(f"Value ({text}) for parameter GroupName is invalid. {reason}")
    if not name.isascii():
        reason = "Character sets beyond ASCII are not supported."
        raise invalid_parameter(f"Value ({text}) for parameter GroupName is invalid. {reason}")
    if not name or not permissions.TEXT.fullmatch(name):
        raise _bad_text("name", "names")
    if name == "default":
        raise invalid_parameter("Cannot use reserved security group name: default")
    return name


def _bad_text(what: str, plural: str) -> AwsError:
    return invalid_parameter(f"Invalid security group {what}. Valid {plural} {permissions.TEXT_RULE}")


def _arn(group: SecurityGroup, caller: Caller) -> str:
    return caller.arn_of("ec2", f"security-group/{group.id}")


def _of(direction: permissions.Direction, rules: Iterable[SecurityGroupRule]) -> list[SecurityGroupRule]:
    return [rule for rule in rules if rule.direction == direction]


def _filters(caller: Caller, rules: dict[str, list[SecurityGroupRule]], names: dict[str, str]) -> Filters[SecurityGroup]:
    filters: dict[str, Callable[[SecurityGroup], Iterable[str]]] = {
        "group-id": lambda group: (group.id,),
        "group-name": lambda group: (group.name,),
        "description": lambda group: (group.description,),
        "owner-id": lambda _: (caller.account,),
        "vpc-id": lambda group: (group.vpc_id,),
    }
    parts: dict[str, Callable[[SecurityGroupRule], str | None]] = {
        "cidr": lambda rule: rule.cidr if ":" not in (rule.cidr or "") else None,
        "ipv6-cidr": lambda rule: rule.cidr if ":" in (rule.cidr or "") else None,
        "from-port": lambda rule: None if rule.from_port is None else str(rule.from_port),
        "to-port": lambda rule: None if rule.to_port is None else str(rule.to_port),
        "group-id": lambda rule: rule.peer_group,
        "group-name": lambda rule: names.get(rule.peer_group or ""),
        "prefix-list-id": lambda rule: rule.prefix_list,
        "protocol": lambda rule: permissions.protocol_name(rule.protocol),
        "user-id": lambda rule: caller.account if rule.peer_group else None,
    }
    prefixes: dict[str, permissions.Direction] = {"ip-permission.": "ingress", "egress.ip-permission.": "egress"}
    for prefix, direction in prefixes.items():
        for part, value in parts.items():
            filters[prefix + part] = _rule_filter(rules, direction, value)
    return filters


def _rule_filter(
    rules: dict[str, list[SecurityGroupRule]],
    direction: permissions.Direction,
    value: Callable[[SecurityGroupRule], str | None],
) -> Callable[[SecurityGroup], Sequence[str]]:
    return lambda group: [text for rule in _of(direction, rules[group.id]) if (text := value(rule)) is not None]
