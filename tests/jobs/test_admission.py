"""Many jobs at once: all end right, in order, within the host's memory."""

import threading

import pytest
from sqlalchemy import select

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import STORE, create, database, load, signer, wait_for
from phalanx.fleet.base import NoRoom, Unreachable
from phalanx.jobs.admission import RESERVED_BYTES, Admission
from phalanx.jobs.manager import Manager
from phalanx.node.messages import HOST_BYTES, Phase
from phalanx.store.database import Database
from phalanx.store.jobs import TrainingJob
from phalanx.store.network import SecurityGroup, Subnet, Vpc

__all__ = ["database", "signer"]
PLACES = 6


@pytest.fixture
def order(monkeypatch):
    """Names of jobs in the order in which they were let in."""
    names, run = [], Admission._run

    def watched(self, name, need):
        names.append(name)
        run(self, name, need)

    monkeypatch.setattr(Admission, "_run", watched)
    return names


class SomeFail(StubFleet):
    """The containers of every tenth job fail."""

    def advance(self, ids, goal):
        super().advance(ids, goal)
        if goal == Phase.RUNNING and self.specs[ids[0]].job.endswith("0"):
            for id_ in ids:
                self.exit(id_, 1)


class Scattered(StubFleet):
    """Has no room for several instances at once while it is `scattered`."""

    scattered = True
    looks = 0

    def rooms(self, *, draining=False):
        self.looks += 1
        return super().rooms(draining=draining)

    def place(self, specs):
        if self.scattered and len(specs) > 1:
            raise NoRoom("2 instances do not fit on 2 hosts.", ever=True, soon=True)
        super().place(specs)


class Hangs(StubFleet):
    """Does not take changes of rules of `vpc_id` at first, and then hangs over them until `go`."""

    vpc_id = None

    def __init__(self, script):
        super().__init__(script)
        self.asked, self.go = 0, threading.Event()

    def enforce(self, vpc_id, *rules):
        if vpc_id == self.vpc_id:
            self.asked += 1
            if self.asked == 1:
                raise Unreachable("away")
            assert self.go.wait(30)
        super().enforce(vpc_id, *rules)


def test_200_jobs_at_once_end_right_in_order_within_the_hosts_memory(database, signer, order):
    fleet = SomeFail(Script(), memory=HOST_BYTES + PLACES * RESERVED_BYTES)
    names = [f"job-{number:03d}" for number in range(200)]
    for number, name in enumerate(names):
        create(database, name, instances=1 + number % 3, encrypted=False)
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, names[-1]).stage == "ended" and not unfinished(database), 300)
    finally:
        manager.close()
    with database.read() as session:
        ends = dict(session.execute(select(TrainingJob.name, TrainingJob.status)).all())
    assert ends == {name: "Failed" if name.endswith("0") else "Completed" for name in names}
    assert order == names
    assert fleet.most <= PLACES
    assert fleet.present == set()


def test_a_nul_in_a_request_holds_up_nobody_in_postgresql(postgresql, signer):
    database = Database(postgresql)
    database.migrate()
    create(database, "first", instances=1, HyperParameters={"separator": "\0"}, Environment={"A": "\0"})
    create(database, "second", instances=1, encrypted=False)
    manager = Manager(database, StubFleet(Script()), STORE, signer)
    manager.open()
    try:
        wait_for(lambda: all(load(database, name).status == "Completed" for name in ("first", "second")))
    finally:
        manager.close()
    assert load(database, "first").request["HyperParameters"] == {"separator": "\0"}
    database.close()


def test_the_queue_does_not_wait_for_a_host_that_hangs_over_rules(database, signer):
    fleet = Hangs(Script(hold=Phase.RUNNING))
    create(database, "first", instances=1, encrypted=False)
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, "first").secondary_status == "Training")
        fleet.vpc_id = next(iter(fleet.specs.values())).vpc_id
        fleet.rules.clear()
        manager.network_changed(fleet.vpc_id)
        wait_for(lambda: fleet.asked == 2)
        create(database, "second", instances=1, encrypted=False)
        manager.wake()
        wait_for(lambda: load(database, "second").secondary_status == "Training")
        assert (fleet.asked, fleet.vpc_id in fleet.rules) == (2, False)
        fleet.go.set()
        wait_for(lambda: fleet.vpc_id in fleet.rules)
    finally:
        fleet.go.set()
        manager.close()


