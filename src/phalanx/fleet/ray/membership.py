"""One host's part in a fleet: its node agent, and Ray's processes through which the control plane reaches it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import structlog

from phalanx.fleet.local import LocalFleet
from phalanx.fleet.ray.credentials import Invitation, environment
from phalanx.fleet.ray.runtime import SOCKET, Runtime
from phalanx.node.depot import Certificates
from phalanx.node.names import Names

RETRY_SECONDS = 1.0
"""How often it is tried to join while no control plane answers."""

log = structlog.get_logger()


class Membership:
    """Keeps the agent running, and the host in the fleet whenever there is a control plane to join."""

    def __init__(
        self, invitation: Invitation, data_dir: Path, images: Path, registries: Sequence[str], zone: str | None, ports: int
    ) -> None:
        self._invitation = invitation
        self._zone = zone
        self._ports = ports
        self._names = Names(data_dir)
        self._agent = LocalFleet(data_dir, images, registries)
        kept = data_dir / "ray"
        settings = environment(invitation, kept)
        Certificates(kept / "authority.pem", kept / "host.pem", kept / "host.key").keep(self._names.certificates)
        settings[SOCKET] = str(self._names.agent_socket)
        self._runtime = Runtime(self._names, settings, data_dir / "ray.log")
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="ray", daemon=True)

    def open(self) -> None:
        """Start the agent, and begin to join. Raises FleetError."""
        if self._zone is None:
            self._names.zone.unlink(missing_ok=True)
        else:
            self._names.zone.write_text(self._zone)
        self._agent.open(lead=False)
        self._names.draining.unlink(missing_ok=True)
        self._keeper.start()

    def drain(self, enough: threading.Event) -> None:
        """Take no more instances, and return when the last has ended, or once `enough` is set."""
        self._names.draining.touch()
        while (left := self._agent.everything()) and not enough.wait(RETRY_SECONDS):
            log.info("waiting for instances to end", instances=left)

    def close(self) -> None:
        """Leave the fleet. Instances that are still here stay, guarded, until the host joins again."""
        self._closing.set()
        # While Ray ends, which may take as long.
        self._agent.close()
        if self._keeper.is_alive():
            self._keeper.join()

    def _keep(self) -> None:
        invitation = self._invitation
        # Ray's processes end with the thread that started them (PR_SET_PDEATHSIG): this one lives as long as they shall.
        while not self._closing.is_set():
            if not self._runtime.runs():
                self._runtime.stop()
                log.info("joining", head=invitation.head, address=invitation.address)
                self._runtime.start_host(invitation.address, invitation.head, self._ports)
            self._closing.wait(RETRY_SECONDS)
        self._runtime.stop()
