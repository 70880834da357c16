"""Those who wait for news of instances. News of one wakes who waits for that one: there may be thousands."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable


class Waiting:
    """All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: defaultdict[str, set[threading.Event]] = defaultdict(set)

    def until(self, true: Callable[[], bool], ids: Iterable[str], timeout: float) -> None:
        """Return once `true` holds, which only news of the instances `ids` can bring about, or after `timeout` seconds."""
        bell, mine, deadline = threading.Event(), tuple(ids), time.monotonic() + timeout
        with self._lock:
            for id_ in mine:
                self._bells[id_].add(bell)
        try:
            while not true() and bell.wait(max(0.0, deadline - time.monotonic())):
                bell.clear()
        finally:
            with self._lock:
                for id_ in mine:
                    self._bells[id_].discard(bell)
                    if not self._bells[id_]:
                        del self._bells[id_]

    def tell(self, ids: Iterable[str]) -> None:
        """There is news of these instances: it can be seen already."""
        with self._lock:
            for id_ in ids:
                for bell in self._bells.get(id_, ()):
                    bell.set()

    def tell_all(self) -> None:
        """There may be news of any."""
        with self._lock:
            for bells in self._bells.values():
                for bell in bells:
                    bell.set()
