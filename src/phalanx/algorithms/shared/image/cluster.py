"""The hosts of a job, joined in a star: the first host listens, the others connect.

It carries what hosts must agree on before and after training (small JSON values), and notices the end of any host at
once: XGBoost's own connections cannot say why a peer is gone, and may wait for it for hours.
"""

from __future__ import annotations

import fcntl
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from contract import Resources

PORT = 9098
_JOIN_SECONDS = 900.0
_BEAT_SECONDS = 5.0
_SILENT_SECONDS = 60.0
_LINGER_SECONDS = 0.5
_SIOCGIFADDR = 0x8915  # linux/sockios.h


class ClusterError(Exception):
    """The hosts cannot be joined; the text says which and why."""


def own_address(resources: Resources) -> str:
    """IPv4 address of the interface that joins the hosts; what listens must be reachable over it alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", resources.interface.encode()[:15])
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError as error:
            raise ClusterError(f"the interface {resources.interface} has no IPv4 address: {error.strerror}") from error
    return socket.inet_ntoa(answer[20:24])


class Cluster:
    """All hosts of the job. `failed` is called, from another thread, with the reason when any other host ends or fails."""

    def __init__(self, resources: Resources, failed: Callable[[str], None]) -> None:
        self._resources = resources
        self._failed = failed
        self._links: dict[str, _Link] = {}
        self._leaving = False

    @property
    def leader(self) -> bool:
        """Whether this is the first host."""
        return self._resources.rank == 0

    def join(self) -> None:
        """Connect all hosts; returns when they are. Raises ClusterError where one does not appear within 15 minutes."""
        deadline = time.monotonic() + _JOIN_SECONDS
        # From the start: a host that has joined must hear something while others are missing.
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        if self.leader:
            self._accept(deadline)
        else:
            self._connect(deadline)

    def gather(self, value: Any) -> list[Any]:
        """The values that all hosts give, in the order of the hosts. Waits for all of them."""
        if self.leader:
            values = [value, *(self._links[host].inbox.get() for host in self._resources.hosts[1:])]
            for link in self._links.values():
                link.send("value", values)
            return values
        link = self._links[self._resources.hosts[0]]
        link.send("value", value)
        found: list[Any] = link.inbox.get()
        return found

    def fail(self, reason: str) -> None:
        """Tell all hosts why training fails, and give them the time to hear it before the connections break."""
        for link in list(self._links.values()):
            link.send("failed", reason)
        if self._links:
            time.sleep(_LINGER_SECONDS)

    def leave(self) -> None:
        """Wait until all hosts have come here; from then on the end of one is no failure."""
        if not self.leader:
            self.gather(None)
            return
        for link in self._links.values():
            link.inbox.get()
        self._leaving = True
        for link in self._links.values():
            link.send("leave", None)
        # The others end now. To end before them could reset their connections before they have read the message.
        for link in self._links.values():
            with suppress(queue.Empty):
                link.inbox.get(timeout=_SILENT_SECONDS)

    def _accept(self, deadline: float) -> None:
        missing = set(self._resources.hosts[1:])
        address = own_address(self._resources)
        with socket.create_server((address, PORT), backlog=len(missing)) as listener:
            while missing:
                listener.settimeout(max(deadline - time.monotonic(), 0.01))
                try:
                    link = _Link(listener.accept()[0])
                    link.introduce()
                except TimeoutError:
                    if time.monotonic() >= deadline:
                        raise ClusterError(f"{', '.join(sorted(missing))} did not connect to {address}:{PORT}") from None
                    continue
                except (OSError, ValueError):
                    continue
                if link.host not in missing:
                    link.close()
                    continue
                missing.remove(link.host)
                self._add(link)

    def _connect(self, deadline: float) -> None:
        leader = self._resources.hosts[0]
        while True:
            try:
                link = _Link(socket.create_connection((leader, PORT), timeout=5), leader)
                link.send("hello", self._resources.host)
            except OSError as error:
                # Its name does not resolve yet, its container has not started, or is still loading.
                if time.monotonic() >= deadline:
                    raise ClusterError(f"cannot connect to {leader}:{PORT}: {error}") from error
                time.sleep(0.2)
            else:
                self._add(link)
                return

    def _add(self, link: _Link) -> None:
        self._links[link.host] = link
        threading.Thread(target=self._listen, args=(link,), name=f"from {link.host}", daemon=True).start()

    def _listen(self, link: _Link) -> None:
        try:
            while True:
                kind, value = link.receive()
                if kind in ("value", "leave"):
                    # Set here: the connection may end before another thread has looked at the message.
                    self._leaving = kind == "leave"
                    link.inbox.put(value)
                elif kind == "failed":
                    self._lost(value)
        except TimeoutError:
            self._lost(f"{link.host} was not heard of for {_SILENT_SECONDS:.0f} seconds")
        except (OSError, ValueError):
            self._lost(f"{link.host} ended before training was complete")
        link.inbox.put(None)

    def _lost(self, reason: str) -> None:
        if self._leaving:
            return
        if self.leader:
            self.fail(reason)
        self._failed(reason)

    def _beat(self) -> None:
        while True:
            for link in list(self._links.values()):
                link.send("beat", None)
            time.sleep(_BEAT_SECONDS)


class _Link:
    """A connection to another host: lines of JSON, [kind, value]."""

    def __init__(self, connection: socket.socket, host: str = "") -> None:
        connection.settimeout(_SILENT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = host
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._lock = threading.Lock()

    def introduce(self) -> None:
        """Hear who is at the other end."""
        self._connection.settimeout(5)
        kind, value = self.receive()
        if kind != "hello" or not isinstance(value, str):
            raise ValueError(kind)
        self.host = value
        self._connection.settimeout(_SILENT_SECONDS)

    def send(self, kind: str, value: Any) -> None:
        """Send; a connection that broke shows where it is listened to."""
        with suppress(OSError), self._lock:
            self._connection.sendall(json.dumps([kind, value]).encode() + b"\n")

    def receive(self) -> tuple[str, Any]:
        """The next message. Raises OSError at the end of the connection, TimeoutError after a minute's silence."""
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError(self.host)
        kind, value = json.loads(line)
        return kind, value

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
