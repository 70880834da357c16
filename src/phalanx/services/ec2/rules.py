"""AuthorizeSecurityGroupIngress and -Egress, RevokeSecurityGroupIngress and -Egress, DescribeSecurityGroupRules.

The operations that change rules return the VPC's id as well: its rules must be enforced anew after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import permissions, tags
from phalanx.services.ec2.lookup import find_all
from phalanx.services.ec2.permissions import Direction
from phalanx.services.ec2.query import Filters, matching, page
from phalanx.services.ec2.security_groups import named
from phalanx.store.network import SecurityGroup, SecurityGroupRule
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

MAX_RULES = 60
"""Rules of a group per direction, and per IP version: one with a group as its peer counts for both (Amazon VPC quotas)."""


def authorize_ingress(session: Session, caller: Caller, request: Members) -> tuple[str, Members]:
    """AuthorizeSecurityGroupIngress; see `_authorize`."""
    return _authorize(session, caller, request, "ingress")


def authorize_egress(session: Session, caller: Caller, request: Members) -> tuple[str, Members]:
    """AuthorizeSecurityGroupEgress; see `_authorize`."""
    return _authorize(session, caller, request, "egress")


def revoke_ingress(session: Session, caller: Caller, request: Members) -> tuple[str, Members]:
    """RevokeSecurityGroupIngress; see `_revoke`."""
    return _revoke(session, caller, request, "ingress")


def revoke_egress(session: Session, caller: Caller, request: Members) -> tuple[str, Members]:
    """RevokeSecurityGroupEgress; see `_revoke`."""
    return _revoke(session, caller, request, "egress")


def describe_security_group_rules(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeSecurityGroupRules. Raises AwsError InvalidSecurityGroupRuleId.NotFound, InvalidParameterValue."""
    filters: Filters[SecurityGroupRule] = {
        "group-id": lambda rule: (rule.group_id,),
        "security-group-rule-id": lambda rule: (rule.id,),
    }
    attached = tags.Tags(session, "sgr")
    found = find_all(session, SecurityGroupRule, request.get("SecurityGroupRuleIds", []))
    shown, more = page(request, matching(request, found, filters, attached.of), lambda rule: rule.id, "SecurityGroupRuleIds")
    described = permissions.as_rules(shown, caller, {rule.id: attached.of(rule) for rule in shown})
    return {"SecurityGroupRules": described, **more}


def _authorize(session: Session, caller: Caller, request: Members, direction: Direction) -> tuple[str, Members]:
    """Add rules to a group.

    Raises AwsError InvalidGroup.NotFound, InvalidPermission.Duplicate, InvalidParameterValue, MissingParameter,
    RulesPerSecurityGroupLimitExceeded.
    """
    group = named(session, request, lock=True)
    wanted = permissions.requested(session, caller, group, request)
    if not wanted:
        raise AwsError("MissingParameter", "The request must contain the parameter ipPermissions")
    asked = tags.requested(request, "security-group-rule")
    present = _rules(session, group, direction)
    keys = {permissions.rule_key(rule) for rule in present}
    for permission in wanted:
        if permission.key in keys:
            raise AwsError("InvalidPermission.Duplicate", f'the specified rule "{permission}" already exists')
    cidrs = [rule.cidr for rule in present] + [permission.cidr for permission in wanted]
    if max(_count(cidrs, version) for version in (4, 6)) > MAX_RULES:
        raise AwsError("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
    added = [
        SecurityGroupRule(
            group_id=group.id,
            direction=direction,
            protocol=permission.protocol,
            from_port=permission.from_port,
            to_port=permission.to_port,
            cidr=permission.cidr,
            peer_group=permission.peer_group,
            description=permission.description,
        )
        for permission in wanted
    ]
    session.add_all(added)
    session.flush()
    for rule in added:
        tags.attach(session, rule.id, asked)
    described = permissions.as_rules(added, caller, {rule.id: asked for rule in added})
    return group.vpc_id, {"Return": True, "SecurityGroupRules": described}


def _revoke(session: Session, caller: Caller, request: Members, direction: Direction) -> tuple[str, Members]:
    """Remove rules from a group, named by id or by what they allow (the description does not matter).

    Raises AwsError InvalidGroup.NotFound, InvalidPermission.NotFound, InvalidSecurityGroupRuleId.NotFound,
    InvalidParameterValue, MissingParameter.
    """
    group = named(session, request, lock=True)
    ids = list(dict.fromkeys(request.get("SecurityGroupRuleIds", [])))
    unwanted = permissions.requested(session, caller, group, request)
    if not ids and not unwanted:
        raise AwsError("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")
    present = _rules(session, group, direction)
    by_id = {rule.id: rule for rule in present}
    by_key = {permissions.rule_key(rule): rule for rule in present}
    doomed: dict[str, SecurityGroupRule] = {}
    for rule_id in ids:
        if rule_id not in by_id:
            text = f"The security group rule ID '{rule_id}' does not exist"
            raise AwsError("InvalidSecurityGroupRuleId.NotFound", text)
        doomed[rule_id] = by_id[rule_id]
    for permission in unwanted:
        rule = by_key.get(permission.key)
        if rule is None:
            raise AwsError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
        doomed[rule.id] = rule
    for rule in doomed.values():
        session.delete(rule)
    tags.forget(session, doomed)
    return group.vpc_id, {"Return": True, "RevokedSecurityGroupRules": permissions.as_revoked(list(doomed.values()))}


def _rules(session: Session, group: SecurityGroup, direction: Direction) -> list[SecurityGroupRule]:
    query = select(SecurityGroupRule).filter_by(group_id=group.id, direction=direction)
    return list(session.scalars(query.order_by(SecurityGroupRule.number)))


def _count(cidrs: Iterable[str | None], version: int) -> int:
    return sum(cidr is None or (6 if ":" in cidr else 4) == version for cidr in cidrs)
