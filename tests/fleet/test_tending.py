"""How a fleet of several hosts is looked after while some of them, its store or its disk fail."""

import threading
import time

import pytest

from node.test_protocol import spec
from phalanx.fleet.base import Unreachable
from phalanx.fleet.ray import fleet as module
from phalanx.fleet.ray.fleet import RayFleet
from phalanx.fleet.ray.ledger import File, Place
from phalanx.network.model import NO_EXITS, Eni
from phalanx.node.lease import Lease
from phalanx.node.messages import Capacity, InstanceStatus, Phase, Statuses

HOST, OTHER = "10.0.0.1", "10.0.0.2"


class Bridge:
    """Hosts that answer at once, but for what the test says."""

    def __init__(self):
        self.present = {HOST: "node"}
        self.called = []
        self.running = ()
        self.destroyed = []
        self.placed = []
        self.leases = {HOST: Lease(), OTHER: Lease()}
        self.away = lambda _address, _method: False
        self.clearing = threading.Event()
        self.cleared = threading.Event()

    def open(self):
        pass

    def close(self):
        pass

    def hosts(self):
        return dict(self.present), set()

    def offer(self, _image):
        return None

    def call(self, address, method, _seconds, arguments, _term):
        time.sleep(0.01)
        if self.away(address, method):
            raise Unreachable(f"The host {address} does not answer")
        if method == "destroy":
            self.clearing.set()
            assert self.cleared.wait(20)
            self.destroyed += arguments["ids"]
        self.called.append((address, method))
        if method == "place":
            self.placed += arguments["specs"]
        if method == "renew":
            return self.leases[address].renew(**arguments)
        return {"capacity": Capacity(1, 1 << 34), "mtu": 1500, "statuses": Statuses(1, self.running)}.get(method)


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


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(module, "FACTS_SECONDS", 0.1)
    monkeypatch.setattr(module, "LOST_SECONDS", 0.2)
    made = RayFleet(tmp_path, "10.0.0.254", 1, tmp_path, File(tmp_path / "ledger"), spread=False, reserve=lambda _: 1 << 30)
    made._bridge = Bridge()
    yield made
    made._bridge.cleared.set()
    close(made)


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
        close(fleet)


def test_a_host_that_goes_while_it_is_taken_up_keeps_no_other_from_being_lost(fleet):
    bridge = fleet._bridge
    bridge.present = {OTHER: "n2"}
    fleet._tender.start()
    until(lambda: OTHER in fleet._joined)
    fleet._ledger.put({"i-2": place(OTHER)})

    def gone(address, method):
        if address == HOST and method == "statuses":
            bridge.present.pop(HOST, None)
            return True
        return False

    bridge.away = gone
    bridge.present[HOST] = "n1"
    until(lambda: HOST not in bridge.present)
    del bridge.present[OTHER]
    until(lambda: fleet._ledger.places["i-2"].lost)
    assert list(fleet._ledger.hosts) == []


def test_while_a_host_clears_away_what_was_lost_others_come_and_are_lost(fleet):
    bridge = fleet._bridge
    fleet._ledger.put({"i-1": place(HOST, lost=True)})
    bridge.present = {HOST: "n1", OTHER: "n2"}
    fleet._tender.start()
    assert bridge.clearing.wait(20)
    until(lambda: OTHER in fleet._joined)
    fleet._ledger.put({"i-2": place(OTHER)})
    del bridge.present[OTHER]
    until(lambda: fleet._ledger.places["i-2"].lost)
    assert HOST not in fleet._joined
    bridge.cleared.set()
    until(lambda: HOST in fleet._joined)
    assert list(fleet._ledger.places) == ["i-2"]
    assert bridge.called.count((HOST, "destroy")) == 1


