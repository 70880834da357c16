"""A fleet without hosts: instances do at once what the test's script says."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from phalanx.data.logs import LogLine
from phalanx.data.model import RoleCredentials
from phalanx.fleet.base import NoRoom, Refused, Room, Unreachable
from phalanx.fleet.waiting import Waiting
from phalanx.ipsec.model import MeshReport, PairReport
from phalanx.network.model import Exits, GuardCounters, SecurityGroup, Watched
from phalanx.node.messages import HOST_BYTES, Capacity, InstanceSpec, InstanceStatus, Measurement, Phase, Usage


@dataclass
class Script:
    """How the instances of a stub fleet behave; keys are host names."""

    exit_codes: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    errors: dict[Phase, str] = field(default_factory=dict)
    hold: Phase | None = None
    """Instances stay before this phase until they are stopped."""
    logs: list[LogLine] = field(default_factory=list)
    upload_error: str | None = None
    unreachable: int = 0
    """The next so many calls fail as if the host were away."""
    takes: int | None = None
    """The fleet takes so many instances of a job and then refuses, without telling of those it took."""
    guard: GuardCounters = field(default_factory=lambda: GuardCounters(4, 400, 24, 3000, 2, 100))
    """What the router's guard says it has counted; the instances have sent 12 packets to each other."""
    full: int = 0
    """The next so many attempts to place a job find no room."""
    ever: bool = True
    """Whether a job for which there is no room could be placed were the fleet empty."""
    zones: tuple[str, ...] | None = None
    draining: tuple[str | None, ...] = ()
    """Zones whose hosts take no instances."""
    gpus: int = 0
    """How many the fleet has."""
    deaf: bool = False
    """Stops have no effect, as with containers that ignore SIGTERM."""


