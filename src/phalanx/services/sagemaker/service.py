"""Amazon SageMaker, as far as Phalanx serves it."""

from __future__ import annotations

from functools import partial

from phalanx.jobs.control import JobControl
from phalanx.services.sagemaker import tags
from phalanx.services.sagemaker.create import INSTANCES_PER_JOB, create
from phalanx.services.sagemaker.describe import describe
from phalanx.services.sagemaker.listing import list_training_jobs
from phalanx.services.sagemaker.stop import stop
from phalanx.store.database import Database
from phalanx.wire.service import Service


def service(database: Database, control: JobControl, *, instances_per_job: int = INSTANCES_PER_JOB) -> Service:
    """The service over a database and the jobs room. `instances_per_job` is the quota of every instance type."""
    return Service(
        "sagemaker",
        {
            "CreateTrainingJob": partial(create, database, control, instances_per_job),
            "DescribeTrainingJob": partial(describe, database),
            "ListTrainingJobs": partial(list_training_jobs, database),
            "StopTrainingJob": partial(stop, database, control),
            "AddTags": partial(tags.add, database),
            "ListTags": partial(tags.list_tags, database),
            "DeleteTags": partial(tags.remove, database),
        },
    )
