"""Elastic addresses, which public NAT gateways need: allocate, describe, disassociate, release.

They are taken from a block for documentation (RFC 5737): nothing routes to them.
"""

from __future__ import annotations

import ipaddress

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import tags
from phalanx.services.ec2.errors import invalid_combination, invalid_parameter, missing_parameter, refuse, unsupported
from phalanx.services.ec2.lookup import find, find_all
from phalanx.services.ec2.query import fields, matching, page
from phalanx.store.network import ElasticAddress, NatGateway
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

POOL = ipaddress.IPv4Network("203.0.113.0/24")
_NOT_SERVED = ("Address", "PublicIpv4Pool", "CustomerOwnedIpv4Pool", "IpamPoolId")


def holder(session: Session, address: ElasticAddress) -> NatGateway | None:
    """The NAT gateway that has an elastic address, if any."""
    return session.scalars(select(NatGateway).filter_by(allocation_id=address.id, state="available")).first()


def allocate_address(session: Session, caller: Caller, request: Members) -> Members:
    """AllocateAddress. Raises AwsError AddressLimitExceeded, InvalidParameterValue, UnsupportedOperation."""
    refuse(request, *_NOT_SERVED)
    if request.get("Domain", "vpc") != "vpc":
        raise unsupported("The parameter Domain must be 'vpc'")
    if request.get("NetworkBorderGroup", caller.region) != caller.region:
        raise unsupported("The parameter NetworkBorderGroup must be the region")
    asked = tags.requested(request, ElasticAddress)
    taken = set(session.scalars(select(ElasticAddress.address)))
    free = next((str(address) for address in POOL.hosts() if str(address) not in taken), None)
    if free is None:
        raise AwsError("AddressLimitExceeded", "The maximum number of addresses has been reached.")
    made = ElasticAddress(address=free)
    session.add(made)
    session.flush()
    tags.attach(session, made.id, asked)
    return {
        "AllocationId": made.id,
        "PublicIp": made.address,
        "Domain": "vpc",
        "PublicIpv4Pool": "amazon",
        "NetworkBorderGroup": caller.region,
    }


def describe_addresses(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeAddresses. Raises AwsError InvalidAllocationID.NotFound, InvalidAddress.NotFound, InvalidParameterValue."""
    found = find_all(session, ElasticAddress, request.get("AllocationIds", []))
    wanted = request.get("PublicIps", [])
    for text in wanted:
        if text not in {address.address for address in found}:
            raise _no_address(text)
    found = [address for address in found if not wanted or address.address in wanted]
    attached = tags.Tags(session, ElasticAddress)
    own = {address.id: attached.of(address) for address in found}
    described = [
        {
            "AllocationId": address.id,
            "PublicIp": address.address,
            "Domain": "vpc",
            "PublicIpv4Pool": "amazon",
            "NetworkBorderGroup": caller.region,
            **_held(holder(session, address), caller),
            "Tags": tags.as_members(own[address.id]),
        }
        for address in sorted(found, key=lambda address: address.id)
    ]
    filters = fields(
        {
            "allocation-id": "AllocationId",
            "association-id": "AssociationId",
            "domain": "Domain",
            "network-interface-id": "NetworkInterfaceId",
            "network-interface-owner-id": "NetworkInterfaceOwnerId",
            "private-ip-address": "PrivateIpAddress",
            "public-ip": "PublicIp",
        }
    )
    return {"Addresses": matching(request, described, filters, lambda shown: own[shown["AllocationId"]])}


def describe_addresses_attribute(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeAddressesAttribute: no address has a domain name. Raises AwsError InvalidAllocationID.NotFound."""
    found = find_all(session, ElasticAddress, request.get("AllocationIds", []))
    shown, more = page(request, found, lambda address: address.id, "AllocationIds", minimum=1)
    return {"Addresses": [{"AllocationId": address.id, "PublicIp": address.address} for address in shown], **more}


def disassociate_address(session: Session, caller: Caller, request: Members) -> Members:
    """DisassociateAddress, which undoes nothing: an address has been associated by a NAT gateway alone, which keeps it.

    It is for clients that undo, after the gateway is deleted, what they saw before, as Terraform does. Raises AwsError
    InvalidAssociationID.NotFound, AuthFailure (the gateway is there), InvalidParameterValue, MissingParameter.
    """
    if "AssociationId" not in request:
        if "PublicIp" in request:
            raise invalid_parameter("You must specify an association id when unmapping an address from a VPC instance")
        raise missing_parameter("AssociationId")
    asked = request["AssociationId"]
    public = select(NatGateway).where(NatGateway.state == "available", NatGateway.allocation_id.is_not(None))
    for gateway in session.scalars(public):
        if gateway.association_id == asked:
            text = f"You do not have permission to access the specified resource: delete {gateway.id}, which has the address."
            raise AwsError("AuthFailure", text)
    raise AwsError("InvalidAssociationID.NotFound", f"The association ID '{asked}' does not exist")


def release_address(session: Session, caller: Caller, request: Members) -> Members:
    """ReleaseAddress.

    Raises AwsError InvalidAllocationID.NotFound, InvalidAddress.NotFound, InvalidIPAddress.InUse, MissingParameter,
    InvalidParameterCombination.
    """
    allocation, text = request.get("AllocationId"), request.get("PublicIp")
    if allocation is not None and text is not None:
        raise invalid_combination("You may specify public IP or allocation id, but not both in the same call")
    if allocation is not None:
        doomed = find(session, ElasticAddress, allocation)
    elif text is not None:
        by_address = session.scalars(select(ElasticAddress).filter_by(address=text)).first()
        if by_address is None:
            raise _no_address(text)
        doomed = by_address
    else:
        raise missing_parameter("allocationId or publicIp")
    gateway = holder(session, doomed)
    if gateway is not None:
        raise AwsError("InvalidIPAddress.InUse", f"Address {doomed.address} is in use by {gateway.id}.")
    tags.forget(session, [doomed.id])
    session.delete(doomed)
    return {}


def _held(gateway: NatGateway | None, caller: Caller) -> Members:
    """What an address shows of the NAT gateway that has it."""
    if gateway is None:
        return {}
    return {
        "AssociationId": gateway.association_id,
        "NetworkInterfaceId": gateway.interface_id,
        "NetworkInterfaceOwnerId": caller.account,
        "PrivateIpAddress": gateway.private_address,
    }


def _no_address(text: str) -> AwsError:
    return AwsError("InvalidAddress.NotFound", f"Address '{text}' not found.")
