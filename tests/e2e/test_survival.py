"""kill -9 of any process in mid-training: nothing in the clear, nothing lost, nothing left behind."""

import contextlib
import os
import signal
import sys
import time

import pytest

from e2e.conftest import ESP, UDP_500, wait_for
from e2e.test_first_job import capture, kinds
from phalanx.node import protocol
from phalanx.node.agent import Agent


@pytest.mark.parametrize("victim", [["charon"], ["phalanx.ipsec.engine"]])
def test_killed_ike_daemon_or_engine_lets_nothing_through_in_the_clear(phalanx, victim):
    name = "killed-" + victim[0].rpartition(".")[2]
    network = phalanx.network(UDP_500, ESP)
    process = capture(phalanx, phalanx.vpc_of(network))
    phalanx.create_steady(name, network=network)
    phalanx.training(name)
    pids = [pid for pid, command in phalanx.processes(*victim).items() if "sh -c" not in command]
    assert pids
    ids = tuple(path.name for path in phalanx.names.run_dir.glob("i-*"))
    measured = protocol.call(phalanx.names.agent_socket, Agent, "measure", {"ids": ids}, 20)
    before = {(pair.local, pair.remote): pair.packets_out for each in measured for pair in each.mesh.pairs}
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: pids[0] not in phalanx.processes(*victim), 10, "its end")
    phalanx.training(name, since=time.time() + 1)
    job = phalanx.finished(name)
    assert kinds(process) == {"UDP 500", "ESP"}
    assert job["TrainingJobStatus"] == "Completed", job
    evidence = phalanx.evidence(name)
    assert all(pair["established"] for pair in evidence["pairs"])
    assert any(instance["interruptions"] for instance in evidence["instances"])
    assert len(before) == len(evidence["pairs"]) == 2
    assert all(pair["packets"] > before[pair["local"], pair["remote"]] > 0 for pair in evidence["pairs"])


def test_killed_service_goes_on_with_the_job_and_leaves_nothing(own_phalanx):
    own_phalanx.create_steady("survivor")
    own_phalanx.training("survivor")
    own_phalanx.kill()
    own_phalanx.start()
    own_phalanx.training("survivor", since=time.time())
    job = own_phalanx.finished("survivor")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert own_phalanx.stop() == 0
    assert own_phalanx.leftovers() == []


def test_a_start_that_fails_ends_no_job_and_says_in_a_sentence_why(own_phalanx, tmp_path):
    own_phalanx.create_steady("unhurt", instances=1, encrypted=False)
    own_phalanx.training("unhurt")
    trains = set(own_phalanx.processes("steady.py"))
    own_phalanx.kill()
    # The last file of a start cannot be written, as where the disk is full by then.
    hindrance = own_phalanx.data_dir / "endpoints.json.new"
    hindrance.mkdir()
    own_phalanx.spawn()
    assert own_phalanx.process.wait(60) == 1
    said = (tmp_path / "serve.log").read_text().splitlines()[-1]
    assert said == f"Cannot start with the data directory {own_phalanx.data_dir}: Is a directory ({hindrance})."
    hindrance.rmdir()
    own_phalanx.start()
    assert set(own_phalanx.processes("steady.py")) == trains
    assert own_phalanx.finished("unhurt")["TrainingJobStatus"] == "Completed"
    assert own_phalanx.stop() == 0
    assert not own_phalanx.leftovers()


def test_killed_agent_is_replaced_and_the_job_goes_on(own_phalanx):
    own_phalanx.create_steady("survivor")
    own_phalanx.training("survivor")
    killed = own_phalanx.processes("-m phalanx.node")
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: set(own_phalanx.processes("-m phalanx.node")) - set(killed), 60, "another agent")
    own_phalanx.training("survivor", since=time.time())
    job = own_phalanx.finished("survivor")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    evidence = own_phalanx.evidence("survivor")
    assert evidence["capture"]["verdict"] == "encrypted while watched"
    for instance in evidence["instances"]:
        assert len(instance["wire"]["away"]) == 1
        assert [change["held_by"] for change in instance["guards"]["changes"]][2] == []


def test_everything_killed_at_once_loses_no_job(own_phalanx):
    own_phalanx.create_steady("first")
    own_phalanx.training("first")
    own_phalanx.create("second")
    own_phalanx.process.kill()
    for pid in own_phalanx.processes():
        # Some are there for a moment only, or end with another.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    own_phalanx.process.wait()
    own_phalanx.start()
    # The first job's containers are dead: it ends as a failed job. The second was only acknowledged: it runs.
    assert own_phalanx.ended("second")["TrainingJobStatus"] == "Completed"
    assert own_phalanx.ended("first")["TrainingJobStatus"] in ("Failed", "Completed")


STOPPED_IN_A_DESTRUCTOR = """
import os, signal, sys
from phalanx.wire import heap

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def settle():
    Dying()

heap.settle = settle
sys.argv = sys.argv[1:]
from phalanx.cli.main import app
app()
"""
"""A service that is told to stop at the worst moment: it listens, its server does not run yet, and an object is destroyed."""


def test_a_stop_in_the_last_moment_of_the_start_is_not_lost(own_phalanx):
    assert own_phalanx.stop() == 0
    own_phalanx.spawn(sys.executable, "-c", STOPPED_IN_A_DESTRUCTOR)
    assert own_phalanx.process.wait(60) == 0
    assert own_phalanx.leftovers() == []


@pytest.mark.parametrize("begun", ["phalanx.cli.door", "-m phalanx.node"])
def test_a_stop_said_twice_in_mid_start_leaves_nothing(own_phalanx, begun):
    assert own_phalanx.stop() == 0
    own_phalanx.spawn()
    wait_for(lambda: own_phalanx.processes(begun), 60, begun)
    for _ in range(2):
        own_phalanx.process.terminate()
        time.sleep(0.05)
    assert own_phalanx.process.wait(60) == 0
    assert own_phalanx.leftovers() == []


@pytest.mark.parametrize("status", ["Starting", "Downloading"])
def test_killed_before_training_the_job_still_completes(own_phalanx, status):
    own_phalanx.create("early")
    wait_for(lambda: own_phalanx.describe("early")["SecondaryStatus"] in (status, "Training"), 60, status)
    own_phalanx.kill()
    own_phalanx.start()
    job = own_phalanx.ended("early")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


def test_sigterm_in_mid_job_takes_everything_down_and_the_next_start_runs_it_again(own_phalanx):
    own_phalanx.create_steady("again")
    own_phalanx.training("again")
    assert own_phalanx.stop() == 0
    assert own_phalanx.leftovers() == []
    own_phalanx.start()
    own_phalanx.training("again", since=time.time())
    job = own_phalanx.finished("again")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
