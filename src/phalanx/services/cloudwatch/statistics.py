"""GetMetricStatistics."""

from __future__ import annotations

from phalanx.services.cloudwatch import metrics, periods
from phalanx.services.times import milliseconds, moment
from phalanx.store.database import Database
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

MOST_DATAPOINTS = 1440


def get_metric_statistics(database: Database, _: Caller, members: Members) -> Members:
    """Statistics of one metric, a datapoint a period; periods without values have none."""
    simple, extended = members.get("Statistics", []), members.get("ExtendedStatistics", [])
    if bool(simple) == bool(extended):
        raise AwsError("InvalidParameterCombination", "Give either Statistics or ExtendedStatistics, and not both.")
    wanted = {name: periods.statistic(name) for name in (*simple, *extended)}
    if any(name in periods.SIMPLE for name in extended):
        raise AwsError("InvalidParameterValue", f"ExtendedStatistics takes percentiles; give {extended[0]} as Statistics.")
    length = members["Period"]
    periods.check(length)
    start, end = (milliseconds(members[name]) for name in ("StartTime", "EndTime"))
    if start >= end:
        raise AwsError("InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime.")
    if (count := -(-(end - start) // (1000 * length))) > MOST_DATAPOINTS:
        raise AwsError(
            "InvalidParameterCombination",
            f"You have requested up to {count} datapoints, which exceeds the limit of {MOST_DATAPOINTS}. You may reduce the "
            "datapoints requested by increasing Period, or decreasing the time range.",
        )
    with database.read() as session:
        series = metrics.find(session, members["Namespace"], members["MetricName"], members.get("Dimensions", []))
        if series is None or members.get("Unit", metrics.unit(series)) != metrics.unit(series):
            return {"Label": members["MetricName"], "Datapoints": []}
        found = periods.collect(session, series.id, start, end, length)
    datapoints = []
    for period in found:
        values = {name: value for name, of in wanted.items() if (value := of(period)) is not None}
        if values:
            told = {name: value for name, value in values.items() if name in periods.SIMPLE}
            rest = {name: value for name, value in values.items() if name not in periods.SIMPLE}
            datapoints.append(
                {
                    "Timestamp": moment(period.at),
                    "Unit": metrics.unit(series),
                    **told,
                    "ExtendedStatistics": rest or None,
                }
            )
    return {"Label": members["MetricName"], "Datapoints": datapoints}
