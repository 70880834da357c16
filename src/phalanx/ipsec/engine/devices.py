"""The engine's two ends in its network namespace: the TUN device with its routes, and the raw ESP socket."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from phalanx.ipsec.engine.model import EngineError

OUTER_HEADER = 20
ESP_HEADER_AND_IV = 16
ICV = 16
TRAILER = 2
ALIGN = 4

SOCKET_BUFFER = 8 * 2**20
QUEUE_PACKETS = 1000

# linux/if_tun.h, linux/sockios.h, linux/in.h and asm/socket.h, as far as Python's modules do not have them.
_TUNSETIFF, _TUNSETPERSIST, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x400454CB, 0x0001, 0x1000
_SIOCGIFMTU = 0x8921
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO, _IP_XFRM_POLICY, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 10, 2, 17, 33, 32
_POLICY_IN, _POLICY_OUT = 0, 1


def inner_mtu(outer: int) -> int:
    """The largest inner packet, in bytes, that ESP in tunnel mode over IPv4 with AES-GCM-16 fits into `outer` bytes.

    What is left after outer header, ESP header, IV and ICV is whole words of inner packet, padding and trailer
    (RFC 4303 section 2.4): 8946 of 9001, 1446 of 1500.
    """
    sealed = outer - OUTER_HEADER - ESP_HEADER_AND_IV - ICV
    return sealed // ALIGN * ALIGN - TRAILER


def device_mtu(device: str) -> int:
    """An interface's MTU in bytes. Raises EngineError where there is no such interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFMTU, struct.pack("=16s16x", device.encode()))
        except OSError as error:
            raise EngineError(f"the engine's network device {device} cannot be read: {error.strerror}") from error
    return int(struct.unpack_from("=i", answer, 16)[0])


def open_tun(name: str) -> int:
    """A descriptor of the TUN device of that name, made where it is not there.

    The device outlives the engine: its routes stay, and what is sent to peers stays in it. Raises EngineError.
    """
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        fcntl.ioctl(tun, _TUNSETPERSIST, 1)
    except OSError as error:
        raise EngineError(f"the TUN device {name} cannot be made: {error.strerror}; is /dev/net/tun there?") from error
    return tun


def open_raw(device: str, address: str) -> socket.socket:
    """The raw socket for ESP between `address` and anybody through `device`. Raises EngineError.

    It alone may pass the kernel's XFRM policies, which block plaintext to peers (per-socket policy: IP_XFRM_POLICY).
    """
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        raw.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, SOCKET_BUFFER)
        raw.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SOCKET_BUFFER)
        for direction in (_POLICY_IN, _POLICY_OUT):
            raw.setsockopt(socket.IPPROTO_IP, _IP_XFRM_POLICY, _bypass(direction))
        raw.bind((address, 0))
    except OSError as error:
        raise EngineError(f"the raw ESP socket on {device} ({address}) cannot be opened: {error.strerror}") from error
    return raw


def _bypass(direction: int) -> bytes:
    """struct xfrm_userpolicy_info that allows everything: an empty IPv4 selector, no lifetimes."""
    selector = struct.pack("=40xH14x", socket.AF_INET)
    return selector + struct.pack("=4Q4Q32x", *[2**64 - 1] * 4, *[0] * 4) + struct.pack("=IIBBBB4x", 0, 0, direction, 0, 0, 0)


def configure(tun: str, address: str, peers: Sequence[str], mtu: int, device: str) -> None:
    """Brings the TUN up, with routes to the peers in the main table whose source is the instance's address.

    The address itself stays on `device` alone: an IKE daemon that looks for the device of its address must find that one.
    The kernel's XFRM policies do not apply to what passes the TUN (disable_xfrm, disable_policy): there they would block the
    very traffic that becomes ESP. Reverse-path filters must not see IKE and ESP of a peer come from another device than the
    route to it. Idempotent, and routes are only ever replaced: a peer never has another route for a moment. Raises EngineError.
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
    ipv6 = Path("/proc/sys/net/ipv6/conf") / tun
    if ipv6.is_dir():
        _write(ipv6 / "disable_ipv6", 1)
    commands = [
        f"link set dev {tun} mtu {mtu} txqueuelen {QUEUE_PACKETS} up",
        *(f"route replace {peer}/32 dev {tun} src {address}" for peer in peers),
    ]
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"the TUN device {tun} cannot be configured: {done.stderr.strip()}")


def _write(path: Path, value: int) -> None:
    try:
        if path.read_text().strip() != str(value):
            path.write_text(f"{value}\n")
    except OSError as error:
        raise EngineError(f"{path} cannot be set to {value}: {error.strerror}") from error
