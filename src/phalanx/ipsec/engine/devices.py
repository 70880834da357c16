"""The engine's two ends in its network namespace: the TUN device with its routes, and the socket for ESP."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from phalanx.ipsec.engine.errors import EngineError

OUTER_HEADER = 20
UDP_HEADER = 8
ESP_HEADER_AND_IV = 16
ICV = 16
TRAILER = 2
ALIGN = 4

JUMBO = 8000
"""Outer MTU in bytes from which on ESP packets are longer than it, and travel in fragments (RFC 4303 section 3.3.4): to seal,
send, queue and wake costs as much for each packet, however long it is. With a smaller MTU there would be so many fragments that
the loss of one, with which all are lost, would tell."""
LONGEST = 65535
"""Bytes of the longest IPv4 packet."""
REASSEMBLY_SECONDS, REASSEMBLY_BYTES = 2, 32 * 2**20
"""How long the kernel waits for the rest of a packet, less than senders take to come to its identification again (16 bits, RFC
4963), and the memory for packets of which some is missing; one takes 140 KB of it."""
ONE_PIECE = 16384
"""Bytes of a packet up to which outer headers are the engine's to write. A packet that comes with its header lies in one piece
of the kernel's memory, of 128 KiB if need be; to longer ones the kernel adds the header, and takes them in pages."""
SOCKET_BUFFER = 8 * 2**20
QUEUE_PACKETS = 1000

# linux/if_tun.h, linux/sockios.h, linux/in.h and asm/socket.h, as far as Python's modules do not have them.
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454CB, 0x400454D0, 0x400454D8
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_CSUM, _TSO4, _TSO6, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x20, 0x40
_VNET_HEADER = 10
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_IP_XFRM_POLICY, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 17, 33, 32
_IP_MTU_DISCOVER, _IP_PMTUDISC_WANT, _IP_PMTUDISC_DO = 10, 1, 2
_POLICY_IN, _POLICY_OUT = 0, 1
_UDP_GRO = 104


def inner_mtu(outer: int, udp: bool = False) -> int:
    """The largest inner packet, in bytes, that ESP in tunnel mode over IPv4 with AES-GCM-16 fits into `outer` bytes.

    What is left after outer header, ESP header, IV and ICV is whole words of inner packet, padding and trailer
    (RFC 4303 section 2.4): 8946 of 9001, 1446 of 1500; with the UDP header of RFC 3948 8938 and 1438.
    """
    sealed = outer - OUTER_HEADER - (UDP_HEADER if udp else 0) - ESP_HEADER_AND_IV - ICV
    return sealed // ALIGN * ALIGN - TRAILER


def packet_size(mtu: int) -> int:
    """The longest ESP packet, in bytes with its outer header, that is sent through a device of this MTU as IP protocol 50."""
    return LONGEST if mtu >= JUMBO else mtu


def sealed_size(inner: int) -> int:
    """Bytes of the ESP packet, with its outer header, that carries an inner packet of so many."""
    return OUTER_HEADER + ESP_HEADER_AND_IV + -(-(inner + TRAILER) // ALIGN) * ALIGN + ICV


def device_mtu(device: str) -> int:
    """An interface's MTU in bytes. Raises EngineError where there is no such interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFMTU, struct.pack("=16s16x", device.encode()))
        except OSError as error:
            raise EngineError(f"the engine's network device {device} cannot be read: {error.strerror}") from error
    return int(struct.unpack_from("=i", answer, 16)[0])


def set_mtu(device: str, mtu: int) -> None:
    """Gives an interface an MTU in bytes. Raises EngineError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        try:
            fcntl.ioctl(plug, _SIOCSIFMTU, struct.pack("=16si12x", device.encode(), mtu))  # struct ifreq
        except OSError as error:
            raise EngineError(f"the MTU of {device} cannot be set to {mtu}: {error.strerror}") from error


def open_tun(name: str) -> tuple[int, bool]:
    """A descriptor of the TUN device of that name, made where it is not there, and whether it bundles UDP (USO, Linux 6.2).

    It hands over and takes up to 64 KiB of a stream at once (TSO), with a struct virtio_net_hdr before it. The device
    outlives the engine: its routes stay, and what is sent to peers stays in it. Raises EngineError.
    """
    tun = -1
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), flags))
        fcntl.ioctl(tun, _TUNSETVNETHDRSZ, struct.pack("=i", _VNET_HEADER))
        fcntl.ioctl(tun, _TUNSETPERSIST, 1)
        try:
            fcntl.ioctl(tun, _TUNSETOFFLOAD, _CSUM | _TSO4 | _TSO6 | _USO4 | _USO6)
        except OSError:
            fcntl.ioctl(tun, _TUNSETOFFLOAD, _CSUM | _TSO4 | _TSO6)
            return tun, False
    except OSError as error:
        if tun >= 0:
            os.close(tun)
        raise EngineError(f"the TUN device {name} cannot be made: {error.strerror}; is /dev/net/tun there?") from error
    return tun, True


