"""Signatures that were used, so that a request that somebody recorded is not taken again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from phalanx.wire.sigv4 import MAX_SKEW, Claim, Reason, Refused

GRACE = 5.0
"""Seconds within which a signature may come again. It holds the time to the second, and nothing else that is unique: a client
that asks for the same twice within a second, or tries again so soon, signs the same. Later it signs another."""
KEPT = 2 * MAX_SKEW.total_seconds()
"""Seconds after which a signature is no longer valid, whatever the client's clock says."""
REUSED = "The request was made before: its signature was used. Sign it anew."


class Memory(Protocol):
    """Knows which signatures were used."""

    def take(self, claim: Claim) -> None:
        """See Replays."""


class Replays:
    """Remembers the signatures of requests that change something, for as long as they would be valid."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._now: dict[str, float] = {}
        """When each was first used."""
        self._before: dict[str, float] = {}
        self._turned = clock()

    def take(self, claim: Claim) -> None:
        """Use a verified request's signature. Raises Refused where it was used some time ago. A presigned request may be used
        as often as one likes, while it is valid."""
        if claim.expires is not None:
            return
        with self._lock:
            now = self._clock()
            if now - self._turned > KEPT:
                self._before, self._now, self._turned = self._now, {}, now
            used = self._now.get(claim.signature, self._before.get(claim.signature))
            if used is None:
                self._now[claim.signature] = now
            elif now - used > GRACE:
                raise Refused(Reason.BAD_SIGNATURE, REUSED)
