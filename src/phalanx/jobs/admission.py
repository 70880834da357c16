"""Which jobs may start: in the order they were created, as long as the fleet has what they need beside those that run."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Text, cast, or_, select
from sqlalchemy.orm import Session

from phalanx.fleet.base import NO_CAPACITY, Room
from phalanx.jobs import instance_groups, instance_types, interfaces, record, warm_pools
from phalanx.jobs.record import Outcome
from phalanx.jobs.runner import Runner
from phalanx.jobs.shares import Share, Shares, added, contend, fits
from phalanx.jobs.world import World
from phalanx.store.base import now_ms
from phalanx.store.jobs import UNFINISHED, TrainingJob

RESERVED_BYTES = 1536 * 1024**2
"""Host memory that admission reserves for an instance, unless it is strict: a type is a ceiling, not a reservation."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A job that has a runner, and what it needs."""

    thread: threading.Thread
    runner: Runner
    need: Shares


@dataclass(frozen=True, slots=True)
class _Patient:
    """A job that would fit into `room`, and waits until it is free: until that changes nobody need look at it again."""

    room: Shares
    need: Shares


class Admission:
    """Takes jobs from the queue while there is room, and runs each in a thread."""

    def __init__(self, world: World, wake: Callable[[], None], *, strict_memory: bool) -> None:
        """`wake` is called whenever a job ends. `strict_memory` reserves all that an instance type has."""
        self._world = world
        self._database = world.database
        self._fleet = world.fleet
        self._wake = wake
        self._strict_memory = strict_memory
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._patient: dict[str, _Patient] = {}

    def reserved(self) -> Share:
        """What jobs that run have reserved, in all zones."""
        with self._lock:
            return sum((share for each in self._running.values() for share in each.need.values()), Share())

    def join(self, seconds: float | None) -> None:
        """Wait until none runs any more, `seconds` at most, or as long as it takes. They are told to end by `World.closing`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for each in list(self._running.values()):
            each.thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def admit(self) -> None:
        """Start runners for jobs in the order they were created; one that finds no room makes those wait that come later and
        may want the same hosts. Raises FleetError, and what the database does while it is away."""
        with self._lock:
            # Before the store is read: a job whose runner ends meanwhile must not be taken for one that waits, nor its place be
            # given away beside the warm pool that it leaves.
            running = set(self._running)
            taken = added(each.need for each in self._running.values() if each.runner.holds)
            ahead = {zone for each in self._running.values() if each.runner.waits for zone in each.need}
        warm = self._warm()
        waiting = [(name, special) for name, special in self._queued() if name not in running]
        if not waiting:
            return
        room, whole = (_shares(self._fleet.rooms(draining=draining)) for draining in (False, True))
        for name, special in waiting:
            known = self._patient.get(name)
            if known is not None and known.room == room and not warm and not special and contend(known.need, ahead, room):
                ahead |= known.need.keys()
                continue
            with self._database.read() as session:
                job = session.get_one(TrainingJob, name)
                need = self._need(session, job, room) or self._need(session, job, whole)
                waited = known is not None or record.waits_for_hosts(session, job)
            if job.plan is None and not job.stop_requested and job.outcome is None:
                behind = contend(need, ahead, room)
                if not fits(need, {}, whole) and not waited:
                    self._finish(job.name, record.failed(NO_CAPACITY))
                elif record.waited_too_long(job):
                    self._finish(job.name, record.MAX_WAIT)
                elif record.pending_too_long(job):
                    self._finish(job.name, record.MAX_PENDING)
                elif job.away_until is not None and now_ms() < job.away_until:
                    continue
                elif not fits(need, {}, room) or (not need and waited):
                    # Hosts that are gone, or take no instances, may come back. Nobody waits for it meanwhile.
                    self._queue(job.name)
                    continue
                elif not (warm and self._reuse(job.name, need, taken, room)) and (
                    behind or not self._fits(need, taken, room, warm)
                ):
                    if not behind:
                        self._queue(job.name)
                    ahead |= need.keys()
                    self._patient[name] = _Patient(room, need)
                    continue
            self._patient.pop(name, None)
            taken = added([taken, need])
            self._run(job.name, need)

    def _warm(self) -> bool:
        """Whether there are warm pools; those whose time is over are ended."""
        with self._database.read() as session:
            if not warm_pools.any_available(session):
                return False
        with self._database.write() as session:
            return bool(warm_pools.available(session))

    def _reuse(self, name: str, need: Shares, taken: Shares, room: Shares) -> bool:
        """Take over a warm pool that fits the job: its place in memory is there, whoever else waits; GPUs are not kept."""
        if not fits(_gpus(need), taken, room):
            return False
        with self._database.write() as session:
            job = session.get_one(TrainingJob, name)
            pool = warm_pools.matching(warm_pools.available(session), job)
            if pool is not None:
                warm_pools.take(pool, job)
        return pool is not None

    def _fits(self, need: Shares, taken: Shares, room: Shares, warm: bool) -> bool:
        """Whether a job that needs so much may start now. Warm pools that hold what it may want give way, the oldest first."""
        free = fits(need, taken, room)
        if warm and free:
            with self._database.write() as session:
                pools = [(pool, _memory(self._need(session, pool, room))) for pool in warm_pools.available(session)]
                rivals = [each for each in pools if contend(need, each[1], room)]
                while rivals and not fits(need, added([taken, *(kept for _, kept in rivals)]), room):
                    warm_pools.end(rivals.pop(0)[0])
        return free

    def _need(self, session: Session, job: TrainingJob, room: Shares) -> Shares:
        """What a job's instances take, in the zones in which the plan will put them; nothing where no host is in any of its
        zones, which its runner tells."""
        zones: Sequence[str | None] = ()
        if "VpcConfig" in job.request:
            try:
                there = None if None in room else [zone for zone in room if zone is not None]
                zones = list(interfaces.within(session, job.request["VpcConfig"]["Subnets"], there).values())
            except interfaces.NoZone:
                return {}
        types = [
            instance_types.capacity(group.instance_type)
            for group in instance_groups.groups(job.request["ResourceConfig"])
            for _ in range(group.count)
        ]
        return added(
            {zone: Share(each.memory if self._strict_memory else RESERVED_BYTES, each.gpus)}
            for each, zone in zip(types, itertools.cycle(zones or (None,)), strict=False)
        )

    def _run(self, name: str, need: Shares) -> None:
        runner = Runner(name, self._world)

        def live() -> None:
            try:
                runner.run()
            finally:
                with self._lock:
                    self._running.pop(name, None)
                self._wake()

        thread = threading.Thread(target=live, name=name, daemon=True)
        with self._lock:
            self._running[name] = _Running(thread, runner, need)
        thread.start()

    def _queued(self) -> list[tuple[str, bool]]:
        """Names of the jobs that have not ended: first those that an earlier service left with instances, then in order.

        With each, whether there may be more to do for it than to wait its turn. No more is read than that: there may be
        thousands, and the queue is looked at whenever a job ends.
        """
        # As a text: what a request may hold, PostgreSQL's operators on JSON do not all take (NUL in a string).
        request = cast(TrainingJob.request, Text)
        special = or_(
            TrainingJob.plan.is_not(None),
            TrainingJob.stop_requested,
            TrainingJob.outcome.is_not(None),
            *(request.contains(f'"Max{kind}TimeInSeconds"') for kind in ("Wait", "Pending")),
        )
        statement = (
            select(TrainingJob.name, special)
            .where(TrainingJob.status.in_(UNFINISHED))
            .order_by(TrainingJob.plan.is_(None), TrainingJob.created, TrainingJob.name)
        )
        with self._database.rows() as connection:
            return [(name, bool(found)) for name, found in connection.execute(statement)]

    def _queue(self, name: str) -> None:
        with self._database.write() as session:
            record.transition(session, session.get_one(TrainingJob, name), "Pending", record.WAITING)

    def _finish(self, name: str, outcome: Outcome) -> None:
        """Let a job that never started end."""
        with self._database.write() as session:
            job = session.get_one(TrainingJob, name)
            job.stage = "ending"
            job.outcome = outcome.to_json()


def _shares(hosts: Sequence[Room]) -> Shares:
    return added({each.zone: Share(max(each.memory, RESERVED_BYTES), each.gpus)} for each in hosts)


def _memory(need: Shares) -> Shares:
    return {zone: Share(memory=share.memory) for zone, share in need.items()}


def _gpus(need: Shares) -> Shares:
    return {zone: Share(gpus=share.gpus) for zone, share in need.items()}
