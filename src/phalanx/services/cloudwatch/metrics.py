"""Which metrics there are: ListMetrics, and a metric as a request names it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, exists, false, select
from sqlalchemy.orm import Session

from phalanx.services import tokens
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.metrics import MetricPoint, MetricSeries
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

NAMESPACE = "/aws/sagemaker/TrainingJobs"
"""Where SageMaker puts the metrics of training jobs: a job's own have the dimension TrainingJobName, those of its instances
the dimension Host (`JOB/algo-N`)."""
MOST_METRICS = 500
"""Metrics on a page."""
RECENT_MS = 3 * 3_600_000


def list_metrics(database: Database, _: Caller, members: Members) -> Members:
    """A page of metrics, the oldest first."""
    query = select(MetricSeries).where(*_dimensions(members.get("Dimensions", []))).order_by(MetricSeries.id)
    if members.get("Namespace", NAMESPACE) != NAMESPACE:
        query = query.where(false())
    if "MetricName" in members:
        query = query.where(MetricSeries.name == members["MetricName"])
    if "RecentlyActive" in members:
        recent = MetricPoint.at > now_ms() - RECENT_MS
        query = query.where(exists().where(MetricPoint.series == MetricSeries.id, recent))
    if members.get("NextToken"):
        try:
            query = query.where(MetricSeries.id > tokens.decode(members["NextToken"], int)[0])
        except ValueError as error:
            raise AwsError("InvalidParameterValue", "Invalid NextToken: give that of the previous response.") from error
    with database.read() as session:
        rows = session.scalars(query.limit(MOST_METRICS + 1)).all()
    page = rows[:MOST_METRICS]
    response: Members = {"Metrics": [_metric(series) for series in page]}
    if len(rows) > MOST_METRICS:
        response["NextToken"] = tokens.encode([page[-1].id])
    return response


def find(session: Session, namespace: str, name: str, dimensions: Sequence[Members]) -> MetricSeries | None:
    """The series that a request names; it must give the metric's dimensions, no fewer and no more."""
    if namespace != NAMESPACE or len(dimensions) != 1:
        return None
    query = select(MetricSeries).where(MetricSeries.name == name, *_dimensions(dimensions))
    return session.scalars(query.limit(1)).first()


def unit(series: MetricSeries) -> str:
    """The unit of a series: what instances use is in percent."""
    return "Percent" if series.host else "None"


def _dimensions(dimensions: Sequence[Members]) -> list[ColumnElement[bool]]:
    """Conditions on MetricSeries; a dimension without a value takes any."""
    conditions: list[ColumnElement[bool]] = []
    for dimension in dimensions:
        value = dimension.get("Value")
        if dimension["Name"] == "TrainingJobName":
            conditions += [MetricSeries.host == "", *([] if value is None else [MetricSeries.job == value])]
        elif dimension["Name"] == "Host":
            job, _, host = (value or "").partition("/")
            named = [] if value is None else [MetricSeries.job == job, MetricSeries.host == host]
            conditions += [MetricSeries.host != "", *named]
        else:
            conditions.append(false())
    return conditions


def _metric(series: MetricSeries) -> Members:
    dimension = (
        {"Name": "Host", "Value": f"{series.job}/{series.host}"}
        if series.host
        else {"Name": "TrainingJobName", "Value": series.job}
    )
    return {"Namespace": NAMESPACE, "MetricName": series.name, "Dimensions": [dimension]}
