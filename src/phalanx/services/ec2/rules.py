"""The rules of security groups: authorize, revoke, modify, describe.

The operations that change what rules allow return the ids of the VPCs as well whose rules must be enforced anew after the
commit.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import permissions, quota, tags
from phalanx.services.ec2.errors import invalid_combination, invalid_parameter, missing_parameter
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find
from phalanx.services.ec2.permissions import DIRECTIONS, Direction, Permission
from phalanx.services.ec2.query import Filters
from phalanx.services.ec2.security_groups import named
from phalanx.store.network import SecurityGroup, SecurityGroupRule, Vpc
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

VpcIds = Sequence[str]
"""The VPCs whose rules an operation changed."""


def authorize(direction: Direction, session: Session, caller: Caller, request: Members) -> tuple[VpcIds, Members]:
    """AuthorizeSecurityGroupIngress, -Egress: add rules to a group.

    Raises AwsError InvalidGroup.NotFound, InvalidPermission.Duplicate, InvalidParameterValue, MissingParameter,
    RulesPerSecurityGroupLimitExceeded.
    """
    group = named(session, request)
    wanted = permissions.requested(session, caller, group, request)
    if not wanted:
        raise missing_parameter("ipPermissions")
    asked = tags.requested(request, SecurityGroupRule)
    present = _rules(session, group, direction)
    keys = {permissions.rule_key(rule) for rule in present}
    for permission in wanted:
        if permission.key in keys:
            raise _duplicate(permission)
    added = [permission.row(group, direction) for permission in wanted]
    quota.check(session, [*present, *added])
    session.add_all(added)
    session.flush()
    for rule in added:
        tags.attach(session, rule.id, asked)
    described = [permissions.as_rule(rule, caller, asked) for rule in added]
    return [group.vpc_id], {"Return": True, "SecurityGroupRules": described}


def revoke(direction: Direction, session: Session, caller: Caller, request: Members) -> tuple[VpcIds, Members]:
    """RevokeSecurityGroupIngress, -Egress: remove rules from a group, named by id or by what they allow, whatever they are
    described as.

    "For a default VPC, if the values you specify do not match the existing rule's values, no error is returned, and the output
    describes the security group rules that were not revoked" (RevokeSecurityGroupIngress, -Egress).

    Raises AwsError InvalidGroup.NotFound, InvalidPermission.NotFound, InvalidSecurityGroupRuleId.NotFound,
    InvalidParameterValue, MissingParameter.
    """
    group = named(session, request)
    ids = list(dict.fromkeys(request.get("SecurityGroupRuleIds", [])))
    unwanted = permissions.requested(session, caller, group, request)
    if not ids and not unwanted:
        raise AwsError("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")
    present = _rules(session, group, direction)
    by_id = {rule.id: rule for rule in present}
    by_key = {permissions.rule_key(rule): rule for rule in present}
    doomed: dict[str, SecurityGroupRule] = {}
    unknown: list[SecurityGroupRule] = []
    forgiving = find(session, Vpc, group.vpc_id).is_default
    for rule_id in ids:
        if rule_id not in by_id:
            raise _no_rule(rule_id)
        doomed[rule_id] = by_id[rule_id]
    for permission in unwanted:
        rule = by_key.get(permission.key)
        if rule is not None:
            doomed[rule.id] = rule
        elif forgiving:
            unknown.append(permission.row(group, direction))
        else:
            raise _no_permission()
    for rule in doomed.values():
        session.delete(rule)
    tags.forget(session, doomed)
    return [group.vpc_id], {
        "Return": True,
        "RevokedSecurityGroupRules": permissions.as_revoked(list(doomed.values())),
        **({"UnknownIpPermissions": permissions.as_ip_permissions(unknown, caller)} if unknown else {}),
    }


def modify_security_group_rules(session: Session, caller: Caller, request: Members) -> tuple[VpcIds, Members]:
    """ModifySecurityGroupRules: each named rule becomes what the request says, all at once.

    Raises AwsError InvalidGroup.NotFound, InvalidSecurityGroupRuleId.NotFound, InvalidPermission.Duplicate,
    InvalidParameterValue, InvalidParameterCombination, MissingParameter, RulesPerSecurityGroupLimitExceeded.
    """
    group = find(session, SecurityGroup, request["GroupId"])
    rules = {rule.id: rule for direction in DIRECTIONS for rule in _rules(session, group, direction)}
    updates = request["SecurityGroupRules"]
    if not updates:
        raise missing_parameter("SecurityGroupRules")
    named_rules = [update["SecurityGroupRuleId"] for update in updates]
    if len(set(named_rules)) != len(named_rules):
        raise invalid_parameter("The same security group rule ID must not appear multiple times")
    for update in updates:
        rule = rules.get(update["SecurityGroupRuleId"])
        if rule is None:
            raise _no_rule(update["SecurityGroupRuleId"])
        permissions.replacement(session, caller, group, rule, update.get("SecurityGroupRule", {})).write(rule)
    for direction in DIRECTIONS:
        present = [rule for rule in rules.values() if rule.direction == direction]
        seen: set[permissions.Key] = set()
        for rule in present:
            if permissions.rule_key(rule) in seen:
                raise _duplicate(permissions.of(rule))
            seen.add(permissions.rule_key(rule))
        quota.check(session, present)
    return [group.vpc_id], {"Return": True}


def update_descriptions(direction: Direction, session: Session, caller: Caller, request: Members) -> Members:
    """UpdateSecurityGroupRuleDescriptionsIngress, -Egress: describe rules anew, named by id or by what they allow; one without
    a description loses its own.

    Raises AwsError InvalidGroup.NotFound, InvalidPermission.NotFound, InvalidSecurityGroupRuleId.NotFound,
    InvalidParameterValue, InvalidParameterCombination, MissingParameter.
    """
    group = named(session, request)
    by_id, structures = request.get("SecurityGroupRuleDescriptions", []), request.get("IpPermissions", [])
    if by_id and structures:
        raise invalid_combination("The parameter IpPermissions cannot be used with the parameter SecurityGroupRuleDescriptions")
    if not by_id and not structures:
        raise AwsError("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleDescriptions' should be provided.")
    present = _rules(session, group, direction)
    rules = {rule.id: rule for rule in present}
    for entry in by_id:
        rule_id = entry.get("SecurityGroupRuleId", "")
        if rule_id not in rules:
            raise _no_rule(rule_id)
        rules[rule_id].description = permissions.description(entry)
    by_key = {permissions.rule_key(rule): rule for rule in present}
    for permission in permissions.requested(session, caller, group, request):
        rule = by_key.get(permission.key)
        if rule is None:
            raise _no_permission()
        rule.description = permission.description
    return {"Return": True}


def describe_security_group_rules(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeSecurityGroupRules. Raises AwsError InvalidSecurityGroupRuleId.NotFound, InvalidParameterValue."""
    filters: Filters[SecurityGroupRule] = {
        "group-id": lambda rule: (rule.group_id,),
        "security-group-rule-id": lambda rule: (rule.id,),
    }
    described, more = listed(session, caller, request, SecurityGroupRule, "SecurityGroupRuleIds", filters, permissions.as_rule)
    return {"SecurityGroupRules": described, **more}


def _rules(session: Session, group: SecurityGroup, direction: Direction) -> list[SecurityGroupRule]:
    query = select(SecurityGroupRule).filter_by(group_id=group.id, direction=direction)
    return list(session.scalars(query.order_by(SecurityGroupRule.number)))


def _duplicate(permission: Permission) -> AwsError:
    return AwsError("InvalidPermission.Duplicate", f'the specified rule "{permission}" already exists')


def _no_permission() -> AwsError:
    return AwsError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")


def _no_rule(rule_id: str) -> AwsError:
    return AwsError("InvalidSecurityGroupRuleId.NotFound", f"The security group rule ID '{rule_id}' does not exist")
