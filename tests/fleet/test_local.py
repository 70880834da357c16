"""The local fleet against its real agent: found, started, replaced, and gone when it is closed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phalanx.fleet.base import Refused
from phalanx.fleet.local import LocalFleet, _last_line
from phalanx.network.model import Exits, SecurityGroup
from phalanx.node.messages import Phase
from phalanx.node.names import Names


@pytest.fixture
def names(tmp_path):
    return Names(tmp_path)


@pytest.fixture
def fleet(tmp_path, names):
    fleet = LocalFleet(tmp_path, tmp_path / "images")
    fleet.open()
    yield fleet
    fleet.close()
    assert not names.run_dir.exists()
    assert agents(tmp_path) == []


def agents(data_dir):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"phalanx.node" in command and str(data_dir).encode() in command:
            found.append(int(path.parent.name))
    return found


def test_the_agent_says_what_the_host_has(fleet):
    capacity = fleet.capacity()
    assert capacity.cpus == os.cpu_count()
    assert capacity.memory > 2**30


def test_unknown_instances_are_absent_and_harm_nothing(fleet):
    assert fleet.statuses(["i-none"]) == {}
    fleet.advance(["i-none"], Phase.LOADED)
    fleet.destroy(["i-none"])
    with pytest.raises(Refused, match="lost"):
        fleet.upload(["i-none"])


def test_a_host_comes_back_whose_control_plane_has_replicas_and_takes_orders_of_their_leader_alone(tmp_path, names):
    names.term.write_text("3")
    fleet = LocalFleet(tmp_path, tmp_path / "images")
    try:
        fleet.open(lead=False)
        assert fleet.everything() == []
        with pytest.raises(Refused, match="Another replica"):
            fleet.lead()
    finally:
        fleet.close()
    assert agents(tmp_path) == []


def test_an_agents_last_words_are_found_at_the_end_of_a_log_of_any_length(tmp_path):
    log = tmp_path / "agent.log"
    assert _last_line(log) == ""
    with log.open("wb") as file:
        # Nobody has so much memory.
        file.seek(1 << 42)
        file.write(b'\n{"event": "the agent fails", "exception": "Traceback\\n  of it\\nOSError: no room"}\n')
    assert _last_line(log) == "OSError: no room"
    log.write_text("Killed\n\n")
    assert _last_line(log) == "Killed"


def test_rules_outlive_the_agent_in_memory_alone(fleet, names):
    fleet.enforce("vpc-1", [SecurityGroup("sg-1", ())], Exits(s3=("10.0.0.0/24",)))
    assert (names.run_dir / "vpcs" / "vpc-1.json").exists()
    assert names.run_dir.is_mount()
    assert names.run_dir.stat().st_mode & 0o777 == 0o700


def test_a_killed_agent_is_replaced(fleet, tmp_path):
    (before,) = agents(tmp_path)
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not [pid for pid in agents(tmp_path) if pid != before]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The fleet's own calls find the new one; until then they say that none answers.
    while True:
        try:
            fleet.capacity()
            break
        except Exception:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("phalanx.fleet.host.WATCH_SECONDS", 0.5)
    monkeypatch.setattr("phalanx.fleet.host.ANSWER_SECONDS", 2.0)


def test_a_hung_agent_is_replaced(impatient, fleet, tmp_path):
    (before,) = agents(tmp_path)
    os.kill(before, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while before in agents(tmp_path) or not agents(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stop_right_after_the_agents_end_leaves_nothing(impatient, fleet, tmp_path, number):
    for pid in agents(tmp_path):
        os.kill(pid, number)
    # The fixture closes the fleet now, and looks at what is left.


def test_an_agent_that_is_told_to_stop_while_it_starts_leaves_nothing(tmp_path, names):
    process = subprocess.Popen(
        [sys.executable, "-m", "phalanx.node", "--data-dir", str(tmp_path), "--images", str(tmp_path / "images")]
    )
    while not names.run_dir.is_mount():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not names.run_dir.exists()


FORKING = """
import os, signal

if child := os.fork():
    print(child, flush=True)
signal.pause()
"""


def test_what_an_agent_is_starting_is_not_taken_for_an_agent(tmp_path):
    # Between its fork and its exec a program has the agent's command line; here it stays there.
    command = [sys.executable, "-c", FORKING, "-m", "phalanx.node", "--data-dir", tmp_path, "--images", tmp_path / "images"]
    agent = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    child = int(agent.stdout.readline())
    try:
        assert LocalFleet(tmp_path, tmp_path / "images")._agents() == [agent.pid]
    finally:
        os.kill(child, signal.SIGKILL)
        agent.kill()
        agent.wait()


def test_a_second_fleet_of_the_service_finds_the_same_agent(fleet, tmp_path):
    before = agents(tmp_path)
    fleet._closing.set()  # as if its process had been killed
    again = LocalFleet(tmp_path, tmp_path / "images")
    again.open()
    assert agents(tmp_path) == before
    again.close()
