"""Signatures that were used, so that a request that somebody recorded is not taken again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from phalanx.wire.sigv4 import MAX_SKEW, Claim, HttpRequest, Reason, Refused

NONCE = "amz-sdk-invocation-id"
"""The header that AWS's SDKs and the AWS CLI give each call, and sign: with it no two requests have the same signature.

Clients that sign without it may send two equal requests in one second, which nobody can tell from one that is sent twice.
"""
_KEPT = 2 * MAX_SKEW.total_seconds()
"""Seconds after which a signature is no longer valid, whatever the client's clock says."""


class Replays:
    """Remembers the signatures of requests that change something, for as long as they would be valid."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._now: set[str] = set()
        self._before: set[str] = set()
        self._turned = clock()

    def take(self, request: HttpRequest, claim: Claim) -> None:
        """Use up a verified request's signature. Raises Refused where it was used before. A presigned request may be used as
        often as one likes, while it is valid."""
        if claim.expires is not None or NONCE not in claim.signed_headers or NONCE not in request.headers:
            return
        with self._lock:
            now = self._clock()
            if now - self._turned > _KEPT:
                self._before, self._now, self._turned = self._now, set(), now
            if claim.signature in self._now or claim.signature in self._before:
                raise Refused(Reason.BAD_SIGNATURE, "The request was made before: a signature is taken once. Sign it anew.")
            self._now.add(claim.signature)
