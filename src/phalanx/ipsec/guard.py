"""The instance's own guard: the kernel blocks every packet to and from a peer that did not come out of, or goes into, ESP.

XFRM `block` policies for each peer's /32, and for multicast and broadcast, which mean peers too, stand below everything that
an IKE daemon installs, so they decide exactly where no CHILD_SA does: with no daemon, with a dead one, between two SAs, and
on kernels without ESP. Only sockets with a policy of their own pass (IP_XFRM_POLICY; needs CAP_NET_ADMIN): charon's UDP 500
and the engine's raw ESP socket. Traffic to others is not touched: security groups decide on it. ARP and loopback are not
either (`lo` has disable_policy and disable_xfrm).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from phalanx.ipsec import netns, routing
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.xfrm import DIRECTIONS, NETLINK_XFRM, Key, Policy, Xfrm, key
from phalanx.linux.netlink import Netlink

PRIORITY = 2**31 - 1
"""Below strongSwan's policies, which lie under 400000: of two policies that match, the lower number wins."""
LOWEST = PRIORITY - 1
"""The lowest number that a policy of the guard has."""

_SYSCTL = Path("/proc/sys/net")
_ANY = ipaddress.ip_network("0.0.0.0/0")
_EVERYBODY = (ipaddress.ip_network("224.0.0.0/4"), ipaddress.ip_network("255.255.255.255/32"))
_ANY6 = ipaddress.ip_network("::/0")
_LOOPBACK6 = ipaddress.ip_network("::1/128")


def policies(peers: Sequence[str]) -> tuple[Policy, ...]:
    """The policies that guard against these peer addresses, multicast, broadcast, and all IPv6 but ::1 to itself."""
    return tuple(_wanted(peers).values())


def _wanted(peers: Sequence[str]) -> dict[Key, Policy]:
    return _policies(tuple(peers), (_SYSCTL / "ipv6").exists())


@lru_cache(maxsize=256)  # each instance of a host is looked at twice a second
def _policies(peers: tuple[str, ...], ipv6: bool) -> dict[Key, Policy]:
    wanted = [Policy("out", _ANY, everybody, "block", PRIORITY) for everybody in _EVERYBODY]
    for peer in map(ipaddress.ip_network, peers):
        wanted += [
            Policy("out", _ANY, peer, "block", PRIORITY),
            Policy("in", peer, _ANY, "block", PRIORITY),
            Policy("fwd", _ANY, peer, "block", PRIORITY),
            Policy("fwd", peer, _ANY, "block", PRIORITY),
        ]
    if ipv6:
        wanted += [Policy(direction, _ANY6, _ANY6, "block", PRIORITY) for direction in DIRECTIONS]
        # IPv6 has no disable_xfrm, so loopback needs a policy of its own.
        wanted += [Policy(direction, _LOOPBACK6, _LOOPBACK6, "allow", LOWEST) for direction in ("in", "out")]
    return {key(policy): policy for policy in wanted}


def up(name: str, peers: Sequence[str], device: str) -> None:
    """Raise the guard in the namespace `name`, whose wire is or will be `device`, and prove it by reading it back. Idempotent.

    Policies that others made to let packets pass as they are, whatever their priority, are removed, and so are their routing
    rules: they would lead packets for peers away from the data plane, to be blocked. IPv6
    is switched off on every device but `lo` as well, so that the kernel's own neighbour discovery does not fill the counters of
    blocked packets. Raises MeshError where the kernel refuses or does not hold what it was given.
    """
    try:
        netns.inside(name, lambda: _set(device))
        routing.restore(name)
        with Xfrm.kernel(name) as xfrm:
            for policy in policies(peers):
                xfrm.put(policy)
            wanted = _wanted(peers)
            xfrm.prune(lambda known: _opens(known) and known not in wanted)
    except OSError as error:
        raise MeshError(
            f"cannot raise the plaintext guard in namespace {name}: {error}; "
            "the kernel needs CONFIG_XFRM_USER and CONFIG_IPV6 or none of it (`phalanx doctor` tells)"
        ) from error
    if fault := check(name, peers, device):
        raise MeshError(fault)


def check(name: str, peers: Sequence[str], device: str) -> str | None:
    """None where the guard stands complete; else what is missing. Reads the kernel's tables, changes nothing."""

    def look() -> tuple[Xfrm, Netlink, list[str]]:
        return Xfrm(NETLINK_XFRM), Netlink(socket.NETLINK_ROUTE), _wrong(device)

    try:
        xfrm, routes, off = netns.inside(name, look)
        with xfrm, routes:
            present = xfrm.keys()
            bent = routing.check(name, routes)
    except OSError as error:
        return f"the plaintext guard of namespace {name} cannot be read: {error}"
    wanted = _wanted(peers)
    if missing := [policy for known, policy in wanted.items() if known not in present]:
        first = missing[0]
        return (
            f"the plaintext guard of namespace {name} lacks {len(missing)} policies, "
            f"the first: {first.action} {first.direction} {first.source} to {first.destination}"
        )
    if opened := [known for known in present.difference(wanted) if _opens(known)]:
        return f"in namespace {name} {len(opened)} policies that somebody made let packets pass the guard as they are"
    if off:
        return f"in namespace {name} {off[0]} lets packets pass the guard"
    return bent


def _opens(known: Key) -> bool:
    """Whether it is the key of a policy that lets packets pass without ESP; those of single sockets are charon's and the
    engine's own."""
    _, direction, action, _, template = known
    return direction < len(DIRECTIONS) and action == 0 and not template


def down(name: str, peers: Sequence[str]) -> None:
    """Take the guard away; a namespace that is gone took it along. Raises MeshError where the kernel refuses."""
    try:
        with Xfrm.kernel(name) as xfrm:
            for policy in policies(peers):
                xfrm.remove(policy)
    except OSError as error:
        if error.errno != errno.ENOENT or os.path.exists(netns.path(name)):
            raise MeshError(f"cannot lower the plaintext guard in namespace {name}: {error}") from error


def stand_alone(name: str) -> None:
    """Remove every SA, and every policy but the guard's, one by one: a flush would take the guard along. Raises OSError."""
    with Xfrm.kernel(name) as xfrm:
        for policy in xfrm.policies():
            if policy.priority < LOWEST:
                xfrm.remove(policy)
        for state in xfrm.states():
            xfrm.remove_state(state)


@lru_cache(maxsize=16)
def _sysctls(device: str) -> dict[str, str]:
    """What the namespace's settings must be for the guard to hold, where there are such."""
    # A device with disable_xfrm or disable_policy is not looked up in the SPD at all (ip-sysctl.rst). Where the device is
    # not there yet it will get what `default` has.
    ip4 = [("ipv4", where, name, "0") for where in ("all", "default", device) for name in ("disable_xfrm", "disable_policy")]
    ip6 = [("ipv6", where, "disable_ipv6", "1") for where in ("default", device)]
    return {str(_SYSCTL / family / "conf" / where / name): value for family, where, name, value in (*ip4, *ip6)}


def _wrong(device: str) -> list[str]:
    """Those settings of the namespace that the thread is in that are not as they must be."""
    found = []
    for setting, value in _sysctls(device).items():
        with contextlib.suppress(FileNotFoundError), open(setting) as file:
            if file.read().strip() != value:
                found.append(setting)
    return found


def _set(device: str) -> None:
    for setting in _wrong(device):
        Path(setting).write_text(_sysctls(device)[setting])
