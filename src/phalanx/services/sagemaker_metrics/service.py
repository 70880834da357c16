"""Amazon SageMaker Metrics: what a run logs (`Run.log_metric`), as summaries of its trial component and value by value."""

from __future__ import annotations

import math

from phalanx.jobs.series import LARGEST
from phalanx.services.sagemaker import authored
from phalanx.services.sagemaker.trial_components import logged
from phalanx.services.sagemaker_metrics.queries import batch_get_metrics
from phalanx.services.times import milliseconds
from phalanx.store.base import Json
from phalanx.store.database import Database
from phalanx.store.experiments import LoggedValue, TrialComponent
from phalanx.wire.service import Caller, Members, Service

METRICS = 300
"""Most metrics of a component that programs log. SageMaker's quota is not on record."""
VALUES = 20_000
"""Values of one of them that are kept one by one, the first ones; all of them go into the summary."""


def service(database: Database) -> Service:
    """Amazon SageMaker Metrics over a database."""

    def put(_: Caller, members: Members) -> Members:
        return batch_put_metrics(database, members)

    def get(_: Caller, members: Members) -> Members:
        return batch_get_metrics(database, members)

    return Service("sagemaker-metrics", {"BatchPutMetrics": put, "BatchGetMetrics": get})


def batch_put_metrics(database: Database, members: Members) -> Members:
    """Take in values of metrics; those that cannot be are told of by their index. Raises ResourceNotFound."""
    errors = []
    with database.write() as session:
        component = authored.find(session, TrialComponent, members["TrialComponentName"])
        of_job = [each for each in component.content.get("Metrics", []) if "SourceArn" in each]
        known = {each["MetricName"]: each for each in logged(component)}
        for index, point in enumerate(members["MetricData"]):
            name, value = point["MetricName"], point["Value"]
            # Greater ones could not be summed up; nor are those of training jobs taken.
            if not abs(value) <= LARGEST:
                errors.append({"Code": "VALIDATION_ERROR", "MetricIndex": index})
            elif name not in known and len(known) >= METRICS:
                errors.append({"Code": "METRIC_LIMIT_EXCEEDED", "MetricIndex": index})
            else:
                at = milliseconds(point["Timestamp"])
                known[name] = _with(known.get(name), name, value, at)
                place = {"component": component.name, "metric": name, "number": known[name]["Count"]}
                if known[name]["Count"] <= VALUES:
                    session.add(LoggedValue(**place, step=point.get("Step"), at=at, value=value))
        component.content = {**component.content, "Metrics": [*known.values(), *of_job]}
    return {"Errors": errors} if errors else {}


def _with(before: Json | None, name: str, value: float, at: int) -> Json:
    """The summary of a metric with one more value."""
    if before is None:
        values = dict.fromkeys(("Min", "Max", "Last", "Avg"), value)
        return {"MetricName": name, **values, "Count": 1, "StdDev": 0.0, "TimeStamp": at}
    count = before["Count"] + 1
    # Welford's way: sums of squares would lose what little differs.
    average = before["Avg"] + (value - before["Avg"]) / count
    squares = before["StdDev"] ** 2 * before["Count"] + (value - before["Avg"]) * (value - average)
    latest = {"Last": value, "TimeStamp": at} if at >= before.get("TimeStamp", 0) else {}
    return {
        **before,
        "Min": min(before["Min"], value),
        "Max": max(before["Max"], value),
        "Avg": average,
        "Count": count,
        "StdDev": math.sqrt(max(0.0, squares / count)),
        **latest,
    }
