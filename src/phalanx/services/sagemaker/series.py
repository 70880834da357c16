"""What the time series of a training job come to: the metrics of its trial component."""

from __future__ import annotations

import math

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from phalanx.services.times import moment
from phalanx.store.jobs import TrainingJob
from phalanx.store.metrics import MetricPoint, MetricSeries
from phalanx.wire.service import Members


def summaries(session: Session, job: TrainingJob) -> list[Members]:
    """TrialComponentMetricSummary of each metric of a job."""
    query = (
        select(
            MetricSeries.name,
            func.sum(MetricPoint.count),
            func.sum(MetricPoint.total),
            func.sum(MetricPoint.squares),
            func.min(MetricPoint.least),
            func.max(MetricPoint.most),
        )
        .join(MetricPoint, MetricPoint.series == MetricSeries.id)
        .where(MetricSeries.job == job.name, MetricSeries.host == "")
        .group_by(MetricSeries.name)
        .order_by(MetricSeries.name)
    )
    found = []
    for name, points, total, squares, least, most in session.execute(query):
        # PostgreSQL's sum of integers is a decimal number.
        count = int(points)
        average = total / count
        # Rounding may leave less than nothing.
        deviation = math.sqrt(max(0.0, squares / count - average * average))
        summary: Members = {
            "MetricName": name,
            "SourceArn": job.arn,
            "Min": least,
            "Max": most,
            "Count": count,
            "Avg": average,
            "StdDev": deviation,
        }
        if name in (job.metrics or {}):
            last, at = (job.metrics or {})[name]
            summary |= {"Last": last, "TimeStamp": moment(at)}
        found.append(summary)
    return found
