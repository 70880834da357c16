"""The node agent: all instances of one service on this host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import structlog
from pydantic import Base64Bytes

from phalanx.data import artifacts, parcel, workspace
from phalanx.data import logs as container_logs
from phalanx.data.fastfile import release
from phalanx.data.logs import LogLine
from phalanx.data.model import Output, RoleCredentials
from phalanx.ipsec import probe
from phalanx.ipsec.model import PlaneName
from phalanx.network import namespace, tunnel
from phalanx.network.model import Exits, Overlay, SecurityGroup
from phalanx.network.router import Router
from phalanx.node import disk, keep
from phalanx.node.chronicle import now_ms
from phalanx.node.instance import Instance, Shared
from phalanx.node.messages import (
    HOST_BYTES,
    PARCEL_BYTES,
    Capacity,
    InstanceSpec,
    InstanceStatus,
    Measurement,
    Phase,
    Statuses,
    Usage,
)
from phalanx.node.names import Names
from phalanx.node.supply import Supply
from phalanx.node.vpcs import Vpcs
from phalanx.node.worker import Worker
from phalanx.runtime import cdi
from phalanx.runtime.containers import Containers
from phalanx.runtime.images import Images

VERIFY_SECONDS = 1.0
"""How often the routers' rulesets are compared with what was applied."""
REGISTRIES = "PHALANX_REGISTRIES"
"""The environment's variable with the registries that images may be fetched from, apart by spaces."""

RULES_CHANGED = (
    "somebody changed the router's rules; they were put back, and what the router's guard had counted may be lost,"
    " while the guard inside the instance went on"
)
"""What the evidence of a job says then."""

LOST_ARTIFACTS = "InternalServerError: An instance was lost before its artifacts were uploaded."

log = structlog.get_logger()


