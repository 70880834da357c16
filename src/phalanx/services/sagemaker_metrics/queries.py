"""BatchGetMetrics: the values of a metric over time or over iterations, of a training job or of what a run logged."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.store.database import Database
from phalanx.store.experiments import LoggedValue, TrialComponent
from phalanx.store.jobs import TrainingJob
from phalanx.store.metrics import MetricPoint, MetricSeries
from phalanx.wire.service import Members

MINUTE = 60_000
_PERIODS = {"OneMinute": MINUTE, "FiveMinute": 5 * MINUTE, "OneHour": 60 * MINUTE}


class _Unanswerable(Exception):
    """Why a query has no result."""


@dataclass(frozen=True, slots=True)
class _Point:
    """Values at one place of the x-axis, as a statistic set; `last` is None where it is not known."""

    x: int
    count: int
    average: float
    deviation: float
    """Sum of the squares of the values' differences from their average."""
    least: float
    most: float
    last: float | None

    def with_(self, other: _Point) -> _Point:
        """Both together; the other one is the later one."""
        count = self.count + other.count
        apart = other.average - self.average
        return _Point(
            self.x,
            count,
            self.average + apart * other.count / count,
            # Chan's way: sums of squares would lose what little differs.
            self.deviation + other.deviation + apart * apart * self.count * other.count / count,
            min(self.least, other.least),
            max(self.most, other.most),
            other.last,
        )

    def statistic(self, name: str) -> float:
        """MetricStat of the service model. Raises _Unanswerable."""
        if name == "Last":
            if self.last is None:
                raise _Unanswerable("Of a training job's metrics Last is not kept over time. Ask for Avg, Min or Max.")
            return self.last
        if name == "StdDev":
            return math.sqrt(max(0.0, self.deviation / self.count))
        return float({"Min": self.least, "Max": self.most, "Avg": self.average, "Count": self.count}[name])


def batch_get_metrics(database: Database, members: Members) -> Members:
    """Answer each query by itself; one that cannot be answered has the status ValidationError, and says why.

    Times are milliseconds since 1970, those of Start and End, too; the SDK hands them on to MLflow as such.
    """
    with database.read() as session:
        return {"MetricQueryResults": [_answer(session, query) for query in members["MetricQueries"]]}


def _answer(session: Session, query: Members) -> Members:
    try:
        if (query["XAxisType"] == "IterationNumber") != (query["Period"] == "IterationNumber"):
            raise _Unanswerable("The period IterationNumber goes with the XAxisType IterationNumber, and with no other.")
        points, lost = _points(session, query)
        start, end = query.get("Start", -math.inf), query.get("End", math.inf)
        merged = [point for point in _merged(points) if start <= point.x <= end]
        values = [point.statistic(query["MetricStat"]) for point in merged]
    except _Unanswerable as error:
        return {"Status": "ValidationError", "Message": str(error), "XAxisValues": [], "MetricValues": []}
    result: Members = {"Status": "Complete", "XAxisValues": [point.x for point in merged], "MetricValues": values}
    return (
        result | {"Status": "Truncated", "Message": f"{lost} values are not among these: they were not kept, or have no step."}
        if lost
        else result
    )


def _points(session: Session, query: Members) -> tuple[Iterable[_Point], int]:
    """What there is of a metric, in the order of the x-axis and of time; and how many values were not kept."""
    arn, name = query["ResourceArn"], query["MetricName"]
    component = session.scalar(select(TrialComponent).where(TrialComponent.arn == arn))
    if component is not None:
        logged = [each for each in component.content.get("Metrics", []) if each["MetricName"] == name]
        counts = [each["Count"] for each in logged if "SourceArn" not in each]
        if counts:
            return _logged(session, component.name, name, query["Period"], counts[0])
        arn = component.source
    found = select(TrainingJob.name).where(TrainingJob.arn == arn) if arn else None
    job_name = None if found is None else session.scalar(found)
    if job_name is None and component is None:
        raise _Unanswerable(f"There is no training job or trial component {query['ResourceArn']}.")
    return ([] if job_name is None else _of_job(session, job_name, name, query["Period"])), 0


def _logged(session: Session, component: str, name: str, period: str, count: int) -> tuple[Iterable[_Point], int]:
    query = select(LoggedValue.step, LoggedValue.at, LoggedValue.value)
    query = query.where(LoggedValue.component == component, LoggedValue.metric == name)
    rows = session.execute(query.order_by(LoggedValue.at, LoggedValue.number)).all()
    if period == "IterationNumber":
        places = [(row.step, row.value) for row in rows if row.step is not None]
    else:
        places = [(row.at - row.at % _PERIODS[period], row.value) for row in rows]
    places.sort(key=lambda place: place[0])
    return (_Point(x, 1, value, 0.0, value, value, value) for x, value in places), count - len(places)


def _of_job(session: Session, job: str, name: str, period: str) -> Iterator[_Point]:
    if period == "IterationNumber":
        raise _Unanswerable("A training job's metrics have no iteration numbers. Ask for them by Timestamp.")
    query = select(MetricPoint).join(MetricSeries, MetricSeries.id == MetricPoint.series)
    query = query.where(MetricSeries.job == job, MetricSeries.host == "", MetricSeries.name == name).order_by(MetricPoint.at)
    for each in session.scalars(query):
        average = each.total / each.count
        deviation = max(0.0, each.squares - each.count * average * average)
        yield _Point(each.at - each.at % _PERIODS[period], each.count, average, deviation, each.least, each.most, None)


def _merged(points: Iterable[_Point]) -> Iterator[_Point]:
    for _, group in itertools.groupby(points, key=lambda point: point.x):
        yield functools.reduce(_Point.with_, group)
