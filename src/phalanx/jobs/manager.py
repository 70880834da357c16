"""The jobs room's head: answers the services, and has the queue and the rules that are owed looked at while it leads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog
from sqlalchemy import select

from phalanx.algorithms import catalog
from phalanx.data import objects
from phalanx.data.model import DataKey, ObjectStore
from phalanx.fleet.base import Fleet, FleetError
from phalanx.ipsec.model import Profile
from phalanx.jobs import attempt, evidence, failure, keyring, plan, record
from phalanx.jobs.admission import Admission
from phalanx.jobs.census import Measured
from phalanx.jobs.enforcement import Enforcement
from phalanx.jobs.meter import Meter
from phalanx.jobs.record import Outcome
from phalanx.jobs.signature import Signer
from phalanx.jobs.world import Acting, KeyUse, Lending, World
from phalanx.node.messages import Capacity
from phalanx.store.base import Json
from phalanx.store.database import UNAVAILABLE, Database
from phalanx.store.jobs import UNFINISHED, TrainingJob

GIVE_BACK_SECONDS = 60.0
"""How long a stop tries to take down a job's instances."""
GIVE_BACK_POLL_SECONDS = 0.2
LEAVE_SECONDS = 10.0
"""How long a stop that leaves instances running waits for what their jobs are at, an upload say; that is done again later."""
QUEUE_SECONDS = 1.0
"""How often the queue is looked at without being asked to."""

log = structlog.get_logger()


