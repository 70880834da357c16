from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from phalanx.network import namespace
from phalanx.network.errors import NetworkError


def _here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def _inside(name: str, *command: str) -> str:
    with namespace.entered(name):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_created_once_with_loopback_and_without_ipv6(prefix: str):
    name = prefix + "a"
    assert not namespace.exists(name)
    namespace.create(name)
    first = os.stat(namespace.path(name)).st_ino
    namespace.create(name)
    assert namespace.exists(name)
    assert os.stat(namespace.path(name)).st_ino == first
    assert "LOOPBACK,UP" in _inside(name, "ip", "link", "show", "lo")
    assert _inside(name, "cat", "/proc/sys/net/ipv6/conf/default/disable_ipv6") == "1\n"
    assert _inside(name, "ip", "-6", "addr") == ""
    assert _inside(name, "cat", "/proc/sys/net/ipv4/ipfrag_time") == "2\n"


def test_an_address_of_its_own_is_reached_from_inside_alone_and_nothing_comes_from_it(prefix: str):
    name, address = prefix + "a", "169.254.170.2"
    namespace.create(name)
    for _ in range(2):
        namespace.own(name, address)
    assert _inside(name, "ip", "-o", "-4", "addr", "show", "to", address).split()[1:6] == [
        *("lo", "inet", f"{address}/32", "scope", "host"),
    ]
    with namespace.entered(name):
        listener = socket.create_server((address, 80))
        with listener, socket.create_connection((address, 80), timeout=5) as asking:
            assert asking.getpeername() == (address, 80)
    assert "169.254" not in _inside(name, "ip", "-4", "route", "show")


@pytest.fixture
def allowed():
    """The host's list of what its namespaces may choose for TCP, as it was when the test ends."""
    file = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    before = file.read_text()
    yield file
    file.write_text(before)


def _congestion_control() -> str:
    with socket.socket() as opened:
        return opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def test_tcp_in_it_is_cubic_where_the_host_allows_it(prefix: str, allowed: Path):
    if "cubic" not in allowed.read_text().split():
        allowed.write_text(allowed.read_text().strip() + " cubic")
    namespace.create(prefix + "a")
    with namespace.entered(prefix + "a"):
        assert _congestion_control() == "cubic"


def test_tcp_in_it_is_the_hosts_where_cubic_is_for_the_host_alone(prefix: str, allowed: Path):
    allowed.write_text("reno")
    hosts = _congestion_control()
    namespace.create(prefix + "a")
    with namespace.entered(prefix + "a"):
        assert _congestion_control() == hosts


def test_half_made_name_is_listed_finished_and_deleted(prefix: str):
    half, other = prefix + "half", prefix + "other"
    for name in (half, other):
        Path(namespace.path(name)).touch()
        assert not namespace.exists(name)
    assert namespace.listing(prefix) == [half, other]
    namespace.create(half)
    assert namespace.exists(half)
    namespace.delete(other)
    assert namespace.listing(prefix) == [half]


def test_deleted_twice_is_gone(prefix: str):
    namespace.create(prefix + "a")
    namespace.delete(prefix + "a")
    namespace.delete(prefix + "a")
    assert not namespace.exists(prefix + "a")
    assert namespace.listing(prefix) == []


def test_processes_are_those_inside_but_not_the_visitor(prefix: str):
    name = prefix + "a"
    namespace.create(name)
    with namespace.entered(name):
        inside = subprocess.Popen(["sleep", "60"])
        assert namespace.processes(name) == {inside.pid}
    outside = subprocess.Popen(["sleep", "60"])
    try:
        assert namespace.processes(name) == {inside.pid}
    finally:
        for process in (inside, outside):
            process.kill()
            process.wait()
    assert namespace.processes(name) == set()
    assert namespace.processes(prefix + "none") == set()


def test_only_the_entering_thread_moves_and_it_comes_back(prefix: str):
    namespace.create(prefix + "a")
    home = _here()
    inside, outside = threading.Event(), threading.Event()
    seen: list[str] = []

    def stay() -> None:
        inside.wait(10)
        seen.append(_here())
        outside.set()

    thread = threading.Thread(target=stay)
    thread.start()

    def visit() -> None:
        with namespace.entered(prefix + "a"):
            seen.append(_here())
            inside.set()
            outside.wait(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        visit()
    thread.join()
    assert _here() == home
    assert seen[0] != home
    assert seen[1] == home


def test_socket_made_inside_stays_inside(prefix: str):
    namespace.create(prefix + "a")
    with namespace.entered(prefix + "a"):
        inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside:
        inside.bind(("127.0.0.1", 0))
        assert f":{inside.getsockname()[1]}" in _inside(prefix + "a", "ss", "-uln")


def test_parallel_creation_and_deletion(prefix: str):
    names = [f"{prefix}{number % 4}" for number in range(16)]
    threads = [threading.Thread(target=namespace.create, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert namespace.listing(prefix) == sorted(set(names))
    for name in namespace.listing(prefix):
        namespace.delete(name)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".", "-x", "a b"])
def test_odd_names_are_refused(name: str):
    with pytest.raises(ValueError):
        namespace.create(name)


def test_missing_namespace_is_named(prefix: str):
    with pytest.raises(NetworkError, match=f"no network namespace {prefix}none"), namespace.entered(prefix + "none"):
        pass
