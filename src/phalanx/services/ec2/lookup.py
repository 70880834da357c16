"""Finding resources by id or name, with EC2's errors for those that are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.services.ec2.errors import group_not_found
from phalanx.store.network import (
    DhcpOptions,
    ElasticAddress,
    InternetGateway,
    NatGateway,
    NetworkAcl,
    NetworkInterface,
    PrefixList,
    Resource,
    RouteTable,
    RouteTableAssociation,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
    Vpc,
    VpcEndpoint,
)
from phalanx.wire.errors import AwsError

Row = TypeVar("Row", bound=Resource)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How EC2 calls a kind of resource. It spells the codes differently for each, so none is derived."""

    malformed: str
    not_found: str
    noun: str


_KINDS: dict[type[Any], _Kind] = {
    Vpc: _Kind("InvalidVpcID.Malformed", "InvalidVpcID.NotFound", "vpc ID"),
    Subnet: _Kind("InvalidSubnetID.Malformed", "InvalidSubnetID.NotFound", "subnet ID"),
    SecurityGroup: _Kind("InvalidGroupId.Malformed", "InvalidGroup.NotFound", "security group"),
    SecurityGroupRule: _Kind(
        "InvalidSecurityGroupRuleId.Malformed", "InvalidSecurityGroupRuleId.NotFound", "security group rule ID"
    ),
    NetworkInterface: _Kind("InvalidNetworkInterfaceId.Malformed", "InvalidNetworkInterfaceID.NotFound", "networkInterface ID"),
    PrefixList: _Kind("InvalidPrefixListId.Malformed", "InvalidPrefixListID.NotFound", "prefix list ID"),
    RouteTable: _Kind("InvalidRouteTableId.Malformed", "InvalidRouteTableID.NotFound", "routeTable ID"),
    RouteTableAssociation: _Kind("InvalidAssociationID.Malformed", "InvalidAssociationID.NotFound", "association ID"),
    InternetGateway: _Kind("InvalidInternetGatewayId.Malformed", "InvalidInternetGatewayID.NotFound", "internetGateway ID"),
    NatGateway: _Kind("NatGatewayMalformed", "NatGatewayNotFound", "NAT gateway"),
    ElasticAddress: _Kind("InvalidAllocationID.Malformed", "InvalidAllocationID.NotFound", "allocation ID"),
    VpcEndpoint: _Kind("InvalidVpcEndpointId.Malformed", "InvalidVpcEndpointId.NotFound", "Vpc Endpoint Id"),
    DhcpOptions: _Kind("InvalidDhcpOptionsId.Malformed", "InvalidDhcpOptionID.NotFound", "dhcpOption ID"),
    NetworkAcl: _Kind("InvalidNetworkAclId.Malformed", "InvalidNetworkAclID.NotFound", "networkAcl ID"),
}


def find(session: Session, kind: type[Row], resource_id: str) -> Row:
    """The resource of that id. Raises AwsError: the kind's Malformed or NotFound."""
    return find_all(session, kind, [resource_id])[0]


def find_all(session: Session, kind: type[Row], ids: Sequence[str]) -> list[Row]:
    """The resources of those ids; all of the kind where `ids` is empty. Raises AwsError as `find` does."""
    name = _KINDS[kind]
    for resource_id in ids:
        if not resource_id.startswith(f"{kind.prefix}-"):
            raise AwsError(name.malformed, f'Invalid id: "{resource_id}" (expecting "{kind.prefix}-...")')
    query = select(kind)
    if ids:
        query = query.where(kind.id.in_(ids))
    found = list(session.scalars(query))
    known = {row.id for row in found}
    for resource_id in ids:
        if resource_id not in known:
            raise AwsError(name.not_found, f"The {name.noun} '{resource_id}' does not exist")
    return found


def default_vpc(session: Session) -> Vpc | None:
    """The default VPC, if it is still there."""
    return session.scalars(select(Vpc).where(Vpc.is_default)).first()


def group_by_name(session: Session, name: str) -> SecurityGroup:
    """The group of that name in the default VPC; EC2 knows the groups of other VPCs by id only.

    Raises AwsError InvalidGroup.NotFound.
    """
    vpc = default_vpc(session)
    if vpc is None:
        raise group_not_found(name)
    group = session.scalars(select(SecurityGroup).filter_by(vpc_id=vpc.id, name=name)).first()
    if group is None:
        raise AwsError("InvalidGroup.NotFound", f"The security group '{name}' does not exist in default VPC '{vpc.id}'")
    return group
