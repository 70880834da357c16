"""A router's life: closed at first, crash-safe, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from network.lab import ALL_IN, ALL_OUT, Instance, Vpc, guard
from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.network.model import HOST_MTU, Eni, Rule, SecurityGroup, VpcState
from phalanx.network.router import Router
from phalanx.network.ruleset import MOST_FLOWS, device


def _run(where: str, *command: str) -> str:
    with namespace.entered(where):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _open(vpc: Vpc, count: int = 2) -> list[Instance]:
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    instances = [vpc.instance("sg-1") for _ in range(count)]
    vpc.apply()
    return instances


def test_closed_until_rules_are_applied(vpc: Vpc):
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    a, b = vpc.instance("sg-1"), vpc.instance("sg-1")
    assert not a.reaches_udp(b, 9)
    with namespace.entered(vpc.router_namespace):
        namespace.sysctl("net/ipv4/ip_forward", "1")
    # Not even where somebody switches forwarding on.
    assert not a.reaches_udp(b, 9)
    vpc.apply()
    assert a.reaches_udp(b, 9)


def test_ensure_leaves_a_standing_router_alone(vpc: Vpc):
    a, b = _open(vpc)
    assert a.reaches_udp(b, 9)
    Router(vpc.router_namespace).ensure()
    assert vpc.router.verify(vpc.state)
    assert a.reaches_udp(b, 9)


def test_link_has_address_mtu_and_only_the_default_route(vpc: Vpc):
    (a,) = _open(vpc, 1)
    shown = _run(a.namespace, "ip", "addr", "show", "dev", "eth0")
    assert f"mtu {HOST_MTU}" in shown
    assert f"inet {a.address}/32" in shown
    assert _run(a.namespace, "ip", "route").strip() == "default via 169.254.1.1 dev eth0 proto static onlink congctl cubic"
    assert f"mtu {HOST_MTU}" in _run(vpc.router_namespace, "ip", "link", "show", device(a.eni.id))


def test_tcp_between_instances_is_cubic_whatever_the_host_lets_namespaces_choose(vpc: Vpc, monkeypatch: pytest.MonkeyPatch):
    """Of both ends; a kernel without it has the host's choice."""
    file = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    before = file.read_text()
    file.write_text("reno")
    try:
        assert _congestion_controls(*_open(vpc)) == {"cubic"}
        monkeypatch.setattr(namespace, "_CUBIC", "none-such")
        assert _congestion_controls(*_open(vpc)) == {Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()}
    finally:
        file.write_text(before)


def _congestion_controls(a: Instance, b: Instance) -> set[str]:
    with namespace.entered(b.namespace):
        listener = socket.create_server((b.address, 80))
    with namespace.entered(a.namespace):
        asking = socket.create_connection((b.address, 80), timeout=5)
    accepted, _ = listener.accept()
    with listener, asking, accepted:
        told = [end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16) for end in (asking, accepted)]
    return {name.rstrip(b"\0").decode() for name in told}


def test_attach_and_detach_repeat(vpc: Vpc):
    a, b = _open(vpc)
    before = _run(a.namespace, "ip", "link"), _run(vpc.router_namespace, "ip", "route")
    vpc.router.attach(a.eni, a.namespace)
    assert (_run(a.namespace, "ip", "link"), _run(vpc.router_namespace, "ip", "route")) == before
    assert a.reaches_udp(b, 9)
    for _ in range(2):
        vpc.router.detach(a.eni.id)
        assert "eth0" not in _run(a.namespace, "ip", "link")
        assert device(a.eni.id) not in _run(vpc.router_namespace, "ip", "link")
    vpc.router.attach(a.eni, a.namespace)
    assert a.reaches_udp(b, 9)


