"""GetMetricData."""

from __future__ import annotations

import re

from sqlalchemy.orm import Session

from phalanx.services import tokens
from phalanx.services.cloudwatch import metrics, periods
from phalanx.services.times import milliseconds, moment
from phalanx.store.database import Database
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

MOST_QUERIES = 500
MOST_DATAPOINTS = 100_800
"""Datapoints of an answer, at most and by default."""

_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")

Found = list[tuple[int, float]]
"""Datapoints: time (ms) and value."""


def get_metric_data(database: Database, _: Caller, members: Members) -> Members:
    """Values of up to 500 metrics, the latest first unless asked otherwise; pages are cut at MaxDatapoints."""
    queries = members["MetricDataQueries"]
    _check(queries)
    start, end = (milliseconds(members[name]) for name in ("StartTime", "EndTime"))
    if start >= end:
        raise _invalid("The parameter StartTime must be less than the parameter EndTime.")
    ascending = members.get("ScanBy") == "TimestampAscending"
    left = members.get("MaxDatapoints", MOST_DATAPOINTS)
    if not 1 <= left <= MOST_DATAPOINTS:
        raise _invalid(f"MaxDatapoints must be between 1 and {MOST_DATAPOINTS}.")
    first, after = _position(members.get("NextToken"), len(queries))
    results: list[Members] = []
    response: Members = {"MetricDataResults": results, "Messages": []}
    with database.read() as session:
        for number, query in enumerate(queries):
            if number < first or not query.get("ReturnData", True):
                continue
            found = _values(session, query["MetricStat"], start, end)
            found.sort(reverse=not ascending)
            if number == first and after is not None:
                found = [each for each in found if (each[0] > after if ascending else each[0] < after)]
            page = found[:left]
            left -= len(page)
            whole = len(page) == len(found)
            results.append(
                {
                    "Id": query["Id"],
                    "Label": query.get("Label", query["MetricStat"]["Metric"].get("MetricName", query["Id"])),
                    "Timestamps": [moment(at) for at, _ in page],
                    "Values": [value for _, value in page],
                    "StatusCode": "Complete" if whole else "PartialData",
                }
            )
            if not whole:
                response["NextToken"] = tokens.encode([number, page[-1][0] if page else -1])
                break
    return response


def _check(queries: list[Members]) -> None:
    if len(queries) > MOST_QUERIES:
        raise _invalid(f"MetricDataQueries has {len(queries)} queries; at most {MOST_QUERIES} are allowed.")
    ids = [query["Id"] for query in queries]
    if len(set(ids)) < len(ids):
        raise _invalid("The values of Id in MetricDataQueries must be unique.")
    for query in queries:
        if _ID.fullmatch(query["Id"]) is None:
            raise _invalid(f"The Id {query['Id'][:64]} must begin with a small letter and hold letters, digits and _ alone.")
        if "Expression" in query:
            raise _invalid(
                f"The Expression of {query['Id'][:64]} is not supported: no metric math is done here. Give a MetricStat."
            )
        if "MetricStat" not in query:
            raise _invalid(f"The query {query['Id'][:64]} needs a MetricStat.")
        stat = query["MetricStat"]
        if not {"Namespace", "MetricName"} <= set(stat["Metric"]):
            raise _invalid(f"The Metric of {query['Id'][:64]} needs Namespace and MetricName.")
        periods.check(stat["Period"])
        periods.statistic(stat["Stat"])


def _position(token: str | None, queries: int) -> tuple[int, int | None]:
    """The query to go on with, and the time after which; from the beginning without a token."""
    if not token:
        return 0, None
    try:
        number, after = tokens.decode(token, int, int)
    except ValueError as error:
        raise AwsError("InvalidNextToken", "Invalid NextToken: give that of the previous response.") from error
    if not 0 <= int(number) < queries:
        raise AwsError("InvalidNextToken", "Invalid NextToken: the queries must stay the same from page to page.")
    return int(number), None if int(after) < 0 else int(after)


def _values(session: Session, stat: Members, start: int, end: int) -> Found:
    metric = stat["Metric"]
    series = metrics.find(session, metric["Namespace"], metric["MetricName"], metric.get("Dimensions", []))
    if series is None or stat.get("Unit", metrics.unit(series)) != metrics.unit(series):
        return []
    value = periods.statistic(stat["Stat"])
    found = periods.collect(session, series.id, start, end, stat["Period"])
    return [(period.at, known) for period in found if (known := value(period)) is not None]


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message)
