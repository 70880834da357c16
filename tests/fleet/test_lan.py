"""The wire that tests of several hosts use goes as a whole, however a test ends."""

import subprocess

import pytest

from fleet.lan import Lan
from phalanx.network import namespace


def test_nothing_is_left_of_hosts_that_never_joined(tmp_path):
    started = []
    with pytest.raises(RuntimeError), Lan(tmp_path) as lan:
        for command in ([], ["sh", "-c", "echo; exec sleep 600"]):
            machine = lan.machine()
            if command:
                started.append(machine.start(*command, stdout=subprocess.PIPE))
                assert started[0].stdout.readline()  # it is on the machine
        raise RuntimeError
    assert [process.wait(60) for process in started] == [-9]
    assert not any(namespace.exists(name) for name in (lan.wire, *(machine.name for machine in lan.machines)))
