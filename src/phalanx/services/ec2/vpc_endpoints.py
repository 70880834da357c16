"""VPC endpoints for S3: create, describe, modify, delete. What they carry is for `jobs.exits` to say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import endpoint_services, network_interfaces, prefix_lists, tags
from phalanx.services.ec2.errors import different_networks, refuse, unsupported
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find, find_all
from phalanx.services.ec2.query import Filters
from phalanx.services.ec2.quota import GROUPS_PER_INTERFACE
from phalanx.services.times import moment
from phalanx.store.network import (
    NetworkInterface,
    Route,
    RouteTable,
    SecurityGroup,
    Subnet,
    Vpc,
    VpcEndpoint,
    VpcEndpointGroup,
    VpcEndpointRouteTable,
)
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

FULL_ACCESS = json.dumps(
    {
        "Version": "2008-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}],
    }
)
"""The policy of an endpoint that none was given for."""

_NOT_SERVED = (
    "DnsOptions",
    "SubnetConfigurations",
    "ServiceNetworkArn",
    "ResourceConfigurationArn",
)
_STATE = "available"


def create_vpc_endpoint(session: Session, caller: Caller, request: Members) -> Members:
    """CreateVpcEndpoint: a gateway endpoint with route tables, or an interface endpoint with subnets and groups.

    Raises AwsError InvalidVpcID.NotFound, InvalidServiceName, InvalidParameter, InvalidPolicyDocument, RouteAlreadyExists,
    DuplicateSubnetsInSameZone, InsufficientFreeAddressesInSubnet, NotFound of what it names, UnsupportedOperation.
    """
    _refuse_unsupported(caller, request)
    kind = request.get("VpcEndpointType", "Gateway")
    if kind not in endpoint_services.KINDS:
        raise unsupported(f"The parameter VpcEndpointType must be one of {', '.join(endpoint_services.KINDS)}")
    vpc = find(session, Vpc, request["VpcId"])
    endpoint = VpcEndpoint(
        vpc_id=vpc.id,
        kind=kind,
        service=endpoint_services.known(caller, request.get("ServiceName", "")),
        policy=_policy(request.get("PolicyDocument")),
        private_dns=_private_dns(vpc, kind, request),
    )
    asked = tags.requested(request, VpcEndpoint)
    _check_kind(endpoint, request, ("RouteTableIds",), ("SubnetIds", "SecurityGroupIds"))
    session.add(endpoint)
    session.flush()
    groups = request.get("SecurityGroupIds", [])
    if kind == "Interface" and not groups:
        default = select(SecurityGroup.id).filter_by(vpc_id=vpc.id, is_default=True)
        groups = list(session.scalars(default))
    _add_groups(session, endpoint, groups)
    _check_groups(session, endpoint)
    _add_subnets(session, endpoint, request.get("SubnetIds", []))
    _add_route_tables(session, endpoint, request.get("RouteTableIds", []))
    tags.attach(session, endpoint.id, asked)
    session.flush()
    return {"VpcEndpoint": _described(session, caller, endpoint, asked)}


def describe_vpc_endpoints(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeVpcEndpoints. Raises AwsError InvalidVpcEndpointId.NotFound, InvalidParameterValue."""
    filters: Filters[VpcEndpoint] = {
        "vpc-endpoint-id": lambda endpoint: (endpoint.id,),
        "vpc-endpoint-type": lambda endpoint: (endpoint.kind,),
        "vpc-endpoint-state": lambda _: (_STATE,),
        "vpc-id": lambda endpoint: (endpoint.vpc_id,),
        "service-name": lambda endpoint: (endpoint.service,),
        "ip-address-type": lambda _: ("ipv4",),
    }

    def show(endpoint: VpcEndpoint, caller: Caller, attached: Mapping[str, str]) -> Members:
        return _described(session, caller, endpoint, attached)

    described, more = listed(session, caller, request, VpcEndpoint, "VpcEndpointIds", filters, show, minimum=1)
    return {"VpcEndpoints": described, **more}


