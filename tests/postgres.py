"""A PostgreSQL server of one's own, under a temporary directory."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

OWNER = "postgres"
"""PostgreSQL refuses to run as root; Debian's package makes this user."""


class Postgres:
    """A cluster that answers on a Unix socket alone, and sorts texts as English does, which is not by code points."""

    def __init__(self) -> None:
        # Not under pytest's directories, which only root may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="phalanx-postgres-"))
        user = pwd.getpwnam(OWNER)
        os.chown(self.directory, user.pw_uid, user.pw_gid)
        (self._programs,) = Path("/usr/lib/postgresql").glob("*/bin")
        self._data = self.directory / "data"
        self._run(
            *(self._programs / "initdb", "-D", self._data, "-U", OWNER, "--auth=trust", "--encoding=UTF8", "--no-sync"),
            *("--locale=C", "--locale-provider=icu", "--icu-locale=en"),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; returns when it answers."""
        command = [self._programs / "postgres", "-D", self._data, "-k", self.directory, "-c", "listen_addresses="]
        command += ["-c", "fsync=off", "-c", "max_connections=200"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._as_owner(*command), stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End the server and all its connections at once: in order (SIGINT), or not (SIGQUIT)."""
        self._process.send_signal(number)
        self._process.wait(60)

    def close(self) -> None:
        """End the server and remove all that is its."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory)

    def fresh(self, name: str) -> str:
        """The URL of a database of that name, made empty."""
        with psycopg.connect(host=str(self.directory), user=OWNER, dbname=OWNER, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://{OWNER}@/{name}?host={self.directory}"

    def sessions(self) -> list[int]:
        """The processes that serve connections. Where one is killed, the server cuts all others too, and recovers."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = []
        for child in path.read_text().split():
            with contextlib.suppress(OSError):
                if b" [local] " in Path("/proc", child, "cmdline").read_bytes():
                    found.append(int(child))
        return found

    def _answers(self) -> bool:
        try:
            psycopg.connect(host=str(self.directory), user=OWNER, dbname=OWNER).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, *command: object) -> None:
        done = subprocess.run(self._as_owner(*command), check=False, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _as_owner(*command: object) -> list[str]:
        return ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups", "--", *map(str, command)]