@pytest.mark.parametrize("alias", [True, False])
def test_half_made_attachment_is_finished(vpc: Vpc, alias: bool):
    a, b = _open(vpc)
    vpc.router.detach(a.eni.id)
    end = device(a.eni.id)
    _run(
        vpc.router_namespace,
        "ip",
        "link",
        "add",
        end,
        "mtu",
        "9001",
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        a.namespace,
    )
    if alias:
        _run(vpc.router_namespace, "ip", "link", "set", end, "alias", a.eni.id)
    vpc.router.attach(a.eni, a.namespace)
    assert a.reaches_udp(b, 9)
    assert b.reaches_udp(a, 9)


def test_attachment_moves_to_a_new_namespace(vpc: Vpc):
    a, b = _open(vpc)
    old, a.namespace = a.namespace, a.namespace + "new"
    namespace.create(a.namespace)
    vpc.router.attach(a.eni, a.namespace)
    assert a.reaches_udp(b, 9)
    assert "eth0" not in _run(old, "ip", "link")


def test_attachment_to_a_router_that_is_gone_is_replaced(vpc: Vpc):
    a, b = _open(vpc)
    vpc.router.destroy()
    vpc.router.ensure()
    vpc.apply()
    for instance in (a, b):
        vpc.router.attach(instance.eni, instance.namespace)
    assert a.reaches_udp(b, 9)


def test_who_floods_its_peers_leaves_others_room_to_begin(vpc: Vpc):
    a, b, c = _open(vpc, 3)

    def flood() -> int:
        with contextlib.ExitStack() as stack:
            for source in range(100):
                sender = stack.enter_context(a.udp(20000 + source))
                for port in range(100):
                    sender.sendto(b"x", (b.address, 1000 + port))
        return int(_run(vpc.router_namespace, "cat", "/proc/sys/net/netfilter/nf_conntrack_count"))

    assert flood() == MOST_FLOWS
    assert not a.reaches_udp(b, 9)
    assert c.reaches_udp(b, 9)
    assert b.reaches_udp(a, 9)
    # New rules do not begin the count anew.
    vpc.groups["sg-2"] = (ALL_IN,)
    vpc.apply()
    assert flood() == MOST_FLOWS + 2
    assert not a.reaches_udp(b, 9)


