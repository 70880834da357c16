"""Rules of security groups: from a request's permissions to rows, and back to the forms that EC2 returns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from sqlalchemy.orm import Session

from phalanx.services.ec2 import prefix_lists, tags
from phalanx.services.ec2.cidr import parse_v4, parse_v6
from phalanx.services.ec2.errors import (
    different_networks,
    group_not_found,
    invalid_combination,
    invalid_parameter,
    missing_parameter,
)
from phalanx.services.ec2.lookup import default_vpc, find, group_by_name
from phalanx.store.network import SecurityGroup, SecurityGroupRule
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
Key = tuple[str, int | None, int | None, str | None, str | None, str | None]
"""Protocol, ports or ICMP type and code, and the peer: block, group or prefix list."""

ALL, ICMP, TCP, UDP, ICMPV6 = "-1", "1", "6", "17", "58"
NAMES = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6}
"""The protocols that EC2 knows, and returns, by name."""
_ALSO_NAMED = {"esp": "50", "ah": "51"}
"""Taken for convenience: EC2 itself wants the numbers."""
_NAME_OF = {number: name for name, number in NAMES.items()}

TEXT = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{0,255}")
"""What names and descriptions may be."""
TEXT_RULE = "are strings less than 256 characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"
_PEERS = {
    "CidrIpv4": ("IpRanges", "CidrIp"),
    "CidrIpv6": ("Ipv6Ranges", "CidrIpv6"),
    "ReferencedGroupId": ("UserIdGroupPairs", "GroupId"),
    "PrefixListId": ("PrefixListIds", "PrefixListId"),
}
"""What a SecurityGroupRule may have for its peer, and where IpPermissions have it."""
_FLAT = ("IpProtocol", "FromPort", "ToPort", "CidrIp", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId")


@dataclass(frozen=True, slots=True)
class Permission:
    """A rule before it is one: what SecurityGroupRule has, without group and direction."""

    protocol: str
    from_port: int | None
    to_port: int | None
    cidr: str | None = None
    peer_group: str | None = None
    prefix_list: str | None = None
    description: str | None = None

    @property
    def key(self) -> Key:
        """What makes it the same rule as another: all but the description."""
        return self.protocol, self.from_port, self.to_port, self.cidr, self.peer_group, self.prefix_list

    def row(self, group: SecurityGroup, direction: Direction) -> SecurityGroupRule:
        """The permission as a new rule of a group."""
        rule = SecurityGroupRule(group_id=group.id, direction=direction)
        self.write(rule)
        return rule

    def write(self, rule: SecurityGroupRule) -> None:
        """Make a rule grant this permission, and no other."""
        for field in fields(self):
            setattr(rule, field.name, getattr(self, field.name))

    def __str__(self) -> str:
        """As EC2's InvalidPermission.Duplicate words it."""
        name = "ALL" if self.protocol == ALL else _NAME_OF.get(self.protocol, self.protocol).upper()
        parts = [f"peer: {self.cidr or self.peer_group or self.prefix_list}", name]
        if self.protocol in (TCP, UDP):
            parts += [f"from port: {self.from_port}", f"to port: {self.to_port}"]
        elif self.protocol in (ICMP, ICMPV6):
            parts += [f"type: {_icmp(self.from_port)}", f"code: {_icmp(self.to_port)}"]
        return ", ".join([*parts, "ALLOW"])


def of(rule: SecurityGroupRule) -> Permission:
    """The permission that a rule grants."""
    return Permission(**{field.name: getattr(rule, field.name) for field in fields(Permission)})


def rule_key(rule: SecurityGroupRule) -> Key:
    """The key of the permission that a rule grants."""
    return of(rule).key


def requested(session: Session, caller: Caller, group: SecurityGroup, request: Members) -> list[Permission]:
    """The permissions that a request to authorize or revoke names, flat or as IpPermissions; each at most once.

    Empty where it names none. Raises AwsError InvalidParameterValue, InvalidParameterCombination, MissingParameter,
    InvalidGroup.NotFound, InvalidPrefixListID.NotFound.
    """
    flat = [member for member in _FLAT if member in request]
    structures = request.get("IpPermissions", [])
    if flat and structures:
        raise invalid_combination(f"The parameter {flat[0]} cannot be used with the parameter IpPermissions")
    if flat:
        structures = _structures(request)
    permissions = [permission for structure in structures for permission in _permissions(session, caller, group, structure)]
    if len({permission.key for permission in permissions}) != len(permissions):
        raise invalid_parameter("The same permission must not appear multiple times")
    return permissions


