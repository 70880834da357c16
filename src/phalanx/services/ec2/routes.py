"""The routes of route tables: CreateRoute, ReplaceRoute, DeleteRoute, and how a table shows its routes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import prefix_lists
from phalanx.services.ec2.cidr import parse_v4, parse_v6
from phalanx.services.ec2.errors import different, invalid_combination, invalid_parameter, missing_parameter, refuse
from phalanx.services.ec2.lookup import find
from phalanx.store.network import (
    InternetGateway,
    NatGateway,
    NetworkInterface,
    Route,
    RouteTable,
    Vpc,
    VpcEndpoint,
    VpcEndpointRouteTable,
)
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

_DESTINATIONS = {
    "DestinationCidrBlock": "destination-cidr-block",
    "DestinationIpv6CidrBlock": "destination-ipv6-cidr-block",
    "DestinationPrefixListId": "destination-prefix-list-id",
}
"""The members that name a destination, and how EC2's messages call them."""
_TARGETS = ("GatewayId", "NatGatewayId", "NetworkInterfaceId")
_MEMBER_OF_TARGET = {"igw": "GatewayId", "nat": "NatGatewayId", "eni": "NetworkInterfaceId"}
"""By the prefix of a target's id, the member that has it."""
_NOT_SERVED = (
    "TransitGatewayId",
    "LocalGatewayId",
    "CarrierGatewayId",
    "CoreNetworkArn",
    "OdbNetworkArn",
    "EgressOnlyInternetGatewayId",
    "InstanceId",
    "VpcPeeringConnectionId",
    "LocalTarget",
)


