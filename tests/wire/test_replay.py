"""A recorded request is not taken again; a client that tries again at once is."""

from phalanx.wire.replay import Replays
from phalanx.wire.sigv4 import Claim, Refused


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def takes(replays, signature, expires=None):
    try:
        replays.take(Claim("key", "date", "region", "service", ("host",), signature, "time", expires, None))
    except Refused:
        return False
    return True


def test_a_signature_is_taken_again_within_seconds_only():
    clock = Clock()
    replays = Replays(clock)
    assert [takes(replays, "a"), takes(replays, "a"), takes(replays, "b")] == [True, True, True]
    clock.now += 5
    assert takes(replays, "a")
    clock.now += 1
    assert [takes(replays, "a"), takes(replays, "b"), takes(replays, "c")] == [False, False, True]
    assert [takes(replays, "a", 60), takes(replays, "a", 60)] == [True, True]


def test_signatures_are_forgotten_when_they_are_no_longer_valid():
    clock = Clock()
    replays = Replays(clock)
    assert takes(replays, "a")
    clock.now += 601
    assert [takes(replays, "b"), takes(replays, "a")] == [True, False]
    clock.now += 601
    assert [takes(replays, "c"), takes(replays, "a")] == [True, True]
