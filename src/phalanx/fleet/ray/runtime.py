"""Ray's processes on a host: how they are started, and ended with whoever started them."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from phalanx.node.names import RUN, Names

HOST = "phalanx_host"
"""The resource of Ray's nodes that run instances; the control plane's own has none of it."""
SOCKET = "PHALANX_AGENT_SOCKET"
"""The environment's variable that tells Ray's processes on a host where its node agent answers."""
NAMESPACE = "phalanx"
STORE_BYTES = 80 << 20
"""Memory for what is too long to travel within a call: logs, and pieces of artifacts."""
END_SECONDS = 15.0
PORTS = 16
"""TCP ports that Ray may take on a machine, from the first one on; the last is the machine's own."""
HOST_PORTS = 10000
"""The first one on a host, where no other is given."""
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)

_PATIENCE = {
    # How fast hosts and the control plane see each other's end.
    "RAY_health_check_initial_delay_ms": "3000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    # A host sees by this alone that Ray's head is a new one; for as long (a minute, by default) it asks that again and again.
    "RAY_raylet_liveness_self_check_interval_ms": "3000",
    # Whoever stops Ray has seen to what runs, which is not Ray's.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}


def installed() -> bool:
    """Whether Ray is there: it comes with the extra `ray`."""
    return importlib.util.find_spec("ray") is not None


def directory(names: Names) -> Path:
    """Where Ray keeps sockets and logs of a service on a host. Short, since Unix socket paths end at 107 bytes."""
    return RUN / f"{names.tag}.ray"


class Runtime:
    """Ray's processes of one host. They end with the process that started them, however that ends."""

    def __init__(self, names: Names, environment: Mapping[str, str], log: Path) -> None:
        self._directory = directory(names)
        self._environment = {**os.environ, **_PATIENCE, **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start_head(self, address: str, port: int, ports: int) -> None:
        """Begin a fleet that hosts join at that address and port; `ports` is the first of the others."""
        self._start(address, ports, "--head", f"--port={port}", "--include-dashboard=false", "--no-monitor")

    def start_host(self, address: str, head: str, ports: int) -> None:
        """Join the fleet at `head` (ADDRESS:PORT) as the host with that address, from the port `ports` on."""
        self._start(address, ports, f"--address={head}", f"--resources={json.dumps({HOST: 1})}")

    def runs(self) -> bool:
        """Whether they run, all of them: Ray ends the rest where one is lost."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End them, and what they kept. Idempotent."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self, address: str, ports: int, *arguments: str) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments]
        command += ["--num-cpus=0", "--num-gpus=0", f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
        command += [f"--temp-dir={self._directory}", f"--node-ip-address={address}"]
        own = ports + PORTS - 1
        command += [f"--node-manager-port={ports}", f"--object-manager-port={ports + 1}"]
        # What listens at the last one speaks with this machine's Ray alone, and in the clear.
        command += [f"--min-worker-port={ports + 2}", f"--max-worker-port={own - 1}", f"--runtime-env-agent-port={own}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
