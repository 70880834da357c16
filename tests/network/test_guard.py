"""The router's guard over encrypted jobs, shown with packets."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from network.lab import ALL_IN, ALL_OUT, FRAGMENTED, Instance, Vpc, guard, ipv4
from phalanx.network.errors import NetworkError
from phalanx.network.model import GuardCounters, Rule


@pytest.fixture
def pair(vpc: Vpc) -> tuple[Instance, Instance]:
    """Two instances whose security group allows everything."""
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    made = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    return made


def _raise(vpc: Vpc, *instances: Instance) -> None:
    vpc.guards = (guard("job-1", *instances),)
    vpc.apply()


def test_only_ike_and_esp_pass_whatever_the_groups_allow(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    assert a.reaches_tcp(b, 80)
    assert a.reaches_udp(b, 4500, source=4500)
    assert a.reaches_protocol(b, 47)
    _raise(vpc, a, b)
    assert a.reaches_udp(b, 500, source=500)
    assert b.reaches_udp(a, 500, source=500)
    assert a.reaches_protocol(b, 50)
    assert vpc.router.counters("job-1") == GuardCounters(2, 58, 1, 84, 0, 0)
    assert not a.reaches_tcp(b, 81)
    assert not a.reaches_udp(b, 4500, source=4500)
    assert not a.reaches_udp(b, 500, source=501)
    assert not a.reaches_udp(b, 501, source=500)
    assert not a.reaches_protocol(b, 47)
    assert not a.reaches_protocol(b, 4)
    assert not a.pings(b)
    counters = vpc.router.counters("job-1")
    assert counters.dropped_packets >= 7
    assert counters.dropped_bytes >= 7 * 28
    assert (counters.ike_packets, counters.esp_packets) == (2, 1)


def test_guard_does_not_replace_the_groups(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    vpc.groups["sg-1"] = (ALL_OUT, Rule("ingress", "17", 500, 500, group="sg-1"))
    _raise(vpc, a, b)
    assert a.reaches_udp(b, 500, source=500)
    assert not a.reaches_protocol(b, 50)


def test_established_plain_connection_ends_when_the_guard_rises(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    with ExitStack() as stack:
        listener = stack.enter_context(b.socket(socket.SOCK_STREAM))
        listener.bind((b.address, 80))
        listener.listen()
        near = stack.enter_context(a.socket(socket.SOCK_STREAM))
        near.connect((b.address, 80))
        far = stack.enter_context(listener.accept()[0])
        far.settimeout(0.25)
        near.sendall(b"before")
        assert far.recv(10) == b"before"
        _raise(vpc, a, b)
        near.sendall(b"secret")
        with pytest.raises(TimeoutError):
            far.recv(10)
        assert vpc.router.counters("job-1").dropped_packets >= 1
        # The connection itself is still known: without the guard it goes on, which shows that the guard stopped it.
        vpc.guards = ()
        vpc.apply()
        far.settimeout(20)
        assert far.recv(10) == b"secret"


def test_others_are_untouched(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    c, d = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.guards = (guard("job-1", a, b), guard("job-2", c))
    vpc.apply()
    assert c.reaches_udp(d, 9)
    assert a.reaches_udp(c, 9)
    assert d.reaches_udp(b, 9)
    assert not b.reaches_udp(a, 9)
    assert vpc.router.counters("job-2") == GuardCounters(0, 0, 0, 0, 0, 0)


def test_fragments_do_not_slip_through(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    a.shorten()
    assert a.reaches_protocol(b, 47, payload=bytes(FRAGMENTED))
    _raise(vpc, a, b)
    # Plain data in three fragments, of which only the first has ports; then ESP in as many.
    with b.udp(500) as receiver, a.udp(500) as sender, b.udp(9) as other, a.udp(9) as plain:
        plain.sendto(bytes(FRAGMENTED), (b.address, 9))
        with pytest.raises(TimeoutError):
            other.recv(1 << 16)
        sender.sendto(bytes(FRAGMENTED), (b.address, 500))
        assert len(receiver.recv(1 << 16)) == FRAGMENTED
    assert a.reaches_protocol(b, 50, payload=b"\0\0\x10\1" + bytes(FRAGMENTED))
    counters = vpc.router.counters("job-1")
    assert counters.dropped_packets >= 1
    assert (counters.ike_packets, counters.esp_packets) == (1, 1)


def test_lone_fragment_never_arrives(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    _raise(vpc, a, b)
    with b.socket(socket.SOCK_RAW, socket.IPPROTO_UDP) as receiver:
        # Offset 16, no more to come: its first bytes look like ports 500.
        a.send_raw(ipv4(a.address, b.address, socket.IPPROTO_UDP, b"\x01\xf4\x01\xf4" + bytes(60), fragment=2))
        a.send_raw(ipv4(a.address, b.address, socket.IPPROTO_UDP, b"\x01\xf4\x01\xf4" + bytes(60), fragment=0x2000))
        with pytest.raises(TimeoutError):
            receiver.recv(1 << 16)


def test_counters_stay_over_changes_and_restarts(vpc: Vpc, pair: tuple[Instance, Instance]):
    a, b = pair
    _raise(vpc, a, b)
    assert a.reaches_protocol(b, 50)
    assert not a.reaches_udp(b, 9)
    before = vpc.router.counters("job-1")
    c = vpc.instance("sg-2")
    vpc.groups["sg-2"] = (ALL_OUT,)
    vpc.guards = (*vpc.guards, guard("job-2", c))
    vpc.apply()
    assert vpc.router.counters("job-1") == before
    again = Vpc(vpc.prefix).router
    again.ensure()
    again.apply(vpc.state)
    assert again.counters("job-1") == before
    assert a.reaches_protocol(b, 50)
    assert again.counters("job-1").esp_packets == before.esp_packets + 1


def test_counters_end_with_the_guard(vpc: Vpc, pair: tuple[Instance, Instance]):
    _raise(vpc, *pair)
    vpc.guards = ()
    vpc.apply()
    with pytest.raises(NetworkError, match="no guard over job job-1"):
        vpc.router.counters("job-1")
    _raise(vpc, *pair)
    assert vpc.router.counters("job-1") == GuardCounters(0, 0, 0, 0, 0, 0)
