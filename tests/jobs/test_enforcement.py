"""Changes of security groups on their way to the fleet: none is forgotten, whatever else is on its way."""

import threading

import pytest

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import create, database, wait_for
from phalanx.fleet.base import Unreachable
from phalanx.jobs.enforcement import Enforcement
from phalanx.store.jobs import TrainingJob
from phalanx.store.network import SecurityGroup, SecurityGroupRule, Vpc

__all__ = ["database"]
VPC, OTHER = "vpc-1", "vpc-2"


class Slow(StubFleet):
    """Takes rules of the VPC when the test lets it; `broken` is raised instead, once."""

    def __init__(self):
        super().__init__(Script())
        self.begun, self.go = threading.Event(), threading.Event()
        self.broken = None
        self.taken = []

    def enforce(self, vpc_id, *rules):
        if vpc_id == VPC:
            self.begun.set()
            assert self.go.wait(10)
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
        super().enforce(vpc_id, *rules)
        self.taken.append(vpc_id)


@pytest.fixture
def fleet():
    return Slow()


@pytest.fixture
def enforcement(database, fleet):
    """In each of two VPCs is a job, and a group with one rule."""
    rule = {"direction": "ingress", "protocol": "6", "from_port": 1, "to_port": 1, "cidr": "10.0.0.0/24", "description": ""}
    for number, vpc_id in enumerate((VPC, OTHER), 1):
        create(database, f"job-{number}", instances=1, encrypted=False)
        with database.write() as session:
            session.add(Vpc(id=vpc_id, cidr="10.0.0.0/16", is_default=False))
            session.flush()
            session.add(SecurityGroup(id=f"sg-{number}", vpc_id=vpc_id, name="g", description="g"))
            session.flush()
            session.add(SecurityGroupRule(number=number, group_id=f"sg-{number}", **rule))
            session.get_one(TrainingJob, f"job-{number}").plan = {"vpc": vpc_id, "ran": True, "instances": []}
    return Enforcement(database, fleet)


def revoke(database, number=1):
    with database.write() as session:
        session.delete(session.get_one(SecurityGroupRule, number))


def test_a_rule_revoked_while_an_older_change_is_being_enforced_is_revoked_on_the_hosts(database, fleet, enforcement):
    first = threading.Thread(target=enforcement.changed, args=(VPC,))
    first.start()
    assert fleet.begun.wait(10)
    revoke(database)
    second = threading.Thread(target=enforcement.changed, args=(VPC,))
    second.start()
    wait_for(lambda: VPC in enforcement._owed)
    fleet.go.set()
    first.join()
    second.join()
    assert fleet.rules[VPC][0].rules == ()


@pytest.mark.parametrize("broken", [Unreachable("away"), ValueError("odd")])
def test_what_could_not_be_enforced_stays_owed(database, fleet, enforcement, broken):
    fleet.go.set()
    fleet.broken = broken
    revoke(database)
    try:
        enforcement.changed(VPC)
    except ValueError:
        assert isinstance(broken, ValueError)
    assert VPC not in fleet.rules
    enforcement.settle()
    assert fleet.rules[VPC][0].rules == ()


def test_a_host_that_hangs_holds_up_no_other_vpc(database, fleet, enforcement):
    hanging = threading.Thread(target=enforcement.changed, args=(VPC,))
    hanging.start()
    assert fleet.begun.wait(10)
    revoke(database, 2)
    enforcement.changed(OTHER)
    assert fleet.rules[OTHER][0].rules == ()
    revoke(database)
    enforcement.refresh()
    assert hanging.is_alive(), "nobody waited for it"
    assert enforcement.owes()
    fleet.go.set()
    hanging.join()
    enforcement.settle()
    assert fleet.rules[VPC][0].rules == ()
    assert not enforcement.owes()


@pytest.mark.parametrize("owe", [Enforcement.everything, lambda enforcement: enforcement.changed(VPC, OTHER)])
def test_vpcs_that_are_owed_together_do_not_wait_for_each_other(fleet, enforcement, owe):
    all_of_them = threading.Thread(target=owe, args=(enforcement,))
    all_of_them.start()
    wait_for(lambda: fleet.taken == [OTHER])
    assert fleet.begun.wait(10)
    fleet.go.set()
    all_of_them.join()
    assert fleet.taken == [OTHER, VPC]


def test_only_what_is_no_longer_in_force_is_brought_to_the_fleet(database, fleet, enforcement):
    fleet.go.set()
    enforcement.everything()
    assert sorted(fleet.taken) == [VPC, OTHER]
    fleet.taken.clear()
    enforcement.refresh()
    assert fleet.taken == []
    revoke(database, 2)
    enforcement.refresh()
    assert fleet.taken == [OTHER]


def test_what_some_hosts_may_have_is_not_taken_for_in_force(fleet, enforcement):
    fleet.go.set()
    enforcement.everything()
    fleet.broken = Unreachable("away")
    with pytest.raises(Unreachable):
        enforcement.enforce(VPC)
    fleet.taken.clear()
    enforcement.refresh()
    assert fleet.taken == [VPC]
