"""DescribeVpcAttribute and ModifyVpcAttribute."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from phalanx.services.ec2.errors import invalid_combination, invalid_parameter, missing_parameter
from phalanx.services.ec2.lookup import find
from phalanx.store.network import Vpc
from phalanx.wire.service import Caller, Members

_ATTRIBUTES = {
    "enableDnsSupport": ("EnableDnsSupport", "dns_support"),
    "enableDnsHostnames": ("EnableDnsHostnames", "dns_hostnames"),
    "enableNetworkAddressUsageMetrics": ("EnableNetworkAddressUsageMetrics", "usage_metrics"),
}
"""By an attribute's name: the member that has it, and the column."""


def describe_vpc_attribute(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeVpcAttribute. Raises AwsError InvalidVpcID.NotFound, InvalidParameterValue."""
    name = request["Attribute"]
    if name not in _ATTRIBUTES:
        raise invalid_parameter(f"Value ({name}) for parameter attribute is invalid. Unknown attribute.")
    vpc = find(session, Vpc, request["VpcId"])
    member, column = _ATTRIBUTES[name]
    return {"VpcId": vpc.id, member: {"Value": getattr(vpc, column)}}


def modify_vpc_attribute(session: Session, caller: Caller, request: Members) -> tuple[Sequence[str], Members]:
    """ModifyVpcAttribute, one at a time.

    Raises AwsError InvalidVpcID.NotFound, InvalidParameterCombination, MissingParameter.
    """
    vpc = find(session, Vpc, request["VpcId"])
    named = [(member, column) for member, column in _ATTRIBUTES.values() if member in request]
    if not named:
        raise missing_parameter("attribute")
    if len(named) > 1:
        raise invalid_combination("Fields for multiple attribute types specified")
    ((member, column),) = named
    value = request[member].get("Value")
    if value is None:
        raise missing_parameter(f"{member}.value")
    setattr(vpc, column, value)
    return [vpc.id], {}
