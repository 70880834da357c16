"""A process that outlives us: started in a namespace and a session of its own, found again by the lock that it holds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from phalanx.ipsec import netns
from phalanx.ipsec.errors import MeshError
from phalanx.linux import files
from phalanx.linux.descriptors import readable

IKE = "charon"
"""What the process of an instance's IKE daemon is called."""
END_TIMEOUT = 2.0
"""Seconds that a process gets to end after SIGTERM, and after SIGKILL."""
_WRITE_TIMEOUT = 1.0

# It waits for the lock a little, because asking who holds it takes it for a moment (flock(2) has no other way to ask).
# The number is that of the shell, of which the command becomes a continuation: no step between lock and command forks.
_LAUNCH = 'echo $$ > "$1" && shift && exec "$@"'


class Daemon:
    """The process called `name` of the network namespace `space`; lock and log lie in `rundir`.

    It holds the lock (flock(2), inherited over exec) exactly as long as it lives, so what is said about it is never stale,
    and two starters, or an earlier agent's start still on its way, cannot make two of it.
    """

    def __init__(self, space: str, rundir: Path, name: str) -> None:
        self._netns = space
        self._name = name
        self._lock = rundir / f"{name}.lock"
        self.log = rundir / f"{name}.log"

    def pid(self) -> int | None:
        """The running process's number, or None. Raises MeshError where something else holds the lock."""
        deadline = time.monotonic() + _WRITE_TIMEOUT
        while self._held():
            if text := self._lock.read_text().strip():
                return int(text)
            # It has the lock and is about to write its number.
            if time.monotonic() > deadline:
                raise MeshError(f"{self._lock} is locked, but not by {self._name}")
            time.sleep(0.002)
        return None

    def launch(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start `command` and return at once; stdout and stderr are appended to the log. Where it runs, nothing happens.

        `environment` is added to a bare one. The process has no parent but init, so nobody here needs to reap it.
        """
        with self._lock.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            # Whoever finds the lock taken next must not read the number of a process that is gone.
            os.truncate(self._lock, 0)
        with self.log.open("ab") as log:
            started = subprocess.run(
                [
                    *("setsid", "--fork", "nsenter", f"--net={netns.path(self._netns)}"),
                    *(
                        "flock",
                        "--no-fork",
                        "--timeout",
                        "1",
                        str(self._lock),
                        "sh",
                        "-c",
                        _LAUNCH,
                        self._name,
                        str(self._lock),
                    ),
                    *command,
                ],
                env={"PATH": os.environ.get("PATH", os.defpath), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                check=False,
            )
        if started.returncode != 0:
            raise MeshError(f"cannot start {self._name} in namespace {self._netns}: {self.tail()}")

    def end(self, *signals: signal.Signals) -> None:
        """End the process with these signals, one after the other, and remove its lock. Raises MeshError where it stays."""
        for number in signals:
            if (pid := self.pid()) is None:
                break
            with contextlib.suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                try:
                    # A lock still held after the process was opened says that its number had not gone to another.
                    if self._held():
                        signal.pidfd_send_signal(process, number)
                        readable(process, END_TIMEOUT)
                finally:
                    os.close(process)
        if (pid := self.pid()) is not None:
            raise MeshError(f"{self._name} (process {pid}) in namespace {self._netns} does not end")
        self._lock.unlink(missing_ok=True)

    def tail(self) -> str:
        """The last words of the log."""
        return " / ".join(files.last_lines(self.log, 5)) or "it logged nothing"

    def _held(self) -> bool:
        try:
            with self._lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False