def create_route(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """CreateRoute to an internet gateway, a NAT gateway or a network interface.

    Raises AwsError InvalidRouteTableID.NotFound, RouteAlreadyExists, InvalidParameterValue, InvalidParameterCombination,
    MissingParameter, the target's NotFound, RouteNotSupported, UnsupportedOperation.
    """
    table = find(session, RouteTable, request["RouteTableId"])
    destination = _destination(session, caller, request)
    target = _target(session, table, request)
    if destination in _taken(session, table):
        raise AwsError("RouteAlreadyExists", f"The route identified by {destination} already exists.")
    vpc = find(session, Vpc, table.vpc_id)
    network = parse_v4(destination)
    within = network is not None and network.subnet_of(ipaddress.IPv4Network(vpc.cidr))
    if within and not target.startswith("eni-"):
        raise invalid_parameter(
            f"The destination CIDR block {destination} is equal to or more specific than one of this VPC's CIDR blocks."
            " This route can target only an interface or an instance."
        )
    session.add(Route(route_table_id=table.id, destination=destination, target=target))
    return [table.vpc_id], {"Return": True}


def replace_route(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """ReplaceRoute: another target. Raises AwsError as CreateRoute does; InvalidParameterValue where there is no route."""
    table = find(session, RouteTable, request["RouteTableId"])
    destination = _destination(session, caller, request)
    target = _target(session, table, request)
    route = session.get(Route, (table.id, destination))
    if route is None:
        text = f"There is no route defined for '{destination}' in the route table. Use CreateRoute instead."
        raise invalid_parameter(text)
    route.target = target
    return [table.vpc_id], {}


def delete_route(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """DeleteRoute. Raises AwsError InvalidRouteTableID.NotFound, InvalidRoute.NotFound, InvalidParameterValue."""
    table = find(session, RouteTable, request["RouteTableId"])
    destination = _destination(session, caller, request)
    route = session.get(Route, (table.id, destination))
    if route is not None:
        session.delete(route)
        return [table.vpc_id], {}
    if destination == find(session, Vpc, table.vpc_id).cidr:
        raise invalid_parameter(f"cannot remove local route {destination} in route table {table.id}")
    if destination in _taken(session, table):
        raise invalid_parameter(f"cannot remove VPC endpoint route {destination} in route table {table.id}")
    text = f"no route with {_DESTINATIONS[_member(destination)]} {destination} in route table {table.id}"
    raise AwsError("InvalidRoute.NotFound", text)


def shown(session: Session, tables: Sequence[RouteTable]) -> dict[str, list[Members]]:
    """The routes of tables as DescribeRouteTables returns them, by the table's id: the local one first."""
    blocks = {row[0]: row[1] for row in session.execute(select(Vpc.id, Vpc.cidr))}
    found = {
        table.id: [
            {
                "DestinationCidrBlock": blocks[table.vpc_id],
                "GatewayId": "local",
                "Origin": "CreateRouteTable",
                "State": "active",
            }
        ]
        for table in tables
    }
    alive = _alive(session)
    vpcs = {table.id: table.vpc_id for table in tables}
    for route in session.scalars(select(Route).order_by(Route.destination)):
        if route.route_table_id in found:
            active = alive.get(route.target) == vpcs[route.route_table_id]
            found[route.route_table_id].append(
                {
                    _member(route.destination): route.destination,
                    _MEMBER_OF_TARGET[route.target.partition("-")[0]]: route.target,
                    "Origin": "CreateRoute",
                    "State": "active" if active else "blackhole",
                }
            )
    for table_id, endpoint in _endpoints(session):
        if table_id in found:
            found[table_id].append(
                {
                    "DestinationPrefixListId": prefix_lists.of_service(endpoint.service).id,
                    "GatewayId": endpoint.id,
                    "Origin": "CreateRoute",
                    "State": "active",
                }
            )
    return found


def _endpoints(session: Session) -> Iterable[tuple[str, VpcEndpoint]]:
    """The gateway endpoints that route tables lead to, each with a table's id."""
    query = select(VpcEndpointRouteTable.route_table_id, VpcEndpoint).join(
        VpcEndpoint, VpcEndpoint.id == VpcEndpointRouteTable.endpoint_id
    )
    return [(table_id, endpoint) for table_id, endpoint in session.execute(query)]


def _taken(session: Session, table: RouteTable) -> set[str]:
    """The destinations that a table has a route for."""
    return {route[member] for route in shown(session, [table])[table.id] for member in _DESTINATIONS if member in route}


def _alive(session: Session) -> dict[str, str | None]:
    """The VPC of every target that a route may lead to now, by the target's id."""
    found: dict[str, str | None] = {}
    for query in (
        select(InternetGateway.id, InternetGateway.vpc_id),
        select(NatGateway.id, NatGateway.vpc_id).where(NatGateway.state == "available"),
        select(NetworkInterface.id, NetworkInterface.vpc_id),
    ):
        found.update((row[0], row[1]) for row in session.execute(query))
    return found


def _destination(session: Session, caller: Caller, request: Members) -> str:
    """The destination that a request names, in its canonical form."""
    named = [member for member in _DESTINATIONS if member in request]
    if not named:
        raise missing_parameter("destinationCidrBlock, destinationIpv6CidrBlock or destinationPrefixListId")
    if len(named) > 1:
        raise invalid_combination(f"The parameter {named[0]} cannot be used with the parameter {named[1]}")
    text: str = request[named[0]]
    if named[0] == "DestinationPrefixListId":
        return prefix_lists.known(session, caller, text).id
    network = parse_v4(text) if named[0] == "DestinationCidrBlock" else parse_v6(text)
    if network is None:
        parameter = named[0][0].lower() + named[0][1:]
        raise invalid_parameter(f"Value ({text}) for parameter {parameter} is invalid. This is not a valid CIDR block.")
    return str(network)


def _target(session: Session, table: RouteTable, request: Members) -> str:
    """The id of the gateway or interface that a request names, which is in the table's VPC."""
    refuse(request, *_NOT_SERVED)
    if "VpcEndpointId" in request:
        raise _no_target(request["VpcEndpointId"])
    named = [member for member in _TARGETS if member in request]
    if not named:
        raise missing_parameter("gatewayId, natGatewayId or networkInterfaceId")
    if len(named) > 1:
        raise invalid_combination(f"The parameter {named[0]} cannot be used with the parameter {named[1]}")
    target: str = request[named[0]]
    target_vpc: str | None
    if named[0] == "NatGatewayId":
        gateway = find(session, NatGateway, target)
        if gateway.state != "available":
            raise AwsError("NatGatewayNotFound", f"The NAT gateway '{target}' does not exist")
        target_vpc = gateway.vpc_id
    elif named[0] == "NetworkInterfaceId":
        target_vpc = find(session, NetworkInterface, target).vpc_id
    elif target.startswith("vpce-"):
        raise _no_target(target)
    else:
        attached = session.get(InternetGateway, target)
        if attached is None:
            raise AwsError("InvalidGatewayID.NotFound", f"The gateway ID '{target}' does not exist")
        target_vpc = attached.vpc_id
    if target_vpc != table.vpc_id:
        raise different(f"route table {table.id}", f"network gateway {target}")
    return target


def _no_target(endpoint: str) -> AwsError:
    why = "VPC Endpoints of this type cannot be used as route targets."
    return AwsError("RouteNotSupported", f"Route table contains unsupported route target: {endpoint}. {why}")


def _member(destination: str) -> str:
    """The member of a route that has such a destination."""
    if destination.startswith("pl-"):
        return "DestinationPrefixListId"
    return "DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock"
