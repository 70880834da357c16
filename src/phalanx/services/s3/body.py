"""The bodies of requests, as clients send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from starlette.types import Receive

from phalanx.wire.errors import AwsError

_DRAINED = 32 << 20
"""Bytes that are taken from a client that sends on after it was refused: one that is cut off sees no error."""
_SILENT_SECONDS = 60.0
"""How long a client that has more to send may send nothing: meanwhile its key is kept from others."""
_SILENT = AwsError(
    "RequestTimeout",
    "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be"
    " closed.",
)
"""As S3 says it; clients try again."""


class Disconnected(Exception):
    """The client went away before it had sent its body, or been given its answer."""


class Body:
    """What the client sends."""

    def __init__(self, receive: Receive, headers: Mapping[str, bytes]) -> None:
        self._receive = receive
        self._asked = "100-continue" not in headers.get("expect", b"").decode("latin-1").lower()
        self._ended = False
        self._silent = False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """It, piece by piece. Raises Disconnected, and AwsError where the client has fallen silent."""
        while not self._ended:
            self._asked = True
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    message = await self._receive()
            except TimeoutError:
                self._silent = True
                raise _SILENT from None
            if message["type"] == "http.disconnect":
                raise Disconnected
            self._ended = not message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def drain(self) -> bool:
        """Take what is left of it, where that is little. Returns whether the connection can go on afterwards.

        A client that waits to be asked for its body is not, and one that has fallen silent is not waited for again."""
        if not self._asked or self._silent:
            return False
        taken = 0
        try:
            async for piece in self.pieces():
                taken += len(piece)
                if taken > _DRAINED:
                    return False
        except AwsError:
            return False
        return True

    async def gone(self) -> None:
        """Wait until the client has gone away; for when it has been heard out."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
