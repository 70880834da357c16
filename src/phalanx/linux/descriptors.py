"""Waiting for a descriptor, whatever its number."""

from __future__ import annotations

import select


def readable(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read, or a pidfd's process has ended, waiting up to so many seconds for it.

    By poll(2): select(2) refuses descriptors from 1024 on, which an agent has that looks after some hundred instances.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
