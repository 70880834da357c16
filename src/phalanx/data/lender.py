"""The process that gives a training container its role's credentials: `python -m phalanx.data.lender LISTENER FILE PATH`.

LISTENER is the descriptor of a socket that listens, FILE holds the document that PATH is answered with, which is read anew each
time. A container says what it likes to it, so the process has no privilege once it serves, understands one line, and imports
nothing but what that needs.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import sys
import time
from contextlib import suppress

DOCUMENT_BYTES = 4096
_REQUEST_BYTES, _REQUEST_SECONDS = 8192, 1.0
"""What a request may have and take. They are served one by one: who dawdles keeps nobody waiting but its own container."""
_PR_SET_NO_NEW_PRIVS = 38
_NOBODY = 65534


class Lender:
    """Answers `path` with what `file`, a descriptor, holds."""

    def __init__(self, listener: socket.socket, file: int, path: bytes) -> None:
        self._listener = listener
        self._file = file
        self._path = path

    def serve(self) -> None:
        """Answer one request after another, for ever. Raises OSError where nobody can come any more."""
        while True:
            with suppress(ConnectionAbortedError):
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.sendall(self._answer(_head(connection)))

    def _answer(self, head: bytes) -> bytes:
        match head.partition(b"\r\n")[0].split(b" "):
            case [b"GET", path, version] if version.startswith(b"HTTP/1."):
                if path == self._path:
                    return _response(b"200 OK", self._document())
                return _response(b"404 Not Found", b'{"message": "there are no credentials here"}')
        return _response(b"400 Bad Request", b'{"message": "ask with GET and HTTP/1.1"}')

    def _document(self) -> bytes:
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            return os.pread(self._file, DOCUMENT_BYTES, 0).rstrip()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _head(connection: socket.socket) -> bytes:
    """A request's first bytes, at least its head if all goes well. Raises OSError."""
    head, deadline = b"", time.monotonic() + _REQUEST_SECONDS
    while b"\r\n\r\n" not in head and len(head) < _REQUEST_BYTES:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        if not (more := connection.recv(_REQUEST_BYTES)):
            break
        head += more
    return head


def _response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, len(body)) + body


def main() -> None:
    """Serve until killed."""
    listener, file = socket.socket(fileno=int(sys.argv[1])), os.open(sys.argv[2], os.O_RDONLY | os.O_CLOEXEC)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    Lender(listener, file, sys.argv[3].encode()).serve()


if __name__ == "__main__":
    main()
