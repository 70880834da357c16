"""A connection to one of the kernel's tables by netlink (linux/netlink.h): requests, dumps, and how messages are laid out."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Self

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: len, type, flags, seq, pid."""

_SECONDS = 10
"""For how long an answer is waited for, which the kernel gives at once: one that is lost is an error, and nobody hangs."""

NETLINK_NETFILTER = 12
CREATE = 0x400
"""NLM_F_CREATE."""


class Netlink:
    """A connection to the kernel's tables of one family (NETLINK_…) in the network namespace that the thread is in, for good.

    All methods raise OSError with the errno that the kernel gave.
    """

    def __init__(self, family: int) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        self._socket.settimeout(_SECONDS)
        self._socket.connect((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._socket.close()

    def do(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Make a request and wait for it to be acknowledged."""
        self._send(kind, body, _ACK | flags)
        for _ in self._replies():
            pass

    def ask(self, kind: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and body of what answers a request."""
        self._send(kind, body, _ACK)
        yield from self._replies()

    def dump(self, kind: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and body of everything that a table holds."""
        self._send(kind, body, _DUMP)
        yield from self._replies()

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, self._sequence, 0)
        self._socket.send(header + body)

    def _replies(self) -> Iterator[tuple[int, bytes]]:
        while True:
            for kind, sequence, body in messages(self._socket.recv(1 << 18)):
                if sequence != self._sequence:
                    continue
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    # struct nlmsgerr begins with the negated errno; so does the end of a dump.
                    code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                    if code:
                        raise OSError(code, f"netlink: {os.strerror(code)}")
                    return
                yield kind, body


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, sequence number and body of the netlink messages in a datagram (struct nlmsghdr)."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset + _HEADER.size : offset + length]
        offset += max((length + 3) & ~3, _HEADER.size)


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute (struct nlattr), padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The netlink attributes in `data` (struct nlattr)."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
