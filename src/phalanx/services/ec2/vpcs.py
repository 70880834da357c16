"""VPCs: create, describe, delete; and the default VPC."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import dhcp_options, internet_gateways, network_acls, route_tables, security_groups, tags
from phalanx.services.ec2.cidr import MAX_PREFIX, MIN_PREFIX, parse_v4
from phalanx.services.ec2.errors import dependency_violation, invalid_parameter, missing_parameter, refuse, unsupported
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import default_vpc, find
from phalanx.services.ec2.query import Filters, truth
from phalanx.services.ec2.zones import zone_names
from phalanx.store.database import Database
from phalanx.store.network import (
    InternetGateway,
    NetworkAcl,
    NetworkInterface,
    Route,
    RouteTable,
    SecurityGroup,
    Subnet,
    Vpc,
    VpcEndpoint,
)
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

_RESERVED = [ipaddress.IPv4Network(block) for block in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")]
"""Blocks that no VPC may touch: this network, loopback, link-local, multicast and above."""

_DEFAULT_CIDR = "172.31.0.0/16"
_DEFAULT_SUBNETS = ("172.31.0.0/20", "172.31.16.0/20", "172.31.32.0/20")

_NOT_SERVED = (
    "Ipv6Pool",
    "Ipv6CidrBlock",
    "Ipv6CidrBlockNetworkBorderGroup",
    "Ipv4IpamPoolId",
    "Ipv4NetmaskLength",
    "Ipv6IpamPoolId",
    "Ipv6NetmaskLength",
    "AmazonProvidedIpv6CidrBlock",
    "VpcEncryptionControl",
)


def ensure_default_vpc(database: Database, region: str) -> None:
    """Make the default VPC with its subnets (one in each zone of `region`) where no VPC exists at all."""
    with database.write() as session:
        if session.scalar(select(exists().select_from(Vpc))):
            return
        _add_default(session, region)


def create_default_vpc(session: Session, caller: Caller, request: Members) -> Members:
    """CreateDefaultVpc. Raises AwsError DefaultVpcAlreadyExists."""
    if default_vpc(session) is not None:
        raise AwsError("DefaultVpcAlreadyExists", "A Default VPC already exists for this account in this region.")
    return {"Vpc": _described(_add_default(session, caller.region), caller, {})}


def create_vpc(session: Session, caller: Caller, request: Members) -> Members:
    """CreateVpc. Raises AwsError InvalidVpc.Range, InvalidParameterValue, MissingParameter, UnsupportedOperation."""
    refuse(request, *_NOT_SERVED)
    if request.get("InstanceTenancy", "default") != "default":
        raise unsupported("The tenancy value of a VPC must be 'default'")
    text = request.get("CidrBlock")
    if text is None:
        raise missing_parameter("cidrBlock")
    network = parse_v4(text)
    if network is None:
        raise invalid_parameter(f"Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.")
    if not MIN_PREFIX <= network.prefixlen <= MAX_PREFIX or any(network.overlaps(block) for block in _RESERVED):
        raise AwsError("InvalidVpc.Range", f"The CIDR '{text}' is invalid.")
    asked = tags.requested(request, Vpc)
    vpc = _add_vpc(session, str(network), caller.region)
    tags.attach(session, vpc.id, asked)
    return {"Vpc": _described(vpc, caller, asked)}


def describe_vpcs(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeVpcs. Raises AwsError InvalidVpcID.NotFound, InvalidParameterValue, InvalidParameterCombination."""
    filters: Filters[Vpc] = {
        "vpc-id": lambda vpc: (vpc.id,),
        "cidr": lambda vpc: (vpc.cidr,),
        "cidr-block-association.cidr-block": lambda vpc: (vpc.cidr,),
        "cidr-block-association.association-id": lambda vpc: (_association(vpc),),
        "cidr-block-association.state": lambda _: ("associated",),
        "dhcp-options-id": lambda vpc: (vpc.dhcp_options_id or dhcp_options.NONE,),
        "is-default": lambda vpc: truth(vpc.is_default),
        "owner-id": lambda _: (caller.account,),
        "state": lambda vpc: (vpc.state,),
    }
    filters = {**filters, "isDefault": filters["is-default"], "cidrBlock": filters["cidr"], "vpcId": filters["vpc-id"]}
    described, more = listed(session, caller, request, Vpc, "VpcIds", filters, _described)
    return {"Vpcs": described, **more}


