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
    """A container's ceilings: CPUs (quota, fractional), bytes of memory, number of processes."""

    cpus: float
    memory: int
    pids: int = 4096


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One training container.

    `image` is an image name in the store. `command` overrides ENTRYPOINT (None keeps the image's); `arguments` follow it.
    `netns` is the path of the network namespace it joins; `hosts` the names it resolves, and `name_server` the
    address that it asks for others, if any; `opt_ml` the directory on the host that appears at /opt/ml; `mounts` are
    directories of the host by the paths where they appear, read-only.
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
