"""Managed spot jobs: interrupted, out of the queue, and begun again."""

import threading

import pytest

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import STORE, create, database, load, run, signer, transitions, wait_for
from phalanx.fleet.base import Refused
from phalanx.jobs.admission import RESERVED_BYTES
from phalanx.jobs.manager import Manager
from phalanx.node.messages import Phase
from phalanx.store.base import now_ms
from phalanx.store.jobs import TrainingJob

__all__ = ["database", "signer"]

SPOT = {"EnableManagedSpotTraining": True, "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 600}}


@pytest.fixture
def manage(database, signer):
    managers = []

    def start(fleet):
        managers.append(Manager(database, fleet, STORE, signer))
        managers[-1].open()
        return managers[-1]

    yield start
    for manager in managers:
        manager.close()


def interrupt(database, away=0, name="job"):
    with database.write() as session:
        session.get_one(TrainingJob, name).interrupt = away


@pytest.mark.shows("EnableManagedSpotTraining")
@pytest.mark.parametrize("hold", [Phase.CONNECTED, Phase.LOADED, Phase.RUNNING])
def test_an_interrupted_job_gives_its_instances_back_and_begins_again(database, manage, hold):
    create(database, **SPOT)
    fleet = StubFleet(Script(hold=hold))
    manage(fleet)
    wait_for(lambda: fleet.present)
    first = fleet.present
    interrupt(database, 1500)
    wait_for(lambda: load(database).stage == "starting" and load(database).plan is None)
    assert (fleet.present, load(database).secondary_status) == (set(), "Interrupted")
    fleet.script.hold = None
    wait_for(lambda: load(database).status == "Completed")
    assert fleet.present == set()
    assert len(set(fleet.specs) - first) == 2
    job = load(database)
    seen = [entry.status for entry in transitions(database)]
    assert "Interrupted" in seen
    if hold != Phase.CONNECTED:
        assert seen.index("Restarting") == seen.index("Interrupted") + 1
        assert 1000 < job.idle < job.training_ended - job.training_started
    assert job.interrupt is None
    # Nothing was sent between containers before there were any.
    assert len(job.evidence["earlier_attempts"]) == (hold == Phase.RUNNING)


def test_instances_that_cannot_be_taken_down_yet_are_not_how_the_job_ends(database, manage):
    """A service that was killed asks again while its agent still does what it was asked before."""
    create(database, **SPOT)
    fleet = StubFleet(Script(hold=Phase.RUNNING))
    manage(fleet)
    wait_for(lambda: load(database).secondary_status == "Training")
    destroy, refusals = fleet.destroy, iter([Refused("[Errno 2] No such file or directory: 'notes'")])

    def refused_once(ids):
        for refusal in refusals:
            raise refusal
        destroy(ids)

    fleet.destroy = refused_once
    interrupt(database)
    fleet.script.hold = None
    wait_for(lambda: load(database).stage == "ended")
    assert next(refusals, None) is None
    assert load(database).status == "Completed", load(database).failure_reason


def test_the_container_gets_its_time_before_it_is_killed(database, manage):
    create(database, **SPOT)
    fleet = StubFleet(Script(hold=Phase.RUNNING))
    manage(fleet)
    wait_for(lambda: load(database).stage == "training")
    interrupt(database)
    wait_for(lambda: fleet.stops)
    assert fleet.stops[0] == 120.0
    fleet.script.hold = None


def test_while_it_is_away_others_have_its_place(database, manage):
    create(database, **SPOT)
    fleet = StubFleet(Script(hold=Phase.RUNNING), memory=2 * 1024**3 + 2 * RESERVED_BYTES)
    manage(fleet)
    wait_for(lambda: load(database).stage == "training")
    create(database, "other")
    interrupt(database, 3_600_000)
    wait_for(lambda: load(database, "other").stage == "training")
    with database.write() as session:
        session.get_one(TrainingJob, "job").stop_requested = True
    wait_for(lambda: load(database).status == "Stopped")
    fleet.script.hold = None


def test_a_killed_service_goes_on_with_the_interruption(database, signer, manage):
    create(database, **SPOT)
    fleet = StubFleet(Script(hold=Phase.RUNNING, deaf=True))
    closing = threading.Event()
    thread = threading.Thread(target=run, args=(database, fleet, signer), kwargs={"closing": closing})
    thread.start()
    wait_for(lambda: load(database).stage == "training")
    interrupt(database)
    wait_for(lambda: fleet.stops)
    closing.set()
    thread.join(30)
    for id_ in fleet.present:
        fleet.exit(id_, 143)
    fleet.script.hold = None
    manage(fleet)
    wait_for(lambda: load(database).status == "Completed")
    assert "Interrupted" in [entry.status for entry in transitions(database)]


def test_a_clean_stop_in_an_interruption_loses_no_job(database, signer, manage):
    create(database, **SPOT)
    fleet = StubFleet(Script(hold=Phase.RUNNING, deaf=True))
    manager = Manager(database, fleet, STORE, signer)
    manager.open()
    wait_for(lambda: load(database).stage == "training")
    interrupt(database)
    wait_for(lambda: fleet.stops)
    manager.close()
    assert (load(database).status, load(database).stage, fleet.present) == ("InProgress", "starting", set())
    fleet.script.hold = None
    manage(fleet)
    wait_for(lambda: load(database).status == "Completed")


@pytest.mark.shows("StoppingCondition.MaxWaitTimeInSeconds")
@pytest.mark.parametrize("hold", [Phase.LOADED, Phase.RUNNING])
def test_max_wait_ends_it(database, manage, hold):
    create(database, **SPOT)
    fleet = StubFleet(Script(hold=hold))
    manage(fleet)
    wait_for(lambda: load(database).stage == "training" or hold == Phase.LOADED)
    with database.write() as session:
        session.get_one(TrainingJob, "job").created = now_ms() - 601_000
    wait_for(lambda: load(database).status == "Stopped")
    assert load(database).secondary_status == "MaxWaitTimeExceeded"
