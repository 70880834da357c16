"""Names of what one service makes on a host. Each carries the service's tag, so that services on one host never meet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

RUN = Path("/run/phalanx")
"""Parent of every service's run directory."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names that follow from a service's data directory."""

    data_dir: Path

    @property
    def tag(self) -> str:
        """Six hex digits that tell this service from others on the host."""
        return hashlib.sha256(str(self.data_dir.resolve()).encode()).hexdigest()[:6]

    @property
    def run_dir(self) -> Path:
        """Private tmpfs of the service: keys, sockets, process ids. Short, since Unix socket paths end at 107 bytes."""
        return RUN / self.tag

    @property
    def agent_socket(self) -> Path:
        """Where the node agent answers."""
        return self.run_dir / "agent.sock"

    @property
    def term(self) -> Path:
        """Where it is kept whose orders this host takes."""
        return self.data_dir / "term"

    @property
    def draining(self) -> Path:
        """A file that is there while this host takes no more instances, since it is to leave its fleet."""
        return self.run_dir / "draining"

    @property
    def zone(self) -> Path:
        """A file with the name of the availability zone that this host is in; where there is none it is in all."""
        return self.data_dir / "zone"

    @property
    def certificates(self) -> Path:
        """What podman needs to be given images by the control plane, where this host is one of a fleet."""
        return self.data_dir / "certificates"

    @property
    def incoming(self) -> Path:
        """Where an image lies, on disk, while it is received."""
        return self.data_dir / "incoming"

    @property
    def namespaces(self) -> str:
        """What the names of all network namespaces of this service begin with."""
        return f"phx-{self.tag}-"

    def instance_namespace(self, instance_id: str) -> str:
        """Network namespace of an instance (`i-…`)."""
        return f"{self.namespaces}{instance_id}"

    def router_namespace(self, vpc_id: str) -> str:
        """Network namespace of a VPC's router (`vpc-…`)."""
        return f"{self.namespaces}{vpc_id}"

    def exit_namespace(self, vpc_id: str) -> str:
        """Network namespace of a VPC's exit, beyond its router."""
        return f"{self.router_namespace(vpc_id)}-exit"

    @property
    def cgroup(self) -> str:
        """Parent cgroup of the service's containers."""
        return f"phalanx-{self.tag}"

    def instance_run_dir(self, instance_id: str) -> Path:
        """An instance's directory on the service's tmpfs."""
        return self.run_dir / instance_id

    def instance_dir(self, instance_id: str) -> Path:
        """Where an instance keeps its /opt/ml tree and logs, on disk."""
        return self.data_dir / "instances" / instance_id
