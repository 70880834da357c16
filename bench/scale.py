"""`python -m bench.scale [--jobs 10000] [--hosts 1000]`: the control plane over a fleet that is only simulated.

All that the control plane does itself is real: its store (committed to disk), its queue, a thread per running job, plans,
certificates, preflight, logs, evidence. A host only says that its instances have reached what they were told to reach, and that
their containers end after a while. What is asked: how long until all jobs have ended, what a running job and a waiting one
cost the control plane, and what it needs in memory.
"""

from __future__ import annotations

import argparse
import heapq
import logging
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy import func, select

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import STORE, create
from phalanx.jobs.admission import RESERVED_BYTES
from phalanx.jobs.manager import Manager
from phalanx.jobs.signature import Signer
from phalanx.node.messages import HOST_BYTES, Phase
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import TrainingJob

PER_HOST = 4
"""Instances of a host at a time."""


class Hosts(StubFleet):
    """Containers run for so many seconds."""

    _longest_wait = float("inf")

    def __init__(self, hosts: int, seconds: float) -> None:
        super().__init__(Script(hold=Phase.EXITED), memory=HOST_BYTES + hosts * PER_HOST * RESERVED_BYTES)
        self._seconds = seconds
        self._ends: list[tuple[float, str]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._end, daemon=True).start()

    def advance(self, ids: Sequence[str], goal: Phase) -> None:
        if goal < Phase.RUNNING:
            super().advance(ids, goal)
            return
        for id_ in ids:
            self._set(id_, phase=Phase.RUNNING)
            with self._lock:
                heapq.heappush(self._ends, (time.monotonic() + self._seconds, id_))

    def _end(self) -> None:
        while True:
            time.sleep(0.05)
            with self._lock:
                ended = []
                while self._ends and self._ends[0][0] < time.monotonic():
                    ended.append(heapq.heappop(self._ends)[1])
            for id_ in ended:
                if id_ in self._known:
                    self.exit(id_, 0)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(jobs: int, hosts: int, seconds: float, directory: Path) -> None:
    """Prints how far it is every ten seconds, and at the end what it took."""
    database = Database(sqlite_url(directory / "phalanx.db"))
    database.migrate()
    begun = time.monotonic()
    for number in range(jobs):
        create(database, f"job-{number:05}", instances=2, encrypted=True, StoppingCondition={"MaxRuntimeInSeconds": 86400})
    print(f"{jobs} jobs of two encrypted instances stored in {time.monotonic() - begun:.0f} s", flush=True)
    fleet = Hosts(hosts, seconds)
    manager = Manager(database, fleet, STORE, Signer(directory / "evidence.key"))
    begun, used = time.monotonic(), _cpu()
    manager.open()
    try:
        while True:
            time.sleep(10)
            with database.read() as session:
                counted = dict(session.execute(select(TrainingJob.status, func.count()).group_by(TrainingJob.status)).all())
            print(
                f"{time.monotonic() - begun:4.0f} s: {counted}, {len(fleet.present)} instances,"
                f" {100 * (_cpu() - used) / (time.monotonic() - begun):.0f} % of a CPU,"
                f" {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB",
                flush=True,
            )
            if "InProgress" not in counted:
                break
    finally:
        manager.close()
        database.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which a job's containers run")
    options = parser.parse_args()
    # What each stage of each job has to say is not what is measured.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as directory:
        run(options.jobs, options.hosts, options.seconds, Path(directory))


if __name__ == "__main__":
    main()