def test_a_host_that_is_lost_while_it_comes_back_clears_away_before_it_joins(fleet):
    bridge, statuses = fleet._bridge, []
    bridge.cleared.set()

    def lost_meanwhile(address, method):
        if method == "statuses" and not statuses:
            statuses.append(address)
            fleet._ledger.lose(address)
        return False

    fleet._ledger.put({"i-1": place(HOST)})
    bridge.away = lost_meanwhile
    fleet._tender.start()
    until(lambda: HOST in fleet._joined)
    assert (dict(fleet._ledger.places), list(fleet._ledger.hosts)) == ({}, [HOST])
    assert (HOST, "destroy") in bridge.called


def test_a_host_has_a_lease_while_it_is_heard_of_but_not_before_it_has_cleared_away(fleet, monkeypatch):
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.5)
    bridge = fleet._bridge
    fleet._ledger.put({"i-1": place(HOST, lost=True)})
    fleet._tender.start()
    assert bridge.clearing.wait(20)
    assert (HOST, "renew") not in bridge.called
    bridge.cleared.set()
    until(bridge.leases[HOST].holds)
    fleet.place([spec(encrypted=False)])
    assert [each.leased for each in bridge.placed] == [True]
    bridge.present = {}
    until(lambda: not bridge.leases[HOST].holds())


def test_a_host_that_joins_takes_down_what_no_job_has_and_that_alone(fleet):
    """As after a restore: the ledger has never heard of i-later, and no job knows of i-between."""
    bridge = fleet._bridge
    bridge.running = tuple(InstanceStatus(id_, Phase.RUNNING) for id_ in ("i-planned", "i-between", "i-later"))
    fleet._ledger.put({"i-planned": place(HOST), "i-between": place(HOST)})
    fleet.open(planned={"i-planned", "i-not-placed-yet"})
    assert bridge.clearing.wait(20)
    assert fleet._joined == {}
    bridge.cleared.set()
    until(lambda: HOST in fleet._joined)
    assert sorted(bridge.destroyed) == ["i-between", "i-later"]
    assert list(fleet._ledger.places) == ["i-planned"]
    assert not fleet._ledger.places["i-planned"].lost


def test_what_is_placed_while_its_host_is_taken_up_anew_is_not_taken_down(fleet):
    bridge, asked = fleet._bridge, []
    bridge.cleared.set()
    fleet.open(planned=set())
    until(lambda: HOST in fleet._joined)

    def placed_meanwhile(_address, method):
        if method == "statuses" and "again" in bridge.present.values() and not asked:
            asked.append(method)
            fleet._ledger.put({"i-new": place(HOST)})
            bridge.running = (InstanceStatus("i-new", Phase.NEW),)
        return False

    bridge.away = placed_meanwhile
    bridge.present = {HOST: "again"}
    until(lambda: fleet._joined == {HOST: "again"})
    assert (asked, bridge.destroyed) == (["statuses"], [])


def test_nothing_is_kept_of_a_vpc_whose_instances_are_gone(fleet):
    fleet._bridge.cleared.set()
    fleet._tender.start()
    until(lambda: HOST in fleet._joined)
    fleet._ledger.put({"i-1": place(HOST), "i-2": place(HOST)})
    fleet.enforce("vpc-1", (), NO_EXITS)
    fleet.destroy(["i-1"])
    assert (list(fleet._rules), list(fleet._pushing)) == (["vpc-1"], ["vpc-1"])
    fleet.destroy(["i-2"])
    assert (fleet._rules, fleet._pushing) == ({}, {})


def test_a_disk_that_fails_is_said_to_be_away(tmp_path):
    with pytest.raises(Unreachable, match="cannot be kept"):
        File(tmp_path / "gone" / "ledger.json").save("{}")


def place(host, *, lost=False):
    return Place(host, "vpc-1", 1, Eni("eni-1", "10.1.0.1", ()), 1, 0, lost)


def close(fleet):
    fleet._closing.set()
    fleet._tender.join()
    for host in fleet._hosts.values():
        host.close()
        host._watcher.join()


def followers():
    return sum(thread.name == "fleet" for thread in threading.enumerate())


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
