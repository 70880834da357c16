"""The worker of an instance, against an instance that does what the test says: stopping, watching, giving up."""

import signal
import threading
import time
from types import SimpleNamespace

import pytest

from phalanx.data.checkpoints import Withheld
from phalanx.data.objects import Cancelled
from phalanx.ipsec.charon import LOG_LIMIT, Charon
from phalanx.ipsec.errors import MeshError
from phalanx.network.errors import NetworkError
from phalanx.node import agent as node_agent
from phalanx.node import worker as module
from phalanx.node.agent import Agent
from phalanx.node.instance import Shared
from phalanx.node.messages import Phase
from phalanx.node.worker import Worker
from phalanx.runtime.model import ContainerStatus


class Instance:
    """An instance whose steps succeed at once; `state` is its container's."""

    checkpoints = None
    unfed = None

    def __init__(self, member=None):
        self.spec = SimpleNamespace(id="i-1", job="job", host="algo-1")
        self.chronicle = SimpleNamespace(seen=lambda *_: None)
        self.member = member
        self.state = ContainerStatus("absent")
        self.signals = []
        self.helpers = [7]
        self.attached = 0
        self.missing = []
        self.hit = None
        self.asked = 0
        self.starting = threading.Event()
        self.start = threading.Event()
        self.start.set()

    def save(self, goal):
        pass

    def prepare(self):
        pass

    def connect(self):
        pass

    def load(self, cancelled, fetching):
        pass

    def run(self):
        self.starting.set()
        self.start.wait(30)
        self.state = ContainerStatus("running")

    def attach(self):
        self.attached += 1

    def offer(self):
        pass

    def missing_peers(self):
        if self.hit is not None:
            self.asked += 1
            raise self.hit
        return self.missing

    def container(self):
        return self.state

    def inspect(self):
        pass

    def signal(self, number, program=False):
        self.signals.append((number, "program") if program else number)
        return [7]

    def has(self, pids):
        return any(pid in self.helpers for pid in pids)

    def end(self):
        self.signals.append("end")

    def settle(self):
        pass

    def failure(self):
        return None

    def data_fault(self):
        return self.unfed

    def notes(self):
        return ()

    def note(self, text):
        return (text,)

    interrupted = note

    def destroy(self):
        pass


class Checkpoints:
    """Are the instance's to write when the test says so."""

    def __init__(self):
        self.mine = False
        self.asked = 0
        self.pushed = 0

    def push(self, cancelled):
        self.asked += 1
        if not self.mine:
            raise Withheld
        self.pushed += 1


class Member:
    """A member whose health is what the test says."""

    def __init__(self):
        self.cause = None
        self.recovered = 0
        self.initiated = []

    def health(self):
        return self.cause

    def recover(self, timeout):
        self.recovered += 1
        raise MeshError("no CHILD_SA")

    def initiate(self, names):
        self.initiated += names


@pytest.fixture
def live(monkeypatch):
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    workers = []

    def make(instance, goal=Phase.RUNNING):
        workers.append(Worker(instance, goal, lambda: None))
        workers[-1].start()
        return workers[-1]

    yield make
    for each in workers:
        each.destroy()


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_container_that_starts_while_it_is_stopped_is_told(live):
    instance = Instance()
    instance.start.clear()
    worker = live(instance)
    assert instance.starting.wait(20)
    worker.stop(60)
    assert instance.signals == []
    instance.start.set()
    until(lambda: instance.signals)
    worker.stop(60)
    time.sleep(0.05)
    assert instance.signals == [signal.SIGTERM]


def test_a_program_is_asked_itself_once_those_that_were_asked_in_its_place_have_ended(live, monkeypatch):
    monkeypatch.setattr(module, "INSIST_SECONDS", 0.05)
    instance = Instance()
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    worker.stop(60)
    time.sleep(0.2)
    assert instance.signals == [signal.SIGTERM]
    instance.helpers = []
    until(lambda: len(instance.signals) > 1)
    time.sleep(0.2)
    assert instance.signals == [signal.SIGTERM, (signal.SIGTERM, "program")]


