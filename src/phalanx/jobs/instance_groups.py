"""The instance groups of a job (ResourceConfig.InstanceGroups): heterogeneous clusters. A job without groups is one group."""

from __future__ import annotations

from dataclasses import dataclass

from phalanx.store.base import Json

HOMOGENEOUS = "homogeneousCluster"
"""What SageMaker calls the one group of a job without groups."""


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """Name of a group, type of its instances, and their number."""

    name: str
    instance_type: str
    count: int


def groups(resources: Json) -> tuple[InstanceGroup, ...]:
    """The groups that a valid ResourceConfig asks for, in its order: that of the hosts."""
    if resources.get("InstanceGroups"):
        return tuple(
            InstanceGroup(group["InstanceGroupName"], group["InstanceType"], group["InstanceCount"])
            for group in resources["InstanceGroups"]
        )
    return (InstanceGroup(HOMOGENEOUS, resources["InstanceType"], resources["InstanceCount"]),)


def instances(resources: Json) -> int:
    """How many instances a job has."""
    return sum(group.count for group in groups(resources))
