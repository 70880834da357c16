"""Network ACLs: create, describe, delete; their entries, and which subnet has which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import tags
from phalanx.services.ec2.cidr import parse_v4, parse_v6
from phalanx.services.ec2.errors import (
    dependency_violation,
    different,
    invalid_combination,
    invalid_parameter,
    missing_parameter,
)
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find
from phalanx.services.ec2.permissions import ALL, ICMP, ICMPV6, TCP, UDP
from phalanx.services.ec2.query import Filters, truth
from phalanx.store.base import Json
from phalanx.store.network import NetworkAcl, Subnet, Vpc, new_id
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

ACLS_PER_VPC = 200
ENTRIES = 20
"""Most ACLs of a VPC, and most entries of one in each direction and IP version ("Amazon VPC quotas")."""

_ALLOW, _LAST = 100, 32767
"""Numbers of the rule that allows all in a default ACL, and of the one that EC2 ends every ACL with ("*" in its console)."""
_EVERYWHERE = "0.0.0.0/0"
_ENTRY = ("RuleNumber", "Protocol", "RuleAction", "Egress")


def add_default(session: Session, vpc_id: str) -> None:
    """Add a VPC's default ACL, which allows everything."""
    entries = [_all(_ALLOW, "allow", egress) for egress in (True, False)]
    session.add(NetworkAcl(vpc_id=vpc_id, is_default=True, entries={_key(entry): entry for entry in entries}))


def remove(session: Session, vpc_id: str) -> None:
    """Delete a VPC's default ACL with its tags."""
    for acl in session.scalars(select(NetworkAcl).filter_by(vpc_id=vpc_id)):
        tags.forget(session, [acl.id])
        session.delete(acl)
    session.flush()


def create_network_acl(session: Session, caller: Caller, request: Members) -> Members:
    """CreateNetworkAcl: one that allows nothing, and no subnet has.

    Raises AwsError InvalidVpcID.NotFound, InvalidParameterValue, NetworkAclLimitExceeded.
    """
    vpc = find(session, Vpc, request["VpcId"])
    asked = tags.requested(request, NetworkAcl)
    count = session.scalar(select(func.count()).select_from(NetworkAcl).filter_by(vpc_id=vpc.id)) or 0
    if count >= ACLS_PER_VPC:
        raise AwsError("NetworkAclLimitExceeded", "The maximum number of network ACLs has been reached.")
    acl = NetworkAcl(vpc_id=vpc.id, is_default=False, entries={})
    session.add(acl)
    session.flush()
    tags.attach(session, acl.id, asked)
    return {"NetworkAcl": _described(acl, caller, asked, [])}


