"""Before an encrypted job starts: do the security groups let its instances speak IKE and ESP to each other?

SageMaker's own rule ("Protect Communications Between ML Compute Instances in a Distributed Training Job"): UDP 500 and
protocol 50, inbound and outbound, between the instances. Every ordered pair is checked as EC2 evaluates it: egress by the
sender's groups, ingress by the receiver's, each the union of their rules.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from phalanx.jobs.record import FAILURE_REASON_LIMIT
from phalanx.network.model import Rule, SecurityGroup

Direction = Literal["ingress", "egress"]
Needed = Literal["17", "50"]
"""What an encrypted job sends: UDP (port 500) and ESP, by their protocol numbers."""

UDP: Needed = "17"
ESP: Needed = "50"
_ALL = "-1"
_ICMP = "1"
_IKE_PORT = 500


@dataclass(frozen=True, slots=True)
class MissingRule:
    """A rule that would have to be in one of `groups`, for traffic of `protocol` from (ingress) or to (egress) `peers`.

    `groups` and `peers` are all groups of the two instances; a rule in any of `groups` that names any of `peers` will do.
    `protocol` is 17 (its port 500) or 50.
    """

    groups: tuple[str, ...]
    direction: Direction
    protocol: Needed
    peers: tuple[str, ...]


def missing_rules(
    groups_by_host: Mapping[str, tuple[str, ...]],
    addresses: Mapping[str, str],
    security_groups: Iterable[SecurityGroup],
) -> list[MissingRule]:
    """What the groups of an encrypted job's instances do not allow between them, each once.

    `groups_by_host` has the groups of each instance, `addresses` its address. A group that is not in `security_groups`
    allows nothing. Empty for a single instance.
    """
    rules = {group.id: group.rules for group in security_groups}
    missing: dict[MissingRule, None] = {}
    for sender, receiver in permutations(groups_by_host, 2):
        outgoing, incoming = groups_by_host[sender], groups_by_host[receiver]
        protocol: Needed
        for protocol in (UDP, ESP):
            if not _allows(rules, incoming, "ingress", protocol, outgoing, addresses[sender]):
                missing[MissingRule(incoming, "ingress", protocol, outgoing)] = None
            if not _allows(rules, outgoing, "egress", protocol, incoming, addresses[receiver]):
                missing[MissingRule(outgoing, "egress", protocol, incoming)] = None
    return sorted(missing, key=lambda rule: (rule.groups, rule.peers, rule.direction != "ingress", rule.protocol))


def failure_reason(
    groups_by_host: Mapping[str, tuple[str, ...]],
    addresses: Mapping[str, str],
    security_groups: Iterable[SecurityGroup],
) -> str | None:
    """Why an encrypted job cannot start: every missing rule, and the commands that add them; None where none is missing.

    At most FAILURE_REASON_LIMIT characters: what does not fit is counted, the rules before the commands. Arguments as
    `missing_rules`.
    """
    missing = missing_rules(groups_by_host, addresses, security_groups)
    if not missing:
        return None
    by_groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[MissingRule]] = {}
    for rule in missing:
        by_groups.setdefault((rule.groups, rule.peers), []).append(rule)
    need = "An encrypted job needs UDP 500 and ESP allowed both ways between its instances."
    commands = [command for rules in by_groups.values() for command in _commands(rules)]
    text = _fill("ClientError:", [_sentence(rules) for rules in by_groups.values()], "More groups lack rules.", len(need) + 1)
    return _fill(f"{text} {need}", [f"Run: {command}" for command in commands], "More commands are needed.", 0)


def _allows(
    rules: Mapping[str, Sequence[Rule]],
    groups: Sequence[str],
    direction: Direction,
    protocol: Needed,
    peers: Sequence[str],
    address: str,
) -> bool:
    return any(
        rule.direction == direction
        and covers(rule, protocol, _IKE_PORT if protocol == UDP else None)
        and _names(rule, peers, address)
        for group in groups
        for rule in rules.get(group, ())
    )


def covers(rule: Rule, protocol: str, port: int | None = None) -> bool:
    """Whether a rule is about packets of an IP protocol, to a port (TCP, UDP) or of a type with any code (ICMP)."""
    if rule.protocol == _ALL:
        return True
    if rule.protocol != protocol:
        return False
    if protocol == _ICMP:
        return rule.from_port in (None, -1) or (rule.from_port == port and rule.to_port in (None, -1))
    if port is None:
        return True
    return rule.from_port is not None and rule.to_port is not None and rule.from_port <= port <= rule.to_port


def _names(rule: Rule, peers: Sequence[str], address: str) -> bool:
    if rule.cidr is not None:
        return ipaddress.ip_address(address) in ipaddress.ip_network(rule.cidr)
    return rule.group in peers


def _sentence(rules: Sequence[MissingRule]) -> str:
    """The missing rules between the same groups: `Security group sg-… has no inbound rule for … from itself, …`."""
    groups, peers = rules[0].groups, rules[0].peers
    one = len(groups) == 1
    subject = f"Security group {groups[0]} has" if one else f"Security groups {', '.join(groups)} have"
    other = ("itself" if one else "themselves") if peers == groups else ", ".join(peers)
    lacks = [f"no {_side(rule)} rule for {_traffic(rule)} {_preposition(rule)} {other}" for rule in rules]
    return f"{subject} {', '.join(lacks)}."


def _side(rule: MissingRule) -> str:
    return "inbound" if rule.direction == "ingress" else "outbound"


def _preposition(rule: MissingRule) -> str:
    return "from" if rule.direction == "ingress" else "to"


def _traffic(rule: MissingRule) -> str:
    return "IKE (UDP 500)" if rule.protocol == UDP else "ESP (protocol 50)"


def _commands(rules: Sequence[MissingRule]) -> Iterator[str]:
    """The AWS CLI commands that add these rules between the same groups: one for each direction."""
    group, peer = rules[0].groups[0], rules[0].peers[0]
    pairs = f"UserIdGroupPairs=[{{GroupId={peer}}}]"
    for direction in ("ingress", "egress"):
        # Quoted: square brackets are a pattern to some shells.
        permissions = [
            f"'IpProtocol=17,FromPort=500,ToPort=500,{pairs}'" if rule.protocol == UDP else f"'IpProtocol=50,{pairs}'"
            for rule in rules
            if rule.direction == direction
        ]
        if permissions:
            asked = " ".join(permissions)
            yield f"aws ec2 authorize-security-group-{direction} --group-id {group} --ip-permissions {asked}"


def _fill(text: str, parts: Sequence[str], more: str, reserve: int) -> str:
    """`text` and as many of `parts` as fit FAILURE_REASON_LIMIT less `reserve`; `more` stands for those that do not."""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        rest = 0 if last else len(more) + 1
        if len(text) + 1 + len(part) + rest + reserve > FAILURE_REASON_LIMIT:
            return f"{text} {more}"
        text = f"{text} {part}"
    return text
