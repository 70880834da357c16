"""Time series of training jobs: metrics that their logs hold, and what their instances use."""

from __future__ import annotations

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from phalanx.store.base import Base


class MetricSeries(Base):
    """One metric of a job (`host` empty), or of one of its instances (`host` algo-N)."""

    __tablename__ = "metric_series"
    __table_args__ = (UniqueConstraint("job", "host", "name", name="uq_metric_series_job"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("training_jobs.name", ondelete="CASCADE"))
    host: Mapped[str]
    name: Mapped[str]


class MetricPoint(Base):
    """The values of a series in one second or minute, as a statistic set; `at` is its beginning in milliseconds."""

    __tablename__ = "metric_points"
    # The key is the table: half the bytes on the disk.
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012

    series: Mapped[int] = mapped_column(ForeignKey("metric_series.id", ondelete="CASCADE"), primary_key=True)
    at: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]
    total: Mapped[float]
    squares: Mapped[float]
    """Sum of the values' squares."""
    least: Mapped[float]
    most: Mapped[float]