class Agent:
    """What one host does for a service. Its methods are the calls that the fleet makes; all may be repeated."""

    def __init__(self, shared: Shared) -> None:
        self._names = shared.names
        self._shared = shared
        self._workers: dict[str, Worker] = {}
        self._lock = threading.Lock()
        self._condition = threading.Condition()
        # Grows over restarts of the agent too, until the host's: a later answer is known from an earlier one.
        self._version = time.monotonic_ns()
        self._closing = threading.Event()

    @classmethod
    def of(cls, names: Names, images: Path, registries: frozenset[str]) -> Agent:
        """A service's agent on this host, whose images lie in the store at `images` or may be fetched from `registries`."""
        store = Images.of(images)
        logs = names.data_dir / "instances"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(
            Shared(
                names=names,
                vpcs=Vpcs(names),
                supply=Supply(store, registries, names),
                containers=Containers(store, names.run_dir, logs, names.cgroup, memory=_instances_memory()),
                plane=_choose_plane,
                gpus=_gpus(),
            )
        )

    def recover(self) -> None:
        """Carry on with the instances an earlier agent left, and clear away what belongs to none."""
        shutil.rmtree(self._names.incoming, ignore_errors=True)
        found = keep.saved(self._names)
        self._shared.vpcs.restore(spec for spec, _ in found)
        for spec, goal in found:
            self._adopt(spec, goal)
        self._sweep({spec.id for spec, _ in found}, {spec.vpc_id for spec, _ in found})
        threading.Thread(target=self._verify, name="verify", daemon=True).start()

    def capacity(self) -> Capacity:
        """What this host has."""
        return Capacity(
            cpus=os.cpu_count() or 1,
            memory=_host_memory(),
            gpus=len(self._shared.gpus),
            encrypted_disk=disk.encrypted(self._names.data_dir),
            draining=self._names.draining.exists(),
            zones=(self._names.zone.read_text(),) if self._names.zone.exists() else None,
        )

    def lead(self) -> None:
        """A replica of the control plane has taken the lead: from here on orders of earlier leaders are refused (`Terms`)."""

    def renew(self, heard: float, seconds: float) -> float:
        """See Lease."""
        return self._shared.lease.renew(heard, seconds)

    def has_image(self, image: str) -> bool:
        """Whether the host's image store holds an image of that name, or it may be fetched from its registry."""
        return self._shared.supply.has(image)

    def enforce(self, vpc_id: str, groups: tuple[SecurityGroup, ...], exits: Exits, overlay: Overlay | None = None) -> None:
        """Make these the security-group rules of a VPC, its ways out and its tunnels to other hosts, on this host."""
        self._shared.vpcs.enforce(vpc_id, groups, exits, overlay)

    def mtu(self, address: str) -> int:
        """The MTU in bytes that instances have where their packets travel to other hosts from this host's `address`."""
        return tunnel.mtu(address)

    def place(self, specs: tuple[InstanceSpec, ...]) -> None:
        """Take instances; they are kept when this returns, and work towards PREPARED begins."""
        for spec in specs:
            if spec.id not in self._workers:
                Instance(spec, self._shared).save(Phase.PREPARED)
                self._adopt(spec, Phase.PREPARED)

    def advance(self, ids: tuple[str, ...], goal: Phase) -> None:
        """Set the goal of instances. Unknown ids are passed over: their absence shows in `statuses`."""
        for worker in self._known(ids):
            worker.advance(goal)

    def lend(self, ids: tuple[str, ...], credentials: RoleCredentials) -> None:
        """Give these to the containers of instances that expect credentials. Raises OSError."""
        for worker in self._known(ids):
            worker.instance.lend(credentials)

    def statuses(self, seen: int, timeout: float) -> Statuses:
        """All instances, as soon as something changed since version `seen`, or after `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._version != seen or self._closing.is_set(), timeout)
            with self._lock:
                statuses: tuple[InstanceStatus, ...] = tuple(worker.status for worker in self._workers.values())
            return Statuses(self._version, statuses)

    def stop(self, ids: tuple[str, ...], grace: float) -> None:
        """SIGTERM to the containers, SIGKILL after `grace` seconds."""
        for worker in self._known(ids):
            worker.stop(grace)

    def logs(self, instance_id: str, offset: int, final: bool) -> tuple[list[LogLine], int]:
        """Lines of a container's log from byte `offset`, and where to go on; `final` takes a last line without its end."""
        path = self._shared.containers.log_path(instance_id)
        return container_logs.read(path, offset, 10_000, final=final) if path.exists() else ([], offset)

    def measure(self, ids: tuple[str, ...]) -> list[Measurement]:
        """What data planes, IKE daemons and guards report now."""
        return [worker.instance.measure() for worker in self._known(ids)]

    def usage(self, ids: tuple[str, ...]) -> list[Usage]:
        """What instances use now, those that have a container."""
        return [usage for worker in self._known(ids) if (usage := worker.instance.usage()) is not None]

    def parcel(self, instance_id: str, offset: int) -> Base64Bytes:
        """A piece of what an instance left, from byte `offset` of its parcel; at its end empty. What still runs in it is
        killed.

        Raises ContainerError, DataError, OSError.
        """
        for worker in self._known((instance_id,)):
            file = self._names.instance_dir(instance_id) / "parcel"
            if offset == 0:
                worker.end()
                parcel.pack(worker.instance.opt_ml, file)
            with file.open("rb") as content:
                content.seek(offset)
                return content.read(PARCEL_BYTES)
        raise LookupError(LOST_ARTIFACTS)

    def deliver(self, instance_id: str, sender: str, offset: int, content: Base64Bytes) -> None:
        """Keep a piece of another host's instance `sender`, to be uploaded with what `instance_id` left; an empty one is the
        last. Raises OSError."""
        if not self._known((instance_id,)):
            raise LookupError(LOST_ARTIFACTS)
        workspace = self._delivered(instance_id, sender)
        file = workspace.with_suffix(".parcel")
        file.parent.mkdir(exist_ok=True)
        with file.open("ab") as kept:
            kept.truncate(offset)
            kept.write(content)
        if not content:
            # The file stays until the instance goes: this may be asked again.
            parcel.unpack(file, workspace)

    def upload(self, ids: tuple[str, ...]) -> str:
        """Upload the merged artifacts of a job's instances, also of those that were delivered here; the S3 URI of the model.
        What still runs in them is killed.

        Raises ContainerError, DataError.
        """
        workers = self._known(ids)
        known = {worker.instance.spec.id: worker.instance for worker in workers}
        if ids[0] not in known:
            raise LookupError(LOST_ARTIFACTS)
        workspaces = [known[id_].opt_ml if id_ in known else self._delivered(ids[0], id_) for id_ in ids]
        if not all(workspace.exists() for workspace in workspaces):
            raise LookupError(LOST_ARTIFACTS)
        for worker in workers:
            worker.end()
        spec = known[ids[0]].spec
        output: Output = spec.output
        return artifacts.upload(spec.store, output, workspaces)

    def destroy(self, ids: tuple[str, ...]) -> None:
        """Take instances down; when this returns, nothing of them is left."""
        workers = self._known(ids)
        if not workers:
            return
        with ThreadPoolExecutor(len(workers)) as pool:
            list(pool.map(Worker.destroy, workers))
        with self._lock:
            for worker in workers:
                self._workers.pop(worker.instance.spec.id, None)
        self._notify()

    def close(self) -> None:
        """End the threads; instances stay as they are."""
        self._closing.set()
        self._notify()
        for worker in list(self._workers.values()):
            worker.detach()

    def empty(self) -> bool:
        """Whether this host holds no instance of the service."""
        return not self._workers

    def _delivered(self, instance_id: str, sender: str) -> Path:
        return self._names.instance_dir(instance_id) / "delivered" / sender

    def _known(self, ids: Sequence[str]) -> list[Worker]:
        with self._lock:
            return [self._workers[id_] for id_ in ids if id_ in self._workers]

    def _adopt(self, spec: InstanceSpec, goal: Phase) -> None:
        worker = Worker(Instance(spec, self._shared), goal, self._notify)
        with self._lock:
            self._workers[spec.id] = worker
        worker.start()
        self._notify()

    def _notify(self) -> None:
        with self._condition:
            self._version += 1
            self._condition.notify_all()

    def _sweep(self, instances: set[str], vpcs: set[str]) -> None:
        """Clear away namespaces, containers and directories of no known instance: what a kill left half made or half gone."""
        for container in self._shared.containers.listing():
            if container not in instances:
                self._shared.containers.remove(container)
        used = {self._names.instance_namespace(id_) for id_ in instances}
        used |= {name(id_) for id_ in vpcs for name in (self._names.router_namespace, self._names.exit_namespace)}
        for name in namespace.listing(self._names.namespaces):
            if name not in used:
                for process in namespace.processes(name):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                Router(name).destroy()
        for path in self._names.run_dir.glob("i-*"):
            if path.name not in instances:
                keep.erase(path)
        # A restart of the host takes the specs along, which lie in memory, and leaves what is on the disk.
        for path in (self._names.data_dir / "instances").glob("i-*"):
            if path.name.removesuffix(".log") not in instances:
                release(path)
                workspace.destroy(path)

    def _verify(self) -> None:
        while not self._closing.wait(VERIFY_SECONDS):
            self._trim()
            for vpc_id in self._shared.vpcs.known():
                begun = now_ms()
                with self._lock:
                    workers = [worker for worker in self._workers.values() if worker.instance.spec.vpc_id == vpc_id]
                # Each by itself: a router that cannot be mended must not keep others from being looked at.
                try:
                    changed = self._shared.vpcs.verify(vpc_id)
                except Exception as error:
                    log.exception("cannot verify the ruleset", vpc=vpc_id)
                    for worker in workers:
                        worker.seen(begun, f"the router cannot be looked at, and forwards nothing: {error}")
                    continue
                if changed:
                    log.warning("ruleset was changed by others and re-asserted", vpc=vpc_id)
                for worker in workers:
                    if changed:
                        worker.seen(begun, RULES_CHANGED)
                        worker.note(RULES_CHANGED)
                    worker.seen(now_ms(), None)

    def _trim(self) -> None:
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            try:
                worker.instance.trim()
            except OSError as error:
                log.warning("an IKE daemon's log cannot be kept short", instance=worker.instance.spec.id, reason=str(error))


@cache
def _choose_plane() -> PlaneName:
    # A host that can encrypt keeps on being able to; one that cannot is asked again, since somebody may have mended it: what is
    # raised is not kept.
    plane = probe.choose(probe.probe())
    log.info("data plane chosen", plane=plane)
    return plane


def _gpus() -> tuple[cdi.Gpu, ...]:
    """This host's GPUs; none where their specs cannot be read, so that jobs are refused that need them."""
    try:
        return cdi.gpus()
    except cdi.CdiError as error:
        log.error("no GPU can be used", reason=str(error))
        return ()


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _instances_memory() -> int:
    """Bytes that all containers together may use. Admission counts on less than their types allow them; where they use more
    after all, the kernel ends one of them, and never a part of the host."""
    return max(_host_memory() - HOST_BYTES, _host_memory() // 2)
