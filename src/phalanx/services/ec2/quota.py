"""How much there may be of security groups and their rules (Amazon VPC quotas, "Security groups")."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.store.network import PrefixList, SecurityGroupRule
from phalanx.wire.errors import AwsError

MAX_RULES = 60
"""Rules of a group per direction and per IP version.

A rule with a group as its peer counts for both versions; one with a prefix list counts as many as the list may have entries.
"""
GROUPS_PER_INTERFACE = 5
"""Security groups that one network interface may have."""


def check(session: Session, rules: Iterable[SecurityGroupRule]) -> None:
    """Refuse more rules than one direction of a group may have. Raises AwsError RulesPerSecurityGroupLimitExceeded."""
    lists: dict[str, tuple[str, int]] = {
        id_: (family, size)
        for id_, family, size in session.execute(select(PrefixList.id, PrefixList.family, PrefixList.max_entries))
    }
    counts = {"IPv4": 0, "IPv6": 0}
    for rule in rules:
        if rule.cidr is not None:
            counts["IPv6" if ":" in rule.cidr else "IPv4"] += 1
        elif rule.prefix_list is not None:
            # A list that AWS manages is not among ours: S3's counts as one rule ("AWS-managed prefix list weight").
            family, size = lists.get(rule.prefix_list, ("IPv4", 1))
            counts[family] += size
        else:
            counts = {version: count + 1 for version, count in counts.items()}
    if max(counts.values()) > MAX_RULES:
        raise AwsError("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