def replacement(session: Session, caller: Caller, group: SecurityGroup, rule: SecurityGroupRule, wanted: Members) -> Permission:
    """The permission that a SecurityGroupRuleRequest puts in place of a rule; its kind of peer must stay.

    Raises AwsError as `requested` does.
    """
    span: Members = {member: wanted[member] for member in ("IpProtocol", "FromPort", "ToPort") if member in wanted}
    said = {"Description": wanted["Description"]} if wanted.get("Description") else {}
    peers = [
        {list_name: [{inner: wanted[member], **said}]} for member, (list_name, inner) in _PEERS.items() if member in wanted
    ]
    if len(peers) != 1:
        raise invalid_combination(f"Exactly one of {', '.join(_PEERS)} must be specified")
    (permission,) = _permissions(session, caller, group, {**span, **peers[0]})
    if _kind(permission) != _kind(rule):
        raise invalid_parameter(
            f"You cannot change the type of the source or destination of the security group rule '{rule.id}'."
        )
    return permission


def _kind(rule: Permission | SecurityGroupRule) -> str:
    """The kind of a rule's peer, as the member that names it in a SecurityGroupRule."""
    if rule.cidr is not None:
        return "CidrIpv6" if ":" in rule.cidr else "CidrIpv4"
    return "PrefixListId" if rule.prefix_list is not None else "ReferencedGroupId"


def _structures(request: Members) -> list[Members]:
    """The flat form of a request as IpPermissions."""
    name = request.get("SourceSecurityGroupName")
    if name is None:
        structure: Members = {member: request[member] for member in ("IpProtocol", "FromPort", "ToPort") if member in request}
        return [{**structure, "IpRanges": [{"CidrIp": request["CidrIp"]}] if "CidrIp" in request else []}]
    for member in ("CidrIp", "IpProtocol", "FromPort", "ToPort"):
        if member in request:
            raise invalid_combination(f"The parameter SourceSecurityGroupName cannot be used with the parameter {member}")
    # AuthorizeSecurityGroupIngress: "Creates rules that grant full ICMP, UDP, and TCP access."
    pair = {"GroupName": name}
    if "SourceSecurityGroupOwnerId" in request:
        pair["UserId"] = request["SourceSecurityGroupOwnerId"]
    spans = {"tcp": (0, 65535), "udp": (0, 65535), "icmp": (-1, -1)}
    return [
        {"IpProtocol": protocol, "FromPort": first, "ToPort": last, "UserIdGroupPairs": [pair]}
        for protocol, (first, last) in spans.items()
    ]


def _permissions(session: Session, caller: Caller, group: SecurityGroup, structure: Members) -> Iterator[Permission]:
    protocol = _protocol(structure.get("IpProtocol"))
    from_port, to_port = _ports(protocol, structure.get("FromPort"), structure.get("ToPort"))
    members = ("UserIdGroupPairs", "IpRanges", "Ipv6Ranges", "PrefixListIds")
    pairs, v4, v6, lists = (structure.get(member, []) for member in members)
    if not (pairs or v4 or v6 or lists):
        raise missing_parameter("ipRanges, ipv6Ranges or groups")
    for source in v4:
        network = parse_v4(source.get("CidrIp", ""))
        if network is None:
            raise invalid_parameter(f"CIDR block {source.get('CidrIp')} is malformed")
        yield Permission(protocol, from_port, to_port, cidr=str(network), description=description(source))
    for source in v6:
        network6 = parse_v6(source.get("CidrIpv6", ""))
        if network6 is None:
            raise invalid_parameter(f"CIDR block {source.get('CidrIpv6')} is malformed")
        yield Permission(protocol, from_port, to_port, cidr=str(network6), description=description(source))
    for source in pairs:
        peer = _peer(session, caller, group, source)
        yield Permission(protocol, from_port, to_port, peer_group=peer, description=description(source))
    for source in lists:
        prefix_list = prefix_lists.known(session, caller, source.get("PrefixListId", ""))
        yield Permission(protocol, from_port, to_port, prefix_list=prefix_list.id, description=description(source))


def _protocol(text: str | None) -> str:
    if text is None:
        raise missing_parameter("ipProtocol")
    name = text.lower()
    if name == ALL:
        return ALL
    if name in NAMES:
        return NAMES[name]
    if name in _ALSO_NAMED:
        return _ALSO_NAMED[name]
    if re.fullmatch(r"[0-9]{1,3}", name) and int(name) <= 255:
        return str(int(name))
    raise invalid_parameter(f"Invalid value '{text}' for IP protocol. Unknown protocol.")


def _ports(protocol: str, first: int | None, last: int | None) -> tuple[int | None, int | None]:
    """Ports as they are stored: only for the protocols that have them (EC2 ignores them for the others)."""
    if protocol in (TCP, UDP):
        if first is None or last is None:
            raise invalid_parameter("Invalid value for portRange. Must specify both from and to ports with TCP/UDP.")
        for side, port in (("from", first), ("to", last)):
            if not 0 <= port <= 65535:
                raise invalid_parameter(f"TCP/UDP ({side}) port ({port}) out of range")
        if first > last:
            raise invalid_parameter(f"Invalid TCP/UDP port range ({first}:{last})")
        return first, last
    if protocol == ICMPV6 and first is None and last is None:
        return -1, -1
    if protocol in (ICMP, ICMPV6):
        if first is None or last is None:
            raise invalid_parameter("Invalid value for portRange. Must specify both from and to ports with ICMP.")
        for part, number in (("type", first), ("code", last)):
            if not -1 <= number <= 255:
                raise invalid_parameter(f"ICMP {part} ({number}) out of range")
        if first == -1 and last != -1:
            raise invalid_parameter(f"ICMP code ({last}) out of range")
        return first, last
    return None, None


