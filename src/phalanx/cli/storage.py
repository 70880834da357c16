"""S3 as a service has it: its own server, which it runs while it leads and restarts when that ends, or another's."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from dataclasses import replace

import structlog
from prometheus_client.metrics_core import Metric

from phalanx.cli import s3
from phalanx.cli.listening import bracketed, kept_port
from phalanx.cli.options import FleetKind, Options
from phalanx.cli.settings import ACCOUNT, REGION, fail
from phalanx.data.model import ObjectStore

WATCH_SECONDS = 1.0
"""How often the server is looked at."""
ANSWER_SECONDS = 30.0
"""How long the server may take to answer before it counts as hanging."""

_DESCRIPTORS = 8
"""More than a look at the server takes."""

log = structlog.get_logger()


class Storage:
    """`store` is S3 as the platform uses it."""

    def __init__(self, options: Options, key: tuple[str, str], closing: threading.Event) -> None:
        """`key` is the platform's for the embedded S3, whose server is not started again once `closing` is set.

        Ends the command with a word where there is no key for an external one.
        """
        self._closing = closing
        self._server: s3.EmbeddedS3 | None = None
        self._outside: int | None = None
        """The port at which the embedded one is reached over TLS, if it is."""
        if options.s3_endpoint is not None:
            access_key = os.environ.get("PHALANX_S3_ACCESS_KEY")
            secret_key = os.environ.get("PHALANX_S3_SECRET_KEY")
            if not access_key or not secret_key:
                fail("An external S3 needs PHALANX_S3_ACCESS_KEY and PHALANX_S3_SECRET_KEY in the environment.")
            self.store = ObjectStore(options.s3_endpoint, REGION, access_key, secret_key, proxied=True)
            return
        data_dir, tls = options.data_dir, options.tls
        # In the clear it answers on loopback alone.
        host = options.host if tls is None else "127.0.0.1"
        inside, outside = (host, kept_port(data_dir / s3.PORT, host)), None
        if tls is not None:
            self._outside = kept_port(data_dir / s3.TLS_PORT, options.host)
            outside = (options.host, self._outside)
        url = options.database.render_as_string(hide_password=False)
        told = s3.settings(data_dir, url, ACCOUNT, inside, outside, tls)
        self.store = ObjectStore(f"http://{bracketed(host)}:{inside[1]}", REGION, *key)
        self._server = s3.EmbeddedS3(data_dir / "s3", data_dir / "s3.log", told, self.store)
        if options.fleet == FleetKind.RAY and tls is not None:
            # As the hosts reach it; what they have to trust comes with their invitations.
            if tls.authority is not None:
                os.environ["AWS_CA_BUNDLE"] = str(tls.authority)
            self.store = replace(self.store, endpoint=f"https://{options.host}:{self._outside}")

    def url(self, host: str) -> str:
        """Where clients reach it, who call this host `host`."""
        return (self.store.endpoint or "") if self._outside is None else f"https://{bracketed(host)}:{self._outside}"

    def metrics(self) -> Iterable[Metric]:
        """What the embedded one counted."""
        return () if self._server is None else self._server.metrics()

    def start(self) -> None:
        """Have the embedded one run and answer, from now on. Raises ProcessError."""
        if self._server is not None:
            self._server.start()
            threading.Thread(target=self._watch, args=(self._server,), name="s3", daemon=True).start()

    def stop(self, *, leave: bool) -> None:
        """End the embedded one; or leave it to the instances that are left running, which go on reading and writing."""
        if self._server is not None and not leave:
            self._server.stop()

    def _watch(self, server: s3.EmbeddedS3) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            if not server.answers(ANSWER_SECONDS) and _can_ask() and not self._closing.is_set():
                log.warning("the S3 server ended or hangs, and is started again")
                try:
                    server.start()
                except Exception:
                    log.exception("the S3 server cannot be started")


def _can_ask() -> bool:
    """Whether this process may open what it takes to ask: while its clients have all that, everybody seems dead to it."""
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_DESCRIPTORS):
                opened.enter_context(open(os.devnull, "rb"))
        except OSError:
            return False
    return True
