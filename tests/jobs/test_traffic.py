"""What an encrypted job is told when the rules of its VPC change while it trains."""

import threading
from contextlib import contextmanager

import pytest
from sqlalchemy import delete

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import STORE, create, load, transitions, wait_for
from phalanx.jobs import traffic
from phalanx.jobs.enforcement import Enforcement
from phalanx.jobs.runner import Runner
from phalanx.jobs.signature import Signer
from phalanx.jobs.world import World
from phalanx.node.messages import Phase
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import TrainingJob
from phalanx.store.network import SecurityGroup, SecurityGroupRule, Subnet, Vpc

VPC = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
FOUR = [("ingress", "17"), ("ingress", "50"), ("egress", "17"), ("egress", "50")]
LOST = "InternalServerError: The encrypted connection of algo-1 is down: no CHILD_SA with algo-2 for 60 seconds"


def rule(direction, protocol):
    port = 500 if protocol == "17" else None
    return SecurityGroupRule(
        group_id="sg-1", direction=direction, protocol=protocol, from_port=port, to_port=port, peer_group="sg-1"
    )


class Lab:
    """A VPC whose group has the four documented rules, a fleet where containers do not end, and a job's runner."""

    def __init__(self, directory):
        self.database = Database(sqlite_url(directory / "phalanx.db"))
        self.database.migrate()
        with self.database.write() as session:
            session.add(Vpc(id="vpc-1", cidr="10.0.0.0/16"))
            session.flush()
            session.add(Subnet(id="subnet-1", vpc_id="vpc-1", cidr="10.0.1.0/24", zone="us-west-2a"))
            session.add(SecurityGroup(id="sg-1", vpc_id="vpc-1", name="training", description=""))
            session.flush()
            session.add_all([rule(*each) for each in FOUR])
        self.fleet = StubFleet(Script(hold=Phase.RUNNING))
        self.enforcement = Enforcement(self.database, self.fleet)
        self.closing = threading.Event()
        signer = Signer(directory / "evidence.key")
        self.world = World(self.database, self.fleet, self.enforcement, STORE, signer, self.closing)

    @contextmanager
    def training(self):
        """A job's runner while the job trains; at its end the job is stopped where it still runs."""
        thread = threading.Thread(target=Runner("job", self.world).run)
        thread.start()
        wait_for(lambda: self.told() is not None or load(self.database).stage == "ended")
        yield
        with self.database.write() as session:
            session.get_one(TrainingJob, "job").stop_requested = True
        thread.join(30)
        assert load(self.database).stage == "ended"

    def revoke(self, direction, protocol):
        with self.database.write() as session:
            session.execute(delete(SecurityGroupRule).filter_by(direction=direction, protocol=protocol))
        self.enforcement.changed("vpc-1")

    def authorize(self, direction, protocol):
        with self.database.write() as session:
            session.add(rule(direction, protocol))
        self.enforcement.changed("vpc-1")

    def told(self):
        """StatusMessage of the last Training transition."""
        return next((entry.message for entry in reversed(transitions(self.database)) if entry.status == "Training"), None)

    def close(self):
        self.closing.set()
        self.database.close()


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ("ingress", "Security group sg-1 has no inbound rule for ESP (protocol 50) from itself."),
        ("egress", "Security group sg-1 has no outbound rule for ESP (protocol 50) to itself."),
    ],
)
def test_a_revoked_rule_is_told_with_the_command_that_mends_it_and_its_return_too(lab, direction, words):
    create(lab.database, VpcConfig=VPC)
    with lab.training():
        before = lab.told()
        lab.revoke(direction, "50")
        assert lab.told().startswith(traffic.STOPPED + words)
        assert f"aws ec2 authorize-security-group-{direction} --group-id sg-1" in lab.told()
        lab.authorize(direction, "50")
        assert lab.told() == traffic.FLOWS
    told = [entry.message for entry in transitions(lab.database) if entry.status == "Training"]
    assert (told[0], len(told)) == (before, 3)


def test_without_ike_traffic_goes_on_for_now_and_the_job_is_warned(lab):
    create(lab.database, VpcConfig=VPC)
    with lab.training():
        lab.revoke("ingress", "17")
        assert lab.told().startswith(traffic.AT_RISK + "Security group sg-1 has no inbound rule for IKE (UDP 500) from itself.")
        lab.revoke("ingress", "50")
        assert lab.told().startswith(traffic.STOPPED)
        lab.authorize("ingress", "50")
        assert lab.told().startswith(traffic.AT_RISK)


def test_changes_that_an_encrypted_job_does_not_notice_are_not_told(lab):
    create(lab.database, VpcConfig=VPC)
    with lab.training():
        before = lab.told()
        lab.authorize("ingress", "6")
        lab.revoke("ingress", "6")
        assert lab.told() == before
        assert [entry.message for entry in transitions(lab.database)].count(before) == 1


@pytest.mark.parametrize(("instances", "encrypted"), [(1, True), (2, False)])
def test_jobs_that_send_no_esp_are_not_told(lab, instances, encrypted):
    create(lab.database, instances=instances, encrypted=encrypted, VpcConfig=VPC)
    with lab.training():
        before = lab.told()
        lab.revoke("ingress", "50")
        assert lab.told() == before


def test_a_rule_revoked_before_training_is_told_when_it_begins(lab):
    create(lab.database, VpcConfig=VPC)
    lab.fleet.script.hold = Phase.LOADED
    thread = threading.Thread(target=Runner("job", lab.world).run)
    thread.start()
    wait_for(lambda: load(lab.database).stage == "downloading")
    lab.revoke("ingress", "50")
    assert lab.told() is None
    lab.closing.set()
    thread.join(30)
    lab.closing.clear()
    lab.fleet.script.hold = Phase.RUNNING
    with lab.training():
        wait_for(lambda: lab.told().startswith(traffic.STOPPED))


@pytest.mark.parametrize(
    ("revoked", "disconnected", "reason"),
    [
        (True, True, "ClientError: Security group sg-1 has no inbound rule for ESP (protocol 50) from itself."),
        (False, True, LOST),
        (True, False, LOST),
    ],
)
def test_a_mesh_that_stays_down_fails_the_job_with_the_rule_where_that_is_why(lab, revoked, disconnected, reason):
    create(lab.database, VpcConfig=VPC)
    with lab.training():
        if revoked:
            lab.revoke("ingress", "50")
        for id_ in lab.fleet.present:
            lab.fleet.fail(id_, LOST, disconnected)
        wait_for(lambda: load(lab.database).stage == "ended")
    job = load(lab.database)
    assert job.status == "Failed"
    assert job.failure_reason.startswith(reason)


def test_a_stopping_job_stays_so(lab):
    create(lab.database, VpcConfig=VPC)
    with lab.training():
        with lab.database.write() as session:
            session.get_one(TrainingJob, "job").secondary_status = "Stopping"
        lab.revoke("ingress", "50")
        assert load(lab.database).secondary_status == "Stopping"
