"""HTTP over Unix sockets: what helper processes are asked."""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """A connection to whoever listens at the Unix socket `path`, which may be of any length. `timeout` in seconds."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        # An address holds 107 bytes (unix(7)); the directory's descriptor has a short name.
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)


def get(path: Path, target: str, seconds: float) -> tuple[int, bytes]:
    """Status and body of `GET target`, asked of whoever listens at a Unix socket. Raises OSError, http.client.HTTPException."""
    connection = UnixConnection(path, seconds)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
