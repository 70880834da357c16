"""DescribeNetworkInterfaces: the ENIs of running jobs."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import tags
from phalanx.services.ec2.lookup import find_all
from phalanx.services.ec2.query import Filters, matching, page, truth
from phalanx.store.network import NetworkInterface, SecurityGroup, Subnet
from phalanx.wire.service import Caller, Members


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
        "interface-type": lambda _: ("interface",),
        "owner-id": lambda _: (caller.account,),
        "requester-managed": lambda _: truth(True),
        "status": lambda eni: (eni.status,),
    }
    attached = tags.Tags(session, "eni")
    found = find_all(session, NetworkInterface, request.get("NetworkInterfaceIds", []))
    rows = matching(request, found, filters, attached.of)
    shown, more = page(request, rows, lambda eni: eni.id, "NetworkInterfaceIds")
    described = [
        {
            "NetworkInterfaceId": eni.id,
            "InterfaceType": "interface",
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
            "TagSet": tags.as_members(attached.of(eni)),
        }
        for eni in shown
    ]
    return {"NetworkInterfaces": described, **more}
