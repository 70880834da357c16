"""One host as a fleet sees it: the calls that its agent takes, and what was last heard of its instances."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from phalanx.data.logs import LogLine
from phalanx.data.model import RoleCredentials
from phalanx.fleet.base import FleetError
from phalanx.fleet.waiting import Waiting
from phalanx.network.model import Exits, Overlay, SecurityGroup
from phalanx.node import protocol
from phalanx.node.messages import Capacity, InstanceSpec, InstanceStatus, Measurement, Phase, Statuses, Usage

CALL_SECONDS = 86400.0
"""Longest call: the upload of a large model. Whether the agent still works is asked by shorter ones."""
ANSWER_SECONDS = 20.0
"""How long the agent may take over a call that has nothing to do; then it hangs and is replaced."""
WATCH_SECONDS = 10.0
"""How long one look at the statuses waits for a change."""

log = structlog.get_logger()


class Host(ABC):
    """The calls of `Fleet`, to one host. How its agent is reached, and what is done when it is not, subclasses say."""

    def __init__(self, term: Callable[[], int | None] = lambda: None) -> None:
        """`term`: the leader's, where a control plane has replicas; it raises FleetError in one that does not lead."""
        self._term = term
        self._lock = threading.Lock()
        self._waiting = Waiting()
        self._newest = 0
        self._statuses: dict[str, InstanceStatus] = {}
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="fleet", daemon=True)

    @abstractmethod
    def _call(self, method: str, seconds: float = CALL_SECONDS, /, **arguments: object) -> Any:
        """Make a call to the agent. Raises Unreachable or Refused."""

    @abstractmethod
    def _lost(self, reason: FleetError) -> None:
        """The agent does not answer: do what can be done so that it does."""

    def lead(self) -> None:
        """Have the agent take no more orders of earlier leaders; none of theirs is under way when this returns."""
        self._call("lead", ANSWER_SECONDS)

    def capacity(self) -> Capacity:
        """See Fleet."""
        result: Capacity = self._call("capacity", ANSWER_SECONDS)
        return result

    def has_image(self, image: str) -> bool:
        """See Fleet."""
        return bool(self._call("has_image", image=image))

    def enforce(self, vpc_id: str, groups: Sequence[SecurityGroup], exits: Exits, overlay: Overlay | None = None) -> None:
        """See Fleet; `overlay` says where the VPC goes on on other hosts."""
        self._call("enforce", vpc_id=vpc_id, groups=tuple(groups), exits=exits, overlay=overlay)

    def place(self, specs: Sequence[InstanceSpec]) -> None:
        """See Fleet."""
        self._call("place", specs=tuple(specs))
        self._refresh()

    def advance(self, ids: Sequence[str], goal: Phase) -> None:
        """See Fleet."""
        self._call("advance", ids=tuple(ids), goal=goal)

    def lend(self, ids: Sequence[str], credentials: RoleCredentials) -> None:
        """See Fleet."""
        self._call("lend", ids=tuple(ids), credentials=credentials)

    def statuses(self, ids: Sequence[str]) -> dict[str, InstanceStatus]:
        """See Fleet."""
        with self._lock:
            return {id_: self._statuses[id_] for id_ in ids if id_ in self._statuses}

    def everything(self) -> list[str]:
        """Ids of all instances of the host."""
        with self._lock:
            return list(self._statuses)

    def wait(self, known: Mapping[str, InstanceStatus], timeout: float) -> None:
        """See Fleet."""
        self._waiting.until(lambda: self.statuses(list(known)) != known, known, timeout)

    def stop(self, ids: Sequence[str], grace: float) -> None:
        """See Fleet."""
        self._call("stop", ids=tuple(ids), grace=grace)

    def logs(self, instance_id: str, offset: int, final: bool) -> tuple[list[LogLine], int]:
        """See Fleet."""
        result: tuple[list[LogLine], int] = self._call("logs", instance_id=instance_id, offset=offset, final=final)
        return result

    def measure(self, ids: Sequence[str]) -> list[Measurement]:
        """See Fleet."""
        result: list[Measurement] = self._call("measure", ids=tuple(ids))
        return result

    def usage(self, ids: Sequence[str]) -> list[Usage]:
        """See Fleet."""
        result: list[Usage] = self._call("usage", ids=tuple(ids))
        return result

    def upload(self, ids: Sequence[str]) -> str:
        """See Fleet."""
        return str(self._call("upload", ids=tuple(ids)))

    def destroy(self, ids: Sequence[str]) -> None:
        """See Fleet."""
        self._call("destroy", ids=tuple(ids))

    def _term_for(self, method: str) -> int | None:
        """The term that a call is made in. Raises FleetError for one that this replica may not make now."""
        return None if method in protocol.READING else self._term()

    def _refresh(self) -> None:
        self._see(self._call("statuses", ANSWER_SECONDS, seen=-1, timeout=0.0))

    def _see(self, statuses: Statuses) -> None:
        with self._lock:
            # Of two answers that cross, the older may come last: it would not know what was placed in between.
            if statuses.version < self._newest:
                return
            self._newest = statuses.version
            before, self._statuses = self._statuses, {status.id: status for status in statuses.instances}
            news = {id_ for id_ in before.keys() | self._statuses.keys() if before.get(id_) != self._statuses.get(id_)}
        self._waiting.tell(news)

    def _watch(self) -> None:
        seen = -1
        while not self._closing.is_set():
            try:
                seen = self._follow(seen)
            except Exception:
                # Nobody else would hear of the instances.
                log.exception("the instances cannot be watched now")
                seen = -1
                self._closing.wait(1.0)

    def _follow(self, seen: int) -> int:
        """Hear of what is newer than the statuses `seen`; what has been seen then, and -1 where that was lost."""
        try:
            statuses: Statuses = self._call("statuses", WATCH_SECONDS + ANSWER_SECONDS, seen=seen, timeout=WATCH_SECONDS)
        except FleetError as error:
            if not self._closing.is_set():
                self._lost(error)
            return -1
        if statuses.version != seen:
            self._see(statuses)
        return statuses.version
