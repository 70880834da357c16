"""What the runtime room is told about a container, and what it reports of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class IdRange:
    """The host's user and group ids that a service's containers run with: `first` is their root."""

    first: int = 100_000
    count: int = 65_536


@dataclass(frozen=True, slots=True)
class Limits:
    """A container's ceilings: CPUs (quota, fractional), bytes of memory, number of processes; and the GPUs it is to have."""

    cpus: float
    memory: int
    pids: int = 4096
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device of the host at `source` that appears at `path`: `kind` c or b, its number, and what may be done (`rwm`)."""

    path: str
    source: str
    kind: str
    major: int
    minor: int
    access: str


@dataclass(frozen=True, slots=True)
class Edits:
    """What a container gets for its devices (CDI containerEdits): NAME=value, device nodes, files of the host (where they
    appear, where they are, mount options), and hooks (which of the OCI runtime's, its JSON)."""

    environment: tuple[str, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    mounts: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    hooks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One training container.

    `image` is an image name in the store. `command` overrides ENTRYPOINT (None keeps the image's); `arguments` follow it.
    `netns` is the path of the network namespace it joins; `hosts` the names it resolves, and `name_server` the
    address that it asks for others, if any; `opt_ml` the directory on the host that appears at /opt/ml; `mounts` are
    directories of the host by the paths where they appear, read-only; `edits` what its devices need.
    """

    id: str
    image: str
    command: tuple[str, ...] | None
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    netns: str
    hostname: str
    hosts: Mapping[str, str]
    opt_ml: str
    limits: Limits
    mounts: Mapping[str, str] = field(default_factory=dict)
    name_server: str | None = None
    edits: Edits = Edits()


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a container has used: seconds of CPU time so far, and bytes of memory now, without cache that can be given back."""

    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """State of a container. `exit_code` is set when exited (128+n for signal n); `out_of_memory` when the kernel killed it."""

    state: Literal["absent", "created", "running", "exited"]
    exit_code: int | None = None
    out_of_memory: bool = False
