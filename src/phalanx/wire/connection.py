"""Connections of HTTP clients."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = 64 << 10
"""Bytes after which no more of a request's line and headers are taken. S3 takes 8 KiB of headers."""
HEADERS = 256
"""Headers of a request."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, whose answers leave with the first bytes of their body and not head first.

    A client that gets a head and then the end of the connection, because the process was killed in between, should report an
    answer that breaks off. botocore takes it for one without members: a bucket without objects, a job without a status.
    """

    _head = 0
    """Bytes that have come of a head since its beginning, and that did not end it."""
    _heading = False
    _names = 0
    _late: asyncio.TimerHandle | None = None
    """Ends the connection of a client that has said nothing, or no whole head, for as long as an idle one stays: else anybody
    could take all that may be open."""

    def on_message_begin(self) -> None:
        """See httptools.HttpRequestParser."""
        self._head, self._names, self._heading = 0, 0, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools.HttpRequestParser. Raises ValueError, which ends the connection, where a head is too long."""
        self._names += 1
        if self._names > HEADERS:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools.HttpRequestParser."""
        self._heading = False
        self._in_time()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. What a head may have is bounded before it is kept, and before anybody looks who sent it."""
        within = self._heading
        if within and self._head > HEAD:
            self._unset_keepalive_if_required()
            self.send_400_response("Request head too long.")
            return
        super().data_received(data)
        if self._late is None and (self.cycle is None or self.cycle.response_complete):
            self._late = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        if within and self._heading:
            self._head += len(data)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(cast(asyncio.Transport, _Joining(transport, self.loop)))
        self._late = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Joining:
    """A transport that holds an answer's head back until there is something to go with it, or the loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._later = loop.call_soon
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        """What else a transport can do, looked up once."""
        found = getattr(self._transport, name)
        setattr(self, name, found)
        return found

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            self._later(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
