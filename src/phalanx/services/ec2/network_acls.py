"""DescribeNetworkAcls: every VPC has its default network ACL, which allows everything and cannot be changed."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.services.ec2 import tags
from phalanx.services.ec2.listing import listed
from phalanx.services.ec2.query import Filters, truth
from phalanx.store.network import NetworkAcl, Subnet
from phalanx.wire.service import Caller, Members

_ALLOW, _LAST = 100, 32767
"""Numbers of the rule that allows all, and of the one that EC2 ends every ACL with ("*" in its console)."""


def add_default(session: Session, vpc_id: str) -> None:
    """Add a VPC's default ACL."""
    session.add(NetworkAcl(vpc_id=vpc_id))


def remove(session: Session, vpc_id: str) -> None:
    """Delete a VPC's ACL with its tags."""
    for acl in session.scalars(select(NetworkAcl).filter_by(vpc_id=vpc_id)):
        tags.forget(session, [acl.id])
        session.delete(acl)
    session.flush()


def describe_network_acls(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeNetworkAcls. Raises AwsError InvalidNetworkAclID.NotFound, InvalidParameterValue."""
    subnets: dict[str, list[str]] = {}
    for subnet_id, vpc_id in session.execute(select(Subnet.id, Subnet.vpc_id).order_by(Subnet.id)):
        subnets.setdefault(vpc_id, []).append(subnet_id)
    filters: Filters[NetworkAcl] = {
        "network-acl-id": lambda acl: (acl.id,),
        "vpc-id": lambda acl: (acl.vpc_id,),
        "default": lambda _: truth(True),
        "owner-id": lambda _: (caller.account,),
        "association.subnet-id": lambda acl: subnets.get(acl.vpc_id, []),
        "association.network-acl-id": lambda acl: (acl.id,) if acl.vpc_id in subnets else (),
        "association.association-id": lambda acl: [_association(subnet) for subnet in subnets.get(acl.vpc_id, [])],
    }

    def show(acl: NetworkAcl, caller: Caller, attached: Mapping[str, str]) -> Members:
        return {
            "NetworkAclId": acl.id,
            "VpcId": acl.vpc_id,
            "IsDefault": True,
            "OwnerId": caller.account,
            "Associations": [
                {"NetworkAclAssociationId": _association(subnet), "NetworkAclId": acl.id, "SubnetId": subnet}
                for subnet in subnets.get(acl.vpc_id, [])
            ],
            "Entries": [
                {
                    "CidrBlock": "0.0.0.0/0",
                    "Egress": egress,
                    "Protocol": "-1",
                    "RuleAction": action,
                    "RuleNumber": number,
                }
                for egress in (True, False)
                for number, action in ((_ALLOW, "allow"), (_LAST, "deny"))
            ],
            "Tags": tags.as_members(attached),
        }

    described, more = listed(session, caller, request, NetworkAcl, "NetworkAclIds", filters, show)
    return {"NetworkAcls": described, **more}


def _association(subnet_id: str) -> str:
    return "aclassoc-" + subnet_id.removeprefix("subnet-")
