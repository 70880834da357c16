"""The watch over one ENI of an encrypted job: what its instance puts on the wire, by what it is, seen by no guard.

Packet sockets on the router's end of the wire see each frame before any rule of the router, whatever guards hold or claim; each
frame between two instances enters some router so. What a socket's filter (classic BPF, linux/filter.h) does not match costs a
few instructions. ESP and IKE are counted by sockets whose buffers stay full, so that the kernel counts a frame as dropped
(PACKET_STATISTICS) and copies nothing; only what should not be there is read.

Nobody counts while the agent is dead. Counts are kept in a file, with the time until which they hold; what is between that and
the next agent is told as a time away.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from ipaddress import IPv4Address
from pathlib import Path

import structlog

from phalanx.linux import files
from phalanx.network import namespace
from phalanx.network.frames import (
    ETH_P_ALL,
    ETH_P_IP,
    PACKET_STATISTICS,
    SOL_PACKET,
    Instruction,
    classify,
    keep,
    packet_socket,
    text,
)
from phalanx.network.model import Sighting, Watched

AWAY = 64
"""Times away that are told apart; of more, the latest ones are told as one."""
SIGHTINGS = 8
"""Frames in the clear that are kept: the first ones."""
_HEADERS = 54
"""Bytes kept of such a frame: Ethernet, IPv4 and TCP headers, of what was said next to nothing."""
_KEPT = _HEADERS + 1
"""Bytes read of it: with the type of an ICMPv6 message."""

_ICMPV6, _DISCOVERY = 58, range(133, 138)  # RFC 4861: router and neighbour discovery

# linux/bpf_common.h: load a half word, byte or word at an offset, or behind the IPv4 header, and its length; jumps.
_LDH, _LDB, _LDW, _LDH_X, _LDB_X, _LDX_IHL = 0x28, 0x30, 0x20, 0x48, 0x50, 0xB1
_JEQ, _JGE, _JSET = 0x15, 0x35, 0x45

log = structlog.get_logger()

_WHOLE, _NONE = keep(0xFFFFFFFF), keep(0)
_IS_ESP: list[Instruction] = [(_LDB, 0, 0, 23), (_JEQ, 0, 1, socket.IPPROTO_ESP)]
"""Of an IPv4 frame; the next instruction is for ESP, the one after for all else."""


def _is_ike(accept: Instruction) -> list[Instruction]:
    """Of an IPv4 frame: `accept` where it is IKEv2 on UDP 500, whole; else on to what follows."""
    return [
        (_LDB, 0, 0, 23),
        (_JEQ, 0, 10, socket.IPPROTO_UDP),
        (_LDH, 0, 0, 20),
        (_JSET, 8, 0, 0x3FFF),  # a fragment hides what it carries
        (_LDX_IHL, 0, 0, 14),
        (_LDH_X, 0, 0, 14),
        (_JEQ, 0, 5, 500),
        (_LDH_X, 0, 0, 16),
        (_JEQ, 0, 3, 500),
        (_LDB_X, 0, 0, 14 + 8 + 17),
        (_JEQ, 0, 1, 0x20),  # version 2.0 (RFC 7296 §3.1)
        accept,
    ]


def _suspicious(peers: Sequence[str]) -> list[Instruction]:
    """All but ESP and IKE to these addresses, to groups and to everybody; and whatever is not IPv4."""
    program = [(_LDH, 0, 0, 12), (_JEQ, 1, 0, ETH_P_IP), _WHOLE, *_IS_ESP, _NONE, *_is_ike(_NONE)]
    program += [(_LDW, 0, 0, 30), (_JGE, 0, 1, int(IPv4Address("224.0.0.0"))), _WHOLE]
    for peer in peers:
        program += [(_JEQ, 0, 1, int(IPv4Address(peer))), _WHOLE]
    return [*program, _NONE]


class Watch:
    """Watches what the instance with an ENI sends to `peers`, other instances of its job, to groups and to everybody.

    `path` is where its counts are kept. Methods may be called from any thread.
    """

    def __init__(self, path: Path, peers: Sequence[str]) -> None:
        self._path = path
        self._peers = peers
        self._lock = threading.Lock()
        self._at: tuple[str, int, int] | None = None
        self._sockets: dict[str, socket.socket] = {}
        self._watched = _read(path)
        self._blind = False
        self._closed = False

    def open(self, router: str, link: str) -> None:
        """Watch the wire whose end in the namespace `router` is `link`, before it is up; idempotent. Raises OSError."""
        with self._lock:
            with namespace.entered(router):
                at = (router, _inode(router), socket.if_nametoindex(link))
                if at == self._at:
                    return
                opened = {
                    "esp": _opened(link, ETH_P_IP, [*_IS_ESP, _WHOLE, _NONE]),
                    "ike": _opened(link, ETH_P_IP, [*_is_ike(_WHOLE), _NONE]),
                    "clear": _opened(link, ETH_P_ALL, _suspicious(self._peers)),
                }
            now = _now()
            watched = self._watched or Watched(since=now, until=now)
            if self._sockets:
                # The wire was taken away and made again, and is watched before it is up: nothing went unseen.
                watched = self._counted(watched)
                self._shut()
            elif self._watched is not None:
                watched = self._unwatched(watched, now)
            self._at, self._sockets, self._blind = at, opened, False
            self._keep(replace(watched, until=now))

    def look(self) -> Watched | None:
        """What was seen until now; None where there never was a wire. Raises OSError where the kernel does not tell.

        While no wire is watched, as when this agent cannot prepare an instance that an earlier one left, that is a time away.
        """
        with self._lock:
            if self._at is not None and self._watched is not None:
                self._keep(self._counted(self._watched))
                if _inode(self._at[0]) != self._at[1]:
                    # Somebody took the router's name away, and these sockets alone keep the rest of it.
                    self._shut()
            elif self._watched is not None and not self._closed:
                now = _now()
                self._keep(replace(self._unwatched(self._watched, now), until=now))
                self._blind = True
            return self._watched

    def close(self) -> None:
        """Watch no longer, and keep nothing any more."""
        with self._lock:
            self._shut()
            self._closed = True

    def _unwatched(self, watched: Watched, now: int) -> Watched:
        """With the time away from when it was last watched until now; one that was told already goes on."""
        if self._blind:
            return replace(watched, away=(*watched.away[:-1], (watched.away[-1][0], now)))
        return replace(watched, away=_away(watched.away, (watched.until, now)))

    def _counted(self, watched: Watched) -> Watched:
        """With what the kernel has counted since, and what should not be there read."""
        now = _now()
        seen = {name: _statistics(opened) for name, opened in self._sockets.items()}
        matched, dropped = seen["clear"]
        neighbours, sightings = 0, list(watched.sightings)
        for _ in range(matched - dropped):
            head, length = _next(self._sockets["clear"])
            if _neighbourly(head):
                neighbours += 1
            elif len(sightings) < SIGHTINGS:
                sightings.append(_sighting(now, head, length))
        return replace(
            watched,
            until=now,
            esp=watched.esp + seen["esp"][0],
            ike=watched.ike + seen["ike"][0],
            neighbour=watched.neighbour + neighbours,
            # What found the buffer full was not told apart: it counts as the worst that it may have been.
            clear=watched.clear + matched - neighbours,
            sightings=tuple(sightings),
        )

    def _shut(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        self._sockets, self._at = {}, None

    def _keep(self, watched: Watched) -> None:
        self._watched = watched
        try:
            files.replace(self._path, json.dumps(asdict(watched)), durable=False)
        except OSError as error:
            # Memory is short: it is here meanwhile, and the next look tries it again.
            log.warning("what a watch has counted cannot be kept", path=str(self._path), reason=str(error))


def _opened(link: str, ethertype: int, program: Sequence[Instruction]) -> socket.socket:
    """A packet socket for what comes in on `link` and fits the program, in the namespace that the thread is in."""
    made = packet_socket(program)
    try:
        if ethertype != ETH_P_ALL:
            # As little as the kernel allows: full at once, and counting from then on.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        made.bind((link, ethertype))
    except BaseException:
        made.close()
        raise
    return made


def _statistics(opened: socket.socket) -> tuple[int, int]:
    """Frames that have fitted since the last call, and how many of them found the buffer full (struct tpacket_stats)."""
    matched, dropped = struct.unpack("=II", opened.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return matched, dropped


def _next(opened: socket.socket) -> tuple[bytes, int]:
    """The beginning of the next frame, and its length in bytes. Raises OSError."""
    frame = bytearray(_KEPT)
    try:
        length = opened.recv_into(frame, 0, socket.MSG_DONTWAIT | socket.MSG_TRUNC)
    except OSError as error:
        # Told once, before the frames, where the link was or has gone down.
        if error.errno != errno.ENETDOWN:
            raise
        length = opened.recv_into(frame, 0, socket.MSG_DONTWAIT | socket.MSG_TRUNC)
    return bytes(frame[:length]), length


def _neighbourly(head: bytes) -> bool:
    """Whether a frame is ARP or IPv6's neighbour discovery."""
    kind = classify(head)[2]
    return kind == "ARP" or (kind == "IPv6" and head[20] == _ICMPV6 and head[54:55] != b"" and head[54] in _DISCOVERY)


def _sighting(at: int, head: bytes, length: int) -> Sighting:
    source, destination, kind = classify(head)
    return Sighting(at, text(source), text(destination), kind, length, head[:_HEADERS].hex())


def _away(away: tuple[tuple[int, int], ...], more: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    if len(away) < AWAY:
        return (*away, more)
    return (*away[:-1], (away[-1][0], more[1]))


def _inode(router: str) -> int:
    """What tells a namespace from one of the same name; 0 where there is none."""
    try:
        return os.stat(namespace.path(router)).st_ino
    except FileNotFoundError:
        return 0


def _read(path: Path) -> Watched | None:
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    away = tuple((begun, ended) for begun, ended in content.pop("away"))
    return Watched(away=away, sightings=tuple(Sighting(**each) for each in content.pop("sightings")), **content)


def _now() -> int:
    return time.time_ns() // 1_000_000
