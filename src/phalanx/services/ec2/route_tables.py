"""Route tables: create, describe, delete, and which subnets they apply to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import routes, tags
from phalanx.services.ec2.errors import dependency_violation, different, invalid_parameter, missing_parameter, refuse
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find, find_all
from phalanx.services.ec2.query import Values, truth
from phalanx.store.network import Route, RouteTable, RouteTableAssociation, Subnet, Vpc, VpcEndpointRouteTable
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

_ASSOCIATED = {"State": "associated"}
_ROUTE_FILTERS = {
    "DestinationCidrBlock": "route.destination-cidr-block",
    "DestinationIpv6CidrBlock": "route.destination-ipv6-cidr-block",
    "DestinationPrefixListId": "route.destination-prefix-list-id",
    "GatewayId": "route.gateway-id",
    "NatGatewayId": "route.nat-gateway-id",
    "NetworkInterfaceId": "route.network-interface-id",
    "Origin": "route.origin",
    "State": "route.state",
}
"""The members of a route that tables are filtered by."""


def add_main(session: Session, vpc_id: str) -> RouteTable:
    """Add a VPC's main route table."""
    table = RouteTable(vpc_id=vpc_id)
    session.add(table)
    session.flush()
    session.add(RouteTableAssociation(route_table_id=table.id, vpc_id=vpc_id))
    return table


def remove(session: Session, table: RouteTable) -> None:
    """Delete a route table with its routes, associations and tags."""
    tags.forget(session, [table.id])
    for kind in (RouteTableAssociation, Route, VpcEndpointRouteTable):
        session.execute(delete(kind).where(kind.route_table_id == table.id))
    session.delete(table)
    session.flush()


def forget_subnet(session: Session, subnet: Subnet) -> None:
    """Drop the association of a subnet that is being deleted."""
    session.execute(delete(RouteTableAssociation).where(RouteTableAssociation.subnet_id == subnet.id))


def create_route_table(session: Session, caller: Caller, request: Members) -> Members:
    """CreateRouteTable. Raises AwsError InvalidVpcID.NotFound, InvalidParameterValue."""
    vpc = find(session, Vpc, request["VpcId"])
    asked = tags.requested(request, RouteTable)
    table = RouteTable(vpc_id=vpc.id)
    session.add(table)
    session.flush()
    tags.attach(session, table.id, asked)
    return {"RouteTable": _described(table, caller, [], routes.shown(session, [table])[table.id], asked)}


