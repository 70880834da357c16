"""Whether a job finds room beside those that run, by availability zone."""

import pytest

from phalanx.jobs.shares import Share, contend, fits


def memory(**zones):
    """`any`: what may be anywhere, or stands for every zone."""
    return {None if zone == "any" else zone: Share(memory=amount) for zone, amount in zones.items()}


@pytest.mark.parametrize(
    ("need", "taken", "room", "fit"),
    [
        (memory(any=2), memory(any=2), memory(any=4), True),
        (memory(any=3), memory(any=2), memory(any=4), False),
        # Room in another zone is none.
        (memory(a=2), memory(), memory(a=1, b=9), False),
        (memory(a=1, b=1), memory(b=9), memory(a=1, b=9), False),
        # A host of no zone takes what the zone's own do not hold; once.
        (memory(a=2), memory(), memory(a=1, any=1), True),
        (memory(a=2), memory(b=2), memory(a=1, b=1, any=1), False),
        (memory(a=2), memory(any=9), memory(a=2, b=9), True),
        (memory(a=2), memory(any=10), memory(a=2, b=9), False),
        # A host of zone a has gone: those that ran there are no hindrance to who needs only b.
        (memory(b=1), memory(a=5), memory(a=2, b=1), True),
        (memory(a=1), memory(a=5), memory(a=2, b=1), False),
        ({"a": Share(1, 1)}, {"a": Share(1, 1)}, {"a": Share(9, 2)}, True),
        ({"a": Share(1, 1)}, {"a": Share(1, 1)}, {"a": Share(9, 1), "b": Share(9, 1)}, False),
    ],
)
def test_what_fits(need, taken, room, fit):
    assert fits(need, taken, room) is fit


def test_jobs_wait_for_each_other_where_they_may_want_the_same_hosts():
    zones = memory(a=1, b=1)
    assert contend({"a"}, {"a", "b"}, zones)
    assert not contend({"a"}, {"b"}, zones)
    assert contend({"a"}, {None}, zones)
    assert contend({"a"}, {"b"}, memory(a=1, any=1))
    assert not contend({"a"}, set(), memory(any=1))