def test_a_container_that_is_ended_before_its_start_is_not_started(live):
    instance = Instance()
    worker = live(instance, Phase.LOADED)
    until(lambda: worker.status.phase == Phase.LOADED)
    worker.end()
    assert instance.signals == ["end"]
    worker.advance(Phase.RUNNING)
    until(lambda: worker.status.phase == Phase.EXITED)
    assert not instance.starting.is_set()


def test_what_a_daemon_logs_stays_short_during_a_long_step_too(live, tmp_path, monkeypatch):
    monkeypatch.setattr(node_agent, "VERIFY_SECONDS", 0.01)
    agent = Agent(Shared(None, SimpleNamespace(known=lambda: ()), None, None, None))
    gone, loading = Instance(), Instance()
    loading.load = lambda cancelled, fetching: cancelled.wait(30)
    loading.trim = Charon("phxt-never-was", tmp_path).trim_log

    def fail():
        raise PermissionError("charon.log")

    gone.trim = fail
    agent._workers = {name: live(instance) for name, instance in (("gone", gone), ("loading", loading))}
    until(lambda: agent._workers["loading"].status.phase == Phase.CONNECTED)
    verifying = threading.Thread(target=agent._verify)
    verifying.start()
    log = tmp_path / "charon.log"
    for _ in range(3):
        with log.open("ab") as file:
            file.write(b"\n" * (LOG_LIMIT + 1))
        until(lambda: log.stat().st_size <= LOG_LIMIT)
    agent._closing.set()
    verifying.join()


def test_an_instance_is_destroyed_once_at_a_time(live):
    instance, at_work, most = Instance(), [], []

    def destroy():
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.05)
        at_work.pop()

    instance.destroy = destroy
    worker = live(instance)
    threads = [threading.Thread(target=worker.destroy) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most == [1, 1, 1]


def test_a_container_that_outlives_sigkill_fails_the_instance(live, monkeypatch):
    monkeypatch.setattr(module, "KILL_SECONDS", 0.1)
    instance = Instance()
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    worker.stop(0)
    until(lambda: worker.status.error)
    assert "did not end" in worker.status.error
    assert signal.SIGKILL in instance.signals


def test_a_container_that_starts_long_after_it_should_have_been_killed_is_killed_and_no_fault(live, monkeypatch):
    """Its image's /opt/ml may be gigabytes that are copied meanwhile."""
    monkeypatch.setattr(module, "KILL_SECONDS", 0.5)
    instance = Instance()
    instance.start.clear()
    worker = live(instance)
    assert instance.starting.wait(20)
    worker.stop(0)
    time.sleep(2 * module.KILL_SECONDS)

    def take(number, program=False):
        instance.signals.append(number)
        if number == signal.SIGKILL:
            instance.state = ContainerStatus("exited", 128 + number)
        return [7]

    instance.signal = take
    instance.start.set()
    until(lambda: worker.status.phase == Phase.EXITED or worker.status.error)
    assert worker.status.error is None
    assert instance.signals == [signal.SIGTERM, signal.SIGKILL]


@pytest.mark.parametrize("state", [ContainerStatus("running"), ContainerStatus("exited", 0)])
def test_a_container_that_did_not_get_all_its_data_fails_though_it_ended_well(live, state):
    instance = Instance()
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    instance.unfed = "InternalServerError: the pipes are dry"
    instance.state = state
    until(lambda: worker.status.error)
    assert (worker.status.error, worker.status.phase) == (instance.unfed, Phase.RUNNING)
    # Nobody watches over it any more.
    assert instance.signals == [signal.SIGKILL]


def test_a_killed_monitor_fails_the_instance_and_says_so(live):
    instance = Instance()
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    instance.state = ContainerStatus("exited", None)
    until(lambda: worker.status.error)
    assert "monitor was killed" in worker.status.error


@pytest.mark.parametrize("code", [0, 1])
def test_checkpoints_wait_until_they_are_surely_the_instances_and_its_end_waits_for_them(live, monkeypatch, code):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.01)
    monkeypatch.setattr(module, "KILL_SECONDS", 0.0)
    instance = Instance()
    instance.checkpoints = Checkpoints()
    worker = live(instance)
    until(lambda: instance.checkpoints.asked > 2)
    instance.checkpoints.mine = True
    until(lambda: instance.checkpoints.pushed)
    instance.checkpoints.mine = False
    instance.state = ContainerStatus("exited", code)
    before = instance.checkpoints.pushed, instance.checkpoints.asked
    until(lambda: instance.checkpoints.asked > before[1] + 5)
    worker.stop(0)
    time.sleep(0.05)
    assert (worker.status.phase, worker.status.error) == (Phase.RUNNING, None)
    instance.checkpoints.mine = True
    until(lambda: worker.status.phase == Phase.EXITED)
    assert instance.checkpoints.pushed > before[0]
    assert worker.status.exit_code == code


