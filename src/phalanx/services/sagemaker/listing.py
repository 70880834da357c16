"""ListTrainingJobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from phalanx.services import tokens
from phalanx.services.sagemaker.describe import moment
from phalanx.services.sagemaker.errors import validation
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.wire.service import Caller, Members

DEFAULT_MAX_RESULTS = 10
"""Jobs on a page where the request has no MaxResults."""

_ORDERS: dict[str, tuple[InstrumentedAttribute[Any], ...]] = {
    "Name": (TrainingJob.name,),
    "CreationTime": (TrainingJob.created, TrainingJob.name),
    "Status": (TrainingJob.status, TrainingJob.created, TrainingJob.name),
}


def list_training_jobs(database: Database, _: Caller, members: Members) -> Members:
    """A page of jobs, newest first unless another order is asked for.

    SageMaker applies StatusEquals after it has cut the page; here every filter applies before, so pages are full.
    """
    if "WarmPoolStatusEquals" in members or "TrainingPlanArnEquals" in members:
        # No job here has a warm pool or a training plan.
        return {"TrainingJobSummaries": []}
    sort = members.get("SortBy", "CreationTime")
    order = _ORDERS[sort]
    descending = members.get("SortOrder", "Descending" if sort == "CreationTime" else "Ascending") == "Descending"
    limit = members.get("MaxResults", DEFAULT_MAX_RESULTS)
    query = select(
        TrainingJob.name,
        TrainingJob.arn,
        TrainingJob.created,
        TrainingJob.training_ended,
        TrainingJob.modified,
        TrainingJob.status,
        TrainingJob.secondary_status,
    ).where(*_filters(members))
    if members.get("NextToken"):
        after = _position(members["NextToken"], sort, descending)
        query = query.where(tuple_(*order) < after if descending else tuple_(*order) > after)
    query = query.order_by(*(column.desc() if descending else column.asc() for column in order)).limit(limit + 1)
    with database.read() as session:
        rows = session.execute(query).all()
    page = rows[:limit]
    response: Members = {"TrainingJobSummaries": [_summary(row) for row in page]}
    if len(rows) > limit:
        last = [getattr(page[-1], column.key) for column in order]
        response["NextToken"] = tokens.encode([sort, int(descending), *last])
    return response


def _position(token: str, sort: str, descending: bool) -> Any:
    kinds = [int if column.key == "created" else str for column in _ORDERS[sort]]
    try:
        given_sort, given_descending, *after = tokens.decode(token, str, int, *kinds)
    except ValueError as error:
        raise validation("Invalid NextToken. Give the NextToken of the previous response to the same request.") from error
    if (given_sort, given_descending) != (sort, descending):
        raise validation("Invalid NextToken. SortBy and SortOrder must stay the same from page to page.")
    return tuple_(*after)


def _filters(members: Members) -> list[ColumnElement[bool]]:
    filters: list[ColumnElement[bool]] = []
    for column, name in ((TrainingJob.created, "CreationTime"), (TrainingJob.modified, "LastModifiedTime")):
        if f"{name}After" in members:
            filters.append(column > _milliseconds(members[f"{name}After"]))
        if f"{name}Before" in members:
            filters.append(column < _milliseconds(members[f"{name}Before"]))
    if members.get("NameContains"):
        filters.append(TrainingJob.name.icontains(members["NameContains"], autoescape=True))
    if "StatusEquals" in members:
        filters.append(TrainingJob.status == members["StatusEquals"])
    return filters


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _summary(row: Any) -> Members:
    return {
        "TrainingJobName": row.name,
        "TrainingJobArn": row.arn,
        "CreationTime": moment(row.created),
        **({} if row.training_ended is None else {"TrainingEndTime": moment(row.training_ended)}),
        "LastModifiedTime": moment(row.modified),
        "TrainingJobStatus": row.status,
        "SecondaryStatus": row.secondary_status,
    }
