"""What became of an instance's two guards, and when: as seen by those who look at them and put them back."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import structlog

from phalanx.linux import files
from phalanx.node.messages import GuardChange, Guards

GuardName = Literal["router", "kernel"]

FIRST, LAST = 20, 180
"""Changes that are kept: so many from the start, and the latest. How many there were between is counted."""
_KEEP_MS = 1000
"""How much older than the latest look the one that is kept in the file may be."""

log = structlog.get_logger()


class Chronicle:
    """The guards of one instance over time, in the file `path`. Methods may be called from any thread.

    A guard is named while somebody has seen it hold; whether it held between two looks, nobody knows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._guards, self._looks = Guards(), dict[str, int]()
        self._kept = 0
        self._closed = False
        if path.exists():
            content = json.loads(path.read_text())
            changes = (GuardChange(**{**each, "held_by": tuple(each["held_by"])}) for each in content["changes"])
            self._guards, self._looks = Guards(tuple(changes), content["omitted"]), content["looks"]

    @property
    def guards(self) -> Guards:
        """All changes so far."""
        return self._guards

    def raised(self, guard: GuardName, cause: str) -> None:
        """A guard has been put up, or again; no change where it is known to hold."""
        with self._lock:
            if guard not in self._held():
                self._change(now_ms(), self._looks.get(guard), (*self._held(), guard), cause)
            self._look(guard, now_ms())

    def seen(self, guard: GuardName, fault: str | None, at: int) -> None:
        """Somebody has looked at a guard: it holds, or what is wrong. Nothing before it is raised for the first time."""
        with self._lock:
            held = self._held()
            if guard not in self._looks:
                return
            if fault is not None and guard in held:
                self._change(at, self._looks[guard], tuple(name for name in held if name != guard), fault)
            elif fault is None and guard not in held:
                self._change(at, self._looks[guard], (*held, guard), f"the {guard}'s guard was seen to hold again")
            self._look(guard, at)

    def resumed(self) -> None:
        """A new agent begins to look; what became of the guards since the last one looked, nobody saw."""
        with self._lock:
            if self._looks:
                self._change(now_ms(), min(self._looks.values()), (), "the agent had ended: nobody looked meanwhile")

    def close(self) -> None:
        """Keep nothing any more: what the instance had is being taken away."""
        with self._lock:
            self._closed = True

    def _held(self) -> tuple[str, ...]:
        return self._guards.changes[-1].held_by if self._guards.changes else ()

    def _change(self, at: int, since: int | None, held_by: tuple[str, ...], cause: str) -> None:
        changes = (*self._guards.changes, GuardChange(at, since, tuple(sorted(held_by)), cause))
        over = max(len(changes) - FIRST - LAST, 0)
        self._guards = replace(
            self._guards, changes=(*changes[:FIRST], *changes[FIRST + over :]), omitted=self._guards.omitted + over
        )
        self._kept = 0

    def _look(self, guard: GuardName, at: int) -> None:
        self._looks[guard] = at
        if at - self._kept >= _KEEP_MS and not self._closed:
            self._kept = at
            try:
                files.replace(self._path, json.dumps({**asdict(self._guards), "looks": self._looks}), durable=False)
            except OSError as error:
                # Memory is short: it is here meanwhile, and a later look tries it again.
                log.warning("what became of guards cannot be kept", path=str(self._path), reason=str(error))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
