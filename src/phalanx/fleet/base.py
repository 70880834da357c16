"""The contract of a fleet: where instances run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from phalanx.data.logs import LogLine
from phalanx.data.model import RoleCredentials
from phalanx.network.model import Exits, SecurityGroup
from phalanx.node.messages import HOST_BYTES, Capacity, InstanceSpec, InstanceStatus, Measurement, Phase, Usage


class FleetError(Exception):
    """A call to a fleet failed; the text says what and why."""


class Unreachable(FleetError):
    """No host answered; the call may be repeated, and the fleet is at work to reach one again."""


class Refused(FleetError):
    """A host answered that it cannot; repeating the call would not help."""


NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
"""How a FailureReason begins where no host could hold a job (SageMaker's words)."""


class NoRoom(FleetError):
    """Instances cannot be placed now. `ever` says whether the hosts that there are could hold them, were they empty; `soon`,
    whether those of them could that take instances."""

    def __init__(self, text: str, *, ever: bool, soon: bool) -> None:
        super().__init__(text)
        self.ever = ever
        self.soon = soon


@dataclass(frozen=True, slots=True)
class Room:
    """What a host has left, or an instance needs: bytes of memory, and GPUs; in which availability zone, None for any."""

    memory: int
    gpus: int
    zone: str | None = None

    @classmethod
    def whole(cls, capacity: Capacity) -> Room:
        """What a host has for instances while it has none."""
        return cls(max(capacity.memory - HOST_BYTES, 0), capacity.gpus, capacity.zones[0] if capacity.zones else None)

    def holds(self, need: Room) -> bool:
        """Whether there is as much, in the right zone."""
        there = None in (need.zone, self.zone) or need.zone == self.zone
        return there and need.memory <= self.memory and need.gpus <= self.gpus

    def without(self, need: Room) -> Room:
        """What is left then."""
        return Room(self.memory - need.memory, self.gpus - need.gpus, self.zone)


class Fleet(Protocol):
    """Hosts that run instances. Every call is idempotent and may be made from any thread; each may raise FleetError."""

    def capacity(self) -> Capacity:
        """CPUs and bytes of memory of all hosts, and the availability zones that they are in."""

    def rooms(self, *, draining: bool = False) -> list[Room]:
        """What each host that takes instances has for them while it has none; with `draining`, each that takes none now too."""

    def has_image(self, image: str) -> bool:
        """Whether an image of that name is there to run, or may be fetched."""

    def enforce(self, vpc_id: str, groups: Sequence[SecurityGroup], exits: Exits) -> None:
        """Make these the rules and ways out of a VPC wherever it has instances; returns when they are in force."""

    def place(self, specs: Sequence[InstanceSpec]) -> None:
        """Put a job's instances on hosts. When this returns they are kept, and work towards PREPARED begins.

        Raises NoRoom where they do not fit; then none of them is kept.
        """

    def advance(self, ids: Sequence[str], goal: Phase) -> None:
        """Set how far instances shall go; never back."""

    def lend(self, ids: Sequence[str], credentials: RoleCredentials) -> None:
        """Have instances that expect credentials of their role give these to their containers, from now on."""

    def statuses(self, ids: Sequence[str]) -> dict[str, InstanceStatus]:
        """Last known status of instances; one that is nowhere is absent from the answer."""

    def wait(self, known: Mapping[str, InstanceStatus], timeout: float) -> None:
        """Return when the statuses of these instances are no longer as `known`, or after `timeout` seconds."""

    def stop(self, ids: Sequence[str], grace: float) -> None:
        """SIGTERM to the training containers, SIGKILL after `grace` seconds."""

    def logs(self, instance_id: str, offset: int, final: bool) -> tuple[list[LogLine], int]:
        """Log lines from byte `offset`, and the offset to go on from; `final` once no more will be written."""

    def measure(self, ids: Sequence[str]) -> list[Measurement]:
        """Counters of data planes, IKE and guards, read now."""

    def usage(self, ids: Sequence[str]) -> list[Usage]:
        """What instances use now; one without a running container is absent from the answer."""

    def upload(self, ids: Sequence[str]) -> str:
        """Upload the artifacts of a job's instances; the S3 URI of its model."""

    def destroy(self, ids: Sequence[str]) -> None:
        """Take instances down; when this returns nothing of them is left on any host."""
