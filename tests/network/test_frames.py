"""What is in a frame, told by its beginning."""

from __future__ import annotations

import socket
import struct

import pytest

from network.lab import ipv4
from phalanx.network.frames import classify

A, B = socket.inet_aton("10.0.0.4"), socket.inet_aton("10.0.0.5")


def _udp(source: int, destination: int) -> bytes:
    return struct.pack("!HHHH", source, destination, 8, 0)


@pytest.mark.parametrize(
    ("ethertype", "packet", "expected"),
    [
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 50, bytes(8)), (A, B, "ESP")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 17, _udp(500, 500)), (A, B, "UDP 500")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 17, _udp(4500, 4500)), (A, B, "UDP 4500")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 17, _udp(500, 4500)), (A, B, "UDP")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 17, b""), (A, B, "UDP")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 6, bytes(20)), (A, B, "TCP")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 1, bytes(8)), (A, B, "ICMP")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 132, bytes(8)), (A, B, "protocol 132")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 50, bytes(8), fragment=0x2000), (A, B, "fragment of ESP")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 17, _udp(500, 500), fragment=1), (A, B, "fragment of UDP")),
        (0x0800, ipv4("10.0.0.4", "10.0.0.5", 17, _udp(500, 500), fragment=0x4000), (A, B, "UDP 500")),
        (0x0806, bytes(14) + A + bytes(6) + B, (A, B, "ARP")),
        (0x86DD, bytes(8) + bytes(15) + b"\1" + bytes(15) + b"\2", (bytes(15) + b"\1", bytes(15) + b"\2", "IPv6")),
        (0x88CC, bytes(40), (b"", b"", "EtherType 0x88cc")),
        (0x0800, b"", (b"", b"", "EtherType 0x0800")),
    ],
)
def test_classify(ethertype: int, packet: bytes, expected: tuple[bytes, bytes, str]):
    assert classify(bytes(12) + ethertype.to_bytes(2) + packet) == expected


def test_classify_finds_ports_behind_options():
    packet = bytearray(ipv4("10.0.0.4", "10.0.0.5", 17, bytes(8) + _udp(500, 500)))
    packet[0] = 0x47
    assert classify(bytes(12) + b"\x08\x00" + bytes(packet))[2] == "UDP 500"
