"""DescribeAccountAttributes."""

from __future__ import annotations

from sqlalchemy.orm import Session

from phalanx.services.ec2.errors import invalid_parameter
from phalanx.services.ec2.lookup import default_vpc
from phalanx.services.ec2.quota import GROUPS_PER_INTERFACE
from phalanx.wire.service import Caller, Members


def describe_account_attributes(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeAccountAttributes. Raises AwsError InvalidParameterValue."""
    vpc = default_vpc(session)
    attributes = {
        "supported-platforms": "VPC",
        "default-vpc": "none" if vpc is None else vpc.id,
        "vpc-max-security-groups-per-interface": str(GROUPS_PER_INTERFACE),
    }
    wanted = request.get("AttributeNames") or list(attributes)
    for name in wanted:
        if name not in attributes:
            raise invalid_parameter(f"Value ({name}) for parameter attributeName is invalid. Unknown account attribute.")
    return {
        "AccountAttributes": [
            {"AttributeName": name, "AttributeValues": [{"AttributeValue": attributes[name]}]} for name in dict.fromkeys(wanted)
        ]
    }
