"""A job's logs and metrics: from the instances into the store."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.algorithms import catalog
from phalanx.data import metrics
from phalanx.fleet.base import Fleet
from phalanx.jobs.plan import Plan
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import LogEvent, LogStream, TrainingJob

EVENT_LIMIT = 262_144 - 26
"""Bytes of a log event's message that CloudWatch Logs keeps (PutLogEvents: 256 KiB with 26 bytes of overhead)."""


class Journal:
    """Carries new log lines of a job's instances into log streams, and metric values that they hold into the job."""

    def __init__(self, database: Database, fleet: Fleet, job: TrainingJob, plan: Plan) -> None:
        self._database = database
        self._fleet = fleet
        self._job = job.name
        self._plan = plan
        algorithm = catalog.find(job.request["AlgorithmSpecification"]["TrainingImage"])
        definitions = [
            (item["Name"], item["Regex"]) for item in job.request["AlgorithmSpecification"].get("MetricDefinitions", [])
        ]
        self._metrics = metrics.Definitions([*(algorithm.metrics if algorithm else ()), *definitions])

    def open(self) -> None:
        """One stream per host, before any line and before any terminal status: SDK v3 waits for them."""
        with self._database.write() as session:
            known = set(session.scalars(select(LogStream.host).where(LogStream.job == self._job)))
            for placement in self._plan.placements:
                if placement.host not in known:
                    now = now_ms()
                    session.add(
                        LogStream(name=f"{self._job}/{placement.host}-{now}", job=self._job, host=placement.host, created=now)
                    )

    def pump(self, final: bool = False) -> None:
        """Take over what the instances have written since; `final` once their containers have ended."""
        for placement in self._plan.placements:
            while self._take(placement.id, placement.host, final):
                pass

    def _take(self, instance_id: str, host: str, final: bool) -> bool:
        with self._database.read() as session:
            stream = _stream(session, self._job, host)
            position = stream.position
        lines, offset = self._fleet.logs(instance_id, position, final)
        if offset == position:
            return False
        now = now_ms()
        with self._database.write() as session:
            stream = _stream(session, self._job, host)
            for line in lines:
                session.add(
                    LogEvent(
                        stream=stream.name,
                        number=stream.events,
                        timestamp=line.timestamp,
                        ingested=now,
                        message=line.text,
                    )
                )
                stream.events += 1
                stream.first_event = line.timestamp if stream.first_event is None else stream.first_event
                stream.last_event = line.timestamp
            stream.last_ingestion = now
            # Position and events change together: a line is stored exactly once, whenever the service is killed.
            stream.position = offset
            values = self._metrics.scan((line.timestamp, line.text) for line in lines)
            if values:
                job = session.get_one(TrainingJob, self._job)
                job.metrics = {**(job.metrics or {}), **{name: [value, at] for name, value, at in values}}
        return bool(lines)


def _stream(session: Session, job: str, host: str) -> LogStream:
    return session.scalars(select(LogStream).where(LogStream.job == job, LogStream.host == host)).one()