def test_gpus_are_reserved_one_by_one(database, signer):
    """A type is a ceiling of CPUs and memory, but a GPU has one owner: the second job waits although there is memory."""
    fleet = StubFleet(Script(hold=Phase.RUNNING, gpus=4), memory=64 * 1024**3)
    gpu = {"VolumeSizeInGB": 1, "InstanceCount": 1}
    create(database, "first", instances=1, encrypted=False, ResourceConfig={**gpu, "InstanceType": "ml.g5.12xlarge"})
    create(database, "second", instances=1, encrypted=False, ResourceConfig={**gpu, "InstanceType": "ml.g5.xlarge"})
    create(database, "too-large", instances=1, encrypted=False, ResourceConfig={**gpu, "InstanceType": "ml.g5.48xlarge"})
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    try:
        assert manager.gpus() == 4
        wait_for(lambda: load(database, "second").secondary_status == "Pending")
        wait_for(lambda: load(database, "too-large").status == "Failed")
        assert {spec.job: spec.limits.gpus for spec in fleet.specs.values()} == {"first": 4}
        with database.write() as session:
            session.get_one(TrainingJob, "first").stop_requested = True
        wait_for(lambda: any(spec.job == "second" for spec in fleet.specs.values()))
    finally:
        manager.close()
    assert load(database, "too-large").failure_reason.startswith("CapacityError: ")
    assert {spec.job: spec.limits.gpus for spec in fleet.specs.values()} == {"first": 4, "second": 1}


def test_strict_memory_reserves_what_the_type_has(database, signer, order):
    for name in ("first", "second"):
        create(database, name, instances=1, encrypted=False)
    fleet = StubFleet(Script(hold=Phase.RUNNING), memory=HOST_BYTES + 12 * 1024**3)
    manager = Manager(database, fleet, STORE, signer, strict_memory=True)
    manager.open()
    try:
        wait_for(lambda: load(database, "second").secondary_status == "Pending")
        assert order == ["first"]
    finally:
        manager.close()


def test_room_in_another_zone_is_none_and_who_waits_for_one_zone_hinders_nobody_in_another(database, signer, order):
    with database.write() as session:
        session.add(Vpc(id="vpc-1", cidr="10.0.0.0/16", is_default=False))
        session.flush()
        for number, letter in enumerate("ab"):
            block, zone = f"10.0.{number}.0/24", f"us-west-2{letter}"
            session.add(Subnet(id=f"subnet-{letter}", vpc_id="vpc-1", cidr=block, zone=zone, is_default=False))
        session.add(SecurityGroup(id="sg-1", vpc_id="vpc-1", name="g", description="g"))
    # Each zone has four places.
    jobs = (
        ("a-first", 3, "a"),
        ("a-never", 5, "a"),
        ("a-waits", 3, "a"),
        ("a-behind", 1, "a"),
        ("b-goes", 3, "b"),
        ("both-waits", 2, "ab"),
        ("b-behind", 1, "b"),
    )
    for number, (name, instances, subnets) in enumerate(jobs):
        network = {"Subnets": [f"subnet-{letter}" for letter in subnets], "SecurityGroupIds": ["sg-1"]}
        create(database, name, instances=instances, encrypted=False, VpcConfig=network)
        with database.write() as session:
            session.get_one(TrainingJob, name).created += number
    fleet = StubFleet(Script(hold=Phase.RUNNING, zones=("us-west-2a", "us-west-2b")), memory=HOST_BYTES + 4 * RESERVED_BYTES)
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, "a-never").status == "Failed")
        wait_for(lambda: load(database, "a-waits").secondary_status == "Pending")
        wait_for(lambda: any(spec.job == "b-goes" for spec in fleet.specs.values()))
        assert order == ["a-first", "a-never", "b-goes"]
        with database.write() as session:
            session.get_one(TrainingJob, "a-first").stop_requested = True
        # Those of zone a fill it; there is a place in zone b, for which the older one of the two that want it waits.
        wait_for(lambda: load(database, "both-waits").secondary_status == "Pending")
        assert order == ["a-first", "a-never", "b-goes", "a-waits", "a-behind"]
    finally:
        manager.close()
    assert load(database, "a-never").failure_reason.startswith("CapacityError: ")


def test_nobody_who_came_later_goes_before_a_job_that_waits_for_a_place_on_a_host(database, signer, order):
    """The hosts have room enough, but not on one of them, or not on so many."""
    fleet = Scattered(Script())
    create(database, "first", instances=2, encrypted=False)
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, "first").secondary_status == "Pending")
        create(database, "later", instances=1, encrypted=False)
        looks = fleet.looks
        manager.wake()
        wait_for(lambda: fleet.looks > looks + 4)
        assert order == ["first"]
        fleet.scattered = False
        wait_for(lambda: load(database, "later").stage == "ended")
    finally:
        manager.close()
    assert order == ["first", "later"]


