"""Warm pools: what a job with KeepAlivePeriodInSeconds leaves to the next one that is like it.

Kept is the job's place in the host's memory, so that the next job need not queue; images are on the host anyway, and
namespaces, addresses and keys are made anew for every job in well under a second: nothing of one job can reach another. A pool
is a row of the store, so that no crash can leave anything of it behind.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.store.base import DAY_MS, Json, now_ms
from phalanx.store.jobs import TrainingJob

LONGEST_MS = 7 * DAY_MS
"""How long a pool may be handed on from job to job (SageMaker: seven days)."""

_USERS_ERRORS = ("AlgorithmError:", "ClientError:")


def keep_alive(request: Json) -> int:
    """Seconds that a job's pool is kept after its end; 0 where it leaves none."""
    return int(request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0))


def leave(job: TrainingJob) -> None:
    """Decide about the pool of a job that ends now: there is one unless the host itself was at fault, or none was asked for."""
    if not keep_alive(job.request) and job.warm_pool is None:
        return
    ours = job.status == "Failed" and not (job.failure_reason or "").startswith(_USERS_ERRORS)
    healthy = job.training_started is not None and not ours
    if keep_alive(job.request) and healthy and now_ms() - (job.warm_from or job.created) < LONGEST_MS:
        job.warm_pool, job.warm_since = "Available", now_ms()
    else:
        job.warm_pool = "Terminated"


def any_available(session: Session) -> bool:
    """Whether there is a pool at all, in time or not."""
    return session.scalar(select(TrainingJob.name).where(TrainingJob.warm_pool == "Available").limit(1)) is not None


def available(session: Session) -> list[TrainingJob]:
    """Jobs whose pools may be reused, oldest first; those whose time is over are ended."""
    pools = session.scalars(select(TrainingJob).where(TrainingJob.warm_pool == "Available").order_by(TrainingJob.warm_since))
    return [pool for pool in pools.all() if not _expired(pool)]


def matching(pools: list[TrainingJob], job: TrainingJob) -> TrainingJob | None:
    """The first pool that a job can take over (SageMaker's matching criteria)."""
    return next((pool for pool in pools if _criteria(pool.request) == _criteria(job.request)), None)


def take(pool: TrainingJob, job: TrainingJob) -> None:
    """Hand a pool over to the job that reuses it."""
    pool.warm_pool, pool.warm_ended, pool.warm_reused_by = "Reused", now_ms(), job.name
    job.warm_pool, job.warm_from = "InUse", pool.warm_from or pool.created


def end(pool: TrainingJob) -> None:
    """Give up a pool that nobody has reused."""
    pool.warm_pool, pool.warm_ended = "Terminated", now_ms()


def change(job: TrainingJob, seconds: int) -> None:
    """UpdateTrainingJob: another period, for the job's future pool or the one that it has left; 0 ends that."""
    job.request = {**job.request, "ResourceConfig": {**job.request["ResourceConfig"], "KeepAlivePeriodInSeconds": seconds}}
    if job.warm_pool == "Available":
        _expired(job)


def _expired(pool: TrainingJob) -> bool:
    until = (pool.warm_since or 0) + 1000 * keep_alive(pool.request)
    if until > now_ms():
        return False
    end(pool)
    return True


def _criteria(request: Json) -> tuple[object, ...]:
    resources, vpc = request["ResourceConfig"], request.get("VpcConfig", {})
    return (
        request["RoleArn"],
        *(
            resources.get(name)
            for name in ("InstanceCount", "InstanceType", "InstanceGroups", "VolumeSizeInGB", "VolumeKmsKeyId")
        ),
        sorted(vpc.get("SecurityGroupIds", [])),
        sorted(vpc.get("Subnets", [])),
        request.get("EnableInterContainerTrafficEncryption", False),
        request.get("EnableNetworkIsolation", False),
    )
