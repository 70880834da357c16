"""Failures are few, and who shares an address with an attacker goes on working."""

from phalanx.identity.throttle import Throttle


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_source_that_fails_is_not_looked_at_until_time_has_passed():
    clock = Clock()
    throttle = Throttle(3, 1.0, clock)
    throttle.succeeded("a", "right")
    assert [throttle.failed("a") for _ in range(5)] == [True, True, True, False, False]
    assert not throttle.admits("a", "wrong")
    assert throttle.admits("a", "right")
    assert throttle.admits("b", "wrong")
    clock.now += 1.0
    assert throttle.admits("a", "wrong")


def test_attackers_with_many_addresses_take_no_more_memory():
    throttle = Throttle(clock=Clock())
    for number in range(20_000):
        throttle.failed(f"source-{number}")
        throttle.succeeded(f"source-{number}", "k")
    assert len(throttle._buckets) == len(throttle._right) == 10_000
