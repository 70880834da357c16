"""The threads that serve requests."""

import asyncio
import threading

import pytest

from phalanx.wire.crew import FEW, Crew


def test_what_waits_holds_up_nobody_else():
    crew, released = Crew(), threading.Event()

    async def main():
        # One more than there are few: the last is among the many.
        waiting = [asyncio.create_task(crew.run(released.wait, 60)) for _ in range(FEW + 1)]
        assert await crew.run(sum, [1, 2]) == 3
        assert not any(task.done() for task in waiting)
        released.set()
        assert await asyncio.gather(*waiting) == [True] * (FEW + 1)

    asyncio.run(main())


def test_an_error_is_the_callers():
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(Crew().run(int, "x"))


def test_a_request_that_is_given_up_while_it_waits_is_not_run():
    crew, released, ran = Crew(), threading.Event(), []

    async def main():
        waiting = [asyncio.create_task(crew.run(released.wait, 60)) for _ in range(FEW)]
        await asyncio.sleep(0)
        given_up = asyncio.create_task(crew.run(ran.append, 1))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        released.set()
        await asyncio.gather(*waiting)

    asyncio.run(main())
    assert ran == []
