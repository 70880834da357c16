"""Subnets: create, describe, modify, delete."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from phalanx.jobs.interfaces import RESERVED_ADDRESSES
from phalanx.services.ec2 import route_tables, tags
from phalanx.services.ec2.cidr import MAX_PREFIX, MIN_PREFIX, parse_v4
from phalanx.services.ec2.errors import (
    dependency_violation,
    invalid_combination,
    invalid_parameter,
    missing_parameter,
    refuse,
    unsupported,
)
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find
from phalanx.services.ec2.query import Filters, truth
from phalanx.services.ec2.zones import zone_id, zone_names
from phalanx.store.network import NetworkInterface, Subnet, Vpc
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

_NOT_SERVED = (
    "Ipv6CidrBlock",
    "OutpostArn",
    "Ipv6Native",
    "Ipv4IpamPoolId",
    "Ipv4NetmaskLength",
    "Ipv6IpamPoolId",
    "Ipv6NetmaskLength",
)

_NAMES: Members = {"HostnameType": "ip-name", "EnableResourceNameDnsARecord": False, "EnableResourceNameDnsAAAARecord": False}
"""How instances are named: after their addresses, which is where every subnet of EC2 begins."""


def create_subnet(session: Session, caller: Caller, request: Members) -> Members:
    """CreateSubnet.

    Raises AwsError InvalidVpcID.NotFound, InvalidSubnet.Range, InvalidSubnet.Conflict, InvalidParameterValue,
    MissingParameter, UnsupportedOperation.
    """
    refuse(request, *_NOT_SERVED)
    vpc = find(session, Vpc, request["VpcId"])
    text = request.get("CidrBlock")
    if text is None:
        raise missing_parameter("cidrBlock")
    network = parse_v4(text)
    if network is None:
        raise invalid_parameter(f"Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.")
    inside = network.subnet_of(ipaddress.IPv4Network(vpc.cidr))
    if not inside or not MIN_PREFIX <= network.prefixlen <= MAX_PREFIX:
        raise AwsError("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
    for other in session.scalars(select(Subnet).filter_by(vpc_id=vpc.id)):
        if network.overlaps(ipaddress.IPv4Network(other.cidr)):
            raise AwsError("InvalidSubnet.Conflict", f"The CIDR '{text}' conflicts with another subnet")
    zone = _zone(caller, request)
    asked = tags.requested(request, Subnet)
    subnet = Subnet(vpc_id=vpc.id, cidr=str(network), zone=zone)
    session.add(subnet)
    session.flush()
    tags.attach(session, subnet.id, asked)
    return {"Subnet": _described(subnet, caller, asked, 0)}


def describe_subnets(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeSubnets. Raises AwsError InvalidSubnetID.NotFound, InvalidParameterValue, InvalidParameterCombination."""
    counts = select(NetworkInterface.subnet_id, func.count()).group_by(NetworkInterface.subnet_id)
    taken: dict[str, int] = {row[0]: row[1] for row in session.execute(counts)}
    filters: Filters[Subnet] = {
        "subnet-id": lambda subnet: (subnet.id,),
        "vpc-id": lambda subnet: (subnet.vpc_id,),
        "cidr-block": lambda subnet: (subnet.cidr,),
        "availability-zone": lambda subnet: (subnet.zone,),
        "availability-zone-id": lambda subnet: (zone_id(subnet.zone),),
        "available-ip-address-count": lambda subnet: (str(_free(subnet, taken.get(subnet.id, 0))),),
        "default-for-az": lambda subnet: truth(subnet.is_default),
        "private-dns-name-options-on-launch.hostname-type": lambda _: (_NAMES["HostnameType"],),
        "private-dns-name-options-on-launch.enable-resource-name-dns-a-record": lambda _: truth(False),
        "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": lambda _: truth(False),
        "map-public-ip-on-launch": lambda subnet: truth(subnet.map_public),
        "owner-id": lambda _: (caller.account,),
        "state": lambda _: ("available",),
        "subnet-arn": lambda subnet: (_arn(subnet, caller),),
    }
    filters = {
        **filters,
        "vpcId": filters["vpc-id"],
        "subnetId": filters["subnet-id"],
        "cidr": filters["cidr-block"],
        "cidrBlock": filters["cidr-block"],
        "availabilityZone": filters["availability-zone"],
        "availabilityZoneId": filters["availability-zone-id"],
        "defaultForAz": filters["default-for-az"],
    }

    def show(subnet: Subnet, caller: Caller, attached: Mapping[str, str]) -> Members:
        return _described(subnet, caller, attached, taken.get(subnet.id, 0))

    described, more = listed(session, caller, request, Subnet, "SubnetIds", filters, show)
    return {"Subnets": described, **more}


