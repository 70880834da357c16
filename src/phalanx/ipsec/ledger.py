"""The kernel plane's memory: a small process per instance that adds up the counters of SAs as the kernel deletes them.

The kernel counts per SA and forgets the count with the SA, at every rekey. It tells the final numbers once, to whoever
listens (XFRM_MSG_DELSA and hard XFRM_MSG_EXPIRE carry the whole struct xfrm_usersa_info), hence a listener that outlives
the agent. What it knows lies in `ledger.json`, replaced as a whole with every event; no key is ever kept.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phalanx.ipsec.plane import Totals
from phalanx.ipsec.xfrm import DELSA, EXPIRE, NETLINK_XFRM, NEWSA, STATE, STATE_ID, State, attributes, messages, parse_state

FILE = "ledger.json"

_XFRMA_SA = 6
_GROUPS = 1 << 1 | 1 << 2
"""XFRMNLGRP_EXPIRE and XFRMNLGRP_SA (linux/xfrm.h), as a mask for bind(2)."""
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20


class Ledger:
    """Totals by peer address of what the SAs of the instance at `address` carried that are gone; outbound SAs there were."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.totals: dict[str, Totals] = {}

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
    content: dict[str, dict[str, Any]] = json.loads((rundir / FILE).read_text())
    return {peer: Totals(**totals) for peer, totals in content.items()}


def _write(rundir: Path, ledger: Ledger) -> None:
    partial = rundir / f"{FILE}.new"
    partial.write_text(json.dumps({peer: asdict(totals) for peer, totals in ledger.totals.items()}))
    partial.rename(rundir / FILE)


def main(rundir: Path, address: str) -> None:
    """Listen until killed. A lost event (ENOBUFS) ends the process: better no ledger than a wrong one."""
    ledger = Ledger(address)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        listener.bind((0, _GROUPS))
        _write(rundir, ledger)
        while True:
            data, (sender, _) = listener.recvfrom(1 << 16)
            # Only the kernel's word counts: it has port 0 (netlink(7)).
            if sender == 0:
                for kind, _, body in messages(data):
                    ledger.note(kind, body)
                _write(rundir, ledger)


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]), sys.argv[2])
