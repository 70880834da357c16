"""The threads that serve requests."""

import asyncio
import threading

import pytest

from phalanx.wire.crew import FEW, Crew, Rounds


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


def test_a_round_serves_all_who_wait_when_it_begins():
    served, go, waiting, begun = [], threading.Event(), [], threading.Event()

    def work():
        begun.set()
        go.wait(60)
        served.append(len(waiting))

    async def main():
        rounds = Rounds(work)

        async def wait(name):
            waiting.append(name)
            await rounds.wait()
            return len(served)

        first = asyncio.create_task(wait("a"))
        await asyncio.to_thread(begun.wait, 60)
        # These come while the first round runs, which may have begun without what they wait for.
        others = [asyncio.create_task(wait(name)) for name in "bcd"]
        await asyncio.sleep(0)
        go.set()
        assert await first == 1
        assert await asyncio.gather(*others) == [2, 2, 2]

    asyncio.run(main())
    assert len(served) == 2


def test_a_round_that_fails_fails_for_all_of_it_and_the_next_is_run():
    outcomes = iter([OSError("disk"), None])

    def work():
        if (outcome := next(outcomes)) is not None:
            raise outcome

    async def main():
        rounds = Rounds(work)
        found = await asyncio.gather(rounds.wait(), rounds.wait(), return_exceptions=True)
        assert [type(each) for each in found] == [OSError, OSError]
        await rounds.wait()

    asyncio.run(main())
