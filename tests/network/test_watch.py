"""The watch counts what an instance puts on the wire, sees what is in the clear, and says when nobody looked."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from network.lab import ALL_IN, ALL_OUT, Instance, Vpc, eventually, guard, ipv4, run
from phalanx.network import namespace, watch
from phalanx.network.model import Watched
from phalanx.network.ruleset import device
from phalanx.network.watch import Watch

IKE = bytes(17) + b"\x20" + bytes(10)


@pytest.fixture
def pair(vpc: Vpc) -> tuple[Instance, Instance]:
    vpc.groups["sg-1"] = (ALL_IN, ALL_OUT)
    made = vpc.instance("sg-1"), vpc.instance("sg-1")
    vpc.apply()
    return made


@pytest.fixture
def watching(vpc: Vpc, pair: tuple[Instance, Instance], tmp_path: Path):
    made = Watch(tmp_path / "watch", [pair[1].address])
    made.open(vpc.router_namespace, device(pair[0].eni.id))
    yield made
    made.close()


def counted(watched: Watched | None) -> tuple[int, int, int, int]:
    return watched.esp, watched.ike, watched.neighbour, watched.clear


def udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def test_each_frame_is_counted_as_what_it_is(vpc: Vpc, pair: tuple[Instance, Instance], watching: Watch):
    a, b = pair
    stranger = vpc.instance("sg-1")
    vpc.apply()
    for _ in range(300):
        a.send_raw(ipv4(a.address, b.address, 50, bytes(100)))
    for _ in range(40):
        a.send_raw(ipv4(a.address, b.address, 17, udp(500, 500, IKE)))
    # To whom is no instance of the job, and what others send, is none of its business.
    assert a.reaches_tcp(stranger, 80)
    assert b.reaches_udp(a, 9)
    assert counted(watching.look()) == (300, 40, 0, 0)
    frame = bytes(6) + bytes(6) + struct.pack("!H", 0x0806) + bytes(28)
    with a.socket(socket.SOCK_RAW, 0, socket.AF_PACKET) as opened:
        opened.bind(("eth0", 0))
        opened.send(frame)
    assert counted(watching.look()) == (300, 40, 1, 0)


PLAIN = {
    "TCP": lambda a, b: ipv4(a, b, 6, bytes(20)),
    "UDP": lambda a, b: ipv4(a, b, 17, udp(40000, 9, b"secret")),
    "IKE's ports, but no IKE": lambda a, b: ipv4(a, b, 17, udp(500, 500, bytes(28))),
    "IKE from elsewhere": lambda a, b: ipv4(a, b, 17, udp(4500, 500, IKE)),
    "ICMP": lambda a, b: ipv4(a, b, 1, bytes(8)),
    "a fragment": lambda a, b: ipv4(a, b, 17, udp(500, 500, IKE), 0x2000),
    "AH": lambda a, b: ipv4(a, b, 51, bytes(24)),
    "multicast": lambda a, b: ipv4(a, "224.0.0.1", 17, udp(1, 2, b"x")),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_in_the_clear_is_seen_though_the_guard_stops_it(vpc: Vpc, pair, watching: Watch, kind: str):
    a, b = pair
    vpc.guards = (guard("job-1", a, b),)
    vpc.apply()
    packet = PLAIN[kind](a.address, b.address)
    a.send_raw(packet)
    watched = watching.look()
    assert counted(watched) == (0, 0, 0, 1)
    (sighting,) = watched.sightings
    assert (sighting.source, sighting.bytes) == (a.address, 14 + len(packet))
    assert bytes.fromhex(sighting.head)[26:30] == socket.inet_aton(a.address)


def test_a_flood_in_the_clear_is_counted_whole_and_little_of_it_is_kept(pair, watching: Watch):
    a, b = pair
    with a.udp(9) as sender:
        for _ in range(3000):
            sender.sendto(bytes(1000), (b.address, 9))
    watched = watching.look()
    assert counted(watched) == (0, 0, 0, 3000)
    assert len(watched.sightings) == watch.SIGHTINGS


def test_a_new_agent_goes_on_counting_and_tells_when_nobody_looked(vpc, pair, watching: Watch, tmp_path: Path, monkeypatch):
    a, b = pair
    monkeypatch.setattr(watch, "AWAY", 2)
    a.send_raw(ipv4(a.address, b.address, 50, bytes(100)))
    before = watching.look()
    assert before.away == ()
    # As kill -9 does.
    watching.close()
    a.send_raw(ipv4(a.address, b.address, 6, bytes(20)))
    for count in range(watch.AWAY + 2):
        later = Watch(tmp_path / "watch", [b.address])
        later.open(vpc.router_namespace, device(a.eni.id))
        a.send_raw(ipv4(a.address, b.address, 50, bytes(100)))
        after = later.look()
        later.close()
        assert (after.since, after.esp, after.clear) == (before.since, count + 2, 0)
        assert after.away[0][0] == before.until
        assert len(after.away) == min(count + 1, watch.AWAY)


def test_a_look_while_nobody_watches_tells_so(vpc: Vpc, pair, watching: Watch, tmp_path: Path):
    a, b = pair
    before = watching.look()
    watching.close()
    assert watching.look() == before
    a.send_raw(ipv4(a.address, b.address, 50, bytes(100)))
    # An agent that cannot prepare what an earlier one left, and one after it that can.
    blind = Watch(tmp_path / "watch", [b.address])
    looks = [blind.look() for _ in range(3)]
    assert [look.away for look in looks] == [((before.until, look.until),) for look in looks]
    assert [look.esp for look in looks] == [0, 0, 0]
    blind.open(vpc.router_namespace, device(a.eni.id))
    a.send_raw(ipv4(a.address, b.address, 50, bytes(100)))
    seen = blind.look()
    blind.close()
    assert (seen.esp, len(seen.away)) == (1, 1)
    assert seen.away[0][1] >= looks[-1].until


def test_while_somebody_elses_router_is_gone_nobody_watches(vpc: Vpc, watching: Watch):
    assert watching.look().away == ()
    namespace.delete(vpc.router_namespace)
    assert watching.look().away == ()
    gone = watching.look()
    assert gone.away == ((gone.away[0][0], gone.until),)


def test_a_wire_that_is_made_again_is_watched_from_its_first_frame(vpc: Vpc, pair, tmp_path: Path):
    a, b = pair
    watching = Watch(tmp_path / "watch", [b.address])
    vpc.router.attach(a.eni, a.namespace, watching)
    run(vpc.router_namespace, "ip", "link", "del", device(a.eni.id))
    vpc.router.attach(a.eni, a.namespace, watching)
    a.send_raw(ipv4(a.address, b.address, 6, bytes(20)))
    watched = watching.look()
    watching.close()
    assert counted(watched)[3] == 1
    assert watched.away == ()


def test_the_watch_keeps_no_router_alive_whose_name_is_gone(vpc: Vpc, pair, watching: Watch):
    namespace.delete(vpc.router_namespace)
    assert watching.look() is not None
    # The kernel takes a namespace down some time after the last of it is let go.
    assert eventually(lambda: "eth0" not in run(pair[0].namespace, "ip", "link"))
