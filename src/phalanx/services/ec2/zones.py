"""Availability zones: every region has three."""

from __future__ import annotations

from sqlalchemy.orm import Session

from phalanx.services.ec2.errors import invalid_parameter
from phalanx.services.ec2.query import fields, matching
from phalanx.wire.service import Caller, Members

_LETTERS = "abc"
_DIRECTIONS = {
    "north": "n",
    "south": "s",
    "east": "e",
    "west": "w",
    "central": "c",
    "northeast": "ne",
    "northwest": "nw",
    "southeast": "se",
    "southwest": "sw",
}


def zone_names(region: str) -> list[str]:
    """Names of the zones of a region: us-east-1a …"""
    return [region + letter for letter in _LETTERS]


def zone_id(zone: str) -> str:
    """Id of a zone as AWS forms it: use1-az1 for us-east-1a."""
    region, letter = zone[:-1], zone[-1]
    short = "".join(_DIRECTIONS.get(part, part) for part in region.split("-"))
    return f"{short}-az{_LETTERS.find(letter) + 1}"


def describe_availability_zones(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeAvailabilityZones of the caller's region. Raises AwsError InvalidParameterValue."""
    zones = [
        {
            "ZoneName": name,
            "ZoneId": zone_id(name),
            "ZoneType": "availability-zone",
            "State": "available",
            "OptInStatus": "opt-in-not-required",
            "RegionName": caller.region,
            "GroupName": caller.region,
            "NetworkBorderGroup": caller.region,
        }
        for name in zone_names(caller.region)
    ]
    for member, field in (("ZoneNames", "ZoneName"), ("ZoneIds", "ZoneId")):
        wanted = request.get(member, [])
        unknown = [value for value in wanted if value not in {zone[field] for zone in zones}]
        if unknown:
            raise invalid_parameter(f"Invalid availability zone: [{', '.join(unknown)}]")
        if wanted:
            zones = [zone for zone in zones if zone[field] in wanted]
    filters = fields(
        {
            "group-name": "GroupName",
            "opt-in-status": "OptInStatus",
            "region-name": "RegionName",
            "state": "State",
            "zone-id": "ZoneId",
            "zone-name": "ZoneName",
            "zone-type": "ZoneType",
        }
    )
    return {"AvailabilityZones": matching(request, zones, filters, None)}