def test_jobs_wait_for_hosts_that_drain_or_have_gone_since_and_nobody_waits_for_them(database, signer):
    with database.write() as session:
        session.add(Vpc(id="vpc-1", cidr="10.0.0.0/16", is_default=False))
        session.flush()
        session.add(Subnet(id="subnet-b", vpc_id="vpc-1", cidr="10.0.0.0/24", zone="us-west-2b", is_default=False))
        session.add(SecurityGroup(id="sg-1", vpc_id="vpc-1", name="g", description="g"))
    script = Script(zones=("us-west-2a", "us-west-2b"), draining=("us-west-2b",))
    network = {"VpcConfig": {"Subnets": ["subnet-b"], "SecurityGroupIds": ["sg-1"]}}
    # Each zone has four places.
    for name, instances, options in (("never", 9, {}), ("large", 5, {}), ("of-b", 1, network), ("small", 1, {})):
        create(database, name, instances=instances, encrypted=False, **options)
    manager = Manager(database, StubFleet(script, HOST_BYTES + 4 * RESERVED_BYTES), STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, "never").stage == load(database, "small").stage == "ended")
        waiting = ("large", "of-b")
        wait_for(lambda: all(load(database, name).secondary_status == "Pending" for name in waiting))
        # Now it is gone.
        script.zones = ("us-west-2a",)
        create(database, "last", instances=1, encrypted=False)
        manager.wake()
        wait_for(lambda: load(database, "last").stage == "ended")
        assert [load(database, name).secondary_status for name in waiting] == ["Pending", "Pending"]
        script.zones, script.draining = ("us-west-2a", "us-west-2b"), ()
        wait_for(lambda: all(load(database, name).stage == "ended" for name in waiting))
    finally:
        manager.close()
    assert load(database, "never").failure_reason.startswith("CapacityError: ")
    assert [load(database, name).status for name in (*waiting, "small", "last")] == ["Completed"] * 4


class OneDrains(StubFleet):
    """Holds several instances only with a host that takes none now, until it is `resumed`."""

    resumed = False

    def place(self, specs):
        if not self.resumed and len(specs) > 1:
            raise NoRoom("2 instances, each on a host of its own, do not fit on 2 hosts.", ever=True, soon=False)
        super().place(specs)


def test_a_job_that_waits_for_a_host_that_drains_keeps_no_room_from_others(database, signer):
    create(database, "waits", instances=2, encrypted=False)
    fleet = OneDrains(Script(), HOST_BYTES + 2 * RESERVED_BYTES)
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, "waits").secondary_status == "Pending")
        create(database, "small", instances=1, encrypted=False)
        manager.wake()
        wait_for(lambda: load(database, "small").stage == "ended")
        fleet.resumed = True
        wait_for(lambda: load(database, "waits").stage == "ended")
    finally:
        manager.close()


def test_a_job_that_has_run_waits_for_lost_hosts_and_nobody_waits_for_it(database, signer):
    create(database, "ran", instances=3, encrypted=False)
    manager = Manager(database, StubFleet(Script(hold=Phase.RUNNING), HOST_BYTES + 4 * RESERVED_BYTES), STORE, signer)
    manager.open()
    wait_for(lambda: load(database, "ran").secondary_status == "Training")
    manager.close()
    create(database, "small", instances=2, encrypted=False)
    create(database, "large", instances=3, encrypted=False)
    manager = Manager(database, StubFleet(Script(), HOST_BYTES + 2 * RESERVED_BYTES), STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, "small").stage == load(database, "large").stage == "ended")
    finally:
        manager.close()
    assert load(database, "small").status == "Completed"
    assert load(database, "large").failure_reason.startswith("CapacityError")
    waiting = load(database, "ran")
    assert (waiting.status, waiting.secondary_status) == ("InProgress", "Pending")
    manager = Manager(database, StubFleet(Script(), HOST_BYTES + 4 * RESERVED_BYTES), STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, "ran").stage == "ended")
    finally:
        manager.close()
    assert load(database, "ran").status == "Completed"


def test_no_job_that_waits_ends_while_a_host_is_gone_for_which_it_waits(database, signer):
    for number, name in enumerate(("runs", "waits", "behind")):
        create(database, name, instances=3, encrypted=False)
        with database.write() as session:
            session.get_one(TrainingJob, name).created += number
    fleet = Scattered(Script(hold=Phase.RUNNING), HOST_BYTES + 4 * RESERVED_BYTES)
    fleet.scattered = False
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database, "waits").secondary_status == "Pending" and "behind" in manager._admission._patient)
        fleet._memory = HOST_BYTES + 2 * RESERVED_BYTES
        looks = fleet.looks
        wait_for(lambda: fleet.looks > looks + 4)
        assert [load(database, name).status for name in ("waits", "behind")] == ["InProgress"] * 2
        fleet._memory = HOST_BYTES + 4 * RESERVED_BYTES
        fleet.script.hold = None
        for id_ in list(fleet.present):
            fleet.exit(id_, 0)
        wait_for(lambda: not unfinished(database))
    finally:
        manager.close()
    assert {load(database, name).status for name in ("runs", "waits", "behind")} == {"Completed"}


def unfinished(database):
    with database.read() as session:
        return session.scalar(select(TrainingJob.name).where(TrainingJob.stage != "ended").limit(1))
