"""NAT gateways: create, describe, delete. Each takes an address of its subnet; what they carry is for `jobs.exits` to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import addresses, internet_gateways, network_interfaces, tags
from phalanx.services.ec2.errors import invalid_combination, missing_parameter, refuse, unsupported
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find, find_all
from phalanx.services.ec2.query import Filters
from phalanx.services.times import moment
from phalanx.store.base import now_ms
from phalanx.store.network import ElasticAddress, NatGateway, NetworkInterface, Subnet, new_id
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

SHOWN_AFTER_DELETION = 3_600_000
"""Milliseconds for which a deleted NAT gateway is still described: "about an hour" (Amazon VPC user guide)."""

_ZONAL = "zonal"
_NOT_SERVED = (
    "AvailabilityZoneAddresses",
    "SecondaryAllocationIds",
    "SecondaryPrivateIpAddresses",
    "SecondaryPrivateIpAddressCount",
)


def create_nat_gateway(session: Session, caller: Caller, request: Members) -> Members:
    """CreateNatGateway, public with an elastic address or private without.

    Raises AwsError InvalidSubnetID.NotFound, InvalidAllocationID.NotFound, Resource.AlreadyAssociated (the elastic address),
    Gateway.NotAttached (a public one needs an internet gateway), InvalidParameterValue, InvalidParameterCombination,
    MissingParameter, InvalidIPAddress.InUse, InsufficientFreeAddressesInSubnet, UnsupportedOperation.
    """
    refuse(request, *_NOT_SERVED)
    if request.get("AvailabilityMode", _ZONAL) != _ZONAL:
        raise unsupported(f"The parameter AvailabilityMode must be '{_ZONAL}'")
    if "SubnetId" not in request:
        raise missing_parameter("SubnetId")
    subnet = find(session, Subnet, request["SubnetId"])
    asked = tags.requested(request, NatGateway)
    address = _address(session, subnet, request)
    gateway = NatGateway(
        id=new_id(NatGateway.prefix),
        vpc_id=subnet.vpc_id,
        subnet_id=subnet.id,
        connectivity="private" if address is None else "public",
        allocation_id=None if address is None else address.id,
        public_address=None if address is None else address.address,
    )
    interface = network_interfaces.add(
        session, subnet, gateway.id, f"Interface for NAT Gateway {gateway.id}", address=request.get("PrivateIpAddress")
    )
    gateway.interface_id, gateway.private_address = interface.id, interface.address
    session.add(gateway)
    session.flush()
    tags.attach(session, gateway.id, asked)
    _forget_old(session)
    return {"NatGateway": _described(gateway, caller, asked)}


def describe_nat_gateways(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeNatGateways, deleted ones for a while too. Raises AwsError NatGatewayNotFound, InvalidParameterValue."""
    filters: Filters[NatGateway] = {
        "nat-gateway-id": lambda gateway: (gateway.id,),
        "subnet-id": lambda gateway: (gateway.subnet_id,),
        "vpc-id": lambda gateway: (gateway.vpc_id,),
        "state": lambda gateway: (gateway.state,),
        "connectivity-type": lambda gateway: (gateway.connectivity,),
    }
    found = find_all(session, NatGateway, request.get("NatGatewayIds", []))
    recent = [gateway for gateway in found if gateway.deleted is None or gateway.deleted > now_ms() - SHOWN_AFTER_DELETION]
    # Of all operations this one calls them Filter.
    asked = {**request, "Filters": request.get("Filter", [])}
    described, more = listed(session, caller, asked, NatGateway, "NatGatewayIds", filters, _described, rows=recent)
    return {"NatGateways": described, **more}


def delete_nat_gateway(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """DeleteNatGateway: its addresses are free, routes to it become blackholes. Raises AwsError NatGatewayNotFound."""
    gateway = find(session, NatGateway, request["NatGatewayId"])
    if gateway.state != "deleted":
        network_interfaces.remove(session, session.get_one(NetworkInterface, gateway.interface_id))
        gateway.state, gateway.deleted = "deleted", now_ms()
    return [gateway.vpc_id], {"NatGatewayId": gateway.id}


def _address(session: Session, subnet: Subnet, request: Members) -> ElasticAddress | None:
    """The elastic address of a new public gateway; None for a private one."""
    allocation = request.get("AllocationId")
    if request.get("ConnectivityType", "public") == "private":
        if allocation is not None:
            raise invalid_combination("The parameter AllocationId cannot be used with the connectivity type private")
        return None
    if allocation is None:
        raise missing_parameter("AllocationId")
    address = find(session, ElasticAddress, allocation)
    if addresses.holder(session, address) is not None:
        text = f"Elastic IP address [{address.id}] is already associated"
        raise AwsError("Resource.AlreadyAssociated", text)
    if internet_gateways.of_vpc(session, subnet.vpc_id) is None:
        raise AwsError("Gateway.NotAttached", f"Network {subnet.vpc_id} has no Internet gateway attached")
    return address


def _forget_old(session: Session) -> None:
    """Drop the rows of gateways that are shown no more."""
    old = list(session.scalars(select(NatGateway.id).where(NatGateway.deleted <= now_ms() - SHOWN_AFTER_DELETION)))
    tags.forget(session, old)
    session.execute(delete(NatGateway).where(NatGateway.id.in_(old)))


def _described(gateway: NatGateway, _: Caller, attached: Mapping[str, str]) -> Members:
    address: Members = {
        "NetworkInterfaceId": gateway.interface_id,
        "PrivateIp": gateway.private_address,
        "IsPrimary": True,
        "Status": "succeeded",
    }
    if gateway.allocation_id is not None:
        address |= {
            "AllocationId": gateway.allocation_id,
            "PublicIp": gateway.public_address,
            "AssociationId": gateway.association_id,
        }
    return {
        "NatGatewayId": gateway.id,
        "VpcId": gateway.vpc_id,
        "SubnetId": gateway.subnet_id,
        "ConnectivityType": gateway.connectivity,
        "AvailabilityMode": _ZONAL,
        "State": gateway.state,
        "CreateTime": moment(gateway.created),
        **({} if gateway.deleted is None else {"DeleteTime": moment(gateway.deleted)}),
        "NatGatewayAddresses": [address],
        "Tags": tags.as_members(attached),
    }
