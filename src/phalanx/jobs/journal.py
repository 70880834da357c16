"""A job's logs and metrics, and what its instances use: from the instances into the store."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from phalanx.algorithms import catalog
from phalanx.fleet.base import Fleet
from phalanx.jobs import metric_definitions, series
from phalanx.jobs.plan import Plan
from phalanx.jobs.tuning.settings import OBJECTIVE
from phalanx.node.messages import Usage
from phalanx.store.base import Json, now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import LogEvent, LogStream, TrainingJob
from phalanx.store.tuning import ObjectiveValue

PORTION = 1_000
"""So many lines at once say that more are waiting."""
SAMPLE_SECONDS = 2.0
"""How often it is looked at what the instances use."""
KEPT_SAMPLES = 10
"""So many looks are stored at once: series are by the minute, and to store them costs far more than to look."""


class Journal:
    """Carries new log lines of a job's instances into log streams, and metric values that they hold into the job."""

    def __init__(self, database: Database, fleet: Fleet, job: TrainingJob, plan: Plan) -> None:
        self._database = database
        self._fleet = fleet
        self._job = job.name
        self._plan = plan
        specification = job.request["AlgorithmSpecification"]
        self._metrics = metric_definitions.compiled(metric_definitions.of(specification))
        self._resolution = series.resolution(job.request, catalog.find(specification["TrainingImage"]) is not None)
        self._sampled = 0.0
        self._used: dict[str, Usage] = {}
        self._samples: dict[str, list[tuple[str, float, int]]] = {}
        self._looks = 0
        # By host, how much of its log is stored. Nobody else moves it while this runner has the job.
        self._positions: dict[str, int] = {}
        hyperparameters = job.request.get("HyperParameters", {})
        self._objective = hyperparameters.get(OBJECTIVE) if job.tuning_job_arn else None

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

    def pump(self, go_on: Callable[[], bool]) -> bool:
        """Take over a portion of what each instance has written since, if `go_on()`: a job that writes without end can still be
        stopped. Whether more is waiting."""
        lines = [self._take(placement.id, placement.host, final=False) for placement in self._plan.placements if go_on()]
        if time.monotonic() - self._sampled >= SAMPLE_SECONDS:
            self._sample()
            if self._looks >= KEPT_SAMPLES:
                self._keep_samples()
        return max(lines, default=0) >= PORTION

    def drain(self, go_on: Callable[[], bool]) -> None:
        """Take over all that the instances have written, once their containers have ended, portion by portion if `go_on()`."""
        while sum(self._take(placement.id, placement.host, final=True) for placement in self._plan.placements if go_on()):
            pass
        self._sample()
        self._keep_samples()

    def _sample(self) -> None:
        """CPUUtilization is in percent of one CPU since the last look, so that the first look only begins it."""
        self._sampled = time.monotonic()
        hosts = {placement.id: placement.host for placement in self._plan.placements}
        used = {usage.id: usage for usage in self._fleet.usage(list(hosts))}
        now = now_ms()
        for id_, usage in used.items():
            values = self._samples.setdefault(hosts[id_], [])
            values += [("MemoryUtilization", usage.memory, now), ("DiskUtilization", usage.disk, now)]
            before = self._used.get(id_)
            if before is not None and usage.at > before.at:
                cpu = 100 * (usage.cpu - before.cpu) / (usage.at - before.at)
                values.append(("CPUUtilization", max(0.0, cpu), now))
        self._used |= used
        self._looks += 1

    def _keep_samples(self) -> None:
        if self._samples:
            with self._database.write() as session:
                for host, values in self._samples.items():
                    series.record(session, self._job, host, values, series.MINUTE)
        self._samples, self._looks = {}, 0

    def _take(self, instance_id: str, host: str, final: bool) -> int:
        if host not in self._positions:
            with self._database.read() as session:
                self._positions[host] = _stream(session, self._job, host).position
        position = self._positions[host]
        lines, offset = self._fleet.logs(instance_id, position, final)
        if offset == position:
            return 0
        now = now_ms()
        found = self._metrics.scan((line.timestamp, line.text) for line in lines)
        # Of a loss that grows beyond all bounds nothing can be reckoned any more, neither statistics nor a median.
        values = [each for each in found if abs(each[1]) <= series.LARGEST]
        with self._database.write() as session:
            stream = _stream(session, self._job, host)
            if lines:
                # In one statement: the database is locked meanwhile, and there may be thousands.
                events = [
                    {
                        "stream": stream.name,
                        "number": number,
                        "timestamp": line.timestamp,
                        "ingested": now,
                        "message": line.text,
                    }
                    for number, line in enumerate(lines, stream.events)
                ]
                session.execute(insert(LogEvent), events)
                stream.events += len(lines)
                stream.first_event = lines[0].timestamp if stream.first_event is None else stream.first_event
                stream.last_event = lines[-1].timestamp
            stream.last_ingestion = now
            # Position and events change together: a line is stored exactly once, whenever the service is killed.
            stream.position = offset
            if values:
                job = session.get_one(TrainingJob, self._job)
                job.metrics = _latest(job.metrics or {}, values)
                series.record(session, self._job, "", values, self._resolution)
            if self._objective is not None:
                emitted = [(at, value) for name, value, at in values if name == self._objective]
                self._keep(session, host, position == 0, emitted)
        self._positions[host] = offset
        return len(lines)

    def _keep(self, session: Session, host: str, anew: bool, emitted: list[tuple[int, float]]) -> None:
        """Every value of a tuning job's objective: it decides by them whether the job goes on. A log that begins anew, after a
        restart of the job, takes its earlier values back."""
        mine = (ObjectiveValue.job == self._job, ObjectiveValue.host == host)
        if anew:
            session.execute(delete(ObjectiveValue).where(*mine))
        first = session.scalar(select(func.count()).select_from(ObjectiveValue).where(*mine)) or 0
        if emitted:
            rows = [
                {"job": self._job, "host": host, "number": number, "timestamp": at, "value": value}
                for number, (at, value) in enumerate(emitted, first)
            ]
            session.execute(insert(ObjectiveValue), rows)


def _latest(known: Json, values: list[tuple[str, float, int]]) -> Json:
    """Final values of metrics: {name: [value, time in ms]}. Of what several hosts tell it is the last that was said, though it
    be read before what a peer had said earlier."""
    latest = dict(known)
    for name, value, at in values:
        if name not in latest or at >= latest[name][1]:
            latest[name] = [value, at]
    return latest


def _stream(session: Session, job: str, host: str) -> LogStream:
    return session.scalars(select(LogStream).where(LogStream.job == job, LogStream.host == host)).one()