def describe_route_tables(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeRouteTables. Raises AwsError InvalidRouteTableID.NotFound, InvalidParameterValue."""
    tables = find_all(session, RouteTable, request.get("RouteTableIds", []))
    associations: dict[str, list[RouteTableAssociation]] = {}
    for association in session.scalars(select(RouteTableAssociation).order_by(RouteTableAssociation.id)):
        associations.setdefault(association.route_table_id, []).append(association)
    shown_routes = routes.shown(session, tables)

    def of(table: RouteTable) -> list[RouteTableAssociation]:
        return associations.get(table.id, [])

    def values(member: str) -> Values[RouteTable]:
        return lambda table: [route[member] for route in shown_routes[table.id] if member in route]

    filters: dict[str, Values[RouteTable]] = {
        "route-table-id": lambda table: (table.id,),
        "vpc-id": lambda table: (table.vpc_id,),
        "owner-id": lambda _: (caller.account,),
        "association.route-table-association-id": lambda table: [association.id for association in of(table)],
        "association.route-table-id": lambda table: [association.route_table_id for association in of(table)],
        "association.subnet-id": lambda table: [found.subnet_id for found in of(table) if found.subnet_id],
        "association.main": lambda table: [word for found in of(table) for word in truth(found.subnet_id is None)],
        "association.gateway-id": lambda _: (),
    }
    filters |= {name: values(member) for member, name in _ROUTE_FILTERS.items()}

    def show(table: RouteTable, caller: Caller, attached: Mapping[str, str]) -> Members:
        return _described(table, caller, of(table), shown_routes[table.id], attached)

    described, more = listed(session, caller, request, RouteTable, "RouteTableIds", filters, show, rows=tables)
    return {"RouteTables": described, **more}


def delete_route_table(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteRouteTable. Raises AwsError InvalidRouteTableID.NotFound, DependencyViolation (it applies to something)."""
    table = find(session, RouteTable, request["RouteTableId"])
    if session.scalar(select(exists().where(RouteTableAssociation.route_table_id == table.id))):
        raise dependency_violation(f"The routeTable '{table.id}' has dependencies and cannot be deleted.")
    remove(session, table)
    return {}


def associate_route_table(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """AssociateRouteTable with a subnet; nothing happens where it is associated already.

    Raises AwsError InvalidRouteTableID.NotFound, InvalidSubnetID.NotFound, Resource.AlreadyAssociated,
    InvalidParameterValue (another VPC), MissingParameter, UnsupportedOperation (with a gateway).
    """
    refuse(request, "GatewayId", "PublicIpv4Pool")
    if "SubnetId" not in request:
        raise missing_parameter("subnetId")
    table = find(session, RouteTable, request["RouteTableId"])
    subnet = find(session, Subnet, request["SubnetId"])
    if subnet.vpc_id != table.vpc_id:
        raise different(f"Route table {table.id}", f"subnet {subnet.id}")
    association = session.scalars(select(RouteTableAssociation).filter_by(subnet_id=subnet.id)).first()
    if association is None:
        association = RouteTableAssociation(route_table_id=table.id, subnet_id=subnet.id)
        session.add(association)
        session.flush()
    elif association.route_table_id != table.id:
        text = f"the specified association for route table {table.id} conflicts with an existing association"
        raise AwsError("Resource.AlreadyAssociated", text)
    return [table.vpc_id], {"AssociationId": association.id, "AssociationState": _ASSOCIATED}


def disassociate_route_table(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """DisassociateRouteTable. Raises AwsError InvalidAssociationID.NotFound, InvalidParameterValue (a main table's)."""
    association = find(session, RouteTableAssociation, request["AssociationId"])
    if association.subnet_id is None:
        raise invalid_parameter(f"cannot disassociate the main route table association {association.id}")
    table = find(session, RouteTable, association.route_table_id)
    session.delete(association)
    return [table.vpc_id], {}


def replace_route_table_association(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """ReplaceRouteTableAssociation: another table for a subnet, or another main table.

    Raises AwsError InvalidAssociationID.NotFound, InvalidRouteTableID.NotFound, InvalidParameterValue (another VPC).
    """
    association = find(session, RouteTableAssociation, request["AssociationId"])
    table = find(session, RouteTable, request["RouteTableId"])
    if find(session, RouteTable, association.route_table_id).vpc_id != table.vpc_id:
        raise different(f"Route table {table.id}", f"association {association.id}")
    subnet_id, vpc_id = association.subnet_id, association.vpc_id
    session.delete(association)
    session.flush()
    replaced = RouteTableAssociation(route_table_id=table.id, subnet_id=subnet_id, vpc_id=vpc_id)
    session.add(replaced)
    session.flush()
    return [table.vpc_id], {"NewAssociationId": replaced.id, "AssociationState": _ASSOCIATED}


def _described(
    table: RouteTable,
    caller: Caller,
    associations: Iterable[RouteTableAssociation],
    shown: list[Members],
    attached: Mapping[str, str],
) -> Members:
    return {
        "RouteTableId": table.id,
        "VpcId": table.vpc_id,
        "OwnerId": caller.account,
        "Associations": [
            {
                "RouteTableAssociationId": association.id,
                "RouteTableId": table.id,
                "Main": association.subnet_id is None,
                "AssociationState": _ASSOCIATED,
                **({"SubnetId": association.subnet_id} if association.subnet_id else {}),
            }
            for association in associations
        ],
        "Routes": shown,
        "PropagatingVgws": [],
        "Tags": tags.as_members(attached),
    }