def test_foreign_interface_is_not_touched(vpc: Vpc, prefix: str):
    namespace.create(prefix + "x")
    _run(prefix + "x", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    with pytest.raises(NetworkError, match="cannot attach eni-x"):
        vpc.router.attach(Eni("eni-x", "10.0.0.9", ()), prefix + "x")
    assert "eth0@other" in _run(prefix + "x", "ip", "link")
    assert device("eni-x") not in _run(vpc.router_namespace, "ip", "link")


def test_killed_at_any_moment_attach_can_be_repeated(vpc: Vpc):
    a, b = _open(vpc)
    random.seed(2)
    for _ in range(12):
        child = os.fork()
        if child == 0:
            while True:
                vpc.router.detach(a.eni.id)
                vpc.router.attach(a.eni, a.namespace)
                vpc.router.apply(vpc.state)
        time.sleep(random.uniform(0.005, 0.12))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        again = Router(vpc.router_namespace)
        again.ensure()
        again.apply(vpc.state)
        again.attach(a.eni, a.namespace)
        assert again.verify(vpc.state)
        assert a.reaches_udp(b, 9)
        assert b.reaches_udp(a, 9)


def test_flushed_rules_are_noticed_and_restored(vpc: Vpc):
    a, b = _open(vpc)
    vpc.guards = (guard("job-1", a, b),)
    vpc.apply()
    assert vpc.router.verify(vpc.state)
    assert vpc.router.verify(vpc.state)
    _run(vpc.router_namespace, "nft", "flush", "ruleset")
    assert a.reaches_udp(b, 9)
    assert not vpc.router.verify(vpc.state)
    vpc.apply()
    assert vpc.router.verify(vpc.state)
    assert not a.reaches_udp(b, 9)


@pytest.mark.parametrize(
    "change",
    [
        "add rule inet phalanx forward-guard accept",
        "insert rule inet phalanx forward-guard accept",
        "add table ip other",
        'add element inet phalanx sources { "eni0" . 10.9.9.9 }',
        "delete chain inet phalanx input; add chain inet phalanx input { type filter hook input priority 5; policy accept; }",
        "add chain inet phalanx late { type filter hook forward priority 99; policy accept; }",
        "add counter inet phalanx stray; add set inet phalanx odd { type inet_service; }",
    ],
)
def test_any_change_by_others_is_noticed_and_undone(vpc: Vpc, change: str):
    _open(vpc)
    listing = _run(vpc.router_namespace, "nft", "list", "ruleset")
    _run(vpc.router_namespace, "nft", change)
    assert not vpc.router.verify(vpc.state)
    vpc.apply()
    assert vpc.router.verify(vpc.state)
    restored = _run(vpc.router_namespace, "nft", "list", "ruleset")
    assert sorted(restored.split()) == sorted(listing.split())


def test_verify_knows_other_states_and_other_lives(vpc: Vpc):
    _open(vpc)
    state = vpc.state
    vpc.groups["sg-1"] = (ALL_IN,)
    assert not vpc.router.verify(vpc.state)
    assert vpc.router.verify(state)
    assert not Router(vpc.router_namespace).verify(state)
    with namespace.entered(vpc.router_namespace):
        namespace.sysctl("net/ipv4/ip_forward", "0")
    assert not vpc.router.verify(state)


def test_impossible_state_closes_the_router(vpc: Vpc):
    a, b = _open(vpc)
    assert a.reaches_udp(b, 9)
    vpc.groups["sg-1"] = (Rule("ingress", "tcp", 1, 1, group="sg-1"),)
    with pytest.raises(ValueError):
        vpc.apply()
    assert not a.reaches_udp(b, 9)
    assert not vpc.router.verify(vpc.state)
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    vpc.apply()
    assert a.reaches_udp(b, 9)


def test_failing_nft_closes_the_router(vpc: Vpc, monkeypatch: pytest.MonkeyPatch):
    a, b = _open(vpc)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NetworkError, match="is the package nftables installed"):
        vpc.apply()
    assert not a.reaches_udp(b, 9)
    monkeypatch.undo()
    vpc.apply()
    assert a.reaches_udp(b, 9)


def test_missing_router_is_named(prefix: str):
    router = Router(prefix + "none")
    empty = VpcState("vpc-1", (), (), ())
    assert not router.verify(empty)
    for call in (lambda: router.apply(empty), lambda: router.counters("job"), lambda: router.detach("eni-1")):
        with pytest.raises(NetworkError, match="no network namespace"):
            call()
    router.destroy()


def test_destroy_takes_all_links_with_it(vpc: Vpc):
    a, _ = _open(vpc)
    vpc.router.destroy()
    vpc.router.destroy()
    assert not namespace.exists(vpc.router_namespace)
    deadline = time.monotonic() + 20
    while "eth0" in _run(a.namespace, "ip", "link"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_many_threads_share_a_router(vpc: Vpc):
    a, b = _open(vpc)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            eni, where = Eni(f"eni-{number}", f"10.0.1.{number}", ("sg-1",)), f"{vpc.prefix}t{number}"
            namespace.create(where)
            for _ in range(3):
                vpc.router.attach(eni, where)
                vpc.apply()
                vpc.router.verify(vpc.state)
                vpc.router.detach(eni.id)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert vpc.router.verify(vpc.state)
    assert a.reaches_udp(b, 9)


def test_large_vpc_loads(vpc: Vpc):
    rules = tuple(Rule("ingress", "6", port, port + 1, cidr=f"10.{port}.0.0/16") for port in range(60))
    groups = tuple(SecurityGroup(f"sg-{number}", rules) for number in range(10))
    enis = tuple(Eni(f"eni-{number}", f"10.0.0.{number}", (f"sg-{number % 10}",)) for number in range(1, 200))
    state = VpcState("vpc-1", groups, enis, ())
    vpc.router.apply(state)
    assert vpc.router.verify(state)
