"""The embedded S3: the server that keeps objects, and the door in front of it that knows who asks. Two detached processes."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from phalanx import __version__
from phalanx.cli import listening
from phalanx.cli.settings import REGION, S3_TRAIL
from phalanx.data import unix_http
from phalanx.data.model import ObjectStore
from phalanx.data.objects import client
from phalanx.data.process import Process, ProcessError, last_words
from phalanx.data.server import S3Server
from phalanx.services.s3.settings import CONTROL, VARIABLE, Settings

PORT, TLS_PORT = "s3.port", "s3.tls.port"
"""The files of the data directory that keep the ports: inside in the clear, outside over TLS."""
_READY_SECONDS = 30.0
_ASK_SECONDS = 5.0


class EmbeddedS3:
    """Both, as one: `store` is how the service itself reaches it, through the door like everybody else."""

    def __init__(self, directory: Path, log: Path, settings: Settings, store: ObjectStore) -> None:
        """`directory` is their own."""
        self.store = store
        self._directory = directory
        self._log = log
        self._settings = settings
        self._server = S3Server(directory, log)
        self._door = Process(directory / "gateway.lock")

    def start(self) -> None:
        """Have both run and answer, as they are to: adopt what runs, replace it, or start it.

        Raises ProcessError where a port is taken, or one of them ends or does not answer in time.
        """
        self._server.start()
        if self._runs() and self._refusal() is None:
            return
        self._door.stop()
        self._spawn()
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            if not self._door.alive():
                raise ProcessError(f"the door of S3 ended at once; {self._log} says: {last_words(self._log)}")
            refusal = self._refusal() if self._runs() else "it does not answer yet"
            if refusal is None:
                return
            if time.monotonic() > deadline:
                self.stop()
                raise ProcessError(f"S3 does not serve on {self.store.endpoint}: {refusal}; its log is {self._log}")
            time.sleep(0.02)

    def answers(self, seconds: float) -> bool:
        """Whether both live and answer within `seconds` each; what is stopped or hangs does not."""
        return self._server.answers(seconds) and self._runs(seconds)

    def stop(self) -> None:
        """End both, whoever started them."""
        try:
            self._door.stop()
            (self._directory / CONTROL).unlink(missing_ok=True)
        finally:
            self._server.stop()

    def metrics(self) -> Iterator[Metric]:
        """The door's counters; nothing while it does not answer."""
        try:
            _, text = unix_http.get(self._directory / CONTROL, "/metrics", 1)
        except (OSError, http.client.HTTPException):
            return
        for family in text_string_to_metric_families(text.decode()):
            if family.name.startswith("phalanx_s3_"):
                yield family

    def _runs(self, seconds: float = _ASK_SECONDS) -> bool:
        """Whether the door lives and answers, with our settings."""
        if not self._door.alive():
            return False
        try:
            _, told = unix_http.get(self._directory / CONTROL, "/settings", seconds)
        except (OSError, http.client.HTTPException):
            return False
        return told == self._settings.to_json().encode()

    def _refusal(self) -> str | None:
        """Why S3 does not serve the service itself; None where it does."""
        try:
            client(self.store, attempts=1, timeout=_ASK_SECONDS, patience=0).list_buckets()
        except (ClientError, BotoCoreError) as error:
            return str(error)
        return None

    def _spawn(self) -> None:
        # How PostgreSQL is reached is libpq's to read: PGPASSWORD, PGSERVICE, ~/.pgpass …
        environment = {name: value for name, value in os.environ.items() if name.startswith("PG")}
        environment |= {"PATH": os.defpath, "HOME": os.environ.get("HOME", "/"), VARIABLE: self._settings.to_json()}
        command = [sys.executable, "-m", "phalanx.cli.door"]
        self._door.start(command, environment, self._directory, self._log, self._check_ports)

    def _check_ports(self) -> None:
        """Raise ProcessError where an address is taken: else whoever holds it might pass for ours."""
        found = self._settings
        for host, port in ((found.host, found.port), (found.tls_host, found.tls_port)):
            if not port:
                continue
            try:
                listening.bind(host, port).close()
            except OSError as error:
                kept = self._directory.with_name(PORT if port == found.port else TLS_PORT)
                raise ProcessError(
                    f"S3 cannot listen on {host} port {port}: {error.strerror}. Where another service keeps that port, as"
                    f" the one whose backup was restored does, remove {kept} and start this one again"
                ) from error


def settings(
    data_dir: Path,
    database: str,
    account: str,
    inside: tuple[str, int],
    outside: tuple[str, int] | None = None,
    tls: listening.Tls | None = None,
) -> Settings:
    """What the door of a service is told: where it listens in the clear, and over TLS with which certificate and key."""
    shown = "" if tls is None else hashlib.sha256(ssl.PEM_cert_to_DER_cert(_first(tls.certificate.read_text()))).hexdigest()
    tls_host, tls_port = outside or ("", 0)
    return Settings(
        version=__version__,
        account=account,
        region=REGION,
        database=database,
        identity_key=str(data_dir / "identity.key"),
        trail=str(data_dir / "audit" / S3_TRAIL),
        host=inside[0],
        port=inside[1],
        tls_host=tls_host,
        tls_port=tls_port,
        certificate="" if tls is None else str(tls.certificate),
        key="" if tls is None else str(tls.key),
        fingerprint=shown,
    )


def _first(chain: str) -> str:
    """The first certificate of a PEM file."""
    end = "-----END CERTIFICATE-----"
    return chain[chain.index("-----BEGIN CERTIFICATE-----") : chain.index(end) + len(end)]
