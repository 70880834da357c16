"""ListHyperParameterTuningJobs and ListTrainingJobsForHyperParameterTuningJob."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from phalanx.services.sagemaker.paging import Orders, page, wanted
from phalanx.services.sagemaker.tuning.describe import TRAINING, counters, find, summary
from phalanx.services.times import moment
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.store.tuning import TuningChild, TuningJob
from phalanx.wire.service import Caller, Members

_JOB_ORDERS: Orders = {
    "Name": (TuningJob.name,),
    "CreationTime": (TuningJob.created, TuningJob.name),
    "Status": (TuningJob.status, TuningJob.name),
}
_CHILD_ORDERS: Orders = {
    "Name": (TrainingJob.name,),
    "CreationTime": (TrainingJob.created, TrainingJob.name),
    "Status": (TrainingJob.status, TrainingJob.name),
    "FinalObjectiveMetricValue": (TuningChild.objective, TrainingJob.name),
}


def list_tuning_jobs(database: Database, _: Caller, members: Members) -> Members:
    """A page of tuning jobs, by name unless another order is asked for."""
    columns = (TuningJob.arn, TuningJob.name, TuningJob.status, TuningJob.request, TuningJob.created, TuningJob.modified)
    query = select(*columns, TuningJob.ended).where(*wanted(members, TuningJob))
    with database.read() as session:
        rows, more = page(session, query, _JOB_ORDERS, {"SortBy": "Name", **members}, descending=False)
        children: dict[str, list[Any]] = {row.name: [] for row in rows}
        for child in session.execute(
            select(TuningChild.tuning, TuningChild.counted, TuningChild.objective_status).where(
                TuningChild.tuning.in_(children)
            )
        ):
            children[child.tuning].append(child)
    found = [
        {
            "HyperParameterTuningJobName": row.name,
            "HyperParameterTuningJobArn": row.arn,
            "HyperParameterTuningJobStatus": row.status,
            "Strategy": row.request["HyperParameterTuningJobConfig"]["Strategy"],
            "CreationTime": moment(row.created),
            "HyperParameterTuningEndTime": moment(row.ended),
            "LastModifiedTime": moment(row.modified),
            **counters(children[row.name]),
            "ResourceLimits": row.request["HyperParameterTuningJobConfig"]["ResourceLimits"],
        }
        for row in rows
    ]
    return {"HyperParameterTuningJobSummaries": found, **more}


def list_training_jobs(database: Database, _: Caller, members: Members) -> Members:
    """A page of a tuning job's training jobs, by name unless another order is asked for. By final objective, only those that
    have one."""
    with database.read() as session:
        job = find(session, members["HyperParameterTuningJobName"])
        query = select(TuningChild, TuningChild.objective, *TRAINING).join(TrainingJob, TrainingJob.name == TuningChild.name)
        query = query.where(TuningChild.tuning == job.name)
        if "StatusEquals" in members:
            query = query.where(TrainingJob.status == members["StatusEquals"])
        if members.get("SortBy") == "FinalObjectiveMetricValue":
            query = query.where(TuningChild.objective.is_not(None))
        rows, more = page(session, query, _CHILD_ORDERS, {"SortBy": "Name", **members}, descending=False)
        found = [summary(job, row.TuningChild, row) for row in rows]
    return {"TrainingJobSummaries": found, **more}