def modify_subnet_attribute(session: Session, caller: Caller, request: Members) -> Members:
    """ModifySubnetAttribute: MapPublicIpOnLaunch; what else a subnet may be, it is not.

    Raises AwsError InvalidSubnetID.NotFound, InvalidParameterCombination, MissingParameter, UnsupportedOperation.
    """
    subnet = find(session, Subnet, request["SubnetId"])
    named = [member for member in request if member != "SubnetId"]
    if not named:
        raise missing_parameter("attribute")
    if len(named) > 1:
        raise invalid_combination("Fields for multiple attribute types specified")
    (member,) = named
    given = request[member]
    if member == "MapPublicIpOnLaunch":
        subnet.map_public = given.get("Value", False)
    elif given not in ({}, {"Value": False}) and (member, given) != ("PrivateDnsHostnameTypeOnLaunch", _NAMES["HostnameType"]):
        raise unsupported(f"The parameter {member} is not supported")
    return {}


def delete_subnet(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteSubnet, with its association to a route table. Raises AwsError InvalidSubnetID.NotFound, DependencyViolation."""
    subnet = find(session, Subnet, request["SubnetId"])
    if session.scalar(select(exists().where(NetworkInterface.subnet_id == subnet.id))):
        raise dependency_violation(f"The subnet '{subnet.id}' has dependencies and cannot be deleted.")
    route_tables.forget_subnet(session, subnet)
    tags.forget(session, [subnet.id])
    session.delete(subnet)
    return {}


def _zone(caller: Caller, request: Members) -> str:
    """The zone that a new subnet is in: the one asked for, by name or id, or the region's first."""
    zones = zone_names(caller.region)
    name, identity = request.get("AvailabilityZone"), request.get("AvailabilityZoneId")
    if name is not None:
        if name not in zones:
            places = f"Subnets can currently only be created in the following availability zones: {', '.join(zones)}."
            raise invalid_parameter(f"Value ({name}) for parameter availabilityZone is invalid. {places}")
        return str(name)
    if identity is not None:
        by_id = {zone_id(zone): zone for zone in zones}
        if identity not in by_id:
            places = f"Subnets can currently only be created in the following availability zones: {', '.join(by_id)}."
            raise invalid_parameter(f"Value ({identity}) for parameter availabilityZoneId is invalid. {places}")
        return by_id[identity]
    return zones[0]


def _free(subnet: Subnet, taken: int) -> int:
    return ipaddress.IPv4Network(subnet.cidr).num_addresses - RESERVED_ADDRESSES - taken


def _arn(subnet: Subnet, caller: Caller) -> str:
    return caller.arn_of("ec2", f"subnet/{subnet.id}")


def _described(subnet: Subnet, caller: Caller, attached: Mapping[str, str], taken: int) -> Members:
    return {
        "SubnetId": subnet.id,
        "SubnetArn": _arn(subnet, caller),
        "VpcId": subnet.vpc_id,
        "State": "available",
        "CidrBlock": subnet.cidr,
        "Ipv6CidrBlockAssociationSet": [],
        "AvailabilityZone": subnet.zone,
        "AvailabilityZoneId": zone_id(subnet.zone),
        "AvailableIpAddressCount": _free(subnet, taken),
        "DefaultForAz": subnet.is_default,
        "MapPublicIpOnLaunch": subnet.map_public,
        "MapCustomerOwnedIpOnLaunch": False,
        "AssignIpv6AddressOnCreation": False,
        "EnableDns64": False,
        "Ipv6Native": False,
        "PrivateDnsNameOptionsOnLaunch": dict(_NAMES),
        "OwnerId": caller.account,
        "Tags": tags.as_members(attached),
    }
