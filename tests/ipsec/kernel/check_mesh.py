"""In the virtual machine: the kernel's own ESP on both sides. The tests are one mesh's life, in its order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ipsec.lab import PORT, Capture, Host, Wire, begin_of_ike, eventually, wired
from phalanx.ipsec import guard, probe
from phalanx.ipsec.model import MeshSpec
from phalanx.ipsec.xfrm import Xfrm


@dataclass
class Mesh:
    """Two hosts, what crosses between them, and the job's credentials."""

    wire: Wire
    capture: Capture
    specs: dict[str, MeshSpec]

    @property
    def hosts(self) -> tuple[Host, Host]:
        one, two = self.wire.hosts
        return one, two


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with wired() as wire:
        capture = wire.capture()
        yield Mesh(wire, capture, wire.mesh(connect=False, planes=("kernel", "kernel")))


def refuses(sender: Host, to: Host) -> None:
    """The sender's kernel lets no datagram out."""
    for device in (None, "eth0"):
        with sender.open(device) as opened, pytest.raises(PermissionError):
            opened.sendto(b"secret", (to.address, PORT))


def test_the_probe_takes_the_kernel() -> None:
    capabilities = probe.probe()
    assert capabilities.missing("guard", "ike", "kernel", "engine") == ()
    assert probe.choose(capabilities) == "kernel"


def test_before_there_is_an_sa_nothing_passes(mesh: Mesh) -> None:
    one, two = mesh.hosts
    refuses(one, two)
    refuses(two, one)
    assert mesh.capture.packets() == []
    for host in mesh.hosts:
        report = host.member.measure()
        assert (report.data_plane, report.plaintext_blocked_out, report.plaintext_blocked_in) == ("kernel", 2, 0)


def test_esp_carries_and_counts(mesh: Mesh) -> None:
    one, two = mesh.hosts
    one.member.connect(timeout=20)
    for number in range(50):
        one.send(two, b"secret %02d" % number)
        assert two.receive() == b"secret %02d" % number
    for _ in range(20):
        two.send(one, bytes(1000))
        one.receive()
    assert mesh.capture.plaintext() == []
    (pair,), (mirror,) = one.member.measure().pairs, two.member.measure().pairs
    assert (pair.packets_out, pair.bytes_out) == (mirror.packets_in, mirror.bytes_in) == (50, 50 * (20 + 8 + 9))
    assert (pair.packets_in, pair.bytes_in) == (mirror.packets_out, mirror.bytes_out) == (20, 20 * 1028)
    assert (pair.spi_in, pair.spi_out) == (mirror.spi_out, mirror.spi_in)
    assert (pair.established, pair.algorithm, pair.key_bits, pair.esn, pair.ppk) == (True, "AES_GCM_16", 256, True, True)
    assert pair.local_certificate == mirror.remote_certificate == mesh.specs["algo-1"].fingerprint
    assert pair.remote_certificate == mirror.local_certificate == mesh.specs["algo-2"].fingerprint


def test_rekeying_by_either_side_loses_nothing(mesh: Mesh) -> None:
    one, two = mesh.hosts
    before = one.member.measure().pairs[0]
    spis, sent = {before.spi_out}, 0
    for host, peer in ((one, "algo-2"), (two, "algo-1")):
        host.rekey(peer)
        while (spi := one.member.measure().pairs[0].spi_out) in spis:
            assert one.reaches(two)
            sent += 1
        spis.add(spi)
    pair, mirror = one.member.measure().pairs[0], two.member.measure().pairs[0]
    assert (pair.rekeys, mirror.rekeys) == (2, 2)
    assert (pair.packets_out, pair.packets_in) == (mirror.packets_in, mirror.packets_out)
    assert (pair.packets_out, pair.packets_in) == (before.packets_out + sent, before.packets_in + sent)
    assert one.reaches(two, os.urandom(30000))
    assert [host.member.measure().drops for host in mesh.hosts] == [{}, {}]
    assert mesh.capture.plaintext() == []


def test_a_peers_daemon_repeats_nothing_that_a_container_says(mesh: Mesh) -> None:
    """The kernel gives what came out of a tunnel to no socket whose own policy asks for none."""
    one, two = mesh.hosts
    before = one.member.measure().pairs[0].packets_in
    with two.open() as program:
        program.bind(("0.0.0.0", 40000))
        for port, marker in ((500, b""), (501, bytes(4))):
            program.sendto(marker + begin_of_ike(b"SECRET!!"), (one.address, port))
    assert two.reaches(one)
    packets = mesh.capture.packets()
    assert packets
    assert all(packet.protocol == 50 or packet.ports == (500, 500) for packet in packets)
    assert one.member.measure().pairs[0].packets_in == before + 3, "they came, through the tunnel"


def test_a_killed_charon_stops_traffic_until_recovery(mesh: Mesh) -> None:
    one, two = mesh.hosts
    before = one.member.measure().pairs[0]
    os.kill(one.member._charon.pid(), signal.SIGKILL)
    assert eventually(lambda: not one.reaches(two, seconds=0.2))
    assert one.member.health() == "charon is dead"
    refuses(one, two)
    two.send(one)  # which it takes for alive: as ESP, into nothing
    one.member.recover(timeout=20)
    assert one.member.health() is None
    assert eventually(lambda: one.reaches(two, os.urandom(8), 0.5))
    assert mesh.capture.plaintext() == []
    after = one.member.measure().pairs[0]
    assert after.packets_out > before.packets_out
    assert after.rekeys > before.rekeys


def test_after_the_last_daemon_the_guard_stands_and_goes_without_a_trace(mesh: Mesh) -> None:
    one, two = mesh.hosts
    one.member.stop()
    assert eventually(lambda: two.member.established() == frozenset())
    mesh.capture.packets()
    refuses(one, two)
    refuses(two, one)
    assert mesh.capture.packets() == []
    two.member.stop()
    for host, peer in ((one, two), (two, one)):
        assert guard.check(host.space, [peer.address], "eth0") is None
        guard.down(host.space, [peer.address])
        assert host.processes() == []
        with Xfrm.kernel(host.space) as tables:
            assert (tables.states(), tables.policies()) == ([], [])
    mesh.capture.packets()
    assert one.reaches(two, b"in the clear")
    assert {packet.ports for packet in mesh.capture.packets()} == {(PORT, PORT)}
