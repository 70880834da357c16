"""Time series of a job: values become statistic sets of a second or a minute in the store."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.store.base import Json
from phalanx.store.metrics import MetricPoint, MetricSeries

MINUTE = 60_000
SECOND = 1_000
"""Resolutions of a series, in milliseconds."""
LARGEST = 2.0**360
"""Largest value, up or down, that CloudWatch takes (PutMetricData)."""


def resolution(request: Json, built_in: bool) -> int:
    """How finely a job's metrics are kept: by the second where time series were asked for or a built-in algorithm trains."""
    fine = request["AlgorithmSpecification"].get("EnableSageMakerMetricsTimeSeries", built_in)
    return SECOND if fine else MINUTE


def record(session: Session, job: str, host: str, values: Iterable[tuple[str, float, int]], period: int) -> None:
    """Add values (metric, value, time in ms) to a job's series (`host` empty) or to those of an instance of it."""
    buckets: dict[tuple[str, int], list[float]] = {}
    for name, value, at in values:
        buckets.setdefault((name, at - at % period), []).append(value)
    if not buckets:
        return
    known = {
        series.name: series.id
        for series in session.scalars(select(MetricSeries).where(MetricSeries.job == job, MetricSeries.host == host))
    }
    for (name, at), found in buckets.items():
        if name not in known:
            series = MetricSeries(job=job, host=host, name=name)
            session.add(series)
            session.flush()
            known[name] = series.id
        point = session.get(MetricPoint, (known[name], at))
        if point is None:
            point = MetricPoint(series=known[name], at=at, count=0, total=0.0, squares=0.0, least=found[0], most=found[0])
            session.add(point)
        point.count += len(found)
        point.total += sum(found)
        point.squares += sum(value * value for value in found)
        point.least = min(point.least, *found)
        point.most = max(point.most, *found)
