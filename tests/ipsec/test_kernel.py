"""The kernel as data plane, as far as it shows on a kernel without ESP: its ledger, its cleaning up, its failing closed."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import struct
import subprocess

import pytest

from ipsec.lab import Host, Wire, eventually, run
from phalanx.ipsec import guard, ledger, netns, xfrm
from phalanx.ipsec.engine import devices
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.kernel import LONGEST, KernelPlane
from phalanx.ipsec.ledger import Ledger
from phalanx.ipsec.member import Member
from phalanx.ipsec.plane import Totals
from phalanx.network.model import HOST_MTU

ME, PEER, OTHER = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def sa(source: str, destination: str, size: int = 0, packets: int = 0, protocol: int = 50) -> bytes:
    """struct xfrm_usersa_info, as the kernel fills it (offsets of linux/xfrm.h, written down apart from the code's)."""
    info = bytearray(224)
    info[56:60] = socket.inet_aton(destination)
    info[72:76] = b"\0\0\1\0"
    info[76] = protocol
    info[80:84] = socket.inet_aton(source)
    struct.pack_into("=QQ", info, 160, size, packets)
    struct.pack_into("=H", info, 212, socket.AF_INET)
    info[216] = 0xA0
    return bytes(info)


def aead(name: bytes = b"rfc4106(gcm(aes))", bits: int = 288, icv: int = 128) -> bytes:
    value = struct.pack("=64sII", name, bits, icv) + bytes(bits // 8)
    return struct.pack("=HH", 4 + len(value), 18) + value


def deleted(state: bytes) -> bytes:
    return bytes(24) + struct.pack("=HH", 4 + len(state), 6) + state + aead()


def test_the_ledger_adds_up_what_is_gone() -> None:
    book = Ledger(ME, {PEER: Totals(packets_out=2, installed=1)})
    book.note(xfrm.NEWSA, sa(ME, PEER) + aead())
    book.note(xfrm.NEWSA, sa(ME, OTHER) + aead())
    book.note(xfrm.NEWSA, sa(ME, PEER) + aead())
    book.note(26, sa(PEER, ME) + aead())
    book.note(xfrm.DELSA, deleted(sa(ME, PEER, size=1000, packets=10)))
    book.note(xfrm.DELSA, deleted(sa(PEER, ME, size=70, packets=7)))
    book.note(xfrm.EXPIRE, sa(ME, PEER, size=500, packets=5) + b"\1" + bytes(7))
    book.note(xfrm.EXPIRE, sa(ME, PEER, size=9, packets=9) + b"\0" + bytes(7))
    book.note(xfrm.DELSA, deleted(sa(ME, PEER, size=1, packets=1, protocol=51)))
    assert book.totals == {
        PEER: Totals(packets_out=17, bytes_out=1500, packets_in=7, bytes_in=70, installed=3),
        OTHER: Totals(installed=1),
    }


def test_a_state_is_read_as_the_kernel_writes_it() -> None:
    state = xfrm.parse_state(sa(ME, PEER, 5, 6) + aead())
    assert state is not None
    assert (state.source, state.destination, state.spi, state.bytes, state.packets) == (ME, PEER, 0x100, 5, 6)
    assert (state.algorithm, state.key_bits, state.icv_bits, state.esn) == ("rfc4106(gcm(aes))", 288, 128, True)
    assert xfrm.parse_state(sa(ME, PEER, protocol=51)) is None


@pytest.fixture
def plane(wire: Wire) -> KernelPlane:
    one, _ = wire.hosts
    made = KernelPlane(one.space, one.rundir, one.address, "eth0")
    made.start()
    return made


def test_packets_lie_in_a_piece_of_memory_that_there_always_is(wire: Wire, plane: KernelPlane) -> None:
    one, two = wire.hosts

    def mtu(host: Host) -> int:
        return netns.inside(host.space, lambda: devices.device_mtu("eth0"))

    assert (mtu(one), mtu(two)) == (LONGEST, HOST_MTU)
    run("ip", "-n", one.space, "link", "set", "eth0", "mtu", "9001")
    plane.start()
    assert mtu(one) == 9001


def test_the_ledger_runs_dies_and_is_started_again(wire: Wire, plane: KernelPlane) -> None:
    one, _ = wire.hosts
    assert plane.health() is None
    (pid,) = one.processes()
    plane.start()
    assert one.processes() == [pid]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: plane.health() is not None)
    assert "ledger" in plane.health()
    plane.start()
    assert plane.health() is None
    plane.stop()
    assert one.processes() == []
    assert {path.name for path in one.rundir.iterdir()} == {"ledger.log"}
    with pytest.raises(MeshError):
        plane.measure()


def test_the_ledger_ends_though_somebody_took_its_namespaces_name_away(wire: Wire, plane: KernelPlane) -> None:
    one, _ = wire.hosts
    (pid,) = one.processes()
    run("ip", "netns", "del", one.space)
    try:
        plane.stop()
        assert eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    finally:
        run("ip", "netns", "add", one.space)


def test_the_ledger_hears_the_kernel(wire: Wire, plane: KernelPlane) -> None:
    """An SPI that was only reserved is the one kind of SA that a kernel without ESP can delete."""
    one, two = wire.hosts
    ip = ("ip", "-n", one.space, "xfrm", "state")
    ends = ("src", two.address, "dst", one.address, "proto", "esp")
    run(*ip, "allocspi", *ends, "mode", "tunnel", "min", "0x100", "max", "0x100")
    assert plane.measure().associations == ()
    run(*ip, "delete", *ends, "spi", "0x100")
    assert eventually(lambda: ledger.read(one.rundir) == {two.address: Totals()})
    # What one that dies has heard is known to the next, and to the one after that.
    for _ in range(2):
        (pid,) = one.processes()
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: plane.health() is not None)
        plane.start()
        assert plane.measure().totals == {two.address: Totals()}


