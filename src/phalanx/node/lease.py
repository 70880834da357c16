"""How long this host's instances are their jobs' for sure. One that is away for long is lost to its fleet, and its jobs begin
again elsewhere, while everything here may run on."""

from __future__ import annotations

import time


class Lease:
    """Renewed by a control plane of several hosts for as long as it hears of this one."""

    def __init__(self) -> None:
        # What an earlier agent had is not known: the next renewal is seconds away, or the host is cut off.
        self._until = 0.0

    def renew(self, heard: float, seconds: float) -> float:
        """It runs for `seconds` from `heard`, the answer to the renewal before (0: there was none). Answers with the time, in
        seconds since the host was started, those that it was suspended for too.

        So it counts from when the control plane has surely heard of the host: a renewal that is late to come, since the network
        has held it up, gives no time.
        """
        self._until = max(self._until, heard + seconds)
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def holds(self) -> bool:
        """Whether it runs."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) < self._until