def open_raw(device: str, address: str, longest: int) -> socket.socket:
    """The raw socket for ESP packets of `longest` bytes at most between `address` and anybody through `device`. Raises
    EngineError."""
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP)
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, longest <= ONE_PIECE)
        _set_up(raw, device, fragments=longest > device_mtu(device))
        raw.bind((address, 0))
    except OSError as error:
        raise EngineError(f"the raw ESP socket on {device} ({address}) cannot be opened: {error.strerror}") from error
    return raw


def open_udp(device: str, address: str, port: int) -> socket.socket:
    """The UDP socket for ESP (RFC 3948) between `address` and anybody through `device`, same port. Raises EngineError."""
    try:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        _set_up(udp, device, fragments=False)
        udp.bind((address, port))
    except OSError as error:
        raise EngineError(f"UDP port {port} on {device} ({address}) cannot be opened for ESP: {error.strerror}") from error
    return udp


def _set_up(sock: socket.socket, device: str, *, fragments: bool) -> None:
    """To the device, with room for bursts; what fits the path has DF set, and what does not is refused where there are no
    `fragments`.

    This socket alone may pass the kernel's XFRM policies, which block plaintext to peers (per-socket policy: IP_XFRM_POLICY).
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_WANT if fragments else _IP_PMTUDISC_DO)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, SOCKET_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SOCKET_BUFFER)
    for direction in (_POLICY_IN, _POLICY_OUT):
        sock.setsockopt(socket.IPPROTO_IP, _IP_XFRM_POLICY, _bypass(direction))


def _bypass(direction: int) -> bytes:
    """struct xfrm_userpolicy_info that allows everything: an empty IPv4 selector, no lifetimes."""
    selector = struct.pack("=40xH14x", socket.AF_INET)
    return selector + struct.pack("=4Q4Q32x", *[2**64 - 1] * 4, *[0] * 4) + struct.pack("=IIBBBB4x", 0, 0, direction, 0, 0, 0)


def configure(tun: str, address: str, peers: Sequence[str], mtu: int, device: str) -> None:
    """Brings the TUN up, with routes to the peers in the main table whose source is the instance's address.

    The address itself stays on `device` alone: an IKE daemon that looks for the device of its address must find that one.
    The kernel's XFRM policies do not apply to what passes the TUN (disable_xfrm, disable_policy): there they would block the
    very traffic that becomes ESP. TCP has the congestion control that it has on the way by `device`. Reverse-path filters must
    not see IKE and ESP of a peer come from another device than the route to it. Idempotent, and routes are only ever replaced:
    a peer never has another route for a moment. Raises EngineError.
    """
    ipv4 = Path("/proc/sys/net/ipv4/conf")
    for name, key, value in (
        (tun, "disable_xfrm", 1),
        (tun, "disable_policy", 1),
        (tun, "rp_filter", 0),
        (tun, "ignore_routes_with_linkdown", 0),
        (device, "rp_filter", 0),
        ("all", "rp_filter", 0),
        ("all", "ignore_routes_with_linkdown", 0),
    ):
        _write(ipv4 / name / key, value)
    for key, value in (("ipfrag_time", REASSEMBLY_SECONDS), ("ipfrag_high_thresh", REASSEMBLY_BYTES)):
        _write(Path("/proc/sys/net/ipv4") / key, value)
    ipv6 = Path("/proc/sys/net/ipv6/conf") / tun
    if ipv6.is_dir():
        _write(ipv6 / "disable_ipv6", 1)
    congestion = _congestion(device)
    commands = [
        f"link set dev {tun} mtu {mtu} txqueuelen {QUEUE_PACKETS} up",
        *(f"route replace {peer}/32 dev {tun} src {address}{congestion}" for peer in peers),
    ]
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"the TUN device {tun} cannot be configured: {done.stderr.strip()}")


def _congestion(device: str) -> str:
    """The words of iproute2's for the congestion control of the default route by a device; none where it has the host's."""
    shown = subprocess.run(["ip", "route", "show", "default", "dev", device], capture_output=True, text=True, check=False)
    found = re.search(r" congctl \w+", shown.stdout)
    return found[0] if found else ""


def _write(path: Path, value: int) -> None:
    try:
        if path.read_text().strip() != str(value):
            path.write_text(f"{value}\n")
    except OSError as error:
        raise EngineError(f"{path} cannot be set to {value}: {error.strerror}") from error
