"""The console at /console/: static files, built from `console/` by `make setup`, and where the browser finds S3.

The pages hold no secret and know no door of their own: what they show and do goes through the AWS endpoint, signed in the
browser with the key that its user gave.
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUILT = Path(__file__).parent / "dist"
"""Where the build puts the console."""

HEADERS = {
    # The design system brings its fonts within its style sheets.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""On every answer: nothing is loaded from, sent to or framed by anybody else, and no script is in a page itself."""


def routes(*, region: str, s3: str) -> list[BaseRoute]:
    """The routes of the console. `region` is the one that sign-in proposes, `s3` the URL that browsers reach S3 at."""

    async def settings(_request: object) -> JSONResponse:
        return JSONResponse({"region": region, "s3": s3}, headers={"cache-control": "no-store"})

    async def not_built(_request: object) -> PlainTextResponse:
        return PlainTextResponse("The console is not built. Run: make setup\n", status_code=503)

    files = Mount("/", _Files(directory=BUILT, html=True)) if BUILT.is_dir() else Route("/{path:path}", not_built)
    site = Starlette(
        routes=[Route("/settings.json", settings), files],
        middleware=[Middleware(_Headers), Middleware(GZipMiddleware, minimum_size=1024)],
    )
    return [Mount("/console", app=site)]


class _Files(StaticFiles):
    """Files under assets/ carry a hash of their content in their names and never change; all else is asked for anew."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The answer with a file."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        lasting = Path(full_path).parent.name == "assets"
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return response


class _Headers:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)
