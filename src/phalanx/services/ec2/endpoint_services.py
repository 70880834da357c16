"""The AWS services that a VPC may have endpoints for: Amazon S3. DescribeVpcEndpointServices."""

from __future__ import annotations

import hashlib

from sqlalchemy.orm import Session

from phalanx.services.ec2.query import Filters, matching, page
from phalanx.services.ec2.zones import zone_id, zone_names
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

KINDS = ("Gateway", "Interface")
"""The kinds of endpoints that S3 has."""


def s3(region: str) -> str:
    """Name of S3's endpoint service in a region."""
    return f"com.amazonaws.{region}.s3"


def known(caller: Caller, name: str) -> str:
    """The service of that name in the caller's region. Raises AwsError InvalidServiceName."""
    if name != s3(caller.region):
        raise AwsError("InvalidServiceName", f"The Vpc Endpoint Service '{name}' does not exist")
    return name


def describe_vpc_endpoint_services(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeVpcEndpointServices. Raises AwsError InvalidServiceName, InvalidParameterValue."""
    for name in request.get("ServiceNames", []):
        known(caller, name)
    here = caller.region in request.get("ServiceRegions", [caller.region])
    details = [_described(s3(caller.region), kind, caller) for kind in KINDS] if here else []
    filters: Filters[Members] = {
        "service-name": lambda detail: (detail["ServiceName"],),
        "service-type": lambda detail: (detail["ServiceType"][0]["ServiceType"],),
        "service-region": lambda detail: (detail["ServiceRegion"],),
        "owner": lambda detail: (detail["Owner"],),
        "supported-ip-address-types": lambda detail: detail["SupportedIpAddressTypes"],
    }
    kept = matching(request, details, filters, None)
    shown, more = page(request, kept, lambda detail: detail["ServiceId"], "ServiceNames", minimum=1)
    return {"ServiceNames": sorted({detail["ServiceName"] for detail in kept}), "ServiceDetails": shown, **more}


def _described(name: str, kind: str, caller: Caller) -> Members:
    zones = zone_names(caller.region)
    return {
        "ServiceName": name,
        "ServiceId": f"vpce-svc-0{hashlib.sha256(f'{name} {kind}'.encode()).hexdigest()[:16]}",
        "ServiceType": [{"ServiceType": kind}],
        "ServiceRegion": caller.region,
        "AvailabilityZones": zones,
        "AvailabilityZoneIds": [zone_id(zone) for zone in zones],
        "Owner": "amazon",
        "BaseEndpointDnsNames": [f"s3.{caller.region}.amazonaws.com"],
        "VpcEndpointPolicySupported": True,
        "AcceptanceRequired": False,
        "ManagesVpcEndpoints": False,
        "SupportedIpAddressTypes": ["ipv4"],
        "Tags": [],
    }
