"""How a service and the door of its S3 listen: alike, for to clients they are one."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from phalanx.cli import certificate as own_certificate
from phalanx.cli.settings import fail
from phalanx.linux import files
from phalanx.wire.connection import Connection

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""What TLS 1.2 may negotiate: forward secrecy and AEAD."""
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays: longer than clients keep one that they do not use. Who asks twice a minute has one."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What is shown over TLS (PEM files); `authority` is what clients have to trust, where that is not theirs to know."""

    certificate: Path
    key: Path
    authority: Path | None = None


def tls(host: str, data_dir: Path, certificate: Path | None, key: Path | None) -> Tls | None:
    """The certificate that was given; the service's own where it listens beyond loopback; else none."""
    if (certificate is None) != (key is None):
        fail("--tls-certificate and --tls-key belong together: give both.")
    if certificate is not None and key is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            fail(f"The certificate {certificate} cannot be used with the key {key}: {error}")
        # Not where symbolic links lead: who renews it may have them lead elsewhere.
        return Tls(certificate.absolute(), key.absolute())
    return None if is_loopback(host) else Tls(*own_certificate.ensure(data_dir / "tls", host))


def is_loopback(host: str) -> bool:
    """Whether a host that is listened on is this one alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A socket with that address, which is not listened on yet; port 0: any that is free. Raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def kept_port(path: Path, host: str) -> int:
    """The port that was used before, so that what others were told stays valid; a free one at the first start."""
    if not path.exists():
        with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            files.replace(path, str(probe.getsockname()[1]))
    try:
        return int(path.read_text())
    except ValueError:
        fail(f"{path} holds no port. Remove it: the service then takes another, and clients have to be told.")


def bracketed(host: str) -> str:
    """A host as URLs have it."""
    return f"[{host}]" if ":" in host else host


def config(
    app: Any,
    stop_seconds: int,
    tls: Tls | None = None,
    look: Callable[[uvicorn.Config], Awaitable[None]] | None = None,
    *,
    date: bool = True,
) -> uvicorn.Config:
    """uvicorn's settings for an ASGI application, in the clear or over TLS: 1.2 with forward secrecy and AEAD, or 1.3.

    A stop waits `stop_seconds` for requests that are being answered. `look` is called where connections are made, at once and
    then from time to time, to look after the certificate. `date`: whether answers are given a header Date.
    """
    made = uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        date_header=date,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=stop_seconds,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        ssl_ciphers=CIPHERS,
    )
    if look is not None:
        made.callback_notify = partial(look, made)
        made.timeout_notify = own_certificate.LOOK_SECONDS
    return made
