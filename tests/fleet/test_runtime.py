"""What Ray's processes leave on a host when they are killed."""

import socket

from phalanx.fleet.ray.runtime import Runtime, directory
from phalanx.node.names import Names


def test_the_socket_of_a_killed_driver_is_no_hindrance_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("phalanx.fleet.ray.runtime.RUN", tmp_path)
    names = Names(tmp_path)
    directory(names).mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(directory(names) / "driver.sock"))
    for _ in range(2):
        Runtime(names, {}, tmp_path / "log").stop()
        assert not directory(names).exists()
