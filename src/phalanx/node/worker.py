"""The worker of one instance: a thread that brings it to its goal and then watches over it."""

from __future__ import annotations

import collections
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars

from phalanx.data.checkpoints import Withheld
from phalanx.data.objects import Cancelled, DataError
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.member import Member
from phalanx.network.errors import NetworkError
from phalanx.node.chronicle import now_ms
from phalanx.node.errors import InstanceError, NotYet
from phalanx.node.instance import Instance
from phalanx.node.messages import InstanceStatus, Phase

WATCH_SECONDS = 0.5
"""How often a running instance's container, IKE daemon and data plane are looked at."""
SOONEST_SECONDS = 0.02
LATE_BY = 0.1
"""A container is looked at more often while it is young: its end is seen by this part of its run time too late, at most."""
MESH_SECONDS = 60.0
"""How long pairs may stay without a CHILD_SA, at the start or after a fault, before the job fails."""
STOPPED_EARLY = 128 + signal.SIGTERM
"""Exit code of a container that was asked to stop before it had started."""
REATTACH_SECONDS = 5.0
"""How often the wire itself is made sure of while pairs stay without a CHILD_SA."""
INSIST_SECONDS = 5.0
"""How long a program may go on once all that were asked to stop in its place have ended, before it is asked itself."""
KILL_SECONDS = 30.0
"""How long a container may take to end by SIGKILL."""
RECOVERIES = 10
"""How many times within MESH_SECONDS IKE or data plane are started again before the job fails."""

CHECKPOINT_SECONDS = 2.0
"""How long what a container writes to its checkpoints may wait until it is brought to S3."""

log = structlog.get_logger()


class Disconnected(InstanceError):
    """Peers of an encrypted job could not be reached for too long."""


