"""The way out of a VPC: a namespace beyond the router, in which a relay takes what the router lets out."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from ipaddress import IPv4Address
from pathlib import Path

from phalanx.linux import nft
from phalanx.linux.nft import NftError
from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.network.model import EXIT
from phalanx.network.relay import NAMES_PORT
from phalanx.network.router import Router

_RELAY_PORT = 8443
_END_SECONDS = 5.0
_MODULE = "phalanx.network.relay"
_SOURCES, _SOURCE_COUNT = IPv4Address("127.128.0.0"), (1 << 23) - 1
"""Addresses for relays to reach S3 from: 127.128.0.0/9 but its last, where nothing of the host's listens."""

_RULES = f"""
table ip phalanx
delete table ip phalanx
table ip phalanx {{
    chain redirected {{
        type nat hook prerouting priority -100; policy accept;
        meta l4proto tcp redirect to :{_RELAY_PORT}
        udp dport {NAMES_PORT} redirect to :{NAMES_PORT}
    }}
    chain input {{
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        ct status dnat accept
    }}
}}
"""
"""All that comes is the relay's. The namespace forwards nothing: it has no second link, and ip_forward stays 0."""


class Exit:
    """The exit of the VPC whose router is `router`, in the namespace `name`.

    All methods may be called from any thread, and again after a kill at any point. They raise NetworkError.
    """

    def __init__(self, name: str, router: Router) -> None:
        self._name = name
        self._router = router
        self.source = _SOURCES + int.from_bytes(hashlib.sha256(name.encode()).digest()) % _SOURCE_COUNT
        """The address that the VPC's containers have for an S3 on this host, whoever starts the relay."""
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None

    def ensure(self, s3: tuple[str, int]) -> None:
        """Make the exit, or what is missing of it; `s3` is the host and port where S3 really is."""
        with self._lock:
            namespace.create(self._name)
            if self._relays(s3):
                self._router.lead_out(self._name)
                return
            self._end()
            self._load()
            self._router.lead_out(self._name)
            self._start(s3)

    def stands(self) -> bool:
        """Whether the relay runs."""
        with self._lock:
            if self._process is not None:
                return self._process.poll() is None
            return bool(namespace.processes(self._name))

    def destroy(self) -> None:
        """Remove the exit with all that passes it. Idempotent."""
        with self._lock:
            self._end()
            namespace.delete(self._name)

    def _relays(self, s3: tuple[str, int]) -> bool:
        """Whether a relay to there runs, whoever started it."""
        wanted = [b"-m", _MODULE.encode()], [str(part).encode() for part in (*s3, self.source)]
        for process in namespace.processes(self._name):
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[:-1]
                if (words[-8:-6], words[-3:]) == wanted:
                    return True
        return False

    def _start(self, s3: tuple[str, int]) -> None:
        with ExitStack() as stack:
            host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, host)
            try:
                with namespace.entered(self._name):
                    # Open before the relay runs: what comes first waits for it.
                    listener = stack.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)))
                    names = stack.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind((EXIT.address, _RELAY_PORT))
                    listener.listen(512)
                    names.bind((EXIT.address, NAMES_PORT))
                    passed = (listener.fileno(), names.fileno(), host)
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", _MODULE, *map(str, (*passed, *s3, self.source))],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        cwd="/",
                        pass_fds=passed,
                        start_new_session=True,
                    )
            except OSError as error:
                raise NetworkError(f"cannot start the relay in {self._name}: {error}") from error

    def _end(self) -> None:
        deadline = time.monotonic() + _END_SECONDS
        while processes := namespace.processes(self._name):
            if time.monotonic() > deadline:
                raise NetworkError(f"processes in {self._name} do not end by SIGKILL: {sorted(processes)}")
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.005)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _load(self) -> None:
        with namespace.entered(self._name):
            try:
                nft.load(_RULES)
            except NftError as error:
                raise NetworkError(f"cannot load the rules of {self._name}: {error}") from error
