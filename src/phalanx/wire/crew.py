"""The threads that serve requests: a few, and more for whoever would have to wait while those wait for somebody else."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FEW, MANY = 2, 32
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
        task = _Task(loop, functools.partial(work, *arguments, **named))
        self._few.submit(task.run)
        late = loop.call_later(LATE_SECONDS, self._many.submit, task.run)
        try:
            return await task.future
        finally:
            late.cancel()
            task.begin()  # what was given up before it began never does


class _Task(Generic[T]):
    """Work for the first thread that comes, and the future that waits for it: asyncio's way from a thread's future to its own
    takes several times as long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], T]) -> None:
        self.future: asyncio.Future[T] = loop.create_future()
        self._loop = loop
        self._work = work
        self._begun = threading.Lock()

    def begin(self) -> bool:
        """Whether nobody has begun it before."""
        return self._begun.acquire(blocking=False)

    def run(self) -> None:
        """Do it, unless somebody has begun it."""
        if not self.begin():
            return
        try:
            result = self._work()
        except BaseException as error:
            self._loop.call_soon_threadsafe(self._fail, error)
        else:
            self._loop.call_soon_threadsafe(self._finish, result)

    def _finish(self, result: T) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Rounds:
    """Runs work that serves all who wait for it at its beginning: one round after another, in a thread, while anybody waits."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="round")
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Return at the end of a round that begins from now on. Raises what its work raises."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._round(self._running))
        # A client that goes away does not end the round of the others.
        await asyncio.shield(self._next)

    async def _round(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        await asyncio.get_running_loop().run_in_executor(self._thread, self._work)