def test_the_mesh_is_mended_after_the_container_has_ended_but_fails_nothing(live):
    member = Member()
    instance = Instance(member)
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    instance.state = ContainerStatus("exited", 0)
    until(lambda: worker.status.phase == Phase.EXITED)
    member.cause = "charon is dead"
    until(lambda: member.recovered > 1)
    assert worker.status.error is None


def test_a_mesh_that_cannot_be_mended_fails_a_running_instance(live):
    member = Member()
    instance = Instance(member)
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    member.cause = "charon is dead"
    until(lambda: worker.status.error)
    assert "10 times within a minute: charon is dead" in worker.status.error
    assert member.recovered == 10


def test_the_mesh_is_mended_while_data_is_loaded(live):
    member, loading, loaded = Member(), threading.Event(), threading.Event()
    instance = Instance(member)
    instance.load = lambda *_: (loading.set(), loaded.wait(30))
    worker = live(instance)
    assert loading.wait(20)
    member.cause = "charon is dead"
    try:
        until(lambda: member.recovered)
        assert worker.status.notes == ("charon is dead",)
        member.cause = None
    finally:
        loaded.set()
    until(lambda: worker.status.phase == Phase.RUNNING)


def test_a_mesh_that_cannot_be_mended_fails_an_instance_that_loads_data(live):
    member, loading = Member(), threading.Event()
    instance = Instance(member)
    instance.load = lambda cancelled, _: (loading.set(), cancelled.wait(30))
    worker = live(instance)
    assert loading.wait(20)
    member.cause = "charon is dead"
    until(lambda: worker.status.error)
    assert "10 times within a minute: charon is dead" in worker.status.error


def test_a_fault_while_another_is_mended_is_mended_too(live):
    member = Member()
    instance = Instance(member)
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    member.cause = "charon is dead"
    until(lambda: member.recovered > 2)
    member.cause = None
    time.sleep(0.1)
    assert worker.status.error is None


@pytest.mark.parametrize("error", [MeshError("the ESP engine is dead"), NetworkError("the router is gone")])
def test_a_fault_between_two_questions_is_asked_about_again(live, error):
    instance = Instance(Member())
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    instance.hit = error
    until(lambda: instance.asked)
    instance.hit = None
    instance.state = ContainerStatus("exited", 0)
    until(lambda: worker.status.phase == Phase.EXITED)
    assert worker.status.error is None


def test_pairs_that_stay_down_get_their_wire_and_a_new_start(live, monkeypatch):
    monkeypatch.setattr(module, "MESH_SECONDS", 0.5)
    instance = Instance(Member())
    worker = live(instance)
    until(lambda: worker.status.phase == Phase.RUNNING)
    instance.missing = ["algo-2"]
    until(lambda: instance.member.initiated)
    assert instance.attached == 1
    assert worker.status.notes == ("no CHILD_SA with algo-2; traffic with it stopped until there was one again",)
    until(lambda: worker.status.error)
    assert worker.status.disconnected


@pytest.mark.parametrize("ended", [False, True])
def test_an_upload_of_checkpoints_does_not_keep_an_instance_that_goes(live, monkeypatch, ended):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 60 if ended else 0.01)
    pushing = threading.Event()

    def push(cancelled):
        pushing.set()
        until(cancelled)
        raise Cancelled

    instance = Instance()
    instance.checkpoints = SimpleNamespace(push=push)
    worker = live(instance)
    assert instance.starting.wait(20)
    if ended:
        instance.state = ContainerStatus("exited", 0)
    assert pushing.wait(20)
    worker.detach()
    assert (worker.status.phase, worker.status.error) == (Phase.RUNNING, None)
