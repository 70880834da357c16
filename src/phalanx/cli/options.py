"""What a service was told at its start, checked, as its parts need it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import URL

from phalanx.cli.listening import Tls
from phalanx.ipsec.model import Profile
from phalanx.services.sagemaker.create import EncryptionPolicy


class FleetKind(StrEnum):
    """Where instances run."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `phalanx serve`, of which its help says more."""

    host: str
    data_dir: Path
    database: URL
    s3_endpoint: str | None
    registries: list[str]
    require_encryption: EncryptionPolicy | None
    require_s3_route: bool
    require_roles: bool
    root_key: Path
    tls: Tls | None
    strict_memory: bool
    ike_profile: Profile
    fleet: FleetKind
    spread: bool
    number: int
    """Of this service among those that run on the data directory, from 1."""

    @property
    def shared(self) -> bool:
        """Whether there may be several services on the data directory (replicas)."""
        return self.database.get_backend_name() == "postgresql"
