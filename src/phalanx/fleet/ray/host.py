"""One host of the fleet across hosts: its agent, reached through Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from phalanx.fleet.base import FleetError
from phalanx.fleet.host import ANSWER_SECONDS, CALL_SECONDS, Host
from phalanx.fleet.ray.bridge import Bridge
from phalanx.fleet.ray.ledger import Facts
from phalanx.fleet.waiting import Waiting

log = structlog.get_logger()


class RayHost(Host):
    """One host of the fleet, reached through Ray."""

    def __init__(self, address: str, bridge: Bridge, waiting: Waiting, term: Callable[[], int | None]) -> None:
        super().__init__(term)
        self.address = address
        self._bridge = bridge
        self._waiting = waiting
        self._heard = 0.0

    def open(self) -> None:
        """Hear of its instances. Raises FleetError."""
        self._refresh()

    def follow(self) -> None:
        """Hear of their changes from here on."""
        self._watcher.start()

    def close(self) -> None:
        """Follow them no more; what was last heard of them stays."""
        self._closing.set()

    def facts(self) -> Facts:
        """What the host has now. Raises FleetError."""
        return Facts(self.capacity(), int(self._call("mtu", ANSWER_SECONDS, address=self.address)))

    def renew(self, seconds: float) -> None:
        """Let the host write checkpoints for `seconds` from its last answer: its jobs are still its own. Raises FleetError."""
        self._heard = float(self._call("renew", ANSWER_SECONDS, heard=self._heard, seconds=seconds))

    def parcel(self, instance_id: str, offset: int) -> bytes:
        """A piece of what an instance left."""
        return bytes(self._call("parcel", instance_id=instance_id, offset=offset))

    def deliver(self, instance_id: str, sender: str, offset: int, content: bytes) -> None:
        """Have a piece of another host's instance uploaded with what `instance_id` left."""
        self._call("deliver", instance_id=instance_id, sender=sender, offset=offset, content=content)

    def _call(self, method: str, seconds: float = CALL_SECONDS, /, **arguments: object) -> Any:
        return self._bridge.call(self.address, method, seconds, arguments, self._term_for(method))

    def _lost(self, reason: FleetError) -> None:
        log.warning("a host does not answer", host=self.address, reason=str(reason))
        self._closing.wait(1.0)
