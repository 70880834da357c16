"""Internet gateways: create, attach, detach, describe, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import tags
from phalanx.services.ec2.errors import dependency_violation, invalid_parameter
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.lookup import find
from phalanx.services.ec2.query import Filters
from phalanx.store.network import InternetGateway, NatGateway, Vpc
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members


def add_attached(session: Session, vpc_id: str) -> InternetGateway:
    """Add the internet gateway that comes with a default VPC."""
    gateway = InternetGateway(vpc_id=vpc_id)
    session.add(gateway)
    session.flush()
    return gateway


def of_vpc(session: Session, vpc_id: str) -> InternetGateway | None:
    """The internet gateway that is attached to a VPC, if any."""
    return session.scalars(select(InternetGateway).filter_by(vpc_id=vpc_id)).first()


def create_internet_gateway(session: Session, caller: Caller, request: Members) -> Members:
    """CreateInternetGateway. Raises AwsError InvalidParameterValue."""
    asked = tags.requested(request, InternetGateway)
    gateway = InternetGateway()
    session.add(gateway)
    session.flush()
    tags.attach(session, gateway.id, asked)
    return {"InternetGateway": _described(gateway, caller, asked)}


def describe_internet_gateways(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeInternetGateways. Raises AwsError InvalidInternetGatewayID.NotFound, InvalidParameterValue."""
    filters: Filters[InternetGateway] = {
        "internet-gateway-id": lambda gateway: (gateway.id,),
        "attachment.vpc-id": lambda gateway: (gateway.vpc_id,) if gateway.vpc_id else (),
        "attachment.state": lambda gateway: ("available",) if gateway.vpc_id else (),
        "owner-id": lambda _: (caller.account,),
    }
    described, more = listed(session, caller, request, InternetGateway, "InternetGatewayIds", filters, _described)
    return {"InternetGateways": described, **more}


def attach_internet_gateway(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """AttachInternetGateway.

    Raises AwsError InvalidInternetGatewayID.NotFound, InvalidVpcID.NotFound, Resource.AlreadyAssociated,
    InvalidParameterValue (the VPC has another).
    """
    gateway = find(session, InternetGateway, request["InternetGatewayId"])
    vpc = find(session, Vpc, request["VpcId"])
    if gateway.vpc_id is not None:
        text = f"resource {gateway.id} is already attached to network {gateway.vpc_id}"
        raise AwsError("Resource.AlreadyAssociated", text)
    if of_vpc(session, vpc.id) is not None:
        raise invalid_parameter(f"Network {vpc.id} already has an internet gateway attached")
    gateway.vpc_id = vpc.id
    return [vpc.id], {}


def detach_internet_gateway(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """DetachInternetGateway; routes to it become blackholes.

    Raises AwsError InvalidInternetGatewayID.NotFound, InvalidVpcID.NotFound, Gateway.NotAttached, DependencyViolation
    (the VPC has public addresses).
    """
    gateway = find(session, InternetGateway, request["InternetGatewayId"])
    vpc = find(session, Vpc, request["VpcId"])
    if gateway.vpc_id != vpc.id:
        raise AwsError("Gateway.NotAttached", f"resource {gateway.id} is not attached to network {vpc.id}")
    public = exists().where(
        NatGateway.vpc_id == vpc.id, NatGateway.state == "available", NatGateway.public_address.is_not(None)
    )
    if session.scalar(select(public)):
        raise dependency_violation(
            f"Network {vpc.id} has some mapped public address(es). Please unmap those public address(es) before detaching"
            " the gateway."
        )
    gateway.vpc_id = None
    return [vpc.id], {}


def delete_internet_gateway(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteInternetGateway. Raises AwsError InvalidInternetGatewayID.NotFound, DependencyViolation (it is attached)."""
    gateway = find(session, InternetGateway, request["InternetGatewayId"])
    if gateway.vpc_id is not None:
        raise dependency_violation(f"The internetGateway '{gateway.id}' has dependencies and cannot be deleted.")
    tags.forget(session, [gateway.id])
    session.delete(gateway)
    return {}


def _described(gateway: InternetGateway, caller: Caller, attached: Mapping[str, str]) -> Members:
    return {
        "InternetGatewayId": gateway.id,
        "Attachments": [{"VpcId": gateway.vpc_id, "State": "available"}] if gateway.vpc_id else [],
        "OwnerId": caller.account,
        "Tags": tags.as_members(attached),
    }