class Worker:
    """Drives one instance. Raising the goal, stopping and destroying may be asked from any thread; steps run in one."""

    def __init__(self, instance: Instance, goal: Phase, changed: Callable[[], None]) -> None:
        self.instance = instance
        self.status = InstanceStatus(instance.spec.id, Phase.NEW, notes=instance.notes())
        self._goal = goal
        self._changed = changed
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._wake = threading.Event()
        self._exited = threading.Event()
        self._destroying = threading.Lock()
        self._follower: threading.Thread | None = None
        self._kill_at: float | None = None
        self._killed: float | None = None
        self._terminated = False
        self._asked: list[int] = []
        self._asked_seen = 0.0
        self._attached = 0.0
        self._reached = 0.0
        self._mesh_seen = time.monotonic()
        self._unconnected_since: float | None = None
        self._recoveries: collections.deque[float] = collections.deque(maxlen=RECOVERIES)
        self._thread = threading.Thread(target=self._live, name=instance.spec.id, daemon=True)

    def start(self) -> None:
        """Begin to work towards the goal."""
        self._thread.start()

    def advance(self, goal: Phase) -> None:
        """Set a later goal; kept over a restart of the agent before this returns. An earlier goal changes nothing."""
        if goal > self._goal:
            self._goal = goal
            self.instance.save(goal)
            self._wake.set()

    def stop(self, grace: float) -> None:
        """SIGTERM to the container now and SIGKILL after `grace` seconds; a shorter grace may follow, a longer one not."""
        deadline = time.monotonic() + grace
        self._kill_at = deadline if self._kill_at is None else min(self._kill_at, deadline)
        self._terminate()
        self._wake.set()

    def note(self, text: str) -> None:
        """Remember something that happened to the instance's network, for the evidence."""
        self._update(notes=self.instance.note(text))

    def seen(self, at: int, fault: str | None) -> None:
        """The router's guard over the instance was looked at; what crossed the wire is looked at with it."""
        if self.instance.spec.mesh is not None:
            self.instance.chronicle.seen("router", fault, at)
        try:
            self.instance.look()
        except OSError as error:
            log.warning("what crossed a wire cannot be seen", instance=self.instance.spec.id, reason=str(error))

    def end(self) -> None:
        """SIGKILL to the container, which is not started any more either; returns once it has exited. Raises ContainerError."""
        self.stop(0)
        self.instance.end()

    def destroy(self) -> None:
        """Take the instance down; returns when nothing of it is left. Repeat it when it raised."""
        self._cancelled.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        # A control plane that was killed asks again, while what it asked before is still being done.
        with self._destroying, bound_contextvars(**self._identity()):
            self.instance.destroy()

    def detach(self) -> None:
        """End the thread and leave the instance running, for a later agent."""
        self._cancelled.set()
        self._wake.set()
        self._thread.join()

    def _identity(self) -> dict[str, str]:
        """What every line of the log about this instance has."""
        spec = self.instance.spec
        return {"job": spec.job, "instance": spec.host, "instance_id": spec.id}

    def _live(self) -> None:
        try:
            with self._failing():
                while not self._cancelled.is_set() and self.status.error is None:
                    self._wake.clear()
                    if self.status.phase < min(self._goal, Phase.RUNNING):
                        self._step()
                    elif self.status.phase == Phase.RUNNING:
                        if self._follower is None and self.instance.checkpoints is not None:
                            self._follower = threading.Thread(target=self._follow_checkpoints, name="checkpoints", daemon=True)
                            self._follower.start()
                        self._watch_container()
                    # Not with every look at a young container, nor at each step: steps find out by themselves, the guards hold.
                    if time.monotonic() - self._mesh_seen >= WATCH_SECONDS:
                        self._mesh_seen = time.monotonic()
                        self._watch_mesh()
                    if self.status.phase >= min(self._goal, Phase.RUNNING):
                        self._wake.wait(self._until_next_look())
        finally:
            self._exited.set()
            if self._follower is not None:
                self._follower.join()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """What a thread of this instance's does: where it raises, the instance has failed."""
        bind_contextvars(**self._identity())
        try:
            yield
        except InstanceError as error:
            self._fail(str(error), isinstance(error, Disconnected))
        except Cancelled:
            # Its container has ended and its checkpoints are not all in S3: a later agent goes on there.
            log.info("the upload of checkpoints was ended")
        except Exception as error:
            log.exception("instance failed")
            self._fail(f"InternalServerError: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def _mending(self) -> Iterator[None]:
        """Watch over the mesh while the body keeps the instance's own thread: its peers count on this side of their pairs."""
        if self.instance.member is None:
            yield
            return
        done = threading.Event()
        mender = threading.Thread(target=self._mend_until, args=(done,), name="mesh", daemon=True)
        mender.start()
        try:
            yield
        finally:
            done.set()
            mender.join()

    def _mend_until(self, done: threading.Event) -> None:
        with self._failing():
            while not done.wait(WATCH_SECONDS):
                self._watch_mesh()

    def _until_next_look(self) -> float:
        """Seconds."""
        if self.status.phase != Phase.RUNNING:
            return WATCH_SECONDS
        return min(WATCH_SECONDS, max(SOONEST_SECONDS, LATE_BY * (time.monotonic() - self._reached)))

    def _step(self) -> None:
        instance, phase = self.instance, Phase(self.status.phase + 1)
        if phase == Phase.RUNNING and self._kill_at is not None and instance.container().state == "absent":
            self._update(phase=Phase.EXITED, exit_code=STOPPED_EARLY)
            return
        begun = time.monotonic()
        try:
            match phase:
                case Phase.PREPARED:
                    instance.prepare()
                case Phase.CONNECTED:
                    instance.connect()
                case Phase.LOADED:
                    # Images and channels may take hours.
                    with self._mending():
                        instance.load(self._cancelled, lambda fetching: self._update(fetching=fetching))
                case Phase.RUNNING:
                    instance.run()
        except NotYet as reason:
            # From the second time on it only asks, which costs the engine time that IKE needs: in a large mesh ask less often.
            asking = 0 if self._unconnected_since is None else time.monotonic() - begun
            self._wait_for_mesh(str(reason))
            self._wake.wait(max(SOONEST_SECONDS, 2 * asking))
            return
        if not self._cancelled.is_set():
            self._unconnected_since = None
            self._reached = time.monotonic()
            log.info("instance reached", phase=phase.name, seconds=round(self._reached - begun, 3))
            self._update(phase=phase, notes=instance.notes())

    def _terminate(self) -> None:
        """SIGTERM, once, as soon as there is a container that can take it."""
        if not self._terminated and self.instance.container().state == "running":
            self._terminated = True
            self._asked_seen = time.monotonic()
            self._asked = self.instance.signal(signal.SIGTERM)

    def _insist(self) -> None:
        """SIGTERM, once, to a program that goes on although those that were asked have ended: they were its helpers."""
        if not self._asked:
            return
        if self.instance.has(self._asked):
            self._asked_seen = time.monotonic()
        elif time.monotonic() - self._asked_seen > INSIST_SECONDS:
            self._asked = []
            self.instance.signal(signal.SIGTERM, program=True)

    def _watch_container(self) -> None:
        # One that has ended may still wait to be told that its checkpoints are its own.
        if self._kill_at is not None and not self._exited.is_set():
            # The container may have been started while it was asked to stop.
            self._terminate()
            self._insist()
            now = time.monotonic()
            # Counted from the first SIGKILL: a container may start, or be looked at, long after the time to kill it.
            if self._killed is not None and now - self._killed > KILL_SECONDS:
                raise InstanceError(
                    f"InternalServerError: The training container did not end within {KILL_SECONDS:.0f} seconds of SIGKILL:"
                    " it, or its monitor, hangs on the host."
                )
            if now >= self._kill_at:
                self._killed = self._killed or now
                self.instance.signal(signal.SIGKILL)
        self.instance.offer()
        container = self.instance.container()
        # Asked after the container: an end that the early end of its data brought about is none of its own.
        fault = self.instance.data_fault()
        if fault is not None:
            raise InstanceError(fault)
        if container.state == "exited":
            if container.exit_code is None:
                raise InstanceError(
                    "InternalServerError: The training container's monitor was killed on its host: nobody saw how it ended."
                )
            if container.exit_code == 0:
                self.instance.settle()
            try:
                self._keep_checkpoints(container.exit_code)
            except Withheld:
                # The control plane says, when it is back, whether the job waits for this end.
                return
            self._update(
                phase=Phase.EXITED,
                exit_code=container.exit_code,
                out_of_memory=container.out_of_memory,
                failure=self.instance.failure(),
            )
        elif container.state == "absent":
            raise InstanceError("InternalServerError: The training container is gone from its host.")

    def _follow_checkpoints(self) -> None:
        """Until the container has ended: what it writes is in S3 a little later."""
        bind_contextvars(**self._identity())
        while not self._exited.wait(CHECKPOINT_SECONDS) and self.instance.checkpoints is not None:
            try:
                self.instance.checkpoints.push(self._cancelled.is_set)
            except Cancelled:
                return
            except Withheld:
                continue
            except DataError as error:
                log.warning("checkpoints are not in S3 yet", reason=str(error))
            except Exception:
                log.exception("checkpoints are not in S3 yet")

    def _keep_checkpoints(self, exit_code: int) -> None:
        """The last state of the checkpoints into S3. A container that failed has the last word on why the job fails.

        Raises Withheld, InstanceError.
        """
        if self.instance.checkpoints is None:
            return
        self._exited.set()
        if self._follower is not None:
            self._follower.join()
        try:
            self.instance.checkpoints.push(self._cancelled.is_set)
        except DataError as error:
            if exit_code == 0:
                raise InstanceError(str(error)) from error
            log.warning("the last checkpoints are not in S3", reason=str(error))

    def _watch_mesh(self) -> None:
        """Mend what failed in IKE or the data plane. The guards hold the wire shut meanwhile.

        Also once the container has ended: its peers may train on, and count on this side of their pairs.
        """
        member = self.instance.member
        if member is None or self.status.phase < Phase.PREPARED:
            return
        try:
            self._mend(member)
        except (InstanceError, MeshError) as error:
            if self.status.phase < Phase.EXITED:
                raise error if isinstance(error, InstanceError) else InstanceError(f"InternalServerError: {error}") from error
            log.warning("encryption stays down after the container's end", reason=str(error))

    def _mend(self, member: Member) -> None:
        cause = member.health()
        if cause is not None:
            now = time.monotonic()
            if len(self._recoveries) == RECOVERIES and now - self._recoveries[0] < MESH_SECONDS:
                raise InstanceError(f"InternalServerError: Encryption failed {RECOVERIES} times within a minute: {cause}")
            self._recoveries.append(now)
            log.warning("encryption interrupted", cause=cause)
            self.instance.inspect()
            self._update(notes=self.instance.interrupted(cause))
            try:
                # Its cause may be that somebody took the wire away.
                self._attach()
                # No longer than this: a wire that is taken away meanwhile is not seen before.
                member.recover(REATTACH_SECONDS)
            except (MeshError, NetworkError) as error:
                # What was just started may have been hit too: only time, or too many attempts, end it.
                log.warning("encryption is not back yet", reason=str(error))
                self._wait_for_mesh(str(error))
            self.instance.inspect()
            return
        self.instance.chronicle.seen("kernel", None, now_ms())
        if self.status.phase >= Phase.CONNECTED:
            try:
                self._reach_peers(member)
            except (MeshError, NetworkError) as error:
                # What was well a moment ago has just been hit: the next look says by what.
                self._wait_for_mesh(str(error))

    def _reach_peers(self, member: Member) -> None:
        missing = self.instance.missing_peers()
        if not missing:
            self._unconnected_since = None
            return
        if self._unconnected_since is None:
            self.note(f"no CHILD_SA with {', '.join(missing)}; traffic with it stopped until there was one again")
        if time.monotonic() - self._attached > REATTACH_SECONDS:
            # Somebody may have taken down the wire itself, or a route.
            self._attach()
            member.initiate(missing)
        self._wait_for_mesh(f"no CHILD_SA with {', '.join(missing)}")

    def _attach(self) -> None:
        """Make the wire again where it is gone; what stands stays as it is."""
        self._attached = time.monotonic()
        self.instance.attach()

    def _wait_for_mesh(self, reason: str) -> None:
        now = time.monotonic()
        self._unconnected_since = self._unconnected_since or now
        if now - self._unconnected_since > MESH_SECONDS:
            raise Disconnected(
                f"InternalServerError: The encrypted connection of {self.instance.spec.host} is down: {reason}"
                f" for {MESH_SECONDS:.0f} seconds; nothing was sent in the clear."
            )

    def _fail(self, reason: str, disconnected: bool = False) -> None:
        log.warning("instance failed", reason=reason)
        try:
            # Nobody watches over it from here on.
            self.instance.signal(signal.SIGKILL)
        except OSError as error:
            log.warning("a failed instance's container cannot be killed", reason=str(error))
        self._update(error=reason, disconnected=disconnected)

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self.status = replace(self.status, **changes)
        self._changed()