class Manager:
    """Implements JobControl for the AWS services.

    Until it is opened it answers what the services ask and moves nothing: another replica's leads, and hears of every commit.
    """

    def __init__(
        self,
        database: Database,
        fleet: Fleet,
        store: ObjectStore,
        signer: Signer,
        *,
        require_s3_route: bool = False,
        keys: Callable[[], tuple[DataKey, ...]] = tuple,
        strict_memory: bool = False,
        profile: Profile = "standard",
        acting: Acting | None = None,
        lending: Lending | None = None,
        key_use: KeyUse | None = None,
        possible: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`possible` says whether S3 can have an object of a key."""
        self._database = database
        self._possible = possible
        self._fleet = fleet
        self._closing = threading.Event()
        self._leads = False
        self._missed = False
        self._enforcement = Enforcement(database, fleet)
        self._meter = Meter()
        self._world = World(
            database,
            fleet,
            self._enforcement,
            store,
            signer,
            self._closing,
            require_s3_route=require_s3_route,
            keys=keys,
            meter=self._meter,
            profile=profile,
            acting=acting,
            lending=lending,
            key_use=key_use,
        )
        self._admission = Admission(self._world, self.wake, strict_memory=strict_memory)
        self._known_capacity = Capacity(0, 0)
        self._awake = threading.Event()
        self._watchers: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self._settlers: list[threading.Thread] = []

    def planned(self) -> set[str]:
        """Ids of the instances that jobs have. Raises what the database does while it is away."""
        with self._database.read() as session:
            plans = session.scalars(select(TrainingJob.plan).where(TrainingJob.plan.is_not(None)))
            return {id_ for made in plans if made is not None for id_ in plan.Plan.from_json(made).ids}

    def open(self) -> None:
        """Begin: jobs that an earlier service left go on first."""
        # First: of a change that is made from here on, `everything` does not know.
        self._leads = True
        self._meter.inherit(job.name for job in self._unfinished() if job.plan is not None)
        self._enforcement.everything()
        self._thread.start()

    def replica_wrote(self) -> None:
        """Another replica has written something: a job, a wish to stop one, rules or routes."""
        if self._leads:
            self._missed = True
            self.wake()

    def close(self, *, leave: bool = False) -> None:
        """Stop cleanly: running jobs go back to the queue, and their instances are taken down with all that guards them.

        With `leave` instances go on behind their guards, and the next service takes their jobs up where they are.
        """
        if leave:
            self._world.leaving.set()
        self._closing.set()
        self._awake.set()
        self._thread.join()
        for settler in self._settlers:
            settler.join()
        self._admission.join(LEAVE_SECONDS if leave else None)
        if leave:
            return
        try:
            for job in self._unfinished():
                if job.plan is not None:
                    self._give_back(job)
        except UNAVAILABLE as error:
            log.error("instances were left running, guarded; the next start goes on", reason=str(error))

    def _give_back(self, job: TrainingJob) -> None:
        """Requeue a job, however often it takes: an agent that died or hangs is being replaced meanwhile."""
        deadline = time.monotonic() + GIVE_BACK_SECONDS
        while True:
            try:
                self._requeue(job)
                return
            except FleetError as error:
                if time.monotonic() > deadline:
                    log.error("instances were left running, guarded; the next start goes on", job=job.name, reason=str(error))
                    return
            time.sleep(GIVE_BACK_POLL_SECONDS)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` whenever a job was created, was asked to stop, or has ended. It must return at once."""
        self._watchers.append(watcher)

    def wake(self) -> None:
        """See JobControl."""
        self._awake.set()
        for watcher in self._watchers:
            watcher()

    def knows_image(self, uri: str) -> bool:
        """See JobControl."""
        try:
            return catalog.find(uri) is not None or self._fleet.has_image(uri)
        except FleetError as error:
            # The job is taken; its host looks again, and says so where the image is missing.
            log.warning("an image cannot be looked up now", image=uri, reason=str(error))
            return True

    def has_objects(self, uri: str, role: str) -> bool:
        """See JobControl."""
        _, prefix = objects.parse_uri(uri)
        folder, slash, _ = prefix.rpartition("/")
        if slash and not self._possible(folder):
            return False
        store = self._world.store_as(role)
        try:
            return store is not None and objects.has_objects(store, uri)
        except objects.DataError as error:
            log.warning("S3 cannot be looked at now", uri=uri, reason=str(error))
            return True

    def keeps(self, uri: str) -> bool:
        """See JobControl."""
        _, prefix = objects.parse_uri(uri)
        folder = prefix.rstrip("/")
        return not folder or self._possible(folder)

    def may_encrypt(self, role: str, key: str) -> bool:
        """See JobControl."""
        return self._world.may(role, keyring.ENCRYPTS, key)

    def gpus(self) -> int:
        """See JobControl."""
        return self._capacity().gpus

    def disk_is_encrypted(self) -> bool:
        """See JobControl."""
        return self._capacity().encrypted_disk

    def _capacity(self) -> Capacity:
        """What the fleet has; while it is away, what it had when it was last asked."""
        with contextlib.suppress(FleetError):
            self._known_capacity = self._fleet.capacity()
        return self._known_capacity

    def measured(self, job: str) -> Json | None:
        """See JobControl."""
        with self._database.read() as session:
            row = session.get(TrainingJob, job)
        if row is None or row.plan is None:
            return None
        made = plan.Plan.from_json(row.plan)
        try:
            return evidence.measured(self._fleet, row, made)
        except FleetError as error:
            return evidence.report(row, made, [], [str(error)], {})

    def doubt(self, job: TrainingJob) -> str | None:
        """See JobControl."""
        return evidence.doubt(job, self._world.signer.public_key)

    def signed_summary(self, job: TrainingJob) -> Json | None:
        """See JobControl."""
        return evidence.signed_summary(job, self._world.signer.public_key)

    def census(self) -> Measured:
        """What the fleet and the instances of running jobs say now; what these have measured goes to the counters as well.

        Of a replica that does not lead, what the fleet has: else all would count the same.
        """
        capacity = None
        with contextlib.suppress(FleetError):
            capacity = self._fleet.capacity()
        if not self._leads:
            return Measured(capacity=capacity)
        reserved = self._admission.reserved()
        phases: Counter[str] = Counter()
        established = missing = unmeasured = 0
        for job in self._unfinished():
            if job.plan is None:
                continue
            made = plan.Plan.from_json(job.plan)
            try:
                statuses = self._fleet.statuses(made.ids)
                phases.update(status.phase.name.lower() for status in statuses.values())
                report = evidence.measured(self._fleet, job, made)
            except FleetError:
                unmeasured += 1
                continue
            self._meter.note(job.name, report)
            unmeasured += bool(report["gaps"])
            stands = sum(pair["established"] for pair in report["pairs"])
            established += stands
            missing += len(report["pairs"]) - stands
        return Measured(
            capacity=capacity,
            reserved_memory=reserved.memory,
            reserved_gpus=reserved.gpus,
            instances=phases,
            established=established,
            missing=missing,
            unmeasured=unmeasured,
        )

    def network_changed(self, *vpc_ids: str) -> None:
        """See JobControl. Where another replica leads, it has been told by the commit."""
        if self._leads:
            self._enforcement.changed(*vpc_ids)

    def _work(self) -> None:
        while not self._closing.is_set():
            begun = time.monotonic()
            self._awake.clear()
            try:
                if self._missed or self._enforcement.owes():
                    self._begin_to_settle()
                self._admission.admit()
            except FleetError as error:
                log.warning("the queue waits for the fleet", reason=str(error))
            except Exception:
                log.exception("the queue cannot be worked on")
            # Where thousands wait a look takes long, and each job that ends asks for one: those that run must get on as well.
            self._closing.wait(min(time.monotonic() - begun, QUEUE_SECONDS))
            self._awake.wait(QUEUE_SECONDS)

    def _begin_to_settle(self) -> None:
        """Have rules enforced that are owed, in a thread of its own: the queue does not wait for hosts that hang."""
        missed = self._missed
        if missed:
            # Only then: what is heard meanwhile must not be lost.
            self._missed = False

        def settle() -> None:
            try:
                if missed:
                    self._enforcement.refresh()
                else:
                    self._enforcement.settle()
            except Exception:
                log.exception("rules cannot be enforced now")
                if missed:
                    self._missed = True

        self._settlers = [each for each in self._settlers if each.is_alive()]
        self._settlers.append(threading.Thread(target=settle, name="rules", daemon=True))
        self._settlers[-1].start()

    def _unfinished(self) -> list[TrainingJob]:
        with self._database.read() as session:
            statement = select(TrainingJob).where(TrainingJob.status.in_(UNFINISHED))
            return list(session.scalars(statement.order_by(TrainingJob.created, TrainingJob.name)))

    def _requeue(self, job: TrainingJob) -> None:
        known = list(self._fleet.statuses(plan.Plan.from_json(job.plan or {}).ids).values())
        # Stored first: what is done to the containers here is not how the job ends, though the service be killed in between.
        with self._database.write() as session:
            stored = session.get_one(TrainingJob, job.name)
            decided = Outcome(**stored.outcome) if stored.outcome is not None else None
            if (
                decided is None
                or decided.secondary_status == "Interrupted"
                or (stored.stage == "uploading" and decided.status != "Failed")
            ):
                stored.outcome = None
                stored.interrupt = None
                stored.stage = "starting"
                record.pause(stored)
                record.transition(session, stored, "Restarting", "Restarting the training job: the service was stopped")
            elif stored.stage != "ending":
                # How it ends showed already, in its midst.
                record.decide(session, stored, failure.reconsidered(decided, known))
            ending = stored.stage == "ending"
        if ending:
            attempt.conclude(self._database, self._fleet, self._world.signer, job.name)
        attempt.give_up(self._database, self._fleet, job.name)
