"""The kernel as data plane: XFRM with ESP, where the kernel has it, and a ledger of the SAs that are gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from phalanx.ipsec import guard, ledger, netns
from phalanx.ipsec.daemon import Daemon
from phalanx.ipsec.engine.devices import device_mtu, set_mtu
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.plane import Association, PlaneReport, Totals
from phalanx.ipsec.xfrm import Xfrm

LONGEST = 31000
"""The most bytes that a packet of ESP has. What the kernel seals lies in one piece of its memory (skb_cow_data), here of 32 KiB
with headroom and struct skb_shared_info; eight pages are the longest piece that there always is (PAGE_ALLOC_COSTLY_ORDER)."""
_START_TIMEOUT = 30.0
_SWEEP_TIMEOUT = 5.0
_READS = 5
_SALT_BITS = 32
_NAMES = {("rfc4106(gcm(aes))", 128): "AES_GCM_16"}
"""IKE's name (RFC 8247, IANA) of the kernel's AEADs, by name and bits of ICV."""


class KernelPlane:
    """The kernel's SAs and policies in one instance's namespace, as a data plane (plane.Plane)."""

    def __init__(self, space: str, rundir: Path, address: str, device: str) -> None:
        self._netns = space
        self._rundir = rundir
        self._address = address
        self._device = device
        self._ledger = Daemon(space, rundir, "ledger")

    def start(self) -> None:
        """Start or adopt the ledger. The kernel itself needs no start: charon gives it SAs and policies."""
        try:
            netns.inside(self._netns, self._bound_packets)
        except (OSError, EngineError) as error:
            raise MeshError(f"the MTU of {self._device} in namespace {self._netns} cannot be set: {error}") from error
        if self._ledger.pid() is not None:
            return
        with contextlib.suppress(FileNotFoundError):
            (self._rundir / ledger.FILE).rename(self._rundir / ledger.EARLIER)
        environment = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        self._ledger.launch((sys.executable, "-P", "-m", ledger.__name__, str(self._rundir), self._address), environment)
        deadline = time.monotonic() + _START_TIMEOUT
        while not (self._rundir / ledger.FILE).exists():
            if time.monotonic() > deadline:
                raise MeshError(f"the ledger of SAs in namespace {self._netns} did not start: {self._ledger.tail()}")
            time.sleep(0.005)

    def _bound_packets(self) -> None:
        if device_mtu(self._device) > LONGEST:
            set_mtu(self._device, LONGEST)

    def health(self) -> str | None:
        """None where the ledger runs."""
        if self._ledger.pid() is None:
            return (
                f"the ledger of SAs has died, and what SAs had carried that ended since is in no total: {self._ledger.tail()}"
            )
        return None

    def environment(self) -> Mapping[str, str]:
        """Nothing: charon talks to the kernel."""
        return {}

    def clear(self) -> None:
        """Remove every SA, and every policy but the guards, and see that the ledger does not do it later once more."""
        try:
            guard.stand_alone(self._netns)
        except OSError as error:
            raise MeshError(f"the kernel's SAs in namespace {self._netns} cannot be removed: {error}") from error
        deadline = time.monotonic() + _SWEEP_TIMEOUT
        while self._ledger.pid() is not None and ledger.watches(self._rundir):
            if time.monotonic() > deadline:
                raise MeshError(f"the ledger of SAs in namespace {self._netns} does not see that charon is gone")
            time.sleep(0.005)

    def measure(self) -> PlaneReport:
        """What the kernel counts for live SAs, plus what the ledger has of those that are gone."""
        try:
            # An SA that goes in between would be missed or counted twice: read until the ledger has stood still.
            for _ in range(_READS):
                before = ledger.read(self._rundir)
                with Xfrm.kernel(self._netns) as xfrm:
                    states = [state for state in xfrm.states() if state.algorithm]
                    policies = xfrm.policies()
                if ledger.read(self._rundir) == before:
                    break
        except (OSError, ValueError) as error:
            raise MeshError(f"the kernel's SAs in namespace {self._netns} cannot be read: {error}") from error
        totals = before
        for state in states:
            peer, counted = ledger.of(state, self._address)
            totals[peer] = totals.get(peer, Totals()) + counted
        return PlaneReport(
            associations=tuple(
                Association(
                    spi=state.spi,
                    source=state.source,
                    destination=state.destination,
                    algorithm=_NAMES.get((state.algorithm, state.icv_bits), state.algorithm),
                    key_bits=state.key_bits - _SALT_BITS,
                    esn=state.esn,
                )
                for state in states
            ),
            # Outbound or inbound, that let single hosts talk by IPsec.
            flows=frozenset(
                (str(policy.source.network_address), str(policy.destination.network_address))
                for policy in policies
                if policy.template and policy.action == "allow" and policy.direction != "fwd"
            ),
            totals=totals,
            drops={},
        )

    def stop(self) -> None:
        """Remove SAs and policies, end the ledger."""
        # A namespace whose name is gone cannot be entered; it ends with its last process, and its SAs with it.
        if os.path.exists(netns.path(self._netns)):
            with contextlib.suppress(FileNotFoundError):
                self.clear()
        self._ledger.end(signal.SIGTERM, signal.SIGKILL)
        for name in (ledger.FILE, f"{ledger.FILE}.new", ledger.EARLIER):
            (self._rundir / name).unlink(missing_ok=True)
