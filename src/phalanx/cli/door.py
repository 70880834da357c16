"""The process of S3's door: listens for clients and, on a Unix socket, for the service that watches it.

It is told what to do by PHALANX_S3_GATEWAY in its environment, and works in the directory of the server's Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import uvicorn
import uvloop
from prometheus_client import REGISTRY, disable_created_metrics, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from phalanx.cli import certificate, listening
from phalanx.data.server import BUCKETS, SOCKET
from phalanx.identity.authority import Authority
from phalanx.identity.directory import Directory
from phalanx.identity.follower import Follower
from phalanx.identity.seal import Seal
from phalanx.identity.trail import Trail
from phalanx.node import logging
from phalanx.services.s3.access import Access
from phalanx.services.s3.backend import Backend
from phalanx.services.s3.description import Descriptions
from phalanx.services.s3.folders import Folders
from phalanx.services.s3.gateway import Gateway
from phalanx.services.s3.places import Places
from phalanx.services.s3.settings import CONTROL, VARIABLE, Settings
from phalanx.services.s3.turn import Server
from phalanx.store.database import UNAVAILABLE, Database
from phalanx.wire import heap

_SPARES = "spares"
"""Where objects that are being replaced have their second names: beside the buckets, on the same file system."""
_STOP_SECONDS = 3
"""How long a stop waits for requests that are being answered."""


class _Server(uvicorn.Server):
    """One of several in a process, which takes its signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> None:
    """Run until SIGTERM."""
    text = os.environ[VARIABLE]
    settings = Settings.from_json(text)
    logging.configure()
    disable_created_metrics()  # type: ignore[no-untyped-call]
    database = Database(settings.database)
    directory = Directory(database, Seal(Path(settings.identity_key)), settings.account)
    trail = Trail(Path(settings.trail), settings.account)
    guard = Authority(directory, trail)
    backend, buckets = Backend(SOCKET), Path(BUCKETS)
    places = Places(buckets, Path(_SPARES))
    places.restore()
    gateway = Gateway(
        Access(directory.principal, guard, settings.account, Follower(directory).look, UNAVAILABLE),
        Server(settings.region, backend, Folders(backend, buckets), places, Descriptions(buckets)),
    )
    Path(CONTROL).unlink(missing_ok=True)
    control = socket.socket(socket.AF_UNIX)
    control.bind(CONTROL)
    # What the server behind answers has a date.
    config = partial(listening.config, gateway, _STOP_SECONDS, date=False)
    listeners = [
        (config(), listening.bind(settings.host, settings.port)),
        (listening.config(_control(text), _STOP_SECONDS), control),
    ]
    if settings.tls_port:
        tls = listening.Tls(Path(settings.certificate), Path(settings.key))
        outside = listening.bind(settings.tls_host, settings.tls_port)
        listeners.append((config(tls, partial(_look_at_certificate, tls)), outside))
    heap.settle()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(listeners))
    finally:
        trail.close()
        database.close()


async def _serve(listeners: list[tuple[uvicorn.Config, socket.socket]]) -> None:
    servers = [_Server(config) for config, _ in listeners]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await asyncio.gather(*(server.serve([listener]) for server, (_, listener) in zip(servers, listeners, strict=True)))


async def _look_at_certificate(tls: listening.Tls, config: uvicorn.Config) -> None:
    """Show what the service, or whoever gave it a certificate, has put into the files; called by uvicorn from time to time."""
    certificate.show(config.ssl, tls.certificate, tls.key)


def _control(settings: str) -> Starlette:
    """What the service asks: with which settings this runs, and its counters."""

    def told(request: Request) -> Response:
        return PlainTextResponse(settings)

    def counted(request: Request) -> Response:
        return Response(generate_latest(REGISTRY))

    return Starlette(routes=[Route("/settings", told), Route("/metrics", counted)])


if __name__ == "__main__":
    main()
