"""The tunnel between a VPC's routers on different hosts: VXLAN (RFC 7348) whose every entry the control plane gave.

Nothing is learned and nothing is flooded: an address of the VPC has one route, one neighbour and one host. The device is made
in the host's namespace, where its UDP socket stays, and lives in the router's.
"""

from __future__ import annotations

import errno
import hashlib
import os
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ndmsg import NUD_PERMANENT

from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.network.model import ENI_MTU, Overlay
from phalanx.network.ruleset import TUNNEL

PORT = 4789
"""UDP port of VXLAN (RFC 7348)."""
OVERHEAD = 50
"""Bytes that VXLAN takes of the MTU between hosts: outer IPv4 and UDP, VXLAN, inner Ethernet."""

_LINK_SCOPE = 253  # RT_SCOPE_LINK


def mtu(address: str) -> int:
    """The MTU in bytes of an ENI whose packets travel from this host's `address`: EC2's at most. Raises NetworkError."""
    with IPRoute() as netlink:
        return min(ENI_MTU, _underlay_mtu(netlink, address) - OVERHEAD)


def lay(router: str, overlay: Overlay) -> None:
    """Make the tunnel of the namespace `router` lead to the overlay's remotes, and to nobody else. Idempotent.

    The calling thread must be in the host's namespace. Raises NetworkError, NetlinkError, OSError.
    """
    mark = f"{overlay.vni} {overlay.local}"
    if not _stands(router, mark):
        with IPRoute() as netlink:
            between = _underlay_mtu(netlink, overlay.local)
            there = os.open(namespace.path(router), os.O_RDONLY | os.O_CLOEXEC)
            try:
                netlink.link(
                    "add",
                    ifname=TUNNEL,
                    kind="vxlan",
                    address=_mac(overlay.local),
                    mtu=between - OVERHEAD,
                    vxlan_id=overlay.vni,
                    vxlan_local=overlay.local,
                    vxlan_port=PORT,
                    vxlan_learning=0,
                    net_ns_fd=there,
                )
            finally:
                os.close(there)
    with namespace.entered(router), IPRoute() as netlink:
        index = netlink.link_lookup(ifname=TUNNEL)[0]
        netlink.link("set", index=index, state="up")
        _fill(netlink, index, overlay)
        # Last: only a device with its mark counts as made.
        netlink.link("set", index=index, ifalias=mark)


def _fill(netlink: IPRoute, index: int, overlay: Overlay) -> None:
    hosts = {_mac(remote.host): remote.host for remote in overlay.remotes}
    wanted = {remote.eni.address: _mac(remote.host) for remote in overlay.remotes}
    routes = {route.get_attr("RTA_DST") for route in netlink.get_routes(oif=index) if route["dst_len"] == 32}
    for address in routes - set(wanted):
        _gone(netlink.route, dst=f"{address}/32", oif=index, scope=_LINK_SCOPE)
        _gone(netlink.neigh, dst=address, ifindex=index)
    known = {entry.get_attr("NDA_LLADDR"): entry.get_attr("NDA_DST") for entry in netlink.fdb("dump", ifindex=index)}
    for mac in set(known) - set(hosts):
        _gone(netlink.fdb, ifindex=index, lladdr=mac, dst=known[mac])
    for mac in set(hosts) - set(known):
        netlink.fdb("add", ifindex=index, lladdr=mac, dst=hosts[mac])
    for address, mac in wanted.items():
        netlink.neigh("replace", dst=address, lladdr=mac, ifindex=index, state=NUD_PERMANENT)
        netlink.route("replace", dst=f"{address}/32", oif=index, scope=_LINK_SCOPE)


def _gone(call: Any, **arguments: Any) -> None:
    try:
        call("del", **arguments)
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.ESRCH):
            raise


def _stands(router: str, mark: str) -> bool:
    """Whether the tunnel is there and was made as the mark says; one that was not is taken away."""
    with namespace.entered(router), IPRoute() as netlink:
        for index in netlink.link_lookup(ifname=TUNNEL):
            if netlink.get_links(index)[0].get("ifalias") == mark:
                return True
            netlink.link("del", index=index)
    return False


def _underlay_mtu(netlink: IPRoute, address: str) -> int:
    for entry in netlink.get_addr(address=str(IPv4Address(address))):
        return int(netlink.get_links(entry["index"])[0].get("mtu"))
    raise NetworkError(f"no interface of this host has the address {address}, from which it is to reach other hosts")


def _mac(host: str) -> str:
    """The address of a host's routers on the tunnel: follows from the host's, so that nobody has to be asked. Locally
    administered, unicast (IEEE 802)."""
    digest = hashlib.sha256(host.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (digest[0] & 0xFC | 0x02, *digest[1:6]))