def modify_vpc_endpoint(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """ModifyVpcEndpoint: its route tables, or subnets and groups; its policy; private DNS.

    Raises AwsError InvalidVpcEndpointId.NotFound, and as CreateVpcEndpoint does.
    """
    _refuse_unsupported(caller, request)
    endpoint = find(session, VpcEndpoint, request["VpcEndpointId"])
    of_gateways = ("AddRouteTableIds", "RemoveRouteTableIds")
    of_interfaces = ("AddSubnetIds", "RemoveSubnetIds", "AddSecurityGroupIds", "RemoveSecurityGroupIds")
    _check_kind(endpoint, request, of_gateways, of_interfaces)
    if "PolicyDocument" in request or request.get("ResetPolicy"):
        endpoint.policy = _policy(None if request.get("ResetPolicy") else request["PolicyDocument"])
    if "PrivateDnsEnabled" in request:
        endpoint.private_dns = _private_dns(find(session, Vpc, endpoint.vpc_id), endpoint.kind, request)
    _remove_route_tables(session, endpoint, request.get("RemoveRouteTableIds", []))
    _add_route_tables(session, endpoint, request.get("AddRouteTableIds", []))
    _remove_subnets(session, endpoint, request.get("RemoveSubnetIds", []))
    _add_groups(session, endpoint, request.get("AddSecurityGroupIds", []))
    _remove_groups(session, endpoint, request.get("RemoveSecurityGroupIds", []))
    _check_groups(session, endpoint)
    _add_subnets(session, endpoint, request.get("AddSubnetIds", []))
    for interface in _interfaces(session, endpoint):
        network_interfaces.regroup(session, interface, _groups(session, endpoint))
    return [endpoint.vpc_id], {"Return": True}


def delete_vpc_endpoints(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """DeleteVpcEndpoints: those that are there; the others are told as unsuccessful."""
    unsuccessful, vpc_ids = [], set()
    for endpoint_id in dict.fromkeys(request["VpcEndpointIds"]):
        endpoint = session.get(VpcEndpoint, endpoint_id)
        if endpoint is None:
            text = f"The Vpc Endpoint Id '{endpoint_id}' does not exist"
            unsuccessful.append({"ResourceId": endpoint_id, "Error": {"Code": "InvalidVpcEndpoint.NotFound", "Message": text}})
            continue
        for interface in _interfaces(session, endpoint):
            network_interfaces.remove(session, interface)
        for kind in (VpcEndpointRouteTable, VpcEndpointGroup):
            session.execute(delete(kind).where(kind.endpoint_id == endpoint.id))
        tags.forget(session, [endpoint.id])
        vpc_ids.add(endpoint.vpc_id)
        session.delete(endpoint)
    return sorted(vpc_ids), {"Unsuccessful": unsuccessful}


def _refuse_unsupported(caller: Caller, request: Members) -> None:
    refuse(request, *_NOT_SERVED)
    if request.get("IpAddressType", "ipv4") != "ipv4":
        raise unsupported("The parameter IpAddressType must be 'ipv4'")
    if request.get("ServiceRegion", caller.region) != caller.region:
        raise unsupported("The parameter ServiceRegion must be the region of the VPC")


def _check_kind(endpoint: VpcEndpoint, request: Members, of_gateways: Iterable[str], of_interfaces: Iterable[str]) -> None:
    """Refuse what the other kind of endpoint has."""
    foreign = of_interfaces if endpoint.kind == "Gateway" else of_gateways
    for member in foreign:
        if request.get(member):
            raise AwsError("InvalidParameter", f"{member} cannot be specified for an endpoint of type {endpoint.kind}.")


def _policy(document: str | None) -> str:
    if not document:
        return FULL_ACCESS
    try:
        policy = json.loads(document)
    except ValueError as error:
        raise AwsError("InvalidPolicyDocument", "The policy document is not valid JSON.") from error
    if not isinstance(policy, dict) or "Statement" not in policy:
        raise AwsError("InvalidPolicyDocument", "The policy document has no statement.")
    return document


def _private_dns(vpc: Vpc, kind: str, request: Members) -> bool:
    """Whether private names are asked for: only where it is said, because nothing answers them yet."""
    if not request.get("PrivateDnsEnabled"):
        return False
    if kind == "Gateway":
        raise AwsError("InvalidParameter", "Private DNS can't be enabled for an endpoint of type Gateway.")
    if not (vpc.dns_support and vpc.dns_hostnames):
        raise AwsError(
            "InvalidParameter",
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for"
            f" {vpc.id}",
        )
    return True


def _add_route_tables(session: Session, endpoint: VpcEndpoint, ids: Sequence[str]) -> None:
    prefix_list = prefix_lists.of_service(endpoint.service).id
    for table in find_all(session, RouteTable, ids) if ids else []:
        if table.vpc_id != endpoint.vpc_id:
            text = f"Route table {table.id} and endpoint belong to different networks."
            raise AwsError("InvalidParameter", text)
        query = select(VpcEndpoint).join(VpcEndpointRouteTable, VpcEndpointRouteTable.endpoint_id == VpcEndpoint.id)
        leads_to = session.scalars(query.where(VpcEndpointRouteTable.route_table_id == table.id)).all()
        if endpoint in leads_to:
            continue
        taken = any(other.service == endpoint.service for other in leads_to)
        if taken or session.get(Route, (table.id, prefix_list)) is not None:
            text = f"route table {table.id} already has a route with destination-prefix-list-id {prefix_list}"
            raise AwsError("RouteAlreadyExists", text)
        session.add(VpcEndpointRouteTable(endpoint_id=endpoint.id, route_table_id=table.id))
    session.flush()


def _remove_route_tables(session: Session, endpoint: VpcEndpoint, ids: Sequence[str]) -> None:
    for table_id in ids:
        found = session.get(VpcEndpointRouteTable, (endpoint.id, find(session, RouteTable, table_id).id))
        if found is not None:
            session.delete(found)
    session.flush()


def _add_groups(session: Session, endpoint: VpcEndpoint, ids: Sequence[str]) -> None:
    for group in find_all(session, SecurityGroup, ids) if ids else []:
        if group.vpc_id != endpoint.vpc_id:
            raise different_networks()
        session.merge(VpcEndpointGroup(endpoint_id=endpoint.id, group_id=group.id))
    session.flush()


def _check_groups(session: Session, endpoint: VpcEndpoint) -> None:
    """Refuse an interface endpoint without security groups, or with more than an interface may have."""
    count = len(_groups(session, endpoint))
    if endpoint.kind == "Interface" and not count:
        raise AwsError("InvalidParameter", "An endpoint of type Interface must have a security group.")
    if count > GROUPS_PER_INTERFACE:
        text = "The maximum number of security groups per interface has been reached."
        raise AwsError("SecurityGroupsPerInterfaceLimitExceeded", text)


def _remove_groups(session: Session, endpoint: VpcEndpoint, ids: Sequence[str]) -> None:
    for group_id in ids:
        found = session.get(VpcEndpointGroup, (endpoint.id, find(session, SecurityGroup, group_id).id))
        if found is not None:
            session.delete(found)
    session.flush()


def _add_subnets(session: Session, endpoint: VpcEndpoint, ids: Sequence[str]) -> None:
    """Give an interface endpoint an interface in each of these subnets; one that has it keeps it."""
    present = {interface.subnet_id for interface in _interfaces(session, endpoint)}
    zones = set(session.scalars(select(Subnet.zone).where(Subnet.id.in_(present))))
    for subnet_id in dict.fromkeys(ids):
        subnet = find(session, Subnet, subnet_id)
        if subnet.vpc_id != endpoint.vpc_id:
            raise AwsError("InvalidParameter", f"Subnet {subnet.id} and endpoint belong to different networks.")
        if subnet.id in present:
            continue
        if subnet.zone in zones:
            raise AwsError(
                "DuplicateSubnetsInSameZone",
                f"Found another VPC endpoint subnet in the availability zone of {subnet.id}. VPC endpoint subnets should be"
                " in different availability zones supported by the VPC endpoint service.",
            )
        zones.add(subnet.zone)
        groups = _groups(session, endpoint)
        network_interfaces.add(session, subnet, endpoint.id, f"VPC Endpoint Interface {endpoint.id}", groups=groups)


def _remove_subnets(session: Session, endpoint: VpcEndpoint, ids: Sequence[str]) -> None:
    for subnet in find_all(session, Subnet, ids) if ids else []:
        for interface in _interfaces(session, endpoint):
            if interface.subnet_id == subnet.id:
                network_interfaces.remove(session, interface)


def _interfaces(session: Session, endpoint: VpcEndpoint) -> list[NetworkInterface]:
    return list(session.scalars(select(NetworkInterface).filter_by(owner=endpoint.id).order_by(NetworkInterface.id)))


def _groups(session: Session, endpoint: VpcEndpoint) -> list[str]:
    return sorted(session.scalars(select(VpcEndpointGroup.group_id).filter_by(endpoint_id=endpoint.id)))


def _described(session: Session, caller: Caller, endpoint: VpcEndpoint, attached: Mapping[str, str]) -> Members:
    interfaces = _interfaces(session, endpoint)
    tables = select(VpcEndpointRouteTable.route_table_id).filter_by(endpoint_id=endpoint.id)
    groups = select(SecurityGroup).join(VpcEndpointGroup, VpcEndpointGroup.group_id == SecurityGroup.id)
    found = session.scalars(groups.where(VpcEndpointGroup.endpoint_id == endpoint.id).order_by(SecurityGroup.id))
    return {
        "VpcEndpointId": endpoint.id,
        "VpcEndpointType": endpoint.kind,
        "VpcId": endpoint.vpc_id,
        "ServiceName": endpoint.service,
        "ServiceRegion": endpoint.service.split(".")[2],
        "State": _STATE,
        "PolicyDocument": endpoint.policy,
        "RouteTableIds": sorted(session.scalars(tables)),
        "SubnetIds": [interface.subnet_id for interface in interfaces],
        "NetworkInterfaceIds": [interface.id for interface in interfaces],
        "Groups": [{"GroupId": group.id, "GroupName": group.name} for group in found],
        "IpAddressType": "ipv4",
        "PrivateDnsEnabled": endpoint.private_dns,
        "RequesterManaged": False,
        "DnsEntries": [],
        "CreationTimestamp": moment(endpoint.created),
        "OwnerId": caller.account,
        "Tags": tags.as_members(attached),
    }
