"""What the AWS services may ask of the jobs room."""

from __future__ import annotations

from typing import Protocol

from phalanx.store.base import Json
from phalanx.store.jobs import TrainingJob


class JobControl(Protocol):
    """The jobs room as `services` sees it. All calls are safe from any thread and return quickly."""

    def wake(self) -> None:
        """Look at the queue: a job or tuning job was created, or asked to stop. Called after the transaction committed."""

    def knows_image(self, uri: str) -> bool:
        """Whether a training image URI names a built-in algorithm's repository or an image in the store."""

    def has_objects(self, uri: str, role: str) -> bool:
        """Whether at least one S3 object lies under the prefix `uri`; False too where the bucket does not exist, or may not be
        listed with the role (ARN) of the job that asks."""

    def keeps(self, uri: str) -> bool:
        """Whether S3 can have objects in the folder `uri`: the embedded server has none of some keys, such as `a//b`."""

    def may_encrypt(self, role: str, key: str) -> bool:
        """Whether jobs with a role (ARN) may write under a key of KMS (ARN): its policies say, where roles are required."""

    def gpus(self) -> int:
        """How many GPUs the fleet has."""

    def disk_is_encrypted(self) -> bool:
        """Whether what instances write to disk is encrypted there."""

    def measured(self, job: str) -> Json | None:
        """What is measured of a running job's encryption now, as its evidence will have it but unsigned; None where the job
        has no instances. What cannot be measured is among its gaps."""

    def doubt(self, job: TrainingJob) -> str | None:
        """Why it cannot be shown that the traffic of a job of several instances was encrypted; None where it can."""

    def signed_summary(self, job: TrainingJob) -> Json | None:
        """What the report that the service has signed for a job says in short; None where there is none."""

    def network_changed(self, *vpc_ids: str) -> None:
        """Enforce the rules and the ways out of VPCs as they stand now on every instance in them. Called after the transaction
        committed; no other VPC is waited for."""