def delete_vpc(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteVpc, with its default group, main route table and network ACL.

    Raises AwsError InvalidVpcID.NotFound, DependencyViolation (anything else is in it).
    """
    vpc = find(session, Vpc, request["VpcId"])
    groups = list(session.scalars(select(SecurityGroup).filter_by(vpc_id=vpc.id)))
    tables = list(session.scalars(select(RouteTable).filter_by(vpc_id=vpc.id)))
    inside = (Subnet, NetworkInterface, InternetGateway, VpcEndpoint)
    acls = session.scalars(select(NetworkAcl).filter_by(vpc_id=vpc.id)).all()
    used = any(session.scalar(select(exists().where(kind.vpc_id == vpc.id))) for kind in inside)
    if used or len(tables) > 1 or len(acls) > 1 or any(not group.is_default for group in groups):
        raise dependency_violation(f"The vpc '{vpc.id}' has dependencies and cannot be deleted.")
    for group in groups:
        security_groups.remove(session, group)
    for table in tables:
        route_tables.remove(session, table)
    network_acls.remove(session, vpc.id)
    tags.forget(session, [vpc.id])
    session.delete(vpc)
    return {}


def _add_vpc(session: Session, cidr: str, region: str, *, is_default: bool = False) -> Vpc:
    """Add a VPC with what every VPC comes with: a security group, a route table, an ACL, the account's DHCP options."""
    vpc = Vpc(
        cidr=cidr,
        is_default=is_default,
        dhcp_options_id=dhcp_options.default(session, region).id,
        dns_hostnames=is_default,
    )
    session.add(vpc)
    session.flush()
    security_groups.add_default(session, vpc.id)
    network_acls.add_default(session, vpc.id)
    route_tables.add_main(session, vpc.id)
    return vpc


def _add_default(session: Session, region: str) -> Vpc:
    """Add the default VPC: a subnet in each zone, and a route to an internet gateway ("Default VPC components")."""
    vpc = _add_vpc(session, _DEFAULT_CIDR, region, is_default=True)
    for cidr, zone in zip(_DEFAULT_SUBNETS, zone_names(region), strict=True):
        session.add(Subnet(vpc_id=vpc.id, cidr=cidr, zone=zone, is_default=True))
    gateway = internet_gateways.add_attached(session, vpc.id)
    main = session.scalars(select(RouteTable).filter_by(vpc_id=vpc.id)).one()
    session.add(Route(route_table_id=main.id, destination="0.0.0.0/0", target=gateway.id))
    return vpc


def _association(vpc: Vpc) -> str:
    return "vpc-cidr-assoc-" + vpc.id.removeprefix("vpc-")


def _described(vpc: Vpc, caller: Caller, attached: Mapping[str, str]) -> Members:
    association = {
        "AssociationId": _association(vpc),
        "CidrBlock": vpc.cidr,
        "CidrBlockState": {"State": "associated"},
    }
    return {
        "VpcId": vpc.id,
        "State": vpc.state,
        "CidrBlock": vpc.cidr,
        "CidrBlockAssociationSet": [association],
        "Ipv6CidrBlockAssociationSet": [],
        "DhcpOptionsId": vpc.dhcp_options_id or dhcp_options.NONE,
        "InstanceTenancy": "default",
        "IsDefault": vpc.is_default,
        "OwnerId": caller.account,
        "Tags": tags.as_members(attached),
    }
