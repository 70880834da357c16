"""Warm pools: who leaves one, who may take it over, and who ends it."""

import pytest

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import STORE, create, database, load, signer, wait_for
from phalanx.jobs.admission import RESERVED_BYTES, Admission
from phalanx.jobs.manager import Manager
from phalanx.node.messages import Phase
from phalanx.store.base import now_ms
from phalanx.store.jobs import TrainingJob

__all__ = ["database", "signer"]

ROLE = {"RoleArn": "arn:aws:iam::123456789012:role/R"}


@pytest.fixture
def manage(database, signer):
    managers = []

    def start(script=None, instances=2):
        fleet = StubFleet(script or Script(), memory=2 * 1024**3 + instances * RESERVED_BYTES)
        managers.append(Manager(database, fleet, STORE, signer))
        managers[-1].open()
        return fleet

    yield start
    for manager in managers:
        manager.close()


def warm(database, name="job", seconds=600, **members):
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1, "KeepAlivePeriodInSeconds": seconds}
    create(database, name, **{**ROLE, "ResourceConfig": resources, **members})


def ended(database, name="job"):
    wait_for(lambda: load(database, name).stage == "ended")
    return load(database, name)


def status(database, name="job"):
    job = load(database, name)
    return job.warm_pool, job.warm_reused_by


@pytest.mark.shows("ResourceConfig.KeepAlivePeriodInSeconds")
def test_a_pool_moves_from_job_to_job(database, manage):
    warm(database)
    fleet = manage()
    ended(database)
    assert status(database) == ("Available", None)
    fleet.script.hold = Phase.RUNNING
    warm(database, "second")
    wait_for(lambda: load(database, "second").stage == "training")
    assert (status(database), status(database, "second")) == (("Reused", "second"), ("InUse", None))
    for id_ in fleet.present:
        fleet.exit(id_, 0)
    ended(database, "second")
    assert status(database, "second") == ("Available", None)
    # Keys are each job's own.
    assert len({spec.mesh.credentials.ppk for spec in fleet.specs.values()}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"RoleArn": "arn:aws:iam::123456789012:role/Other"},
        {"EnableInterContainerTrafficEncryption": True},
        {"EnableNetworkIsolation": True},
        {"ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1}},
        {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 2}},
    ],
)
def test_a_job_that_differs_gets_no_pool_and_does_not_wait_for_it(database, manage, change):
    warm(database)
    manage()
    ended(database)
    create(database, "other", **{**ROLE, **change})
    assert ended(database, "other").status == "Completed"
    assert (status(database), status(database, "other")) == (("Terminated", None), (None, None))


def test_with_room_for_both_a_pool_stays_and_its_heir_overtakes_the_queue(database, manage):
    warm(database)
    fleet = manage(instances=4)
    ended(database)
    fleet.script.hold = Phase.RUNNING
    create(database, "long", **ROLE, EnableNetworkIsolation=True)
    wait_for(lambda: load(database, "long").stage == "training")
    assert status(database) == ("Available", None)
    create(database, "big", instances=4, **ROLE)
    wait_for(lambda: load(database, "big").secondary_status == "Pending")
    warm(database, "heir")
    wait_for(lambda: load(database, "heir").stage == "training")
    assert load(database, "big").secondary_status == "Pending"
    fleet.script.hold = None
    for id_ in fleet.present:
        fleet.exit(id_, 0)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (Script(exit_codes={"algo-1": 1}), "Available"),
        (Script(upload_error="ClientError: Artifact upload failed: no such bucket"), "Available"),
        (Script(errors={Phase.RUNNING: "InternalServerError: the host stumbled"}), "Terminated"),
        (Script(errors={Phase.PREPARED: "ClientError: nothing was ever prepared"}), "Terminated"),
    ],
)
def test_who_leaves_a_pool(database, manage, script, expected):
    warm(database)
    manage(script)
    assert ended(database).status == "Failed"
    assert status(database) == (expected, None)


def test_a_pool_ends_with_its_time(database, manage):
    warm(database)
    manage()
    ended(database)
    with database.write() as session:
        session.get_one(TrainingJob, "job").warm_since = now_ms() - 600_000
    wait_for(lambda: status(database)[0] == "Terminated")


def test_a_pool_that_is_left_while_the_queue_is_looked_at_gives_its_place_once(database, signer, monkeypatch):
    fleet = StubFleet(Script(hold=Phase.RUNNING), memory=2 * 1024**3 + 2 * RESERVED_BYTES)
    armed = []

    class Slow(Admission):
        """The first job ends while the queue is looked at, once there is another."""

        def _warm(self):
            found = super()._warm()
            if armed:
                armed.clear()
                for id_ in list(fleet.present):
                    fleet.exit(id_, 0)
                wait_for(lambda: not self._running)
            return found

    warm(database)
    monkeypatch.setattr("phalanx.jobs.manager.Admission", Slow)
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    try:
        wait_for(lambda: load(database).stage == "training")
        create(database, "other", instances=2, encrypted=False)
        armed.append(True)
        wait_for(lambda: load(database, "other").stage == "training")
        assert status(database) == ("Terminated", None)
    finally:
        manager.close()