def _peer(session: Session, caller: Caller, group: SecurityGroup, pair: Members) -> str:
    """Id of the group that a UserIdGroupPair names."""
    group_id, name = pair.get("GroupId"), pair.get("GroupName")
    if "VpcPeeringConnectionId" in pair:
        peering = pair["VpcPeeringConnectionId"]
        raise AwsError("InvalidVpcPeeringConnectionId.NotFound", f"The vpcPeeringConnection ID '{peering}' does not exist")
    if pair.get("UserId", caller.account) != caller.account:
        raise group_not_found(f"{pair['UserId']}/{group_id or name}")
    if group_id is not None:
        peer = find(session, SecurityGroup, group_id)
        if peer.vpc_id != group.vpc_id or pair.get("VpcId", peer.vpc_id) != peer.vpc_id:
            raise different_networks()
        return peer.id
    if name is None:
        raise AwsError("MissingParameter", "Source group ID missing.")
    vpc = default_vpc(session)
    if vpc is None or group.vpc_id != vpc.id:
        advice = "You may not reference Amazon VPC security groups by name. Please use the corresponding id for this operation."
        raise invalid_parameter(f"Invalid value '{name}' for groupName. {advice}")
    return group_by_name(session, name).id


def description(source: Members) -> str | None:
    """The description in a structure that may have one; an empty one is none. Raises AwsError InvalidParameterValue."""
    text: str | None = source.get("Description")
    if text is not None and not TEXT.fullmatch(text):
        raise invalid_parameter(f"Invalid rule description. Valid descriptions {TEXT_RULE}")
    return text or None


def protocol_name(protocol: str) -> str:
    """A protocol as EC2 returns it: tcp, udp, icmp, icmpv6, else the number; -1 for all."""
    return _NAME_OF.get(protocol, protocol)


def as_ip_permissions(rules: Iterable[SecurityGroupRule], caller: Caller) -> list[Members]:
    """Rules as DescribeSecurityGroups returns them: one structure for all peers of a protocol and port range."""
    grouped: dict[tuple[str, int | None, int | None], Members] = {}
    for rule in rules:
        span = rule.protocol, rule.from_port, rule.to_port
        if span not in grouped:
            grouped[span] = {
                "IpProtocol": protocol_name(rule.protocol),
                **_span(rule),
                "UserIdGroupPairs": [],
                "IpRanges": [],
                "Ipv6Ranges": [],
                "PrefixListIds": [],
            }
        said = {"Description": rule.description} if rule.description else {}
        if rule.peer_group is not None:
            pair = {"UserId": caller.account, "GroupId": rule.peer_group}
            grouped[span]["UserIdGroupPairs"].append({**pair, **said})
        elif rule.prefix_list is not None:
            grouped[span]["PrefixListIds"].append({"PrefixListId": rule.prefix_list, **said})
        elif ":" in (rule.cidr or ""):
            grouped[span]["Ipv6Ranges"].append({"CidrIpv6": rule.cidr, **said})
        else:
            grouped[span]["IpRanges"].append({"CidrIp": rule.cidr, **said})
    return list(grouped.values())


def as_rule(rule: SecurityGroupRule, caller: Caller, attached: Mapping[str, str]) -> Members:
    """A rule with its tags as DescribeSecurityGroupRules returns it."""
    return {
        **_rule(rule),
        **({"ReferencedGroupInfo": {"GroupId": rule.peer_group, "UserId": caller.account}} if rule.peer_group else {}),
        "GroupOwnerId": caller.account,
        "SecurityGroupRuleArn": caller.arn_of("ec2", f"security-group-rule/{rule.id}"),
        "Tags": tags.as_members(attached),
    }


def as_revoked(rules: Sequence[SecurityGroupRule]) -> list[Members]:
    """Rules as RevokeSecurityGroupIngress and -Egress return them."""
    return [{**_rule(rule), **({"ReferencedGroupId": rule.peer_group} if rule.peer_group else {})} for rule in rules]


def _rule(rule: SecurityGroupRule) -> Members:
    members: Members = {
        "SecurityGroupRuleId": rule.id,
        "GroupId": rule.group_id,
        "IsEgress": rule.direction == "egress",
        "IpProtocol": protocol_name(rule.protocol),
        **({"FromPort": -1, "ToPort": -1} if rule.protocol == ALL else _span(rule)),
    }
    if rule.peer_group is None:
        members[_kind(rule)] = rule.cidr or rule.prefix_list
    if rule.description:
        members["Description"] = rule.description
    return members


def _span(rule: SecurityGroupRule) -> Members:
    return {} if rule.from_port is None else {"FromPort": rule.from_port, "ToPort": rule.to_port}


def _icmp(number: int | None) -> str:
    return "ALL" if number == -1 else str(number)
