"""The kernel plane's memory: a small process per instance that adds up the counters of SAs as the kernel deletes them.

The kernel counts per SA and forgets the count with the SA, at every rekey. It tells the final numbers once, to whoever
listens (XFRM_MSG_DELSA and hard XFRM_MSG_EXPIRE carry the whole struct xfrm_usersa_info), hence a listener that outlives
the agent. What it knows lies in `ledger.json`, replaced as a whole with every event; no key is ever kept.

The kernel would carry packets by the SAs of a dead charon for as long as their keys live, and the peer's charon takes what
arrives for a sign of life. So the ledger watches charon as well, and removes what it left the moment that it is dead.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phalanx.ipsec import guard
from phalanx.ipsec.daemon import IKE, Daemon
from phalanx.ipsec.plane import Totals
from phalanx.ipsec.xfrm import (
    DELSA,
    EXPIRE,
    NETLINK_XFRM,
    NEWSA,
    STATE,
    STATE_ID,
    UPDSA,
    State,
    parse_state,
)
from phalanx.linux import files
from phalanx.linux.netlink import attributes, messages

FILE = "ledger.json"
EARLIER = "ledger.earlier.json"
"""What a ledger that died has left: the next one goes on from there."""

_XFRMA_SA = 6
_GROUPS = 1 << 1 | 1 << 2
"""XFRMNLGRP_EXPIRE and XFRMNLGRP_SA (linux/xfrm.h), as a mask for bind(2)."""
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20
_HERE = "/proc/self/ns/net"


class Ledger:
    """Totals by peer address of what the SAs of the instance at `address` carried that are gone; outbound SAs there were.

    It goes on from `totals`.
    """

    def __init__(self, address: str, totals: Mapping[str, Totals]) -> None:
        self._address = address
        self.totals = dict(totals)

    def note(self, kind: int, body: bytes) -> None:
        """Take in one XFRM event: its type, and the message after struct nlmsghdr."""
        if kind == NEWSA:
            state = parse_state(body)
            # An inbound SA is announced by XFRM_MSG_UPDSA, since its SPI was reserved before.
            if state is not None and state.source == self._address:
                self._add(state.destination, Totals(installed=1))
        elif kind == DELSA:
            for key, value in attributes(body[STATE_ID.size :]):
                if key == _XFRMA_SA:
                    self._close(parse_state(value))
        elif kind == EXPIRE and body[STATE.size]:
            self._close(parse_state(body[: STATE.size]))

    def _close(self, state: State | None) -> None:
        if state is None:
            return
        peer, counted = of(state, self._address)
        self._add(peer, counted)

    def _add(self, peer: str, more: Totals) -> None:
        self.totals[peer] = self.totals.get(peer, Totals()) + more


def of(state: State, address: str) -> tuple[str, Totals]:
    """The peer of an SA of the instance at `address`, and what the SA has carried."""
    if state.source == address:
        return state.destination, Totals(packets_out=state.packets, bytes_out=state.bytes)
    return state.source, Totals(packets_in=state.packets, bytes_in=state.bytes)


def read(rundir: Path) -> dict[str, Totals]:
    """What the ledger holds. Raises OSError or ValueError where there is none."""
    return _totals(_content(rundir / FILE))


def watches(rundir: Path) -> bool:
    """Whether the ledger has yet to remove the SAs of a charon, alive or just dead. Raises OSError or ValueError."""
    return bool(_content(rundir / FILE)["watches"])


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _totals(content: dict[str, Any]) -> dict[str, Totals]:
    return {peer: Totals(**totals) for peer, totals in content["totals"].items()}


class Keeper:
    """The process: it hears the kernel, keeps the ledger on disk, and holds on to the charon whose SAs it has heard of."""

    def __init__(self, rundir: Path, address: str, listener: socket.socket) -> None:
        self._rundir = rundir
        earlier = rundir / EARLIER
        self._ledger = Ledger(address, _totals(_content(earlier)) if earlier.exists() else {})
        self._listener = listener
        self._daemon = Daemon(_HERE, rundir, IKE)
        self._charon: int | None = None
        self._write()

    def step(self) -> None:
        """Wait for the kernel's word or charon's death, and act on it."""
        waiting = [self._listener.fileno(), *([] if self._charon is None else [self._charon])]
        ready, _, _ = select.select(waiting, [], [])
        # What charon did before it died was said before: it must not be taken for another's.
        heard = self._hear()
        if self._charon in ready:
            self._bury()
        elif heard and self._charon is None:
            self._watch()
        self._write()

    def _hear(self) -> bool:
        """Take in what the kernel has said; whether there were new SAs. A lost event (ENOBUFS) is an error."""
        new = False
        while True:
            try:
                data, (sender, _) = self._listener.recvfrom(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return new
            # Only the kernel's word counts: it has port 0 (netlink(7)).
            for kind, _, body in messages(data) if sender == 0 else ():
                self._ledger.note(kind, body)
                new = new or kind in (NEWSA, UPDSA)

    def _watch(self) -> None:
        pid = self._daemon.pid()
        try:
            self._charon = None if pid is None else os.pidfd_open(pid)
        except ProcessLookupError:
            pid = None
        if pid is None or self._daemon.pid() != pid:
            self._bury()

    def _bury(self) -> None:
        """What a dead charon has left behind protects nobody: without it the guard decides."""
        guard.stand_alone(_HERE)
        if self._charon is not None:
            os.close(self._charon)
        self._charon = None

    def _write(self) -> None:
        totals = {peer: asdict(totals) for peer, totals in self._ledger.totals.items()}
        content = json.dumps({"watches": self._charon is not None, "totals": totals})
        files.replace(self._rundir / FILE, content, durable=False)


def main(rundir: Path, address: str) -> None:
    """Listen until killed. A lost event ends the process: better no ledger than a wrong one."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        listener.bind((0, _GROUPS))
        keeper = Keeper(rundir, address, listener)
        while True:
            keeper.step()


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]), sys.argv[2])
