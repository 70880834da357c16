"""Which hosts a job's instances go to."""

from phalanx.fleet.base import Room
from phalanx.fleet.ray.placement import choose

GIB = 2**30


def rooms(**memory):
    return {name: Room(gib * GIB, 0) for name, gib in memory.items()}


def test_packed_on_the_fullest_host_that_holds_the_job():
    needs = [Room(2 * GIB, 0)] * 2
    assert choose(needs, rooms(a=3, b=5, c=9), spread=False) == ["b", "b"]


def test_packed_on_as_few_hosts_as_can_be():
    needs = [Room(2 * GIB, 0)] * 5
    assert choose(needs, rooms(a=3, b=5, c=9), spread=False) == ["c", "c", "c", "c", "a"]


def test_spread_over_hosts_of_their_own_the_emptiest_first():
    needs = [Room(2 * GIB, 0)] * 2
    assert choose(needs, rooms(a=3, b=5, c=9), spread=True) == ["c", "b"]
    assert choose([Room(2 * GIB, 0)] * 4, rooms(a=3, b=5, c=9), spread=True) is None


def test_each_in_the_zone_of_its_subnet_and_a_host_without_one_is_in_all():
    needs = [Room(GIB, 0, "a"), Room(GIB, 0, "b"), Room(GIB, 0)]
    zones = {"one": Room(9 * GIB, 0, "a"), "two": Room(GIB, 0, "b")}
    assert choose(needs, zones, spread=False) == ["one", "two", "one"]
    assert choose(needs, {"one": Room(9 * GIB, 0, "a")}, spread=False) is None
    assert choose(needs, {"one": Room(9 * GIB, 0)}, spread=False) == ["one"] * 3


def test_what_does_not_fit_goes_nowhere():
    assert choose([Room(10 * GIB, 0)], rooms(a=9), spread=False) is None
    assert choose([Room(GIB, 1)], rooms(a=9), spread=False) is None
    assert choose([Room(GIB, 1)] * 2, {"a": Room(9 * GIB, 1), "b": Room(2 * GIB, 1)}, spread=False) == ["b", "a"]
    assert choose([Room(GIB, 0)], {}, spread=False) is None
