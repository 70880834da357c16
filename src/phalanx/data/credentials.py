"""What gives a training container the credentials of its job's role: a process that only the container's own network can reach.

The container's environment names a path (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI) on an address of its own, 169.254.170.2, as
SageMaker and ECS do. SDKs ask there by HTTP when they need credentials, and again before these expire.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from pathlib import Path

from phalanx.data.lender import DOCUMENT_BYTES
from phalanx.data.model import RoleCredentials
from phalanx.data.process import Process

ADDRESS, PORT = "169.254.170.2", 80
VARIABLE = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"


class Endpoint:
    """Where one container is given, at `path`, what it was lent last. That, and the process that gives it, outlive the agent.

    `directory` is the instance's on the disk, `secrets` one on a tmpfs.
    """

    def __init__(self, path: str, directory: Path, secrets: Path) -> None:
        self._path = path
        self._directory = directory
        self._lent = secrets / "lent"
        self._process = Process(directory / "lender.lock")

    def lend(self, credentials: RoleCredentials) -> None:
        """Give these from now on. Raises OSError."""
        document = {
            "RoleArn": credentials.role,
            "AccessKeyId": credentials.access_key,
            "SecretAccessKey": credentials.secret_key,
            "Token": credentials.token,
            "Expiration": f"{credentials.expires:%Y-%m-%dT%H:%M:%SZ}",
        }
        file = os.open(self._lent, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # In place, where the process reads it, and by one call, which a kill leaves done or not begun.
            os.pwrite(file, json.dumps(document).encode().ljust(DOCUMENT_BYTES), 0)
        finally:
            os.close(file)

    def idle(self) -> bool:
        """Whether there is something to give and nobody who gives it. Raises ProcessError."""
        return self._lent.exists() and not self._process.alive()

    def start(self, listener: socket.socket) -> None:
        """Begin to answer those who come to `listener`. Raises ProcessError."""
        command = [sys.executable, "-m", "phalanx.data.lender", str(listener.fileno()), str(self._lent), self._path]
        log = self._directory / "lender.log"
        # Nothing of the agent's environment is its business.
        self._process.start(command, {}, self._directory, log, descriptors=(listener.fileno(),))

    def stop(self) -> None:
        """End the process, if there is one. Raises ProcessError."""
        self._process.stop()
