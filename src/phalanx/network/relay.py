"""The relay at a VPC's exit: carries TCP connections and questions for names into the host's network.

    python -m phalanx.network.relay LISTENER NAMES HOST_NETNS S3_HOST S3_PORT SOURCE

The first three are descriptors: sockets in the exit's namespace, in which the process was started, and the network namespace
that its own connections begin in. The router has decided already what may come here, and by REDIRECT all of it meets one
socket; SO_ORIGINAL_DST says where it was to go. Whatever that is, the relay reaches three things only: the internet's
addresses, but none of the host's own; the host's name server; and for all other addresses S3. No rule that somebody loses
can make it reach the host's services or networks. It has no privilege once it serves.

An S3 on this host is reached from SOURCE, an address of 127.0.0.0/8 that is this VPC's alone: so its door tells the VPC's
containers from the host's own users, from the platform and from other VPCs, and counts their failures for themselves.
"""

from __future__ import annotations

import asyncio

# Needed later by the event loop's look-ups, when the relay may not read the interpreter's files any more.
import concurrent.futures.thread  # noqa: F401
import ctypes
import encodings.idna  # noqa: F401
import os
import socket
import struct
import sys
import threading
from collections import Counter
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from phalanx.network.model import AZURE, RESOLVER

NAMES_PORT = 53
_CLONE_NEWNET = 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h
_NOBODY = 65534
_CHUNK = 1 << 18
_CONNECT_SECONDS = 20
_ANSWER_SECONDS = 5
_MOST_QUESTIONS = 256
"""Questions for names that may be open at a time; more are dropped, as UDP may be."""
MOST_CONNECTIONS = 256
"""Connections that one instance may have open at a time; more are reset. Each may hold a megabyte of the host's memory, on
nobody's account, for as long as its far end does not read."""
_RESOLV_CONF = Path("/etc/resolv.conf")

Address = tuple[str, int]


class Relay:
    """Carries what arrives to where it may go. `s3` is where S3 really is; on this host it is reached from `source`."""

    def __init__(self, s3: Address, source: str) -> None:
        self._s3 = s3
        self._source = source
        self._open: Counter[str] = Counter()

    def destination(self, wanted: Address) -> Address | None:
        """Where a connection to `wanted` is carried; None where it must not go, or no way leads there."""
        address = IPv4Address(wanted[0])
        if wanted == (RESOLVER, NAMES_PORT):
            return name_server()
        if not address.is_global or address.is_multicast or wanted[0] == AZURE:
            return self._s3
        return None if _own(wanted[0]) else wanted

    def source(self, to: Address) -> Address | None:
        """From where a connection is begun; None where the kernel chooses."""
        return (self._source, 0) if to == self._s3 and _is_address(to[0]) and _own(to[0]) else None

    async def connected(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Carry one connection until both sides have said all, or one is lost."""
        opened: socket.socket = back.get_extra_info("socket")
        # Closed at once and with a reset, unless both sides end in order.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer = back.get_extra_info("peername")  # None: it is gone already
        source = "" if peer is None else str(peer[0])
        if peer is None or self._open[source] >= MOST_CONNECTIONS:
            back.close()
            return
        self._open[source] += 1
        forth: asyncio.StreamWriter | None = None
        try:
            raw = opened.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
            port, packed = struct.unpack_from("!2xH4s", raw)
            to = self.destination((socket.inet_ntoa(packed), port))
            if to is None:
                return
            async with asyncio.timeout(_CONNECT_SECONDS):
                far, forth = await asyncio.open_connection(*to, limit=_CHUNK, local_addr=self.source(to))
            for end in (opened, forth.get_extra_info("socket")):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(near, forth))
                both.create_task(_copy(far, back))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        except* (OSError, TimeoutError):
            pass
        finally:
            self._open[source] -= 1
            if not self._open[source]:
                del self._open[source]
            for writer in (back, forth):
                if writer is not None:
                    writer.close()


class Names(asyncio.DatagramProtocol):
    """Asks the host's name server what it is asked."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """See asyncio.DatagramProtocol."""
        if len(self._open) < _MOST_QUESTIONS:
            task = asyncio.get_running_loop().create_task(self._ask(data, addr))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _ask(self, question: bytes, asker: Address) -> None:
        server = name_server()
        if server is None:
            return
        loop = asyncio.get_running_loop()
        with suppress(OSError, TimeoutError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.setblocking(False)
            opened.connect(server)
            async with asyncio.timeout(_ANSWER_SECONDS):
                await loop.sock_sendall(opened, question)
                answer = await loop.sock_recv(opened, 1 << 16)
            if self._transport is not None:
                self._transport.sendto(answer, asker)


def name_server() -> Address | None:
    """The host's first name server with an IPv4 address (resolv.conf(5)), read anew each time."""
    with suppress(OSError):
        for line in _RESOLV_CONF.read_text(errors="replace").splitlines():
            match line.split():
                case ["nameserver", address, *_] if "." in address:
                    return address, NAMES_PORT
    return None


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        return bool(IPv4Address(host))
    return False


def _own(address: str) -> bool:
    """Whether an address is one of the host's own, or none that the host has a way to: the kernel's routes say so."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:
        return True


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        to.write(data)
        await to.drain()
    to.write_eof()


async def _serve(listener: socket.socket, names: socket.socket, relay: Relay) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Names, sock=names)
    server = await asyncio.start_server(relay.connected, sock=listener, limit=_CHUNK)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    listener, names = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    host_netns, relay = int(sys.argv[3]), Relay((sys.argv[4], int(sys.argv[5])), sys.argv[6])
    moved, unprivileged = threading.Event(), threading.Event()
    libc = ctypes.CDLL(None, use_errno=True)

    def serve() -> None:
        # This thread alone is in the host's network; the process belongs to the exit's, where whoever clears it away looks.
        if libc.setns(host_netns, _CLONE_NEWNET) == 0:
            os.close(host_netns)
            moved.set()
            unprivileged.wait()
            asyncio.run(_serve(listener, names, relay))
        os._exit(1)

    threading.Thread(target=serve, daemon=True).start()
    moved.wait()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    unprivileged.set()
    threading.Event().wait()


if __name__ == "__main__":
    main()
