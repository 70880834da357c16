"""The door of the embedded S3 as an ASGI application.

A request goes: who signed it → what it asks for → may they (`access`) → the server behind, piece by piece, while the body is
held against what was signed of it → the answer (`turn`).
"""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from phalanx.services.s3.access import Access
from phalanx.services.s3.body import Body
from phalanx.services.s3.turn import Server, Turn
from phalanx.wire.service import Client
from phalanx.wire.sigv4 import HttpRequest


class Gateway:
    """S3, as `access` lets callers use it and `server` keeps objects."""

    def __init__(self, access: Access, server: Server) -> None:
        self._access = access
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        http = HttpRequest.of(scope)
        await Turn(self._access, self._server, http, Client.of(scope, http), Body(receive, http.headers), send).serve()
