"""In the virtual machine: the kernel's ESP on one side, the engine's on the other."""

from __future__ import annotations

import hashlib
import os
import socket
import threading

import pytest

from ipsec.lab import Host, Wire, eventually, run
from phalanx.ipsec import netns
from phalanx.ipsec.engine.devices import inner_mtu
from phalanx.ipsec.kernel import LONGEST
from phalanx.network.model import ENI_MTU

STREAM = 256 << 10
HEADERS = 52
LARGEST = inner_mtu(LONGEST) - 28
"""Bytes of the largest datagram that is no fragments."""
EITHER = pytest.mark.parametrize("planes", [("kernel", "engine"), ("engine", "kernel")], ids="-".join)


def digest_of_stream(one: Host, two: Host, size: int) -> tuple[str, str]:
    """SHA-256 of what a TCP connection was given, and of what came out of it."""
    data, received = os.urandom(size), hashlib.sha256()
    listener = netns.inside(two.space, lambda: socket.create_server((two.address, 5201)))
    client = netns.inside(one.space, lambda: socket.create_connection((two.address, 5201), 20))

    def send() -> None:
        with client:
            client.sendall(data)

    sender = threading.Thread(target=send)
    with listener:
        stream, _ = listener.accept()
        with stream:
            sender.start()
            while part := stream.recv(1 << 20):
                received.update(part)
            sender.join()
    return hashlib.sha256(data).hexdigest(), received.hexdigest()


def agree(one: Host, two: Host) -> bool:
    """Whether both planes have counted the same packets and bytes.

    The kernel may count a bundle that it cuts later (GSO) as one packet: then the receiver has a header of 52 bytes more for
    each further segment, IPv4's 20 and TCP's 32. The engine counts what is on the wire.
    """
    (pair,), (mirror,) = one.member.measure().pairs, two.member.measure().pairs
    for sender, out, into in ((one, pair, mirror), (two, mirror, pair)):
        more = into.packets_in - out.packets_out
        if more and (more < 0 or sender.member.measure().data_plane == "engine"):
            return False
        if into.bytes_in - out.bytes_out != more * HEADERS:
            return False
    return True


@EITHER
def test_the_planes_understand_each_other(wire: Wire, planes: tuple[str, str]) -> None:
    """Whichever begins: datagrams of all sizes and streams, both ways, while each of the two rekeys."""
    one, two = wire.hosts
    for host in wire.hosts:
        # A host's own, and that between hosts; a veth takes no packet that is longer than its other end's.
        run("ip", "-n", host.space, "link", "set", "eth0", "mtu", str(LONGEST if planes[0] == "kernel" else ENI_MTU))
    capture = wire.capture()
    wire.mesh(planes=planes)
    assert [host.member.measure().data_plane for host in wire.hosts] == list(planes)
    for size in (0, 1, 1000, LARGEST, LARGEST + 1, 60000):
        assert one.reaches(two, os.urandom(size))
        assert two.reaches(one, os.urandom(size))
    spis = {one.member.measure().pairs[0].spi_out}
    for host, peer in ((one, "algo-2"), (two, "algo-1")):
        host.rekey(peer)
        while (spi := one.member.measure().pairs[0].spi_out) in spis:
            assert one.reaches(two)
        spis.add(spi)
    for sender, to in ((one, two), (two, one)):
        given, taken = digest_of_stream(sender, to, STREAM)
        assert taken == given

    (pair,), (mirror,) = one.member.measure().pairs, two.member.measure().pairs
    assert (pair.rekeys, mirror.rekeys) == (2, 2)
    assert (pair.spi_in, pair.spi_out) == (mirror.spi_out, mirror.spi_in)
    for seen in (pair, mirror):
        assert (seen.established, seen.algorithm, seen.key_bits, seen.esn, seen.ppk) == (True, "AES_GCM_16", 256, True, True)
    assert pair.bytes_out > STREAM < pair.bytes_in
    assert eventually(lambda: agree(one, two))  # TCP may have more to say of streams that have ended
    assert {name: count for host in wire.hosts for name, count in host.member.measure().drops.items() if count} == {}

    two.member.stop()
    assert eventually(lambda: one.member.established() == frozenset())
    assert not one.reaches(two, seconds=0.2)
    assert capture.plaintext() == []
