"""DescribeRegions: every region is served, and all are the same network."""

from __future__ import annotations

import functools

import botocore.session
from sqlalchemy.orm import Session

from phalanx.services.ec2.errors import invalid_parameter
from phalanx.services.ec2.query import fields, matching
from phalanx.wire.service import Caller, Members


def describe_regions(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeRegions: the regions of AWS, and the caller's own whatever it is. Raises AwsError InvalidParameterValue."""
    names = sorted({*_aws_regions(), caller.region})
    for name in request.get("RegionNames", []):
        if name not in names:
            raise invalid_parameter(f"Invalid region names: [{name}]")
    regions = [
        {"RegionName": name, "Endpoint": f"ec2.{name}.amazonaws.com", "OptInStatus": "opt-in-not-required"}
        for name in request.get("RegionNames") or names
    ]
    filters = fields({"region-name": "RegionName", "endpoint": "Endpoint", "opt-in-status": "OptInStatus"})
    return {"Regions": matching(request, regions, filters, None)}


@functools.cache
def _aws_regions() -> tuple[str, ...]:
    return tuple(botocore.session.get_session().get_available_regions("ec2"))
