"""UpdateTrainingJob."""

from __future__ import annotations

from sqlalchemy.orm import defer

from phalanx.jobs import warm_pools
from phalanx.services.sagemaker.errors import not_found, validation
from phalanx.services.sagemaker.fields import refuse_unsupported
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.wire.service import Caller, Members


def update(database: Database, _: Caller, members: Members) -> Members:
    """Change how long a job's warm pool is kept; 0 gives it up. What else it could change are profiler and remote debugging:
    what means "off" is accepted and changes nothing, the rest is refused as CreateTrainingJob refuses it."""
    name, resources = members["TrainingJobName"], members.get("ResourceConfig")
    with database.write() as session:
        job = session.get(TrainingJob, name, options=[defer(TrainingJob.evidence), defer(TrainingJob.plan)])
        if job is None:
            raise not_found()
        refuse_unsupported(members)
        if job.status != "InProgress" and not (resources and job.warm_pool == "Available"):
            raise validation(f"The request was rejected because the training job is in status {job.status}.")
        if resources:
            if not warm_pools.keep_alive(job.request):
                raise validation(
                    "KeepAlivePeriodInSeconds can only be updated for a training job that was created with a warm pool."
                )
            warm_pools.change(job, resources["KeepAlivePeriodInSeconds"])
            job.modified = now_ms()
    return {"TrainingJobArn": job.arn}
