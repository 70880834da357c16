"""Requests to the S3 server behind, over its Unix socket: bodies go both ways piece by piece."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import cast

import httptools

_HIGH, _LOW = 1 << 20, 1 << 18
"""Bytes that wait here when reading from the server pauses, and goes on."""
CONNECT_SECONDS = 5.0


class BackendError(Exception):
    """The server is not there, broke off, or says itself that it failed."""


class Exchange(asyncio.Protocol):
    """One request and its answer, on a connection of its own: one over a Unix socket costs less than to mind it."""

    def __init__(self, head: bool) -> None:
        """`head`: whether the answer has no body, whatever its headers say."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._head = head
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._lost = False
        self._change = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    async def send(self, first: bytes, content: AsyncIterator[bytes]) -> None:
        """Send the request, until the server has answered: it may do so before it has read all. Raises BackendError."""
        assert self._transport is not None  # noqa: S101
        self._transport.write(first)
        async for piece in content:
            await self._writable.wait()
            if self._answered.done() or self._lost:
                break
            self._transport.write(piece)
        await self._answered

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The answer's body. Raises BackendError where it breaks off."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                if self._paused and self._waiting < _LOW and self._transport is not None:
                    self._paused = False
                    self._transport.resume_reading()
                yield piece
            if self._ended:
                return
            if self._lost:
                raise BackendError("the S3 server broke off")
            self._change.clear()
            await self._change.wait()

    async def whole(self) -> bytes:
        """An answer's body that is a document. Raises BackendError where it breaks off."""
        return b"".join([piece async for piece in self.body()])

    def abort(self) -> None:
        """End the connection at once: of an upload that is not complete the server keeps nothing."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            return
        if self._waiting > _HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._lost = True
        if not self._answered.done():
            self._answered.set_exception(BackendError("the S3 server did not answer"))
            # Somebody who was given up on does not ask.
            self._answered.exception()
        self._writable.set()
        self._change.set()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._writable.set()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """See httptools."""
        self.status = self._parser.get_status_code()
        self._ended = self._head
        if not self._answered.done():
            self._answered.set_result(None)
        self._writable.set()
        self._change.set()

    def on_body(self, data: bytes) -> None:
        """See httptools."""
        self._pieces.append(data)
        self._waiting += len(data)
        self._change.set()

    def on_message_complete(self) -> None:
        """See httptools."""
        self._ended = True
        self._change.set()


class Backend:
    """The server that listens at the Unix socket `path`."""

    def __init__(self, path: str) -> None:
        self._path = path

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        content: AsyncGenerator[bytes, None] | None = None,
        length: int = 0,
    ) -> AsyncIterator[Exchange]:
        """Ask the server; gives the exchange once it has answered. `content`, if there is any, is `length` bytes long.

        Nothing is sent before there is a first piece of content. Raises BackendError, and what reading `content` raises: then
        the server has not had all of it, and keeps none.
        """
        async with aclosing(content or _nothing()) as content:
            first = await anext(content, b"")
            lines = [f"{method} ".encode(), target, b" HTTP/1.1\r\nhost: s3\r\nconnection: close\r\n"]
            lines += [part for name, value in headers for part in (name, b": ", value, b"\r\n")]
            if length or method in ("PUT", "POST"):
                lines.append(b"content-length: %d\r\n" % length)
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, exchange = await loop.create_unix_connection(lambda: Exchange(method == "HEAD"), self._path)
            except OSError as error:
                raise BackendError(f"the S3 server cannot be reached: {error}") from error
            try:
                await exchange.send(b"".join([*lines, b"\r\n", first]), content)
                if exchange.status >= 500 and exchange.status != 501:
                    raise BackendError(f"the S3 server answers {exchange.status}")
                yield exchange
            finally:
                exchange.abort()


async def _nothing() -> AsyncGenerator[bytes, None]:
    """The content of a request that has none."""
    return
    yield b""