def describe_network_acls(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeNetworkAcls. Raises AwsError InvalidNetworkAclID.NotFound, InvalidParameterValue."""
    subnets = _subnets(session)

    def shown(acl: NetworkAcl) -> list[Members]:
        return _entries(acl)

    filters: Filters[NetworkAcl] = {
        "network-acl-id": lambda acl: (acl.id,),
        "vpc-id": lambda acl: (acl.vpc_id,),
        "default": lambda acl: truth(acl.is_default),
        "owner-id": lambda _: (caller.account,),
        "association.subnet-id": lambda acl: [subnet.id for subnet in subnets.get(acl.id, [])],
        "association.network-acl-id": lambda acl: (acl.id,) if acl.id in subnets else (),
        "association.association-id": lambda acl: [association(subnet) for subnet in subnets.get(acl.id, [])],
        "entry.cidr": lambda acl: [entry["CidrBlock"] for entry in shown(acl) if "CidrBlock" in entry],
        "entry.ipv6-cidr": lambda acl: [entry["Ipv6CidrBlock"] for entry in shown(acl) if "Ipv6CidrBlock" in entry],
        "entry.egress": lambda acl: [word for entry in shown(acl) for word in truth(entry["Egress"])],
        "entry.protocol": lambda acl: [entry["Protocol"] for entry in shown(acl)],
        "entry.rule-action": lambda acl: [entry["RuleAction"] for entry in shown(acl)],
        "entry.rule-number": lambda acl: [str(entry["RuleNumber"]) for entry in shown(acl)],
        "entry.port-range.from": lambda acl: [str(each["PortRange"]["From"]) for each in shown(acl) if "PortRange" in each],
        "entry.port-range.to": lambda acl: [str(each["PortRange"]["To"]) for each in shown(acl) if "PortRange" in each],
        "entry.icmp.type": lambda acl: [str(each["IcmpTypeCode"]["Type"]) for each in shown(acl) if "IcmpTypeCode" in each],
        "entry.icmp.code": lambda acl: [str(each["IcmpTypeCode"]["Code"]) for each in shown(acl) if "IcmpTypeCode" in each],
    }

    def show(acl: NetworkAcl, caller: Caller, attached: Mapping[str, str]) -> Members:
        return _described(acl, caller, attached, subnets.get(acl.id, []))

    described, more = listed(session, caller, request, NetworkAcl, "NetworkAclIds", filters, show)
    return {"NetworkAcls": described, **more}


def delete_network_acl(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteNetworkAcl. Raises AwsError InvalidNetworkAclID.NotFound, InvalidParameterValue (a default one),
    DependencyViolation (a subnet has it)."""
    acl = find(session, NetworkAcl, request["NetworkAclId"])
    if acl.is_default:
        raise invalid_parameter(f"The default network ACL {acl.id} cannot be deleted")
    if _subnets(session).get(acl.id):
        raise dependency_violation(f"The networkAcl '{acl.id}' has dependencies and cannot be deleted.")
    tags.forget(session, [acl.id])
    session.delete(acl)
    return {}


def create_network_acl_entry(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """CreateNetworkAclEntry.

    Raises AwsError InvalidNetworkAclID.NotFound, NetworkAclEntryAlreadyExists, NetworkAclEntryLimitExceeded,
    InvalidParameterValue, InvalidParameterCombination, MissingParameter.
    """
    acl = find(session, NetworkAcl, request["NetworkAclId"])
    entry = _entry(request)
    if _key(entry) in acl.entries:
        raise AwsError(
            "NetworkAclEntryAlreadyExists", f"The network acl entry identified by {entry['RuleNumber']} already exists."
        )
    _write(acl, entry)
    return [acl.vpc_id], {}


def replace_network_acl_entry(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """ReplaceNetworkAclEntry. Raises AwsError as CreateNetworkAclEntry does, and InvalidNetworkAclEntry.NotFound."""
    acl = find(session, NetworkAcl, request["NetworkAclId"])
    entry = _entry(request)
    _known(acl, entry)
    _write(acl, entry)
    return [acl.vpc_id], {}


def delete_network_acl_entry(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """DeleteNetworkAclEntry. Raises AwsError InvalidNetworkAclID.NotFound, InvalidNetworkAclEntry.NotFound."""
    acl = find(session, NetworkAcl, request["NetworkAclId"])
    key = _known(acl, request)
    acl.entries = {other: entry for other, entry in acl.entries.items() if other != key}
    return [acl.vpc_id], {}


def replace_network_acl_association(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """ReplaceNetworkAclAssociation: another ACL for a subnet, which always has one.

    Raises AwsError InvalidAssociationID.NotFound, InvalidNetworkAclID.NotFound, InvalidParameterValue (another VPC).
    """
    acl = find(session, NetworkAcl, request["NetworkAclId"])
    given = request["AssociationId"]
    subnet = next((each for each in session.scalars(select(Subnet)) if association(each) == given), None)
    if subnet is None:
        raise AwsError("InvalidAssociationID.NotFound", f"The association ID '{given}' does not exist")
    if subnet.vpc_id != acl.vpc_id:
        raise different(f"Network ACL {acl.id}", f"subnet {subnet.id}")
    subnet.acl_id, subnet.acl_association = acl.id, new_id("aclassoc")
    return [acl.vpc_id], {"NewAssociationId": subnet.acl_association}


def association(subnet: Subnet) -> str:
    """The id of what associates a subnet with its ACL: after the subnet's own until it is given another ACL."""
    return subnet.acl_association or "aclassoc-" + subnet.id.removeprefix("subnet-")


def _subnets(session: Session) -> dict[str, list[Subnet]]:
    """The subnets that each ACL applies to, by its id; a subnet that was given none has the default one of its VPC."""
    query = select(NetworkAcl.vpc_id, NetworkAcl.id).where(NetworkAcl.is_default)
    defaults: dict[str, str] = {row[0]: row[1] for row in session.execute(query)}
    found: dict[str, list[Subnet]] = {}
    for subnet in session.scalars(select(Subnet).order_by(Subnet.id)):
        found.setdefault(subnet.acl_id or defaults[subnet.vpc_id], []).append(subnet)
    return found


def _described(acl: NetworkAcl, caller: Caller, attached: Mapping[str, str], subnets: Sequence[Subnet]) -> Members:
    return {
        "NetworkAclId": acl.id,
        "VpcId": acl.vpc_id,
        "IsDefault": acl.is_default,
        "OwnerId": caller.account,
        "Associations": [
            {"NetworkAclAssociationId": association(subnet), "NetworkAclId": acl.id, "SubnetId": subnet.id}
            for subnet in subnets
        ],
        "Entries": _entries(acl),
        "Tags": tags.as_members(attached),
    }


def _entries(acl: NetworkAcl) -> list[Members]:
    """Outbound ones first, each direction by its numbers; the last one of each cannot be changed."""
    last = [_all(_LAST, "deny", egress) for egress in (True, False)]
    return sorted([*acl.entries.values(), *last], key=lambda entry: (not entry["Egress"], entry["RuleNumber"]))


def _all(number: int, action: str, egress: bool) -> Members:
    return {"RuleNumber": number, "Protocol": ALL, "RuleAction": action, "Egress": egress, "CidrBlock": _EVERYWHERE}


def _key(entry: Members) -> str:
    return f"{'egress' if entry['Egress'] else 'ingress'}-{entry['RuleNumber']}"


def _known(acl: NetworkAcl, entry: Members) -> str:
    if _key(entry) not in acl.entries:
        raise AwsError(
            "InvalidNetworkAclEntry.NotFound", f"The network acl entry identified by {entry['RuleNumber']} does not exist."
        )
    return _key(entry)


def _write(acl: NetworkAcl, entry: Json) -> None:
    acl.entries = {**acl.entries, _key(entry): entry}

    def kind(each: Json) -> tuple[bool, bool]:
        return each["Egress"], "CidrBlock" in each

    if sum(kind(each) == kind(entry) for each in acl.entries.values()) > ENTRIES:
        raise AwsError("NetworkAclEntryLimitExceeded", "The maximum number of network acl entries has been reached.")


def _entry(request: Members) -> Json:
    """An entry as it is stored and described. Raises AwsError InvalidParameterValue, MissingParameter."""
    number, protocol = request["RuleNumber"], request["Protocol"]
    if not 1 <= number < _LAST:
        raise invalid_parameter(f"Invalid value '{number}' for ruleNumber. Must be between 1 and {_LAST - 1}.")
    if protocol != ALL and not (protocol.isascii() and protocol.isdecimal() and int(protocol) <= 255):
        raise invalid_parameter(f"Invalid value '{protocol}' for IP protocol. Unknown protocol.")
    protocol = str(int(protocol))
    entry: Json = {**{name: request[name] for name in _ENTRY}, "Protocol": protocol}
    if ("CidrBlock" in request) == ("Ipv6CidrBlock" in request):
        raise (
            invalid_combination("The parameter cidrBlock cannot be used with the parameter ipv6CidrBlock")
            if "CidrBlock" in request
            else missing_parameter("cidrBlock")
        )
    for member, parse in (("CidrBlock", parse_v4), ("Ipv6CidrBlock", parse_v6)):
        if member in request:
            network = parse(request[member])
            if network is None:
                raise invalid_parameter(f"Value ({request[member]}) for parameter {member} is invalid. Not a CIDR block.")
            entry[member] = str(network)
    if protocol in (TCP, UDP):
        entry["PortRange"] = _span(request, "PortRange", ("From", "To"), 0, 65535)
        if entry["PortRange"]["From"] > entry["PortRange"]["To"]:
            raise invalid_parameter("Invalid value for portRange: from is greater than to.")
    if protocol in (ICMP, ICMPV6):
        entry["IcmpTypeCode"] = _span(request, "IcmpTypeCode", ("Type", "Code"), -1, 255)
        if entry["IcmpTypeCode"]["Type"] == -1 != entry["IcmpTypeCode"]["Code"]:
            raise invalid_parameter(f"ICMP code ({entry['IcmpTypeCode']['Code']}) out of range")
    return entry


def _span(request: Members, member: str, names: tuple[str, str], least: int, most: int) -> Json:
    given = request.get(member, {})
    for name in names:
        if name not in given:
            raise missing_parameter(f"{member}.{name}")
        if not least <= given[name] <= most:
            raise invalid_parameter(f"Invalid value '{given[name]}' for {member}.{name}. Must be between {least} and {most}.")
    return {name: given[name] for name in names}