class StubFleet:
    """Implements Fleet."""

    _longest_wait = 0.05

    def __init__(self, script: Script, memory: int = 24 * 1024**3) -> None:
        self.script = script
        self.specs: dict[str, InstanceSpec] = {}
        self.rules: dict[str, tuple[SecurityGroup, ...]] = {}
        self.exits: dict[str, Exits] = {}
        self.stops: list[float] = []
        self.lent: list[tuple[tuple[str, ...], RoleCredentials]] = []
        self.most = 0
        self._known: dict[str, InstanceStatus] = {}
        self._memory = memory
        self._lock = threading.Lock()
        self._waiting = Waiting()
        self._looks = 0

    def capacity(self) -> Capacity:
        zones = self.script.zones and tuple(zone for zone in self.script.zones if zone not in self.script.draining)
        return Capacity(2, self._memory, self.script.gpus, zones=zones)

    def rooms(self, *, draining: bool = False) -> list[Room]:
        """A host in each zone."""
        zones = [zone for zone in self.script.zones or (None,) if draining or zone not in self.script.draining]
        return [Room(self._memory - HOST_BYTES, self.script.gpus, zone) for zone in zones]

    def has_image(self, image: str) -> bool:
        return False

    def enforce(self, vpc_id: str, groups: Sequence[SecurityGroup], exits: Exits) -> None:
        self._reach()
        self.rules[vpc_id] = tuple(groups)
        self.exits[vpc_id] = exits

    def place(self, specs: Sequence[InstanceSpec]) -> None:
        self._reach()
        if self.script.full:
            self.script.full -= 1
            raise NoRoom("2 instances do not fit on 1 hosts.", ever=self.script.ever, soon=self.script.ever)
        for spec in specs[: self.script.takes]:
            self.specs[spec.id] = spec
            self._known[spec.id] = InstanceStatus(spec.id, Phase.NEW)
        self.most = max(self.most, len(self._known))
        if self.script.takes is not None:
            raise Refused("no space left on device")
        self.advance([spec.id for spec in specs], Phase.PREPARED)

    def advance(self, ids: Sequence[str], goal: Phase) -> None:
        self._reach()
        for id_ in ids:
            if self.script.hold is not None and goal >= self.script.hold:
                continue
            if goal in self.script.errors:
                self._set(id_, error=self.script.errors[goal])
            elif goal == Phase.RUNNING:
                host = self.specs[id_].host
                self._set(
                    id_,
                    phase=Phase.EXITED,
                    exit_code=self.script.exit_codes.get(host, 0),
                    failure=self.script.failures.get(host),
                )
            else:
                self._set(id_, phase=goal)

    def lend(self, ids: Sequence[str], credentials: RoleCredentials) -> None:
        self._reach()
        self.lent.append((tuple(ids), credentials))

    def statuses(self, ids: Sequence[str]) -> dict[str, InstanceStatus]:
        if self.script.takes is not None:
            return {}
        return {id_: self._known[id_] for id_ in ids if id_ in self._known}

    def wait(self, known: Mapping[str, InstanceStatus], timeout: float) -> None:
        self._waiting.until(lambda: self.statuses(list(known)) != known, known, min(timeout, self._longest_wait))

    def stop(self, ids: Sequence[str], grace: float) -> None:
        self.stops.append(grace)
        for id_ in ids:
            if not self.script.deaf and id_ in self._known and self._known[id_].phase < Phase.EXITED:
                self._set(id_, phase=Phase.EXITED, exit_code=143)

    def logs(self, instance_id: str, offset: int, final: bool) -> tuple[list[LogLine], int]:
        return self.script.logs[offset:], len(self.script.logs)

    def measure(self, ids: Sequence[str]) -> list[Measurement]:
        return [self._measurement(self.specs[id_]) for id_ in ids]

    def usage(self, ids: Sequence[str]) -> list[Usage]:
        self._looks += 1
        return [Usage(id_, 10.0 + self._looks, 1.5 * self._looks, 25.0, 40.0) for id_ in ids if id_ in self._known]

    def upload(self, ids: Sequence[str]) -> str:
        self._reach()
        if self.script.upload_error:
            raise Refused(self.script.upload_error)
        output = self.specs[ids[0]].output
        return f"{output.uri}/{output.job}/output/model.tar.gz"

    def destroy(self, ids: Sequence[str]) -> None:
        self._reach()
        for id_ in ids:
            self._known.pop(id_, None)

    def fail(self, id_: str, error: str, disconnected: bool) -> None:
        """An instance ends by an error of its own."""
        self._set(id_, error=error, disconnected=disconnected)

    def exit(
        self, id_: str, code: int | None, failure: str | None = None, out_of_memory: bool = False, error: str | None = None
    ) -> None:
        """A container ends, or its host says that it cannot go on."""
        phase = Phase.RUNNING if error else Phase.EXITED
        self._set(id_, phase=phase, exit_code=code, failure=failure, out_of_memory=out_of_memory, error=error)

    def forget(self) -> None:
        """Lose all instances, as when a host restarts."""
        self._known.clear()

    @property
    def present(self) -> set[str]:
        """Ids of the instances that exist."""
        return set(self._known)

    def _reach(self) -> None:
        if self.script.unreachable:
            self.script.unreachable -= 1
            raise Unreachable("the host is away")

    def _set(self, id_: str, **changes: object) -> None:
        with self._lock:
            self._known[id_] = replace(self._known[id_], **changes)
        self._waiting.tell([id_])

    def _measurement(self, spec: InstanceSpec) -> Measurement:
        if spec.mesh is None:
            return Measurement(spec.id, spec.host, None, None)
        pairs = tuple(
            PairReport(
                local=spec.host,
                remote=peer.name,
                established=True,
                algorithm="AES_GCM_16",
                key_bits=256,
                esn=True,
                ppk=True,
                ike="AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384",
                spi_in="c0000001",
                spi_out="c0000002",
                packets_in=10,
                packets_out=12,
                bytes_in=1000,
                bytes_out=1200,
                rekeys=0,
                local_certificate="aa",
                remote_certificate="bb",
            )
            for peer in spec.mesh.peers
        )
        return Measurement(spec.id, spec.host, MeshReport("engine", pairs, 1, 0, {}), self.script.guard, watched=Watched(1, 2))
