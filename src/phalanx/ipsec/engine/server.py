"""The engine's sockets: XFRM for IKE daemons and `ip xfrm`, and the control socket that tells what was measured."""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phalanx.ipsec.engine.core import Core
from phalanx.ipsec.engine.dispatch import Dispatcher
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.engine.messages import Refused

MESSAGE_MAX = 65536
QUEUE_MAX = 4096
REPORT_MAX = 4 * 2**20
REPORT_SECONDS = 0.5
"""How long whoever asks for a report may take to read what does not fit into the socket's buffer."""
MEMBERSHIP = b"GRPS"
"""The shim's word for bind: this, and the mask of multicast groups (native/shim/xfrm_shim.c)."""


def listen(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A listening Unix socket that only the owner of its directory can reach. A stale one is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    listener.setblocking(False)
    return listener


class _Connection:
    """A client of the XFRM socket. `queue` are messages that it was too slow to take."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.groups = 0
        self.blocked = False
        self.queue: deque[bytearray] = deque()


class Server:
    """Serves one engine from one thread until `ends` can be read from. `event` is the data plane's eventfd."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        core: Core,
        xfrm: socket.socket,
        control: socket.socket,
        event: int,
        ends: int,
        settings: Mapping[str, Any],
        log: Callable[[str], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._core = core
        self._event = event
        self._settings = settings
        self._log = log
        self._connections: set[_Connection] = set()
        self._buffer = bytearray(MESSAGE_MAX)
        self._selector = selectors.DefaultSelector()
        self._selector.register(xfrm, selectors.EVENT_READ, self._accept)
        self._selector.register(control, selectors.EVENT_READ, self._report)
        self._selector.register(event, selectors.EVENT_READ, self._noted)
        self._selector.register(ends, selectors.EVENT_READ, self._leave)
        self._stopping = False

    def serve(self) -> None:
        """Runs until it is told to end. Raises EngineError when a packet thread has failed."""
        while not self._stopping:
            deadline = self._dispatcher.tables.deadline()
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            # Looking through all SAs after each message would make N SAs cost N² looks: the packet threads say when.
            told = False
            for key, ready in self._selector.select(timeout):
                if isinstance(key.data, _Connection):
                    self._converse(key.data, ready)
                else:
                    key.data(key.fileobj)
                    told |= key.fileobj == self._event
            if told or (deadline is not None and time.monotonic() >= deadline):
                self._tell()
            self._complain()
            failure = self._core.failure()
            if failure:
                raise EngineError(f"a packet thread has failed: {os.strerror(failure)}; peers are cut off until a restart")

    def _accept(self, listener: socket.socket) -> None:
        try:
            peer, _ = listener.accept()
        except OSError:
            return  # gone again
        peer.setblocking(False)
        connection = _Connection(peer)
        self._connections.add(connection)
        self._selector.register(peer, selectors.EVENT_READ, connection)

    def _noted(self, event: int) -> None:
        os.eventfd_read(event)

    def _leave(self, _ends: int) -> None:
        self._stopping = True

    def _tell(self) -> None:
        for group, message in self._dispatcher.events(time.monotonic()):
            for connection in [each for each in self._connections if each.groups & group]:
                self._send(connection, bytearray(message))

    def _complain(self) -> None:
        for refusal in self._dispatcher.refusals:
            self._log(refusal)
        self._dispatcher.refusals.clear()

    def _converse(self, connection: _Connection, ready: int) -> None:
        if ready & selectors.EVENT_WRITE:
            self._flush(connection)
        if ready & selectors.EVENT_READ and connection in self._connections:
            self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            length = connection.peer.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            length = 0
        if length == 0:
            self._end(connection, "closed its connection")
            return
        with memoryview(self._buffer)[:length] as message:
            if length == 8 and message[:4] == MEMBERSHIP:
                connection.groups = struct.unpack_from("=I", message, 4)[0]
                return
            try:
                answers = self._dispatcher.handle(message, connection, time.monotonic())
            except Refused as refusal:
                self._end(connection, f"was disconnected: {refusal}")
                return
            finally:
                message[:] = bytes(length)  # it may have held a key
        for answer in answers:
            self._send(connection, answer)

    def _send(self, connection: _Connection, message: bytearray) -> None:
        if connection not in self._connections:
            return
        connection.queue.append(message)
        if len(connection.queue) > QUEUE_MAX:
            self._end(connection, "was disconnected: it does not read")
            return
        self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        while connection.queue:
            message = connection.queue[0]
            try:
                connection.peer.send(message, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._watch(connection, blocked=True)
                return
            except OSError:
                self._end(connection, "closed its connection")
                return
            message[:] = bytes(len(message))
            connection.queue.popleft()
        self._watch(connection, blocked=False)

    def _watch(self, connection: _Connection, blocked: bool) -> None:
        if connection.blocked != blocked:
            connection.blocked = blocked
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
            self._selector.modify(connection.peer, events, connection)

    def _end(self, connection: _Connection, why: str) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.peer)
        connection.peer.close()
        for message in connection.queue:
            message[:] = bytes(len(message))
        released = self._dispatcher.release(connection)
        if released:
            self._log(f"an XFRM client {why}; its {released} SAs and policies are gone, and what they protected stands still")

    def _report(self, listener: socket.socket) -> None:
        """Whoever connects is told everything at once; there is nothing to ask."""
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer:
            report = self._dispatcher.tables.report()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REPORT_MAX)
            # The kernel may keep less than was asked for. Who asked reads at once; who does not is not waited for long.
            peer.settimeout(REPORT_SECONDS)
            try:
                peer.sendall(json.dumps({"settings": self._settings, "report": report}).encode())
            except OSError as error:
                self._log(f"a report could not be handed over: {error}")
