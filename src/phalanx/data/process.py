"""Helper processes of the data room: detached, so that they outlive whoever started them, and found by a lock they hold.

The process inherits an exclusive lock on a file, which names it. So the kernel, not our memory, says whether it runs: a
second one cannot start, and after a `kill -9` of its starter the next one finds it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from phalanx.linux import files
from phalanx.linux.descriptors import readable

_STOP_SECONDS = 5.0


class ProcessError(Exception):
    """A helper process cannot be started or stopped; the text says why."""


class Process:
    """The process that holds the lock on a file, whoever started it."""

    def __init__(self, lock: Path) -> None:
        self._lock = lock
        self._pidfd: int | None = None

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
        prepare: Callable[[], None] = lambda: None,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start `command` in `directory` with just this environment, after `prepare()`, which no other starter can disturb.

        It has these `descriptors` under the same numbers. Raises ProcessError where one runs already or is being started.
        """
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # From here on the file names nobody, until the process that inherits the lock writes its own number.
            os.ftruncate(lock, 0)
            self._forget()
            prepare()
            self._spawn(lock, command, environment, directory, log, descriptors)
        except BlockingIOError as error:
            raise ProcessError(f"another process holds {self._lock}") from error
        finally:
            os.close(lock)

    def alive(self) -> bool:
        """Whether the process lives, whoever started it. Raises ProcessError where somebody else holds its lock."""
        if self._pidfd is None:
            self._pidfd = self._find()
        if self._pidfd is None:
            return False
        if not _ended(self._pidfd):
            return True
        self._forget()
        return False

    def stop(self) -> None:
        """End the process, if there is one: SIGTERM, after five seconds SIGKILL. Raises ProcessError where it stays."""
        for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            if not self.alive() or self._pidfd is None:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
            _ended(self._pidfd, seconds)
        if self.alive():
            raise ProcessError(f"a process does not end; find it with: fuser {self._lock}")

    def _spawn(
        self,
        lock: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        log_path: Path,
        descriptors: Sequence[int],
    ) -> None:
        # The shell writes its number, which the program keeps, before the program exists: none can run unrecorded. It gets
        # the lock as its standard input, and reads nothing from it.
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", 'echo $$ >&0 && exec "$@"', "sh", *command],
                stdin=lock,
                stdout=log,
                stderr=log,
                env=dict(environment),
                cwd=directory,
                pass_fds=descriptors,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(log)
        self._pidfd = os.pidfd_open(process.pid)
        # The process is watched and reaped through its pidfd; Popen would warn that it still runs.
        process.returncode = 0

    def _find(self) -> int | None:
        """A pidfd of the process that holds the lock, or None where nobody does."""
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
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
                    raise ProcessError(f"{self._lock} is locked by a process that it does not name")
                time.sleep(0.01)
        finally:
            os.close(lock)

    def _forget(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def last_words(log: Path) -> str:
    """The last line of a helper's log."""
    return "".join(files.last_lines(log)) or "nothing"


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
    if not readable(process, seconds):
        return False
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOHANG)
    return True
