"""A process that outlives its starter: one of it, found whatever happened to the starter, and gone when it is ended."""

from __future__ import annotations

import fcntl
import os
import signal
import threading

import pytest

from ipsec.lab import Host, Wire, eventually
from phalanx.ipsec.charon import Charon
from phalanx.ipsec.daemon import Daemon
from phalanx.ipsec.errors import MeshError

SLEEP = ("sleep", "1000")


@pytest.fixture
def host(wire: Wire) -> Host:
    return wire.hosts[0]


@pytest.fixture
def daemon(host: Host) -> Daemon:
    return Daemon(host.space, host.rundir, "sleeper")


def sleepers(host: Host) -> list[int]:
    return [pid for pid in host.processes() if os.readlink(f"/proc/{pid}/exe").endswith("sleep")]


def test_it_has_no_parent_and_a_session_of_its_own(host: Host, daemon: Daemon) -> None:
    assert daemon.pid() is None
    daemon.launch(SLEEP, {})
    assert eventually(lambda: sleepers(host))
    pid = daemon.pid()
    assert [pid] == sleepers(host)
    assert os.getsid(pid) != os.getsid(0)
    daemon.end(signal.SIGTERM)
    assert daemon.pid() is None
    assert host.processes() == []
    assert {path.name for path in host.rundir.iterdir()} == {"sleeper.log"}


def test_many_starters_make_one(host: Host, daemon: Daemon) -> None:
    threads = [threading.Thread(target=daemon.launch, args=(SLEEP, {})) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert eventually(lambda: daemon.pid() is not None)
    assert eventually(lambda: host.processes() == [daemon.pid()])
    assert eventually(lambda: sleepers(host) == [daemon.pid()])


def test_a_killed_one_is_known_and_started_again(host: Host, daemon: Daemon) -> None:
    daemon.launch(SLEEP, {})
    assert eventually(lambda: sleepers(host))
    first = daemon.pid()
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: daemon.pid() is None)
    daemon.launch(SLEEP, {})
    assert eventually(lambda: daemon.pid() not in (None, first))


def test_one_that_does_not_heed_sigterm_is_killed(host: Host, daemon: Daemon) -> None:
    daemon.launch(("sh", "-c", "trap '' TERM; exec sleep 1000"), {})
    assert eventually(lambda: sleepers(host))
    daemon.end(signal.SIGTERM, signal.SIGKILL)
    assert daemon.pid() is None
    assert sleepers(host) == []


@pytest.mark.usefixtures("many_descriptors")
def test_it_is_ended_by_an_agent_that_has_many_descriptors(host: Host, daemon: Daemon) -> None:
    daemon.launch(SLEEP, {})
    assert eventually(lambda: sleepers(host))
    daemon.end(signal.SIGTERM)
    assert sleepers(host) == []


def test_a_foreign_lock_is_told(host: Host, daemon: Daemon) -> None:
    with (host.rundir / "sleeper.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(MeshError, match="locked"):
            daemon.pid()


def test_a_charon_that_cannot_start_says_why(host: Host) -> None:
    charon = Charon(host.space, host.rundir)
    with pytest.raises(MeshError, match="charon did not start"):
        charon.start({"LD_PRELOAD": "", "STRONGSWAN_CONF": "/nowhere"})
    assert charon.pid() is None
