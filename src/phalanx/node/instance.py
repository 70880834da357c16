"""One instance on this host: the steps that bring it up, and how it is taken down. Every step may be repeated."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from phalanx.data import channels, credentials, workspace
from phalanx.data.checkpoints import Sync
from phalanx.data.credentials import Endpoint
from phalanx.data.fastfile import FastFile, release
from phalanx.data.model import Channel, RoleCredentials
from phalanx.data.objects import Cancelled, DataError
from phalanx.data.pipes import Pipes
from phalanx.data.process import ProcessError
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.member import Member
from phalanx.ipsec.model import PlaneName
from phalanx.ipsec.probe import Unprotected
from phalanx.linux import files
from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.network.model import RESOLVER, S3_ADDRESS
from phalanx.network.watch import Watch
from phalanx.node import gpus, keep
from phalanx.node.chronicle import Chronicle, now_ms
from phalanx.node.errors import InstanceError, NotYet
from phalanx.node.lease import Lease
from phalanx.node.messages import InstanceSpec, Measurement, Phase, Usage
from phalanx.node.names import Names
from phalanx.node.supply import Supply
from phalanx.node.volume import Volume, VolumeError
from phalanx.node.vpcs import Vpcs
from phalanx.runtime import cdi
from phalanx.runtime.cdi import Gpu
from phalanx.runtime.containers import Containers, ProgramError
from phalanx.runtime.model import ContainerSpec, ContainerStatus, Edits

_DATA = "input/data"
"""Where the channels are, below /opt/ml."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shared:
    """What all instances of a host share."""

    names: Names
    vpcs: Vpcs
    supply: Supply
    containers: Containers
    plane: Callable[[], PlaneName]
    """Data plane of this host. Raises probe.Unprotected where encryption is impossible."""
    gpus: tuple[Gpu, ...] = ()
    """What this host has of them."""
    lease: Lease = field(default_factory=Lease)