def test_cleaning_up_spares_the_guard(wire: Wire, plane: KernelPlane) -> None:
    one, two = wire.hosts
    guard.up(one.space, [two.address], "eth0")
    template = ("tmpl", "src", one.address, "dst", two.address, "proto", "esp", "mode", "tunnel")
    selector = ("src", f"{one.address}/32", "dst", f"{two.address}/32", "dir", "out", "priority", "367231")
    run("ip", "-n", one.space, "xfrm", "policy", "add", *selector, *template)
    run(
        *("ip", "-n", one.space, "xfrm", "state", "allocspi", "src", two.address, "dst", one.address, "proto", "esp"),
        *("mode", "tunnel", "min", "0x100", "max", "0x100"),
    )
    assert plane.measure().flows == {(one.address, two.address)}
    plane.clear()
    assert plane.measure().flows == frozenset()
    with xfrm.Xfrm.kernel(one.space) as tables:
        assert tables.states() == []
    assert guard.check(one.space, [two.address], "eth0") is None
    assert not one.reaches(two, seconds=0.1)


def test_the_guard_yields_to_a_policy_with_esp_and_nothing_leaves_without_an_sa(wire: Wire) -> None:
    one, two = wire.hosts
    guard.up(one.space, [two.address], "eth0")
    template = ("tmpl", "src", one.address, "dst", two.address, "proto", "esp", "mode", "tunnel")
    selector = ("src", f"{one.address}/32", "dst", f"{two.address}/32", "dir", "out", "priority", "367231")
    run("ip", "-n", one.space, "xfrm", "policy", "add", *selector, *template)
    capture = wire.capture()
    one.socket.setblocking(False)
    one.reaches(two, seconds=0.1)
    assert capture.packets() == []
    statistics = netns.xfrm_statistics(one.space)
    assert (statistics["XfrmOutNoStates"], statistics["XfrmOutPolBlock"]) == (1, 0)


def has_esp(host: Host) -> bool:
    ends = ("src", host.address, "dst", "192.0.2.1", "proto", "esp", "spi", "0x100")
    key = ("mode", "tunnel", "aead", "rfc4106(gcm(aes))", f"0x{'00' * 36}", "128")
    add = ("ip", "-n", host.space, "xfrm", "state")
    if subprocess.run([*add, "add", *ends, *key], capture_output=True, check=False).returncode != 0:
        return False
    run(*add, "delete", *ends)
    return True


def test_a_mesh_on_the_kernel_stands_or_fails_closed(wire: Wire) -> None:
    one, two = wire.hosts
    capture = wire.capture()
    esp = has_esp(one)
    specs = wire.specs()
    for host in wire.hosts:
        host.member = Member(specs[host.name], host.space, host.rundir, "kernel")
        host.member.guard()
    for host in wire.hosts:
        host.member.start()
    if esp:
        one.member.connect(timeout=10)
        assert one.reaches(two)
        (pair,) = one.member.measure().pairs
        assert (pair.packets_out, pair.packets_in, pair.key_bits, pair.esn) == (1, 1, 256, True)
    else:
        with pytest.raises(MeshError, match="algo-1 to algo-2: "):
            one.member.connect(timeout=1)
        assert one.member.established() == frozenset()
        assert not one.reaches(two, seconds=0.1)
    assert capture.plaintext() == []
    for host in wire.hosts:
        host.member.stop()
        assert host.processes() == []


def test_policies_are_read_back_as_they_were_put(wire: Wire) -> None:
    one, _ = wire.hosts
    network = ipaddress.ip_network
    wanted = [
        xfrm.Policy("out", network("10.0.0.0/8"), network("192.0.2.7/32"), "block", 7),
        xfrm.Policy("in", network("192.0.2.7/32"), network("0.0.0.0/0"), "allow", 2**31),
        xfrm.Policy("fwd", network("fd00::/8"), network("::/0"), "block", 9),
    ]
    with xfrm.Xfrm.kernel(one.space) as tables:
        for policy in wanted:
            tables.put(policy)
        assert sorted(map(repr, tables.policies())) == sorted(map(repr, wanted))
        for policy in wanted:
            tables.remove(policy)
            tables.remove(policy)
        assert tables.policies() == []
