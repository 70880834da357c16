"""Named network namespaces under /run/netns, as `ip netns` makes them."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from phalanx.network.errors import NetworkError

DIRECTORY = Path("/run/netns")
"""Where `ip netns` keeps its names: one file per namespace, with the namespace bind-mounted on it (ip-netns(8))."""

_CLONE_NEWNET = 0x40000000
_MNT_DETACH = 2
_HOST_SCOPE = 254  # RT_SCOPE_HOST, linux/rtnetlink.h
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")

_libc = ctypes.CDLL(None, use_errno=True)
_lock = threading.Lock()

REASSEMBLY_SECONDS, REASSEMBLY_BYTES = "2", str(64 * 2**20)
"""How long the rest of a packet is waited for, less than senders take to come to its identification again (16 bits, RFC 4963),
and the memory for packets of which some is missing: routers reassemble what their rules are to see."""


_CUBIC = "cubic"
_AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


def create(name: str) -> None:
    """Make a namespace with `lo` up, IPv6 off and, where the host allows it, CUBIC for TCP; idempotent, also after a half.

    Where the host keeps that to itself, routes can have it: see `congestion`.

    Raises NetworkError.
    """
    with _lock:
        if not exists(name):
            # Left by a kill between the file's creation and the mount.
            _file(name).unlink(missing_ok=True)
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if made.returncode != 0:
                raise NetworkError(f"cannot create network namespace {name}: {made.stderr.strip()}; this needs root")
    with entered(name):
        # A kernel without IPv6 has nothing to switch off.
        if Path("/proc/sys/net/ipv6").exists():
            sysctl("net/ipv6/conf/all/disable_ipv6", "1")
            sysctl("net/ipv6/conf/default/disable_ipv6", "1")
        # The kernel's own 30 s and 4 MiB are for the internet: what is lost here would be in the way of what comes after it.
        sysctl("net/ipv4/ipfrag_time", REASSEMBLY_SECONDS)
        sysctl("net/ipv4/ipfrag_high_thresh", REASSEMBLY_BYTES)
        _prefer_cubic()
        with IPRoute() as netlink:
            netlink.link("set", index=1, state="up")


def own(name: str, address: str) -> None:
    """Give a namespace an address on `lo`, that it alone can reach and that no packets to others come from. Idempotent.

    Raises NetworkError.
    """
    with entered(name), IPRoute() as netlink:
        try:
            netlink.addr("replace", index=1, address=address, prefixlen=32, scope=_HOST_SCOPE)
        except NetlinkError as error:
            raise NetworkError(f"cannot give network namespace {name} the address {address}: {error}") from error


def delete(name: str) -> None:
    """Take a namespace's name away; it ends, with all its interfaces, when its last process has. Idempotent.

    Raises NetworkError.
    """
    file = _file(name)
    with _lock:
        # More than one mount can lie on the name where two programs made it at the same time.
        while exists(name):
            if _libc.umount2(os.fsencode(file), _MNT_DETACH) != 0:
                raise NetworkError(f"cannot unmount network namespace {name}: {os.strerror(ctypes.get_errno())}")
        # Unlinking also detaches the copies of the mount in other mount namespaces (mount_namespaces(7)).
        file.unlink(missing_ok=True)


def exists(name: str) -> bool:
    """Whether the name leads to a namespace (a half-made one, a plain file, does not)."""
    try:
        return os.stat(_file(name)).st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False


def path(name: str) -> str:
    """The file by which others join the namespace (setns(2), the OCI runtime's `path`)."""
    return str(_file(name))


def listing(prefix: str) -> list[str]:
    """Names that begin with `prefix`, sorted; half-made ones too, so that a sweep finds them."""
    if not DIRECTORY.exists():
        return []
    return sorted(file.name for file in DIRECTORY.iterdir() if file.name.startswith(prefix))


def processes(name: str) -> set[int]:
    """Ids of all processes in a namespace, but never the caller's own: its threads only visit. Empty if there is none."""
    try:
        wanted = os.stat(_file(name))
    except FileNotFoundError:
        return set()
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            # A process that has just ended, or is a zombie, has no namespace.
            with suppress(OSError):
                at = os.stat(f"/proc/{entry.name}/ns/net")
                if (at.st_dev, at.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.add(int(entry.name))
    return found


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Run the body with this thread in the namespace, and with it the processes, sockets and threads that it makes.

    Other threads stay where they are (setns(2)); those started in the body never leave it. The body must not hand over to
    another coroutine. Raises NetworkError where there is no such namespace.
    """
    if not exists(name):
        raise NetworkError(f"there is no network namespace {name}: create it first")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(_file(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there, name)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home, "this thread's own")
    finally:
        os.close(home)


def sysctl(key: str, value: str) -> None:
    """Set a kernel parameter of the namespace the thread is in; `key` is its path under /proc/sys. Raises NetworkError."""
    try:
        Path("/proc/sys", key).write_text(value)
    except OSError as error:
        raise NetworkError(f"cannot set {key} to {value}: {error}; /proc/sys must be writable") from error


def congestion() -> dict[str, str]:
    """What a route needs for CUBIC, as metrics of pyroute2: RTAX_CC_ALGO of linux/rtnetlink.h, which no list bounds.

    Nothing where the kernel has no CUBIC: TCP is the host's choice there.
    """
    return {"cc_algo": _CUBIC} if _CUBIC in _AVAILABLE.read_text().split() else {}


def _prefer_cubic() -> None:
    # As instances of EC2 have it. A host's own choice may be BBR, which spreads a burst over the time that it believes a
    # way to need: between instances that exchange gradients and then compute, that is a guess, and costs timers.
    try:
        sysctl("net/ipv4/tcp_congestion_control", _CUBIC)
    except NetworkError as error:
        # A kernel without it, or a host that keeps it to itself (tcp_allowed_congestion_control).
        if not isinstance(error.__cause__, FileNotFoundError | PermissionError):
            raise


def _file(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name for a network namespace: {name!r}")
    return DIRECTORY / name


def _setns(descriptor: int, name: str) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        hint = "; this needs root (CAP_SYS_ADMIN)" if code == errno.EPERM else ""
        raise NetworkError(f"cannot enter network namespace {name}: {os.strerror(code)}{hint}")
