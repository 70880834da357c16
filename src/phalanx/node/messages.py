"""What crosses the border between `fleet` and `node`: frozen, serialisable messages, and how they become JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from phalanx.data.model import Checkpoints, ObjectStore, Output, Workspace
from phalanx.ipsec.model import MeshReport, MeshSpec
from phalanx.network.model import Eni, GuardCounters, Watched
from phalanx.runtime.model import Limits

T = TypeVar("T")


class Phase(IntEnum):
    """How far an instance has come; also the goal that the fleet sets for it. Phases only grow."""

    NEW = 0
    PREPARED = 1
    """Network, guards and IKE daemon stand; nothing of the user runs."""
    CONNECTED = 2
    """Every peer has a CHILD_SA in both directions, measured (the mesh gate). At once true where nothing is encrypted."""
    LOADED = 3
    """Image and channels are there."""
    RUNNING = 4
    """The training container was started."""
    EXITED = 5
    """The training container has ended."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An image that the control plane has: its `name` (ADDRESS:PORT/REPOSITORY:TAG) there, and its id, which is its digest."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One instance of a job: everything a host needs to run it. Holds secrets: never on a disk, never in a log.

    `hosts` are the names and addresses of all instances of the job; an `isolated` instance (EnableNetworkIsolation) reaches
    these and nothing else, whatever its security groups allow; `mesh` is None where the job has one instance or is
    not encrypted. `volume` is how many bytes /opt/ml may hold.
    """

    id: str
    job: str
    host: str
    hosts: Mapping[str, str]
    vpc_id: str
    eni: Eni
    isolated: bool
    mesh: MeshSpec | None
    image: str
    command: tuple[str, ...] | None
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    limits: Limits
    workspace: Workspace
    store: ObjectStore
    output: Output
    checkpoints: Checkpoints | None = None
    offer: Offer | None = None
    """Where the image is to be had by hosts that lack it, and which it is."""
    volume: int = 1 << 30
    zone: str | None = None
    """The availability zone that its host must be in, that of its subnet; None for any."""
    spread: bool = False
    """Whether each instance of the job shall have a host of its own."""
    credentials: str | None = None
    """The path at which the container is given its role's credentials, once these are lent; None where it is given none."""
    leased: bool = False
    """Whether its job may begin again elsewhere while this runs: its checkpoints are written under its host's lease alone."""


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What became of an instance. `error` is a FailureReason (`ClientError: …`, `InternalServerError: …`) and final.

    `disconnected` says that `error` is the loss of peers. `exit_code`, `out_of_memory` and `failure` (text of
    /opt/ml/output/failure) are known once the phase is EXITED. `notes` are things that happened to its network and were
    mended, oldest first. While it is `fetching` it waits for its image.
    """

    id: str
    phase: Phase
    error: str | None = None
    disconnected: bool = False
    exit_code: int | None = None
    out_of_memory: bool = False
    failure: str | None = None
    notes: tuple[str, ...] = ()
    fetching: bool = False


@dataclass(frozen=True, slots=True)
class GuardChange:
    """From `at` on, an instance of an encrypted job was known to be held shut by these guards: "router", "kernel", or both.

    That was seen at `at` and is so since then, or since a moment after the look before, at `since`. Both are milliseconds since
    1970; `since` is None where there was no such look.
    """

    at: int
    since: int | None
    held_by: tuple[str, ...]
    cause: str


@dataclass(frozen=True, slots=True)
class Guards:
    """The guards of an instance over time, oldest change first; `omitted` more lie between the first twenty and the others."""

    changes: tuple[GuardChange, ...] = ()
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured at an instance: its mesh (None without encryption), the router's guard over its job, both guards over
    time, and what crossed its wire (None without encryption).

    All instances of a job with the same `machine` share one router, and so its counters.
    """

    id: str
    host: str
    mesh: MeshReport | None
    guard: GuardCounters | None
    machine: str = ""
    guards: Guards = Guards()
    watched: Watched | None = None


PARCEL_BYTES = 8 << 20
"""Longest piece of a parcel: what an instance left, on its way to the host that uploads it."""


HOST_BYTES = 2 * 1024**3
"""Host memory that instances never get: the service, S3 and the system."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an instance has used at a moment: `at` and `cpu` in seconds, of its host's monotonic clock and of CPU time so far;
    `memory` in percent of what its type has, `disk` in percent of its volume."""

    id: str
    at: float
    cpu: float
    memory: float
    disk: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a host (or fleet) has: CPUs, and bytes of memory, of which HOST_BYTES are not for instances; GPUs; whether what
    instances write to disk is encrypted there; whether it takes no more instances, since it is to leave; and the availability
    zones that it stands for, None for all."""

    cpus: int
    memory: int
    gpus: int = 0
    encrypted_disk: bool = False
    draining: bool = False
    zones: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Statuses:
    """All instances of a host at a moment; `version` grows with every change."""

    version: int
    instances: tuple[InstanceStatus, ...]


# Building an adapter is slow; the messages are few.
_adapter = cast(Callable[[Any], TypeAdapter[Any]], cache(TypeAdapter))


def encode(kind: Any, value: object) -> Any:
    """A message as JSON values; `kind` is its type."""
    return _adapter(kind).dump_python(value, mode="json")


def decode(kind: type[T], value: object) -> T:
    """A message from JSON values. Raises pydantic.ValidationError where they are not of that type."""
    result: T = _adapter(kind).validate_python(value)
    return result
