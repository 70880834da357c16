"""Statistics of a series over periods of time.

What is stored are statistic sets, so that percentiles and their kin are known where a set holds one value, or equal ones: as in
CloudWatch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.store.metrics import MetricPoint
from phalanx.wire.errors import AwsError

MINUTE = 60
SIMPLE = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)")


@dataclass(slots=True)
class Period:
    """The statistic set of one period that begins at `at` (ms). `values` are (value, count), None where they are not known."""

    at: int
    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    values: list[tuple[float, int]] | None = None


Statistic = Callable[[Period], float | None]


def statistic(name: str) -> Statistic:
    """A statistic by its name in a request: one of SIMPLE, or pNN. Raises AwsError InvalidParameterValue."""
    simple: dict[str, Statistic] = {
        "SampleCount": lambda period: float(period.count),
        "Average": lambda period: period.total / period.count,
        "Sum": lambda period: period.total,
        "Minimum": lambda period: period.least,
        "Maximum": lambda period: period.most,
    }
    if name in simple:
        return simple[name]
    found = _PERCENTILE.fullmatch(name)
    if found is None:
        taken = f"{', '.join(SIMPLE)}, or a percentile such as p90"
        raise AwsError("InvalidParameterValue", f"The statistic {name[:64]} is not supported. Give {taken}.")
    share = float(found[1]) / 100
    return lambda period: _percentile(period, share)


def _percentile(period: Period, share: float) -> float | None:
    if period.values is None:
        return None
    rank, seen = max(1, math.ceil(share * period.count)), 0
    for value, count in sorted(period.values):
        seen += count
        if seen >= rank:
            return value
    return period.most


def check(period: int) -> None:
    """Raise AwsError InvalidParameterValue for a length of periods that CloudWatch does not know."""
    if period not in (1, 5, 10, 30) and period % MINUTE:
        raise AwsError(
            "InvalidParameterValue", f"The parameter Period must be 1, 5, 10, 30, or a multiple of {MINUTE}; it is {period}."
        )


def collect(session: Session, series: int, start: int, end: int, length: int) -> Sequence[Period]:
    """The periods of `length` seconds from `start` on and before `end` (ms) that have values, the oldest first.

    The first begins at `start` rounded down to a minute, or to a whole period where that is shorter.
    """
    step = 1000 * length
    grain = min(step, 1000 * MINUTE)
    start -= start % grain
    query = select(MetricPoint.at, MetricPoint.count, MetricPoint.total, MetricPoint.least, MetricPoint.most)
    query = query.where(MetricPoint.series == series, MetricPoint.at >= start, MetricPoint.at < end).order_by(MetricPoint.at)
    periods: list[Period] = []
    for at, count, total, least, most in session.execute(query):
        begins = at - (at - start) % step
        if not periods or periods[-1].at != begins:
            periods.append(Period(begins, values=[]))
        period = periods[-1]
        period.count += count
        period.total += total
        period.least, period.most = min(period.least, least), max(period.most, most)
        if least != most:
            period.values = None
        elif period.values is not None:
            period.values.append((least, count))
    return periods
