"""Ethernet frames: what is in one, and sockets that are given those of a network namespace (packet(7))."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from ipaddress import ip_address

SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/if_packet.h
_PACKET_IGNORE_OUTGOING = 23
_SO_ATTACH_FILTER = 26
ETH_P_ALL, ETH_P_IP = 0x0003, 0x0800
_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD

_PORTS = struct.Struct(">HH")
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 51: "AH"}
_IPSEC_PORTS = {500: "UDP 500", 4500: "UDP 4500"}

Instruction = tuple[int, int, int, int]
"""Of classic BPF (linux/filter.h): code, how many to skip where a comparison holds, where it does not, operand."""


def keep(count: int) -> Instruction:
    """The end of a program: the frame is given, `count` bytes of it at most; with 0 it is not."""
    return 0x06, 0, 0, count


def packet_socket(program: Sequence[Instruction]) -> socket.socket:
    """A socket of the namespace that the thread is in, for incoming frames as the program gives them.

    It hears nothing until it is bound. Raises OSError.
    """
    # Protocol 0: nothing arrives before it is all set up.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        made.setsockopt(SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)  # struct sock_filter
        buffer = (ctypes.c_char * len(code)).from_buffer_copy(code)
        made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(buffer)))
    except BaseException:
        made.close()
        raise
    return made


def classify(frame: bytes) -> tuple[bytes, bytes, str]:
    """Source, destination (raw IPv4 or IPv6 addresses, or empty) and kind (see capture.Flow) of a frame's beginning."""
    ethertype = int.from_bytes(frame[12:14])
    if ethertype == ETH_P_IP and len(frame) >= 34:
        protocol = frame[23]
        kind = _PROTOCOLS.get(protocol) or f"protocol {protocol}"
        if frame[20] & 0x3F or frame[21]:
            # More fragments follow, or an offset: only the first one shows ports, and none is a whole packet.
            kind = f"fragment of {kind}"
        elif protocol == socket.IPPROTO_UDP:
            header = 14 + (frame[14] & 0x0F) * 4
            if len(frame) >= header + 4:
                source, destination = _PORTS.unpack_from(frame, header)
                if source == destination:
                    kind = _IPSEC_PORTS.get(source, kind)
        return frame[26:30], frame[30:34], kind
    if ethertype == _ETH_P_IPV6 and len(frame) >= 54:
        return frame[22:38], frame[38:54], "IPv6"
    if ethertype == _ETH_P_ARP and len(frame) >= 42:
        return frame[28:32], frame[38:42], "ARP"
    return b"", b"", f"EtherType 0x{ethertype:04x}"


def text(address: bytes) -> str:
    """An IPv4 or IPv6 address as people write it; nothing for no address."""
    return str(ip_address(address)) if address else ""
