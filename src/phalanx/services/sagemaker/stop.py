"""StopTrainingJob."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import load_only

from phalanx.jobs.control import JobControl
from phalanx.services.sagemaker.errors import not_found, validation
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import UNFINISHED, TrainingJob
from phalanx.wire.service import Caller, Members


def stop(database: Database, control: JobControl, _: Caller, members: Members) -> Members:
    """Ask a job to stop. A job that is stopping already stays so; one that has ended is refused."""
    with database.write() as session:
        job = session.scalar(
            select(TrainingJob)
            .where(TrainingJob.name == members["TrainingJobName"])
            .options(load_only(TrainingJob.status, TrainingJob.stop_requested, TrainingJob.modified))
        )
        if job is None:
            raise not_found()
        if job.status not in UNFINISHED:
            raise validation(f"The request was rejected because the training job is in status {job.status}.")
        if not job.stop_requested:
            job.stop_requested = True
            job.status = "Stopping"
            job.modified = now_ms()
    control.wake()
    return {}
