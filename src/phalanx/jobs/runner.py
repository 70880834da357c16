"""The life of one training job, from its first stage to its last. Every stage may be repeated after a crash."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from phalanx.data.model import DataKey, ObjectStore
from phalanx.fleet.base import NO_CAPACITY, NoRoom, Refused
from phalanx.jobs import attempt, evidence, exits, failure, interfaces, keyring, plan, record, traffic, warm_pools
from phalanx.jobs.journal import Journal
from phalanx.jobs.record import Outcome, failed
from phalanx.jobs.world import World
from phalanx.node.messages import InstanceSpec, InstanceStatus, Phase
from phalanx.store.base import now_ms
from phalanx.store.jobs import Stage, TrainingJob

STOP_GRACE_SECONDS = 120.0
"""From SIGTERM to SIGKILL when a job is stopped or runs too long (SageMaker's container contract)."""
FAILED_PEER_GRACE_SECONDS = 5.0
"""What the other instances get once one has failed: the job is lost, they may only write their last words."""
LOG_SECONDS = 1.0
"""How often log lines are taken over while nothing else happens."""
STOPPED_LOG_SECONDS = 120.0
"""For so long, from the end of its containers, the rest of the logs of a job that was stopped is taken over."""
CLOSING_LOG_SECONDS = 10.0
"""The same, where the service closes and takes its instances down."""
RETRY_SECONDS = 0.5
LEND_SECONDS = 1800.0
"""How often containers are lent new credentials of their role: long before the last expire, so that the service may be away."""
PREPARING = "Preparing the instances for training"

log = structlog.get_logger()


class Ended(Exception):
    """The job ends before its stages do; carries the outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class Interrupted(Exception):
    """The runner ends and its job does not: the service is closing, or the job waits in the queue again."""


class Runner:
    """Drives one job. What was reached is in the store (`stage`, `plan`, `outcome`), so that any later runner goes on."""

    def __init__(self, name: str, world: World) -> None:
        self._name = name
        self._world = world
        self._fetching = False
        self._known: Mapping[str, InstanceStatus] = {}
        """The statuses that were looked at last."""
        self.waits = False
        """Whether the job waits until what others take of the fleet is free: nobody who came later may take that."""
        self.holds = True
        """Whether what the job needs is its own: not while it waits for hosts that are gone, or take no instances."""

    def run(self) -> None:
        """Work until the job is terminal, or the service closes."""
        with bound_contextvars(job=self._name), contextlib.suppress(Interrupted):
            self._work()

    def _work(self) -> None:
        stages: dict[Stage, Callable[[TrainingJob], Stage]] = {
            "starting": self._start,
            "downloading": self._download,
            "training": self._train,
            "uploading": self._upload,
            "interrupted": self._wait_for_spot,
            "ending": self._end,
        }
        while (job := self._load()).stage != "ended":
            try:
                following = stages[job.stage](job)
            except Ended as end:
                following = self._decide(end.outcome)
            except Interrupted:
                raise
            except Exception as error:
                verdict = failure.of_stage(error, job.stage)
                if verdict is None or job.stage == "ending":
                    self._pause(error)
                    continue
                following = self._decide(verdict)
            log.info("stage ended", stage=job.stage, following=following)
            if following == "ended":
                # Nothing more is asked of it by its name: it may have been deleted already, and another one have the name.
                return
            with self._world.database.write() as session:
                session.get_one(TrainingJob, self._name).stage = following

    def _start(self, job: TrainingJob) -> Stage:
        attempt.give_up(self._world.database, self._world.fleet, self._name)
        self._check(job)
        zones = self._world.fleet.capacity().zones if "VpcConfig" in job.request else None
        with self._world.database.write() as session:
            stored = session.get_one(TrainingJob, self._name)
            status = "Starting" if stored.away_until is None else "Restarting"
            stored.away_until = None
            record.transition(session, stored, status, PREPARING)
            if warm_pools.keep_alive(stored.request):
                stored.warm_pool = "InUse"
            try:
                made = plan.make(session, stored, zones)
            except interfaces.NoZone as error:
                if record.waits_for_hosts(session, stored):
                    # In the queue it waits for hosts that may come back.
                    raise Interrupted from error
                raise Ended(failed(f"{NO_CAPACITY} {error}")) from error
            except interfaces.InterfaceError as error:
                raise Ended(failed(f"ClientError: {error}")) from error
            stored.plan = made.to_json()
            reason = self._network_fault(session, stored, made)
            spread = plan.spread(session, stored)
        if reason is not None:
            raise Ended(failed(reason))
        fleet = self._world.fleet
        keys = self._world.keys()
        readable = tuple(each for each in keys if self._world.may(job.request["RoleArn"], keyring.DECRYPTS, each.arn))
        store, key = replace(self._store(job), keys=readable), self._output_key(job, keys)
        lends = self._world.lent_to(job) is not None
        self._place(plan.specs(job, made, store, key, spread, self._world.profile, lends), status)
        # Every IKE daemon answers before the first initiates: no start-up retransmits.
        self._await(made, Phase.PREPARED)
        # Not before they are attached: the last instance that leaves a VPC on its host takes the VPC's rules along.
        self._world.enforcement.enforce(made.vpc_id)
        fleet.advance(made.ids, Phase.CONNECTED)
        self._await(made, Phase.CONNECTED)
        return "downloading"

    def _place(self, specs: Sequence[InstanceSpec], status: str) -> None:
        """Place the job's instances, as soon as there is room; with `status` it goes on then.

        A job that the fleet could never hold fails, unless it has run, or could have been held before: hosts that were lost may
        come back. Raises Ended.
        """
        waiting = False
        try:
            while True:
                try:
                    self._world.fleet.place(specs)
                except NoRoom as error:
                    with self._world.database.read() as session:
                        job = session.get_one(TrainingJob, self._name)
                        before = waiting or record.waits_for_hosts(session, job)
                    if not error.ever and not before:
                        raise Ended(failed(f"{NO_CAPACITY} {error}")) from error
                    self._check(job)
                    if record.pending_too_long(job):
                        raise Ended(record.MAX_PENDING) from error
                    self.waits = self.holds = error.soon
                else:
                    break
                if not waiting:
                    self._announce("Pending", record.WAITING)
                waiting = True
                if self._world.closing.wait(RETRY_SECONDS):
                    raise Interrupted
        finally:
            self.waits, self.holds = False, True
        if waiting:
            self._announce(status, PREPARING)

    def _store(self, job: TrainingJob) -> ObjectStore:
        """How S3 is reached for the job. Raises Ended where its role has become unusable since the job was created."""
        role = job.request["RoleArn"]
        store = self._world.store_as(role, _longest(job))
        if store is None:
            raise Ended(failed(f"ClientError: Could not assume role {role}. It was deleted, or trusts SageMaker no more."))
        return store

    def _output_key(self, job: TrainingJob, keys: Sequence[DataKey]) -> DataKey | None:
        """What encrypts the job's output. Raises Ended where its key has become unusable since the job was created, if only for
        its role."""
        role, wanted = job.request["RoleArn"], job.request["OutputDataConfig"].get("KmsKeyId")
        if not wanted:
            return None
        try:
            with self._world.database.read() as session:
                arn = keyring.usable(session, wanted).arn
        except keyring.KeyFault as fault:
            raise Ended(failed(f"ClientError: OutputDataConfig.KmsKeyId: {fault.message}")) from fault
        if not self._world.may(role, keyring.ENCRYPTS, arn):
            raise Ended(failed(f"ClientError: OutputDataConfig.KmsKeyId: {keyring.not_allowed(role, arn)}"))
        return next(key for key in keys if key.arn == arn)

    def _download(self, job: TrainingJob) -> Stage:
        made = self._plan(job)
        with self._world.database.write() as session:
            stored = session.get_one(TrainingJob, self._name)
            stored.training_started = stored.training_started or now_ms()
            record.resume(stored)
            record.transition(session, stored, "Downloading", "Downloading input data")
        deadline = _deadline(stored)
        self._world.fleet.advance(made.ids, Phase.LOADED)
        self._await(made, Phase.LOADED, self._tell_of_image, deadline)
        return "training"

    def _train(self, job: TrainingJob) -> Stage:
        made, fleet = self._plan(job), self._world.fleet
        journal = Journal(self._world.database, fleet, job, made)
        journal.open()
        with self._world.database.write() as session:
            stored = session.get_one(TrainingJob, self._name)
            # A later service goes on where the job was told more than that already.
            if stored.secondary_status != "Training":
                record.transition(session, stored, "Training", "Training image download completed. Training in progress.")
            traffic.tell(session, stored)
            stored.plan = replace(made, ran=True).to_json()
        lent = self._lend(job, made)
        fleet.advance(made.ids, Phase.RUNNING)
        deadline = _deadline(job)
        # Decided by an earlier service that was killed before all had ended.
        ending = Outcome(**job.outcome) if job.outcome else None
        while True:
            statuses = self._statuses(made)
            behind = journal.pump(lambda: not self._world.closing.is_set())
            if ending is None:
                ending = self._ending(statuses, deadline)
                if ending is not None:
                    # Stored before it shows: what containers do because they were stopped is not how the job ended.
                    with self._world.database.write() as session:
                        session.get_one(TrainingJob, self._name).outcome = ending.to_json()
            if all(status.phase == Phase.EXITED or status.error for status in statuses):
                break
            if ending is not None:
                # Each time round: an agent that was killed meanwhile has forgotten it.
                fleet.stop(made.ids, FAILED_PEER_GRACE_SECONDS if ending.status == "Failed" else STOP_GRACE_SECONDS)
            if time.monotonic() - lent > LEND_SECONDS:
                lent = self._lend(job, made)
            fleet.wait(self._known, 0.0 if behind else LOG_SECONDS)
            self._stay()
        journal.drain(partial(self._reads_on, time.monotonic(), ending))
        ending = failure.reconsidered(ending, statuses) if ending is not None else record.COMPLETED
        if ending.status == "InProgress" or ending.by_platform:
            raise Ended(ending)
        with self._world.database.write() as session:
            stored = session.get_one(TrainingJob, self._name)
            stored.outcome = ending.to_json()
            if ending.status == "Failed":
                stored.training_ended = now_ms()
        return "uploading"

    def _reads_on(self, since: float, ending: Outcome | None) -> bool:
        """Whether the rest of the logs, which is read `since` then, is read on: there is little time where the job was to stop,
        or the service closes, and the job is not to begin anew for it. Raises Interrupted where the next service reads on."""
        if self._world.leaving.is_set():
            raise Interrupted
        if self._world.closing.is_set():
            return time.monotonic() - since < CLOSING_LOG_SECONDS
        stopped = self._load().stop_requested or (ending is not None and ending.status != "Failed")
        return not stopped or time.monotonic() - since < STOPPED_LOG_SECONDS

    def _lend(self, job: TrainingJob, made: plan.Plan) -> float:
        """Have the job's containers be given new credentials of their role, if they are given any; when that was."""
        credentials = self._world.lent_to(job)
        if credentials is not None:
            self._world.fleet.lend(made.ids, credentials)
        return time.monotonic()

    def _ending(self, statuses: list[InstanceStatus], deadline: float) -> Outcome | None:
        """How the job must end before all its containers have ended by themselves; None while it need not."""
        # Asked first: a container that ends because it was stopped has not failed.
        job = self._load()
        if job.stop_requested:
            self._announce("Stopping", "Stopping the training job")
            return record.STOPPED
        if record.waited_too_long(job):
            return record.MAX_WAIT
        if job.interrupt is not None:
            self._announce("Interrupted", record.INTERRUPTED.message)
            return record.INTERRUPTED
        broken = [status for status in statuses if status.error or status.exit_code]
        if broken:
            return failure.of_instances(broken)
        if time.monotonic() > deadline and any(status.phase < Phase.EXITED for status in statuses):
            return record.MAX_RUNTIME
        return None

    def _upload(self, job: TrainingJob) -> Stage:
        made = self._plan(job)
        self._announce("Uploading", "Uploading generated training model")
        try:
            uri = self._world.fleet.upload(made.ids)
        except Refused as error:
            if job.outcome is None or job.outcome["status"] != "Failed":
                raise
            # Why the job failed is what its owner needs to know.
            log.warning("what a failed job left cannot be uploaded", reason=str(error))
            return "ending"
        with self._world.database.write() as session:
            stored = session.get_one(TrainingJob, self._name)
            stored.model_uri = uri
            stored.training_ended = stored.training_ended or now_ms()
        return "ending"

    def _end(self, job: TrainingJob) -> Stage:
        database, fleet = self._world.database, self._world.fleet
        made = plan.Plan.from_json(job.plan) if job.plan else None
        if made is not None:
            attempt.conclude(database, fleet, self._world.signer, self._name)
            # All of them, also what a refused call may have left that no status has told of yet.
            fleet.destroy(made.ids)
        with database.write() as session:
            stored = session.get_one(TrainingJob, self._name)
            if stored.evidence is None:
                stored.evidence = self._world.signer.sign(evidence.report(stored, None, [], [], {}))
            interfaces.release(session, self._name)
            record.close(session, stored)
        if made is not None:
            self._world.enforcement.forget(made.vpc_id)
        self._world.meter.end(stored, self._world.signer.public_key)
        return "ended"

    def _wait_for_spot(self, job: TrainingJob) -> Stage:
        """Give the instances back; the job goes on from the queue, once there are some again."""
        attempt.give_up(self._world.database, self._world.fleet, self._name)
        with self._world.database.write() as session:
            stored = session.get_one(TrainingJob, self._name)
            stored.stage = "starting"
        raise Interrupted

    def _network_fault(self, session: Session, job: TrainingJob, made: plan.Plan) -> str | None:
        """The FailureReason of a job that cannot work in its network as that is now."""
        if "VpcConfig" in job.request:
            if (fault := exits.options_fault(session, made.vpc_id)) is not None:
                return fault
            if self._world.require_s3_route and not exits.reaches_s3(session, made):
                return exits.NO_WAY_TO_S3
        return traffic.fault(session, job)

    def _tell_of_image(self, statuses: Sequence[InstanceStatus]) -> None:
        waiting = any(status.fetching for status in statuses)
        if waiting != self._fetching:
            self._fetching = waiting
            self._announce("Downloading", "Downloading the training image" if waiting else "Downloading input data")

    def _await(
        self,
        made: plan.Plan,
        phase: Phase,
        tell: Callable[[Sequence[InstanceStatus]], None] = lambda _: None,
        deadline: float = math.inf,
    ) -> None:
        """Until all instances are in a phase; `tell` hears of each look, and at the deadline the job has run too long."""
        while True:
            statuses = self._statuses(made)
            for status in statuses:
                if status.error:
                    raise Ended(failed(status.error))
            tell(statuses)
            if all(status.phase >= phase for status in statuses):
                return
            self._check(self._load())
            if time.monotonic() > deadline:
                raise Ended(record.MAX_RUNTIME)
            self._world.fleet.wait(self._known, LOG_SECONDS)
            self._stay()

    def _statuses(self, made: plan.Plan) -> list[InstanceStatus]:
        self._known = known = self._world.fleet.statuses(made.ids)
        for placement in made.placements:
            if placement.id not in known:
                raise Ended(failed(f"InternalServerError: Instance {placement.host} was lost with its host."))
        return [self._explained(known[id_]) for id_ in made.ids]

    def _explained(self, status: InstanceStatus) -> InstanceStatus:
        """The status of an instance that lost its peers says which rule is missing, where that is why."""
        if not status.disconnected:
            return status
        with self._world.database.read() as session:
            reason = traffic.fault(session, session.get_one(TrainingJob, self._name))
        return replace(status, error=reason or status.error)

    def _check(self, job: TrainingJob) -> None:
        if job.stop_requested:
            raise Ended(record.STOPPED)
        if record.waited_too_long(job):
            raise Ended(record.MAX_WAIT)
        if job.interrupt is not None:
            raise Ended(record.INTERRUPTED)

    def _stay(self) -> None:
        if self._world.closing.is_set():
            raise Interrupted

    def _pause(self, error: Exception) -> None:
        log.warning("stage will be repeated", reason=str(error))
        if self._world.closing.wait(RETRY_SECONDS):
            raise Interrupted from error

    def _plan(self, job: TrainingJob) -> plan.Plan:
        if job.plan is None:
            raise Ended(failed("InternalServerError: The job has no instances."))
        return plan.Plan.from_json(job.plan)

    def _announce(self, status: str, message: str) -> None:
        with self._world.database.write() as session:
            record.transition(session, session.get_one(TrainingJob, self._name), status, message)

    def _decide(self, outcome: Outcome) -> Stage:
        """Store how the job ends, or begin anew where it may; the stage that follows."""
        with self._world.database.write() as session:
            stored = session.get_one(TrainingJob, self._name)
            if outcome.secondary_status == "Interrupted":
                record.transition(session, stored, "Interrupted", outcome.message)
                record.pause(stored)
                stored.away_until, stored.interrupt = now_ms() + (stored.interrupt or 0), None
                stored.stage, stored.outcome = "interrupted", None
            else:
                record.decide(session, stored, outcome)
            return stored.stage

    def _load(self) -> TrainingJob:
        with self._world.database.read() as session:
            return session.get_one(TrainingJob, self._name)


def _longest(job: TrainingJob) -> int:
    """Seconds that the job may run."""
    return int(job.request["StoppingCondition"].get("MaxRuntimeInSeconds", 86400))


def _deadline(job: TrainingJob) -> float:
    """When a job whose time runs has run as long as it may, by the clock that nobody sets (time.monotonic)."""
    run = (now_ms() - (job.training_started or now_ms()) - job.idle) / 1000
    return time.monotonic() + _longest(job) - max(0.0, run)
