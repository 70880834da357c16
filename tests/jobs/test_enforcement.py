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
VPC = "vpc-1"


class Slow(StubFleet):
    """Takes rules when the test lets it; `broken` is raised instead, once."""

    def __init__(self):
        super().__init__(Script())
        self.begun, self.go = threading.Event(), threading.Event()
        self.broken = None

    def enforce(self, *rules):
        self.begun.set()
        assert self.go.wait(10)
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
        super().enforce(*rules)


@pytest.fixture
def fleet():
    return Slow()


@pytest.fixture
def enforcement(database, fleet):
    """A job is in the VPC, whose group has one rule."""
    create(database, "job", instances=1, encrypted=False)
    rule = {"direction": "ingress", "protocol": "6", "from_port": 1, "to_port": 1, "cidr": "10.0.0.0/24", "description": ""}
    with database.write() as session:
        session.add(Vpc(id=VPC, cidr="10.0.0.0/16", is_default=False))
        session.flush()
        session.add(SecurityGroup(id="sg-1", vpc_id=VPC, name="g", description="g"))
        session.flush()
        session.add(SecurityGroupRule(number=1, group_id="sg-1", **rule))
        session.get_one(TrainingJob, "job").plan = {"vpc": VPC, "ran": True, "instances": []}
    return Enforcement(database, fleet)


def revoke(database):
    with database.write() as session:
        session.delete(session.get_one(SecurityGroupRule, 1))


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
