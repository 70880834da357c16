"""How a fleet of several hosts is looked after while its store or its disk fails."""

import threading
import time

import pytest

from phalanx.fleet.base import Unreachable
from phalanx.fleet.ray import fleet as module
from phalanx.fleet.ray.fleet import RayFleet
from phalanx.fleet.ray.ledger import File
from phalanx.node.messages import Capacity, Statuses

HOST = "10.0.0.1"


class Bridge:
    """One host that answers at once."""

    def hosts(self):
        return {HOST: "node"}, set()

    def call(self, _address, method, _seconds, _arguments, _term):
        time.sleep(0.01)
        return {"capacity": Capacity(1, 1 << 34), "mtu": 1500, "statuses": Statuses(1, ())}.get(method)


class Shelf:
    """Fails as the test says, until it is mended."""

    def __init__(self, fault):
        self.fault = fault
        self.asked = 0

    def load(self):
        return None

    def save(self, _content):
        self.asked += 1
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize("fault", [Unreachable("the database is away"), ValueError("odd")])
def test_a_host_is_taken_up_once_its_place_can_be_kept_and_followed_by_one(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    shelf = Shelf(fault)
    fleet = RayFleet(tmp_path, "10.0.0.254", 1, tmp_path, shelf, spread=False, reserve=lambda _: 1 << 30)
    fleet._bridge = Bridge()
    before = followers()
    fleet._tender.start()
    try:
        until(lambda: shelf.asked >= 5)
        assert fleet._joined == {}
        assert followers() == before
        shelf.fault = None
        until(lambda: fleet._joined == {HOST: "node"})
        assert followers() == before + 1
    finally:
        fleet._closing.set()
        fleet._tender.join()
        for host in fleet._hosts.values():
            host.close()


def test_a_disk_that_fails_is_said_to_be_away(tmp_path):
    with pytest.raises(Unreachable, match="cannot be kept"):
        File(tmp_path / "gone" / "ledger.json").save("{}")


def followers():
    return sum(thread.name == "fleet" for thread in threading.enumerate())


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