class Instance:
    """One instance. The spec lies on the run directory's tmpfs with the goal, so that a new agent carries on."""

    def __init__(self, spec: InstanceSpec, shared: Shared) -> None:
        self.spec = spec
        self._shared = shared
        self._namespace = shared.names.instance_namespace(spec.id)
        self._run_dir = shared.names.instance_run_dir(spec.id)
        self._directory = shared.names.instance_dir(spec.id)
        self._volume = Volume(self._directory, spec.volume)
        self._member: Member | None = None
        self._joining = threading.Lock()
        self._image: str | None = None
        self._fast = [FastFile(self._directory, channel) for channel in self._channels("FastFile")]
        self._pipes = Pipes(self._directory, self._run_dir) if self._channels("Pipe") else None
        self.chronicle = Chronicle(self._run_dir / "guards")
        self._watch: Watch | None = None
        if spec.mesh is not None:
            self._watch = Watch(self._run_dir / "watch", [peer.address for peer in spec.mesh.peers])
        self._noting = threading.Lock()
        notes = self._run_dir / "notes"
        self._notes = tuple(notes.read_text().splitlines()) if notes.exists() else ()
        self._endpoint: Endpoint | None = None
        if spec.credentials is not None:
            self._endpoint = Endpoint(spec.credentials, self._directory, self._run_dir)
        self.checkpoints: Sync | None = None
        if spec.checkpoints is not None:
            memory = self._directory / "checkpoints.json"
            mine = shared.lease.holds if spec.leased else lambda: True
            self.checkpoints = Sync(spec.store, spec.checkpoints, self.opt_ml, memory, mine)

    @property
    def opt_ml(self) -> Path:
        """The host's directory that the container sees as /opt/ml, on the instance's volume."""
        return self._volume.path / "ml"

    @property
    def member(self) -> Member | None:
        """This instance's side of the mesh; None without encryption. Raises InstanceError where the host cannot encrypt."""
        with self._joining:
            if self.spec.mesh is not None and self._member is None:
                ipsec = self._run_dir / "ipsec"
                ipsec.mkdir(parents=True, exist_ok=True)
                self._member = Member(self.spec.mesh, self._namespace, ipsec, self._plane())
            return self._member

    def _plane(self) -> PlaneName:
        """The data plane that the instance has, for good: what a later agent finds out about the host must not part it from the
        SAs that it has. Raises InstanceError where the host cannot encrypt."""
        path, ipsec = self._run_dir / "plane", self._run_dir / "ipsec"
        if path.exists():
            return "kernel" if path.read_text() == "kernel" else "engine"
        # Made by a version that did not write it down.
        if (ipsec / "engine.lock").exists():
            return "engine"
        if (ipsec / "ledger.lock").exists():
            return "kernel"
        try:
            plane = self._shared.plane()
        except Unprotected as error:
            raise InstanceError(f"InternalServerError: Nothing was sent, since {error}") from error
        files.replace(path, plane, durable=False)
        return plane

    def save(self, goal: Phase) -> None:
        """Keep spec and goal where the next agent finds them. Raises OSError."""
        keep.save(self._shared.names, self.spec, goal)

    def lend(self, lent: RoleCredentials) -> None:
        """Have the container be given these credentials of its role from now on, where it expects any. Raises OSError."""
        if self._endpoint is not None:
            self._endpoint.lend(lent)

    def prepare(self) -> None:
        """PREPARED: namespace, kernel guard, router guard and rules, ENI, then the IKE daemon: in this order."""
        begun = time.monotonic()
        namespace.create(self._namespace)
        member = self.member
        prepared = self._run_dir / "prepared"
        if member:
            # Not for the first time: an earlier agent died, and perhaps not it alone.
            if prepared.exists() and (cause := member.health()) is not None:
                self.interrupted(cause)
            self.chronicle.resumed()
            member.guard()
            self.chronicle.raised("kernel", "the kernel's policies block what is in the clear")
        self.attach()
        log.info("instance attached", seconds=round(time.monotonic() - begun, 3))
        if member:
            member.start()
        prepared.touch()

    def attach(self) -> None:
        """Rules, router guard and wire; what stands stays as it is."""
        self._shared.vpcs.admit(self.spec)
        if self.spec.mesh is not None:
            self.chronicle.raised("router", "the router's rules drop what is in the clear")
        self._shared.vpcs.join(self.spec, self._watch)

    def look(self) -> None:
        """See what crossed the wire, so that little is lost where this agent is killed. Raises OSError where nobody tells."""
        if self._watch is not None:
            self._watch.look()

    def trim(self) -> None:
        """Keep what the IKE daemon logs short, whatever the instance is busy with: it lies in memory. Raises OSError."""
        if self._member is not None:
            self._member.trim_log()

    def inspect(self) -> None:
        """See whether the guard in the instance's namespace holds."""
        if self.member is not None:
            self.chronicle.seen("kernel", self.member.unguarded(), now_ms())

    def connect(self) -> None:
        """CONNECTED: the mesh gate."""
        if self.member is None:
            return
        try:
            self.member.connect()
            missing = self.missing_peers()
        except MeshError as error:
            if (cause := self.member.health()) is not None:
                # What connects has just been hit, and is started again by who watches over it.
                raise NotYet(cause) from error
            raise InstanceError(f"InternalServerError: {error}") from error
        if missing:
            raise NotYet(f"no CHILD_SA yet with {', '.join(missing)}")

    def missing_peers(self) -> list[str]:
        """Names of peers to which no CHILD_SA stands in both directions, as the data plane reports it."""
        if self.member is None or self.spec.mesh is None:
            return []
        established = self.member.established()
        return [peer.name for peer in self.spec.mesh.peers if peer.name not in established]

    def load(self, cancelled: threading.Event, fetching: Callable[[bool], None]) -> None:
        """LOADED: image built, fetched or found, volume and /opt/ml made, channels downloaded; done once, even over restarts.

        `fetching` is told when the control plane's image begins to be fetched, and when it is there.
        """
        self._image = self._shared.supply.bring(self.spec, cancelled, fetching)
        if cancelled.is_set():
            return
        try:
            self._volume.mount()
        except (VolumeError, OSError) as error:
            raise InstanceError(f"InternalServerError: {error}") from error
        done = self._directory / "loaded"
        if done.exists():
            return
        owner = self._shared.containers.owner()
        workspace.create(self.opt_ml, self.spec.workspace, owner, self.checkpoints is not None)
        try:
            for channel in self._channels("File"):
                channels.download(self.spec.store, channel, self.opt_ml / _DATA / channel.name, owner, cancelled.is_set)
            if (source := self.spec.workspace.source) is not None:
                channels.download(self.spec.store, source, self.opt_ml / "input" / source.name, owner, cancelled.is_set)
            if self.checkpoints is not None:
                self.checkpoints.restore(owner, cancelled.is_set)
        except DataError as error:
            raise InstanceError(str(error)) from error
        except Cancelled:
            return
        self._stream()
        done.touch()

    def run(self) -> None:
        """RUNNING: the container is started; one that has already run is left as it is."""
        spec = self.spec
        self.offer()
        if self.container().state in ("running", "exited"):
            return
        image = self._image or self._shared.supply.bring(spec, threading.Event(), lambda _: None)
        # What died since has shown the container nothing yet.
        self._stream()
        scheme, s3, _ = spec.store.location
        container = ContainerSpec(
            id=spec.id,
            image=image,
            command=spec.command,
            arguments=spec.arguments,
            environment={**spec.environment, **({credentials.VARIABLE: spec.credentials} if spec.credentials else {})},
            netns=namespace.path(self._namespace),
            hostname=spec.host,
            hosts={**({s3: S3_ADDRESS} if scheme == "https" and not spec.isolated else {}), **spec.hosts},
            opt_ml=str(self.opt_ml),
            limits=spec.limits,
            mounts={f"/opt/ml/{_DATA}/{fast.channel.name}": str(fast.path) for fast in self._fast},
            name_server=RESOLVER if self._shared.vpcs.finds_names(spec) else None,
            edits=self._edits(),
        )
        try:
            self._shared.containers.start(container)
        except ProgramError as error:
            raise InstanceError(f"ClientError: {error}") from error

    def offer(self) -> None:
        """Have the process stand that gives the container its role's credentials, where any were lent."""
        try:
            if self._endpoint is None or not self._endpoint.idle():
                return
            namespace.own(self._namespace, credentials.ADDRESS)
            with (
                namespace.entered(self._namespace),
                socket.create_server((credentials.ADDRESS, credentials.PORT)) as listener,
            ):
                self._endpoint.start(listener)
        except (ProcessError, NetworkError, OSError) as error:
            raise InstanceError(
                f"InternalServerError: The container cannot be given its role's credentials: {error}"
            ) from error

    def _edits(self) -> Edits:
        """What the container needs for the GPUs of its instance."""
        if not self.spec.limits.gpus:
            return Edits()
        try:
            return cdi.merged(gpus.take(self._shared.gpus, self._run_dir, self.spec.limits.gpus))
        except gpus.NoGpu as error:
            raise InstanceError(f"CapacityError: Unable to provision requested ML compute capacity: {error}.") from error

    def container(self) -> ContainerStatus:
        """State of the training container."""
        return self._shared.containers.status(self.spec.id)

    def _stream(self) -> None:
        """Have what streams data stand: directories of FastFile channels, and the process that fills pipes."""
        store, owner = self.spec.store, self._shared.containers.owner()
        try:
            for fast in self._fast:
                fast.mount(store, owner)
            if self._pipes is not None:
                self._pipes.start(store, self._channels("Pipe"), self.opt_ml, owner)
        except DataError as error:
            raise InstanceError(str(error)) from error
        except ProcessError as error:
            raise InstanceError(f"InternalServerError: {error}") from error

    def data_fault(self) -> str | None:
        """A FailureReason where the container does not get, or did not get, all of its streamed data."""
        faults = [fast.fault() for fast in self._fast]
        if self._pipes is not None:
            faults.append(self._pipes.fault())
        return next((fault for fault in faults if fault is not None), None)

    def signal(self, number: int, *, program: bool = False) -> list[int]:
        """Send a signal to the training container; see Containers."""
        return self._shared.containers.signal(self.spec.id, number, program=program)

    def has(self, pids: Collection[int]) -> bool:
        """Whether any of these is a process of the training container."""
        return self._shared.containers.has(self.spec.id, pids)

    def end(self) -> None:
        """Kill what runs in the training container; returns once it has exited. Raises ContainerError."""
        self._shared.containers.stop(self.spec.id, 0)

    def settle(self) -> None:
        """Make sure that what the container left is what will be read. Raises InstanceError where it was lost."""
        try:
            self._volume.settle()
        except VolumeError as error:
            raise InstanceError(f"InternalServerError: {error}") from error

    def failure(self) -> str | None:
        """Text of /opt/ml/output/failure."""
        return workspace.failure(self.opt_ml)

    def interrupted(self, cause: str) -> tuple[str, ...]:
        """Note that encryption had failed and is being started again; all notes so far."""
        return self.note(f"{cause}; traffic stopped until it was started again with new keys")

    def note(self, text: str) -> tuple[str, ...]:
        """Remember what happened to the instance's network, and when, beyond the agent's own life; all notes so far."""
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}"
        with self._noting:
            self._notes = (*self._notes, line)
            try:
                with (self._run_dir / "notes").open("a") as file:
                    file.write(f"{line}\n")
            except OSError as error:
                # It is being destroyed, or memory is short: what is to be mended must not wait for that.
                log.warning("what happened to an instance cannot be kept", note=text, instance=self.spec.id, reason=str(error))
        return self._notes

    def notes(self) -> tuple[str, ...]:
        """What was noted, oldest first."""
        return self._notes

    def measure(self) -> Measurement:
        """What data plane, IKE daemon and guards report now."""
        member = self.member
        return Measurement(
            id=self.spec.id,
            host=self.spec.host,
            mesh=member.measure() if member else None,
            guard=self._shared.vpcs.counters(self.spec),
            guards=self.chronicle.guards,
            watched=self._watch.look() if self._watch else None,
        )

    def usage(self) -> Usage | None:
        """What the training container uses now; None where none runs."""
        used = self._shared.containers.usage(self.spec.id)
        if used is None or not self._volume.path.is_mount():
            return None
        disk = shutil.disk_usage(self._volume.path)
        return Usage(
            id=self.spec.id,
            at=time.monotonic(),
            cpu=used.cpu,
            memory=100 * used.memory / self.spec.limits.memory,
            disk=100 * disk.used / disk.total,
        )

    def destroy(self) -> None:
        """Take everything down: user's processes, IKE and data plane, wire, guards, namespace, keys, files: in this order."""
        self._shared.containers.remove(self.spec.id)
        if self._endpoint is not None:
            # Not by the sweep below: it is a child of this agent, perhaps, that would be left a zombie.
            self._endpoint.stop()
        # By its locks, and not by its namespace: processes keep that alive whose name somebody has taken away.
        if (self._run_dir / "ipsec").exists():
            try:
                if self.member is not None:
                    self.member.stop()
            except (InstanceError, MeshError) as error:
                log.warning("encryption did not end in order", reason=str(error))
        # Whatever is left must end before the guards fall.
        for process in namespace.processes(self._namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.chronicle.close()
        if self._watch is not None:
            self._watch.close()
        self._shared.vpcs.leave(self.spec)
        namespace.delete(self._namespace)
        # Before it is unmounted: what is deleted need not be written out any more.
        workspace.destroy(self.opt_ml)
        release(self._directory)
        workspace.destroy(self._directory)
        keep.erase(self._run_dir)
        self._shared.supply.forget(self.spec.job)

    def _channels(self, mode: str) -> tuple[Channel, ...]:
        return tuple(channel for channel in self.spec.workspace.channels if channel.mode == mode)
