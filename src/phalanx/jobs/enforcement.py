"""Security-group rules and routes on their way from the store to the fleet."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import select

from phalanx.fleet.base import Fleet, FleetError
from phalanx.jobs import exits, plan, traffic
from phalanx.network.model import Exits, SecurityGroup
from phalanx.store.database import Database
from phalanx.store.jobs import UNFINISHED, TrainingJob

AT_ONCE = 64
"""VPCs whose rules are brought to the fleet at once, at most: an agent lets 128 callers wait for it (`LineServer`)."""

log = structlog.get_logger()


class Enforcement:
    """Brings the rules of VPCs that have instances to the fleet; what fails is repeated until it holds.

    Reading the rules of a VPC and enforcing them happens under one lock, so that an older state never overtakes a newer one.
    Each VPC has its own: a host that hangs holds up no revocation in a VPC that it has nothing of.
    """

    def __init__(self, database: Database, fleet: Fleet) -> None:
        self._database = database
        self._fleet = fleet
        self._lock = threading.Lock()
        # Of those that are held or waited for; jobs come and go with VPCs of their own.
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._owed: set[str] = set()
        self._in_force: dict[str, tuple[Sequence[SecurityGroup], Exits]] = {}

    def enforce(self, vpc_id: str) -> None:
        """Enforce the rules of a VPC as they stand now. Raises FleetError."""
        with self._alone(vpc_id):
            self._enforce(vpc_id)

    def changed(self, *vpc_ids: str) -> None:
        """Rules or routes of VPCs were changed; the change is stored, so it is owed to the fleet until it is in force."""
        self._owed.update(vpc_ids)
        self._settle_each(vpc_ids, wait=True)

    def everything(self) -> None:
        """Owe the rules of every VPC that has instances: a service that was killed may have owed them."""
        self._owed.update(self._active())
        self.settle()

    def refresh(self) -> None:
        """What another replica has written may be rules or routes: owe those that are no longer what is in force."""
        with self._database.read() as session:
            for vpc_id in self._active():
                if self._in_force.get(vpc_id) != (plan.rules(session, vpc_id), exits.of_vpc(session, vpc_id)):
                    self._owed.add(vpc_id)
        self.settle()

    def owes(self) -> bool:
        """Whether something is not in force yet that nobody is enforcing either."""
        return bool(self._owed)

    def settle(self) -> None:
        """Enforce what is owed, each VPC by itself; what the fleet cannot take now stays owed.

        So does what is owed of a VPC of which something is being enforced already: that host may hang.
        """
        self._settle_each(list(self._owed), wait=False)

    def forget(self, vpc_id: str) -> None:
        """A job in a VPC has ended: what is in force there for others is looked up when it is wanted."""
        self._in_force.pop(vpc_id, None)

    def _settle_each(self, vpc_ids: Sequence[str], *, wait: bool) -> None:
        if vpc_ids:
            with ThreadPoolExecutor(min(len(vpc_ids), AT_ONCE), "rules") as pool:
                list(pool.map(lambda vpc_id: self._settle(vpc_id, wait=wait), vpc_ids))

    def _settle(self, vpc_id: str, *, wait: bool) -> None:
        alone = self._alone(vpc_id)
        if not alone.acquire(blocking=wait):
            return
        try:
            if vpc_id not in self._owed:
                return
            # Before the rules are read: who changes them from then on owes them anew, and that must not be forgotten.
            self._owed.discard(vpc_id)
            try:
                if self._has_instances(vpc_id):
                    self._enforce(vpc_id)
            except FleetError as error:
                self._owed.add(vpc_id)
                log.error("a change of rules is not in force yet and will be repeated", vpc=vpc_id, reason=str(error))
            except BaseException:
                self._owed.add(vpc_id)
                raise
        finally:
            alone.release()

    def _alone(self, vpc_id: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(vpc_id, threading.Lock())

    def _enforce(self, vpc_id: str) -> None:
        # Where it fails, some hosts may have the new rules and others not.
        self._in_force.pop(vpc_id, None)
        with self._database.read() as session:
            rules, ways_out = plan.rules(session, vpc_id), exits.of_vpc(session, vpc_id)
        self._fleet.enforce(vpc_id, rules, ways_out)
        self._in_force[vpc_id] = (rules, ways_out)
        self._tell(vpc_id)

    def _tell(self, vpc_id: str) -> None:
        """Tell training jobs in a VPC whose traffic the rules now stop, or let flow again."""
        training = (
            TrainingJob.status.in_(UNFINISHED),
            TrainingJob.stage == "training",
            TrainingJob.secondary_status == "Training",
            TrainingJob.encrypted,
            TrainingJob.plan["vpc"].as_string() == vpc_id,
        )
        with self._database.read() as session:
            names = list(session.scalars(select(TrainingJob.name).where(*training)))
        for name in names:
            with self._database.write() as session:
                job = session.scalars(select(TrainingJob).where(TrainingJob.name == name, *training)).one_or_none()
                if job is not None:
                    traffic.tell(session, job)

    def _has_instances(self, vpc_id: str) -> bool:
        there = TrainingJob.status.in_(UNFINISHED), TrainingJob.plan["vpc"].as_string() == vpc_id
        with self._database.read() as session:
            return session.scalar(select(TrainingJob.name).where(*there).limit(1)) is not None

    def _active(self) -> set[str]:
        with self._database.read() as session:
            statement = select(TrainingJob.plan).where(TrainingJob.status.in_(UNFINISHED))
            return {stored["vpc"] for stored in session.scalars(statement) if stored}
