"""ListTrainingJobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, select

from phalanx.services.sagemaker.describe import warm_pool
from phalanx.services.sagemaker.paging import Orders, page, wanted
from phalanx.services.times import moment
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.wire.service import Caller, Members

_ORDERS: Orders = {
    "Name": (TrainingJob.name,),
    "CreationTime": (TrainingJob.created, TrainingJob.name),
    "Status": (TrainingJob.status, TrainingJob.created, TrainingJob.name),
}


def list_training_jobs(database: Database, _: Caller, members: Members) -> Members:
    """A page of jobs, newest first unless another order is asked for.

    SageMaker applies StatusEquals after it has cut the page; here every filter applies before, so pages are full.
    """
    if "TrainingPlanArnEquals" in members:
        # No job here has a training plan.
        return {"TrainingJobSummaries": []}
    query = select(
        TrainingJob.name,
        TrainingJob.arn,
        TrainingJob.created,
        TrainingJob.training_ended,
        TrainingJob.modified,
        TrainingJob.status,
        TrainingJob.secondary_status,
        TrainingJob.warm_pool,
        TrainingJob.warm_since,
        TrainingJob.warm_ended,
        TrainingJob.warm_reused_by,
    ).where(*_filters(members))
    newest_first = members.get("SortBy", "CreationTime") == "CreationTime"
    with database.read() as session:
        rows, more = page(session, query, _ORDERS, members, descending=newest_first)
    return {"TrainingJobSummaries": [_summary(row) for row in rows], **more}


def _filters(members: Members) -> list[ColumnElement[bool]]:
    filters = wanted(members, TrainingJob)
    if "WarmPoolStatusEquals" in members:
        filters.append(TrainingJob.warm_pool == members["WarmPoolStatusEquals"])
    return filters


def _summary(row: Any) -> Members:
    return {
        "TrainingJobName": row.name,
        "TrainingJobArn": row.arn,
        "CreationTime": moment(row.created),
        "TrainingEndTime": moment(row.training_ended),
        "LastModifiedTime": moment(row.modified),
        "TrainingJobStatus": row.status,
        "SecondaryStatus": row.secondary_status,
        "WarmPoolStatus": warm_pool(row),
    }
