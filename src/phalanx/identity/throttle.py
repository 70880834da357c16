"""How often somebody may fail to say who they are."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

BURST = 100
"""Failures of one source that are answered at once."""
PER_SECOND = 1.0
"""Failures a second that are answered on end."""
_SOURCES = 10_000
"""Sources, and keys of sources, that are kept in mind: the last ones."""


class Throttle:
    """A bucket of failures for each source. When it is empty, only keys that were right from there before are looked at: who
    shares an address with an attacker goes on working."""

    def __init__(self, burst: int = BURST, per_second: float = PER_SECOND, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left, and when that was."""
        self._right: OrderedDict[tuple[str, str], None] = OrderedDict()

    def admits(self, source: str, key: str) -> bool:
        """Whether a request is looked at."""
        if source not in self._buckets:
            return True
        with self._lock:
            return self._left(source) >= 1 or (source, key) in self._right

    def failed(self, source: str) -> bool:
        """A request was not from whom it said. Returns whether the source had failures left, so that this one is told of."""
        with self._lock:
            left = self._left(source)
            self._buckets[source] = (max(0.0, left - 1), self._clock())
            self._buckets.move_to_end(source)
            if len(self._buckets) > _SOURCES:
                self._buckets.popitem(last=False)
            return left >= 1

    def succeeded(self, source: str, key: str) -> None:
        """A request was from whom it said."""
        if (source, key) in self._right:
            return
        with self._lock:
            self._right[source, key] = None
            if len(self._right) > _SOURCES:
                self._right.popitem(last=False)

    def _left(self, source: str) -> float:
        left, then = self._buckets.get(source, (float(self._burst), self._clock()))
        return min(float(self._burst), left + (self._clock() - then) * self._per_second)
