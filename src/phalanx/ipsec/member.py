"""One instance's side of a job's mesh: guard, data plane and IKE daemon, brought up, watched, measured and taken down."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from phalanx.ipsec import guard, netns
from phalanx.ipsec.charon import Charon, IkeSa, initiates
from phalanx.ipsec.engine.devices import device_mtu, set_mtu
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.errors import MeshError, Unanswered
from phalanx.ipsec.firewall import Firewall
from phalanx.ipsec.kernel import KernelPlane
from phalanx.ipsec.model import MeshReport, MeshSpec, PairReport, Peer, PlaneName
from phalanx.ipsec.plane import Plane, PlaneReport, Totals
from phalanx.ipsec.userspace import EnginePlane
from phalanx.linux import files

T = TypeVar("T")

CONNECT_TIMEOUT = 30.0
"""Seconds in which the next pair must stand; one takes some tens of milliseconds."""

_ALGORITHM, _KEY_BITS = "AES_GCM_16", 256
"""What an SA must be to count: nothing else can be negotiated, and nothing else would be believed."""

_NOTED = 16
"""Peers that came to stand before their certificates are read. charon remembers 32 that it has verified, and a mesh may have
more; to read them costs it as much as an IKE exchange."""

_AT_ONCE = 4
"""Peers with which one instance begins IKE before the first of them stand. charon gives up a peer that has not answered for
6.5 s, and begins again: where more are asked at once than their CPUs can answer by then, none ever stand."""

_READS = 3
"""How often pairs are read of which the data plane has SAs that charon does not tell of: it was busy, or was asked later than
the data plane, and a rekeying lay between."""

_POLL = 0.005
_RETRY = 0.5

# What the kernel counts for packets that came or wanted to go in the clear where ESP was due (linux/snmp.h).
_BLOCKED_OUT = ("XfrmOutPolBlock", "XfrmOutNoStates")
_BLOCKED_IN = ("XfrmInPolBlock", "XfrmInTmplMismatch", "XfrmInNoPols")

_COPIED = "XfrmInNoStates"
"""Where the kernel has ESP as well, it gets a copy of every packet of the engine's, and counts it for want of an SA."""

_REFUSED = ("AUTHENTICATION_FAILED", "AUTH_FAILED", "PPK required", "no trusted", "no issuer")
"""In charon's log: certificates or PPK do not fit, which no second attempt mends."""
_CAUSES = (*_REFUSED, "NO_PROPOSAL_CHOSEN", "TS_UNACCEPTABLE", "unable to")
"""What charon's log says when it matters, the most telling first."""


