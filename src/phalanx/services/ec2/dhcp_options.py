"""Sets of DHCP options: create, describe, associate with a VPC, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import tags
from phalanx.services.ec2.errors import dependency_violation, invalid_parameter, missing_parameter
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find
from phalanx.services.ec2.query import Filters
from phalanx.store.network import DhcpOptions, Vpc
from phalanx.wire.service import Caller, Members

NONE = "default"
"""What AssociateDhcpOptions and DescribeVpcs call having no set of options."""

_MOST_VALUES = {
    "domain-name": 1,
    "domain-name-servers": 4,
    "ntp-servers": 4,
    "netbios-name-servers": 4,
    "netbios-node-type": 1,
    "ipv6-address-preferred-lease-time": 1,
}
"""The options that EC2 knows, and how many values each takes."""


def default(session: Session, region: str) -> DhcpOptions:
    """The set that new VPCs get, made the first time: the domain of `region`, and the VPC's own name server."""
    found = session.scalars(select(DhcpOptions).filter_by(is_default=True)).first()
    if found is None:
        domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
        found = DhcpOptions(
            is_default=True, configurations={"domain-name": [domain], "domain-name-servers": ["AmazonProvidedDNS"]}
        )
        session.add(found)
        session.flush()
    return found


def create_dhcp_options(session: Session, caller: Caller, request: Members) -> Members:
    """CreateDhcpOptions. Raises AwsError InvalidParameterValue, MissingParameter."""
    configurations: dict[str, list[str]] = {}
    for configuration in request["DhcpConfigurations"]:
        name, values = configuration.get("Key", ""), configuration.get("Values", [])
        if name not in _MOST_VALUES:
            raise invalid_parameter(f"Value ({name}) for parameter dhcp option name is invalid. Unknown DHCP option")
        if name in configurations:
            raise invalid_parameter(f"Option {name} is specified multiple times")
        if not 1 <= len(values) <= _MOST_VALUES[name]:
            raise invalid_parameter(f"Option {name} takes 1 to {_MOST_VALUES[name]} values")
        if name == "netbios-node-type" and values[0] not in ("1", "2", "4", "8"):
            raise invalid_parameter(f"Value ({values[0]}) for parameter netbios-node-type is invalid. It is 1, 2, 4 or 8")
        configurations[name] = values
    if not configurations:
        raise missing_parameter("dhcpConfiguration")
    asked = tags.requested(request, DhcpOptions)
    made = DhcpOptions(configurations=configurations)
    session.add(made)
    session.flush()
    tags.attach(session, made.id, asked)
    return {"DhcpOptions": _described(made, caller, asked)}


def describe_dhcp_options(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeDhcpOptions. Raises AwsError InvalidDhcpOptionID.NotFound, InvalidParameterValue."""
    filters: Filters[DhcpOptions] = {
        "dhcp-options-id": lambda options: (options.id,),
        "key": lambda options: options.configurations.keys(),
        "value": lambda options: [value for values in options.configurations.values() for value in values],
        "owner-id": lambda _: (caller.account,),
    }
    described, more = listed(session, caller, request, DhcpOptions, "DhcpOptionsIds", filters, _described)
    return {"DhcpOptions": described, **more}


def associate_dhcp_options(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """AssociateDhcpOptions; `default` leaves the VPC without any. Raises AwsError with NotFound of either."""
    vpc = find(session, Vpc, request["VpcId"])
    wanted = request["DhcpOptionsId"]
    vpc.dhcp_options_id = None if wanted == NONE else find(session, DhcpOptions, wanted).id
    return [vpc.id], {}


def delete_dhcp_options(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteDhcpOptions. Raises AwsError InvalidDhcpOptionID.NotFound, DependencyViolation (a VPC has them)."""
    doomed = find(session, DhcpOptions, request["DhcpOptionsId"])
    if session.scalar(select(exists().where(Vpc.dhcp_options_id == doomed.id))):
        raise dependency_violation(f"The dhcpOptions '{doomed.id}' has dependencies and cannot be deleted.")
    tags.forget(session, [doomed.id])
    session.delete(doomed)
    return {}


def _described(options: DhcpOptions, caller: Caller, attached: Mapping[str, str]) -> Members:
    return {
        "DhcpOptionsId": options.id,
        "DhcpConfigurations": [
            {"Key": name, "Values": [{"Value": value} for value in values]} for name, values in options.configurations.items()
        ],
        "OwnerId": caller.account,
        "Tags": tags.as_members(attached),
    }
