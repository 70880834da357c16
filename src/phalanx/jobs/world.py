"""What the runners of jobs need of the service around them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from phalanx.data.model import DataKey, ObjectStore, RoleCredentials
from phalanx.fleet.base import Fleet
from phalanx.ipsec.model import Profile
from phalanx.jobs import plan
from phalanx.jobs.enforcement import Enforcement
from phalanx.jobs.meter import Meter
from phalanx.jobs.signature import Signer
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob

Acting = Callable[[ObjectStore, str, int], ObjectStore | None]
"""An object store as it is reached with a role (ARN) for so many seconds; None where SageMaker may not assume it."""
KeyUse = Callable[[str, str, str], bool]
"""Whether a role (ARN) may do an operation of KMS's with a key (ARN)."""
Lending = Callable[[str], RoleCredentials | None]
"""Credentials for containers of a role (ARN); None where nobody created it, or SageMaker may not assume it."""


@dataclass(frozen=True, slots=True)
class World:
    """What a runner needs of the service."""

    database: Database
    fleet: Fleet
    enforcement: Enforcement
    store: ObjectStore
    signer: Signer
    closing: threading.Event
    _: KW_ONLY
    leaving: threading.Event = field(default_factory=threading.Event)
    """Set before `closing` where instances go on, for the next service to take up."""
    require_s3_route: bool = False
    """Whether a job in a VPC from which no way leads to S3 fails, as SageMaker's does."""
    keys: Callable[[], tuple[DataKey, ...]] = tuple
    """The data keys with which jobs write and read encrypted objects."""
    meter: Meter = field(default_factory=Meter)
    profile: Profile = "standard"
    """What IKE daemons of encrypted jobs negotiate."""
    acting: Acting | None = None
    """How S3 is reached as a job's role; without it the platform's own key does for every job."""
    lending: Lending | None = None
    """What containers that can reach S3 are lent of their role; without it nothing."""
    key_use: KeyUse | None = None
    """What a job's role may do with keys; without it everything."""

    def may(self, role: str, operation: str, key: str) -> bool:
        """Whether a job with the role (ARN) may do an operation of KMS's with a key (ARN)."""
        return self.key_use is None or self.key_use(role, operation, key)

    def store_as(self, role: str, seconds: int = 0) -> ObjectStore | None:
        """How S3 is reached for a job with the role (ARN) that runs `seconds` at most; None where that cannot be assumed."""
        return self.store if self.acting is None else self.acting(self.store, role, seconds)

    def lent_to(self, job: TrainingJob) -> RoleCredentials | None:
        """Credentials of its role for a job's containers; None where they are given none."""
        return self.lending(job.request["RoleArn"]) if self.lending is not None and plan.goes_out(job) else None