class Member:
    """One instance's side of its job's mesh.

    `netns` names the instance's network namespace under /run/netns, `device` its wire there; `rundir` is a private directory
    in memory, with a path short enough for Unix sockets. What runs is found by what is there, so a new Member over the same
    namespace and directory goes on where another stopped. Where something fails, methods raise MeshError, and traffic to
    peers stands still.
    """

    def __init__(self, spec: MeshSpec, netns: str, rundir: Path, plane: PlaneName, device: str = "eth0") -> None:
        self._spec = spec
        self._netns = netns
        self._device = device
        self._addresses = [peer.address for peer in spec.peers]
        self._plane_name = plane
        self._plane: Plane = (
            KernelPlane(netns, rundir, spec.address, device)
            if plane == "kernel"
            else EnginePlane(netns, rundir, spec.address, self._addresses, device)
        )
        self._charon = Charon(netns, rundir)
        # The MTU that the wire had when the data plane was started.
        self._mtu = rundir / "mtu"
        self._firewall = Firewall(netns, self._addresses, device)
        # What was seen once is kept.
        self._certificates: dict[str, str] = {}

    def guard(self) -> None:
        """Block plaintext between this namespace and every peer, all IPv6, and whoever is no peer from the IKE daemon.

        To be called before anything else runs.
        """
        guard.up(self._netns, self._addresses, self._device)
        self._firewall.up()

    def start(self) -> None:
        """Bring up data plane and charon, with credentials and connections; what runs is adopted. Refuses without the guard."""
        if fault := self.unguarded():
            raise MeshError(f"{fault}; nothing is started without it")
        if self._mtu_fault():
            self._on_wire(lambda: set_mtu(self._device, int(self._mtu.read_text())))
        if self._plane.health() is not None:
            # A charon without its data plane believes in SAs that are gone.
            self._charon.kill()
            self._plane.start()
        if self._charon.pid() is None:
            self._plane.clear()
        if not self._mtu.exists():
            # As the plane has it now.
            files.replace(self._mtu, str(self._on_wire(lambda: device_mtu(self._device))), durable=False)
        self._charon.start(self._plane.environment())
        self._charon.load(self._spec)

    def connect(self, names: Iterable[str] | None = None, timeout: float = CONNECT_TIMEOUT) -> None:
        """Initiate to these peers, some at a time, and return when each has a CHILD_SA in the data plane, measured.

        Without `names`: to those that this side of the pair initiates to. Peers that have one are left alone. What fails is
        tried again until for `timeout` seconds no more pair has come up, but not where certificates or PPK are refused.
        Raises MeshError that names each pair that did not come up, with its cause.
        """
        pending = {peer.name for peer in self._spec.peers if initiates(self._spec, peer)} if names is None else set(names)
        mark = self._charon.log_size()
        tried, begun = set[str](), set[str]()
        look = time.monotonic()
        deadline = look + timeout
        while True:
            asked = time.monotonic()
            if found := pending & self.established():
                pending -= found
                begun -= found
                deadline = asked + timeout
            if not pending:
                return
            # Asking costs the engine time that IKE needs: in a large mesh ask less often.
            pause = max(_POLL, 2 * (time.monotonic() - asked))
            # A charon with a large mesh to make answers when it comes to it.
            due = asked >= look
            with contextlib.suppress(Unanswered):
                if due:
                    begun = self._under_way(pending, tried, mark)
                self._begin(pending - begun, begun, tried)
            if due:
                if asked > deadline:
                    raise MeshError(self._complaint({name: self._cause(name, mark) for name in pending}))
                look = time.monotonic() + _RETRY
            time.sleep(pause)

    def _begin(self, waiting: set[str], begun: set[str], tried: set[str]) -> None:
        """Initiate to as many of the waiting peers as may be begun with at once, and note which."""
        if now := in_turn(self._spec.name, waiting, tried)[: max(0, _AT_ONCE - len(begun))]:
            # Noted first: a charon that does not answer yet goes about it all the same.
            begun.update(now)
            tried.update(now)
            self._charon.initiate(now)

    def _under_way(self, pending: set[str], tried: set[str], mark: int) -> set[str]:
        """With which of these peers charon is negotiating. Raises MeshError where one that was tried has refused."""
        under_way = pending & {sa.name for sa in self._charon.associations() if sa.state == "CONNECTING"}
        causes = {name: self._cause(name, mark) for name in (pending & tried) - under_way}
        if refused := {name: cause for name, cause in causes.items() if any(word in cause for word in _REFUSED)}:
            raise MeshError(self._complaint(refused))
        return under_way

    def initiate(self, names: Iterable[str]) -> None:
        """Ask charon for CHILD_SAs with those of these peers that this side initiates to, and return at once.

        For pairs that somebody has ended in order: charon restarts only what it found dead.
        """
        under_way = {sa.name for sa in self._charon.associations() if sa.state == "CONNECTING"}
        mine = {peer.name for peer in self._spec.peers if initiates(self._spec, peer)}
        self._charon.initiate(sorted(mine.intersection(names) - under_way))

    def established(self) -> frozenset[str]:
        """Names of the peers with a CHILD_SA in both directions, as the data plane has them now."""
        report = self._plane.measure()
        found = [peer for peer in self._spec.peers if self._stands(report, peer)]
        new = sum(peer.identity not in self._certificates for peer in found)
        if new >= _NOTED or (new and len(found) == len(self._spec.peers)):
            self._note_certificates()
        return frozenset(peer.name for peer in found)

    def unguarded(self) -> str | None:
        """None where the guard stands; else what is missing of it."""
        return guard.check(self._netns, self._addresses, self._device)

    def health(self) -> str | None:
        """None where guard, data plane, wire and charon are as they were made and answer; else what is wrong, in words."""
        fault = self.unguarded() or self._plane.health()
        if fault is not None:
            return fault
        try:
            if fault := self._mtu_fault():
                return fault
            self._firewall.up()
            if self._charon.pid() is None:
                return "charon is dead"
            self._charon.version()
        except MeshError as error:
            return str(error)
        return None

    def trim_log(self) -> None:
        """Keep charon's log short. May be called from any thread. Raises OSError."""
        self._charon.trim_log()

    def recover(self, timeout: float) -> None:
        """Bring everything up anew after health() complained, and initiate to every peer. The guard stands all the while."""
        self.guard()
        self._charon.kill()
        self.start()
        self.connect((peer.name for peer in self._spec.peers), timeout)

    def measure(self) -> MeshReport:
        """What data plane, charon and kernel say of every pair now. What cannot be asked is reported as empty or False."""
        versions = {"linux": os.uname().release}
        with contextlib.suppress(MeshError):
            versions["strongswan"] = self._charon.version()
        self._note_certificates()
        plane, pairs = self._read()
        for _ in range(_READS - 1):
            if all(pair.ike and pair.algorithm for pair in pairs if pair.established):
                break
            time.sleep(_POLL)
            plane, pairs = self._read()
        try:
            counters = netns.xfrm_statistics(self._netns)
        except OSError as error:
            raise MeshError(
                f"what the guard has blocked in namespace {self._netns} cannot be read: {error}; "
                "the kernel needs CONFIG_XFRM_STATISTICS"
            ) from error
        told = {*_BLOCKED_OUT, *_BLOCKED_IN, *([_COPIED] if self._plane_name == "engine" else [])}
        return MeshReport(
            data_plane=self._plane_name,
            pairs=pairs,
            plaintext_blocked_out=sum(counters.get(name, 0) for name in _BLOCKED_OUT),
            plaintext_blocked_in=sum(counters.get(name, 0) for name in _BLOCKED_IN),
            drops={**plane.drops, **{name: count for name, count in counters.items() if count and name not in told}},
            versions=versions,
            work=plane.work,
        )

    def stop(self) -> None:
        """End charon, which tells the peers, then the data plane; remove sockets and settings. The guard stays."""
        try:
            self._charon.stop()
        finally:
            self._plane.stop()
            self._mtu.unlink(missing_ok=True)

    def _mtu_fault(self) -> str | None:
        """What is wrong where the wire has another MTU than at first; None where it has not, or nothing was started yet.

        Packets of the data plane would be too long for one end, and TCP through the tunnel, which nobody tells, would hang.
        Raises MeshError.
        """
        if not self._mtu.exists():
            return None
        now = self._on_wire(lambda: device_mtu(self._device))
        if now != int(wanted := self._mtu.read_text()):
            return f"somebody has changed the MTU of {self._device} in namespace {self._netns} from {wanted} bytes to {now}"
        return None

    def _on_wire(self, action: Callable[[], T]) -> T:
        try:
            return netns.inside(self._netns, action)
        except (OSError, EngineError) as error:
            raise MeshError(f"the wire of namespace {self._netns}: {error}") from error

    def _read(self) -> tuple[PlaneReport, tuple[PairReport, ...]]:
        plane = self._plane.measure()
        try:
            sas = self._charon.associations()
        except MeshError:
            sas = []
        return plane, tuple(self._pair(peer, plane, sas) for peer in self._spec.peers)

    def _note_certificates(self) -> None:
        with contextlib.suppress(MeshError):
            self._certificates.update(self._charon.certificates())

    def _stands(self, report: PlaneReport, peer: Peer) -> bool:
        associated = {
            (sa.source, sa.destination)
            for sa in report.associations
            if sa.algorithm == _ALGORITHM and sa.key_bits == _KEY_BITS and sa.esn
        }
        # charon gives a data plane the SAs first and the policies, without which nothing passes, a little later.
        return {(self._spec.address, peer.address), (peer.address, self._spec.address)} <= associated & report.flows

    def _pair(self, peer: Peer, plane: PlaneReport, sas: list[IkeSa]) -> PairReport:
        mine = [sa for sa in sas if sa.name == peer.name and sa.remote_identity == peer.identity]
        live = {sa.spi: sa for sa in plane.associations if {sa.source, sa.destination} == {self._spec.address, peer.address}}
        # While a rekeying is under way there are two; the newer one is what carries.
        newest = max(
            (
                (child.unique_id, child, sa)
                for sa in mine
                for child in sa.children
                if {child.spi_in, child.spi_out} <= set(live)
            ),
            default=None,
            key=lambda found: found[0],
        )
        child, ike = (newest[1], newest[2]) if newest else (None, mine[0] if mine else None)
        outbound = live[child.spi_out] if child else None
        totals = plane.totals.get(peer.address, Totals())
        return PairReport(
            local=self._spec.name,
            remote=peer.name,
            established=self._stands(plane, peer),
            algorithm=outbound.algorithm if outbound else "",
            key_bits=outbound.key_bits if outbound else 0,
            esn=bool(outbound and outbound.esn),
            ppk=bool(ike and ike.ppk),
            ike=ike.suite if ike else "",
            spi_in=f"{child.spi_in:08x}" if child else "",
            spi_out=f"{child.spi_out:08x}" if child else "",
            packets_in=totals.packets_in,
            packets_out=totals.packets_out,
            bytes_in=totals.bytes_in,
            bytes_out=totals.bytes_out,
            rekeys=max(totals.installed - 1, 0),
            local_certificate=self._certificates.get(self._spec.identity, ""),
            remote_certificate=self._certificates.get(peer.identity, ""),
            key_age=child.age if child else None,
        )

    def _cause(self, name: str, mark: int) -> str:
        lines = [line.strip() for line in self._charon.said(name, mark)]
        for word in _CAUSES:
            for line in reversed(lines):
                if word in line:
                    return line
        if any("retransmit" in line for line in lines):
            return "the peer does not answer on UDP 500"
        return lines[-1] if lines else "charon has not begun"

    def _complaint(self, causes: dict[str, str]) -> str:
        pairs = "; ".join(f"{self._spec.name} to {name}: {cause}" for name, cause in sorted(causes.items()))
        return f"no CHILD_SA in job {self._spec.job}: {pairs}"


def in_turn(name: str, peers: set[str], tried: set[str]) -> list[str]:
    """The order in which an instance asks its peers: from its own name on, so that no peer is asked by all at once; first those
    that it has not tried, so that one that does not answer keeps nobody waiting for good."""
    return sorted(peers, key=lambda peer: (peer in tried, peer < name, peer))
