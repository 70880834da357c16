"""The threads that serve requests: a few, and more for whoever would have to wait while those wait for somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FEW, MANY = 3, 32
LATE_SECONDS = 0.05
"""What has not begun by then is not behind quick requests, but behind ones that wait: for S3, say, or a host's agent."""


class Crew:
    """Runs an event loop's blocking work.

    Python runs one thread at a time, and threads that take turns at it cost more than they gain: few serve more requests than
    many (docs/performance.md).
    """

    def __init__(self) -> None:
        self._few = ThreadPoolExecutor(FEW, thread_name_prefix="request")
        self._many = ThreadPoolExecutor(MANY, thread_name_prefix="late request")

    async def run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What `work` returns or raises."""
        loop = asyncio.get_running_loop()
        future = self._few.submit(work, *arguments, **named)
        moved = False

        def relieve() -> None:
            nonlocal moved
            moved = future.cancel()  # only what has not begun

        late = loop.call_later(LATE_SECONDS, relieve)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not moved:
                raise
            return await asyncio.wrap_future(self._many.submit(work, *arguments, **named))
        finally:
            late.cancel()
