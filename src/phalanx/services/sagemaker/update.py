"""UpdateTrainingJob."""

from __future__ import annotations

from sqlalchemy import select

from phalanx.services.sagemaker.errors import not_found, validation
from phalanx.services.sagemaker.fields import refuse_unsupported
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.wire.service import Caller, Members


def update(database: Database, _: Caller, members: Members) -> Members:
    """What it can change are profiler, warm pool and remote debugging: what means "off" is accepted and changes nothing, all
    else is refused as CreateTrainingJob refuses it."""
    with database.read() as session:
        row = session.execute(select(TrainingJob.arn, TrainingJob.status).filter_by(name=members["TrainingJobName"])).first()
    if row is None:
        raise not_found()
    refuse_unsupported(members)
    if row.status != "InProgress":
        raise validation(f"The request was rejected because the training job is in status {row.status}.")
    return {"TrainingJobArn": row.arn}
