"""Network interfaces: those of running jobs, of NAT gateways and of VPC endpoints. DescribeNetworkInterfaces."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.jobs.interfaces import free_addresses
from phalanx.services.ec2 import tags
from phalanx.services.ec2.cidr import parse_v4
from phalanx.services.ec2.errors import invalid_parameter
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.query import Filters, truth
from phalanx.store.network import NetworkInterface, NetworkInterfaceGroup, SecurityGroup, Subnet
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

_TYPES = {"": "interface", "nat": "nat_gateway", "vpce": "vpc_endpoint"}
"""EC2's names for interfaces: those of jobs, of NAT gateways, of endpoints (by the prefix of the owner's id)."""


def add(
    session: Session,
    subnet: Subnet,
    owner: str,
    description: str,
    *,
    address: str | None = None,
    groups: Sequence[str] = (),
) -> NetworkInterface:
    """Add the interface of a gateway or endpoint, at `address` or else the lowest free one of its subnet.

    Raises AwsError InvalidParameterValue (outside the subnet), InvalidIPAddress.InUse (taken or reserved),
    InsufficientFreeAddressesInSubnet.
    """
    free = free_addresses(session, subnet)
    if address is None:
        address = next(free, None)
        if address is None:
            text = "The specified subnet does not have enough free addresses to satisfy the request."
            raise AwsError("InsufficientFreeAddressesInSubnet", text)
    else:
        network = parse_v4(f"{address}/32")
        if network is None or not network.subnet_of(ipaddress.IPv4Network(subnet.cidr)):
            raise invalid_parameter(f"Address {address} does not fall within the subnet's address range")
        if address not in free:
            raise AwsError("InvalidIPAddress.InUse", f"Address {address} is in use.")
    interface = NetworkInterface(
        subnet_id=subnet.id,
        vpc_id=subnet.vpc_id,
        address=address,
        description=description,
        owner=owner,
        memberships=_memberships(groups),
    )
    session.add(interface)
    session.flush()
    return interface


def regroup(session: Session, interface: NetworkInterface, groups: Sequence[str]) -> None:
    """Give an interface other security groups."""
    interface.memberships.clear()
    session.flush()
    interface.memberships.extend(_memberships(groups))


def remove(session: Session, interface: NetworkInterface) -> None:
    """Delete an interface and its tags."""
    tags.forget(session, [interface.id])
    session.delete(interface)
    session.flush()


def describe_network_interfaces(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeNetworkInterfaces.

    Raises AwsError InvalidNetworkInterfaceID.NotFound, InvalidParameterValue, InvalidParameterCombination.
    """
    names = {group.id: group.name for group in session.scalars(select(SecurityGroup))}
    zones = {subnet.id: subnet.zone for subnet in session.scalars(select(Subnet))}
    filters: Filters[NetworkInterface] = {
        "network-interface-id": lambda eni: (eni.id,),
        "subnet-id": lambda eni: (eni.subnet_id,),
        "vpc-id": lambda eni: (eni.vpc_id,),
        "availability-zone": lambda eni: (zones[eni.subnet_id],),
        "private-ip-address": lambda eni: (eni.address,),
        "addresses.private-ip-address": lambda eni: (eni.address,),
        "addresses.primary": lambda _: truth(True),
        "group-id": lambda eni: eni.groups,
        "group-name": lambda eni: [names[group] for group in eni.groups],
        "description": lambda eni: (eni.description,),
        "interface-type": lambda eni: (_type(eni),),
        "owner-id": lambda _: (caller.account,),
        "requester-managed": lambda _: truth(True),
        "status": lambda eni: (eni.status,),
    }

    def show(eni: NetworkInterface, caller: Caller, attached: Mapping[str, str]) -> Members:
        return {
            "NetworkInterfaceId": eni.id,
            "InterfaceType": _type(eni),
            "Description": eni.description,
            "Status": eni.status,
            "SubnetId": eni.subnet_id,
            "VpcId": eni.vpc_id,
            "AvailabilityZone": zones[eni.subnet_id],
            "PrivateIpAddress": eni.address,
            "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": eni.address}],
            "Ipv6Addresses": [],
            "Groups": [{"GroupId": group, "GroupName": names[group]} for group in eni.groups],
            "OwnerId": caller.account,
            "RequesterManaged": True,
            "SourceDestCheck": True,
            "TagSet": tags.as_members(attached),
        }

    described, more = listed(session, caller, request, NetworkInterface, "NetworkInterfaceIds", filters, show)
    return {"NetworkInterfaces": described, **more}


def _type(eni: NetworkInterface) -> str:
    """The interface's type, by what it belongs to."""
    return _TYPES[(eni.owner or "").partition("-")[0]]


def _memberships(groups: Sequence[str]) -> list[NetworkInterfaceGroup]:
    return [NetworkInterfaceGroup(position=position, group_id=group) for position, group in enumerate(groups)]
