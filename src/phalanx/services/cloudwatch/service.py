"""Amazon CloudWatch, as far as training jobs' metrics need it."""

from __future__ import annotations

from functools import partial

from phalanx.services.cloudwatch.data import get_metric_data
from phalanx.services.cloudwatch.metrics import list_metrics
from phalanx.services.cloudwatch.statistics import get_metric_statistics
from phalanx.store.database import Database
from phalanx.wire.service import Service


def service(database: Database) -> Service:
    """The service over a database."""
    return Service(
        "cloudwatch",
        {
            "GetMetricData": partial(get_metric_data, database),
            "GetMetricStatistics": partial(get_metric_statistics, database),
            "ListMetrics": partial(list_metrics, database),
        },
    )
