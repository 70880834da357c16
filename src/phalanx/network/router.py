"""The router of one VPC on this host: a network namespace to which ENIs are attached, and the rules it enforces."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ndmsg import NUD_PERMANENT

from phalanx.linux import nft
from phalanx.linux.nft import NftError
from phalanx.network import conntrack, namespace, tunnel
from phalanx.network.errors import NetworkError
from phalanx.network.model import EXIT, INTERFACE, Eni, GuardCounters, Overlay, VpcState
from phalanx.network.ruleset import BASE_CHAINS, FLOWS, GUARD_COUNTERS, TABLE, TUNNEL, counter, device, ruleset
from phalanx.network.watch import Watch

GATEWAY = "169.254.1.1"
"""Next hop of every instance: an address of the router's `lo`, for which it answers ARP on every ENI."""

_FORWARD = "net/ipv4/ip_forward"
_ONLINK = 4  # RTNH_F_ONLINK, linux/rtnetlink.h
_LINK_SCOPE = 253  # RT_SCOPE_LINK
_UP_SECONDS = 10
_UP_POLL_SECONDS = 0.005

_SYSCTLS = {
    # Strict reverse path: a second lock against spoofed sources, independent of nftables.
    "net/ipv4/conf/all/rp_filter": "1",
    "net/ipv4/conf/default/rp_filter": "1",
    # A source-routed packet would change its destination after the rules had seen it.
    "net/ipv4/conf/all/accept_source_route": "0",
    "net/ipv4/conf/default/accept_source_route": "0",
    "net/ipv4/conf/all/accept_redirects": "0",
    "net/ipv4/conf/default/accept_redirects": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


class Router:
    """The router in namespace `name`. All methods may be called from any thread, and again after a kill at any point.

    It forwards only after a first successful `apply`, and stops forwarding (ip_forward = 0, whatever nftables holds) when
    one fails. All methods raise NetworkError.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()
        self._applied: tuple[VpcState, int] | None = None

    def ensure(self) -> None:
        """Make the namespace, closed: every chain drops and nothing is forwarded. One that stands is left as it is."""
        with self._lock, _explained(f"cannot set up router {self._name}"):
            namespace.create(self._name)
            with namespace.entered(self._name):
                for key, value in _SYSCTLS.items():
                    namespace.sysctl(key, value)
                if not self._stands(self._objects()):
                    namespace.sysctl(_FORWARD, "0")
                    self._load(ruleset(VpcState(self._name, (), (), ())), ())
                with IPRoute() as netlink:
                    _add(netlink.addr, index=1, address=GATEWAY, prefixlen=32)

    def apply(self, state: VpcState) -> None:
        """Enforce `state` and nothing else, in one nftables transaction; connections, how many an address has, and standing
        guards' counters stay.

        Raises NetworkError or ValueError (`ruleset`); either way the router has then stopped forwarding altogether.
        """
        with self._lock, namespace.entered(self._name):
            try:
                text = ruleset(state)
                keep = {FLOWS, *(counter(guard.job, name) for guard in state.guards for name in GUARD_COUNTERS)}
                self._applied = (state, self._load(text, keep))
                namespace.sysctl(_FORWARD, "1")
            except BaseException:
                self._applied = None
                namespace.sysctl(_FORWARD, "0")
                raise

    def verify(self, state: VpcState) -> bool:
        """Whether what is in force is still this object's last `apply`, and that was of `state`. Costs one netlink message."""
        with self._lock, _explained(f"cannot look at the rules of {self._name}"):
            if self._applied is None or not self.applied(state) or not namespace.exists(self._name):
                return False
            with namespace.entered(self._name):
                return nft.generation() == self._applied[1] and Path("/proc/sys", _FORWARD).read_text() == "1\n"

    def applied(self, state: VpcState) -> bool:
        """Whether this object's last `apply` was of `state` and succeeded, whatever has become of it since."""
        with self._lock:
            return self._applied is not None and self._applied[0] == state

    def attach(self, eni: Eni, instance: str, watch: Watch | None = None) -> None:
        """Give the namespace `instance` the ENI as its `eth0`, routed to here; finish or redo it where it is half done.

        What may pass is for `apply` to say: before it knows the ENI, the router drops all that comes from or goes to it.
        `watch` is on the wire before it carries anything.
        """
        with self._lock, _explained(f"cannot attach {eni.id} ({eni.address}) to namespace {instance}"):
            with namespace.entered(instance), IPRoute() as netlink:
                inner = _link(netlink, INTERFACE)
            with namespace.entered(self._name), IPRoute() as netlink:
                outer = _link(netlink, device(eni.id))
                if not _joined(inner, outer, eni):
                    self._remove(netlink, outer)
                    outer = None
            if outer is None:
                self._create(eni, instance)
            if watch is not None:
                watch.open(self._name, device(eni.id))
            with namespace.entered(instance), IPRoute() as netlink:
                index = netlink.link_lookup(ifname=INTERFACE)[0]
                _add(netlink.addr, index=index, address=eni.address, prefixlen=32)
                netlink.link("set", index=index, state="up")
                metrics = namespace.congestion()
                _add(netlink.route, dst="0.0.0.0/0", gateway=GATEWAY, oif=index, flags=_ONLINK, metrics=metrics)
                inside = netlink.get_links(index)[0].get("address")
            with namespace.entered(self._name), IPRoute() as netlink:
                index = netlink.link_lookup(ifname=device(eni.id))[0]
                netlink.link("set", index=index, state="up")
                _add(netlink.route, dst=f"{eni.address}/32", oif=index, scope=_LINK_SCOPE)
                # Who is at the other end is known: no ARP, which nothing protects, and no wait for its answer.
                netlink.neigh("replace", dst=eni.address, lladdr=inside, ifindex=index, state=NUD_PERMANENT)
                outside = netlink.get_links(index)[0].get("address")
            with namespace.entered(instance), IPRoute() as netlink:
                index = netlink.link_lookup(ifname=INTERFACE)[0]
                netlink.neigh("replace", dst=GATEWAY, lladdr=outside, ifindex=index, state=NUD_PERMANENT)
            for end, where in ((INTERFACE, instance), (device(eni.id), self._name)):
                _await_up(end, where)

    def lead_out(self, outside: str) -> None:
        """Wire the namespace `outside` as the way to all that no ENI has; what may take it `apply` says. Idempotent."""
        self.attach(EXIT, outside)
        with self._lock, _explained(f"cannot lead {self._name} out"), namespace.entered(self._name), IPRoute() as netlink:
            index = netlink.link_lookup(ifname=device(EXIT.id))[0]
            _add(netlink.route, dst="0.0.0.0/0", gateway=EXIT.address, oif=index, flags=_ONLINK)

    def reach(self, overlay: Overlay) -> None:
        """Lead to the VPC's instances on other hosts, and no longer to those that are not in `overlay`. Idempotent.

        What may pass is for `apply` to say. The calling thread must be in the host's namespace.
        """
        with self._lock, _explained(f"cannot reach other hosts from {self._name}"):
            tunnel.lay(self._name, overlay)

    def forget(self, address: str) -> None:
        """Drop what connection tracking knows of an address."""
        with self._lock, _explained(f"cannot forget {address}"), namespace.entered(self._name):
            conntrack.forget(address)

    def detach(self, eni_id: str) -> None:
        """Take an ENI away, at both ends. Idempotent."""
        with (
            self._lock,
            _explained(f"cannot detach {eni_id}"),
            namespace.entered(self._name),
            IPRoute() as netlink,
        ):
            self._remove(netlink, _link(netlink, device(eni_id)))

    def counters(self, job: str) -> GuardCounters:
        """What the guard over `job` has counted since it was raised."""
        with self._lock, namespace.entered(self._name):
            held = {item["name"]: item for kind, item in self._objects("counters") if kind == "counter"}
        try:
            ike, esp, dropped = (held[counter(job, name)] for name in GUARD_COUNTERS)
        except KeyError:
            raise NetworkError(f"router {self._name} has no guard over job {job}: apply a state that holds it") from None
        return GuardCounters(
            ike_packets=ike["packets"],
            ike_bytes=ike["bytes"],
            esp_packets=esp["packets"],
            esp_bytes=esp["bytes"],
            dropped_packets=dropped["packets"],
            dropped_bytes=dropped["bytes"],
        )

    def destroy(self) -> None:
        """Remove the router with all that is attached to it. Idempotent."""
        with self._lock, _explained(f"cannot remove router {self._name}"):
            self._applied = None
            if namespace.exists(self._name):
                # The kernel takes a namespace down in its own time; until then the host has no other tunnel of that number.
                with namespace.entered(self._name), IPRoute() as netlink:
                    self._remove(netlink, _link(netlink, TUNNEL))
            namespace.delete(self._name)

    def _create(self, eni: Eni, instance: str) -> None:
        with namespace.entered(instance), IPRoute() as netlink:
            stale = _link(netlink, INTERFACE)
            # Its other end was in a router that is gone, or going.
            if stale is not None and stale.get("ifalias") == eni.id:
                self._remove(netlink, stale)
        there = os.open(namespace.path(instance), os.O_RDONLY | os.O_CLOEXEC)
        try:
            with namespace.entered(self._name), IPRoute() as netlink:
                # The last owner of this address may have left connections that its rules had let in.
                conntrack.forget(eni.address)
                netlink.link(
                    "add",
                    ifname=device(eni.id),
                    kind="veth",
                    mtu=eni.mtu,
                    peer={"ifname": INTERFACE, "mtu": eni.mtu, "net_ns_fd": there},
                )
                netlink.link("set", index=netlink.link_lookup(ifname=device(eni.id))[0], ifalias=eni.id)
        finally:
            os.close(there)
        # Last: only a pair with both marks counts as made.
        with namespace.entered(instance), IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname=INTERFACE)[0], ifalias=eni.id)

    @staticmethod
    def _remove(netlink: IPRoute, link: Any) -> None:
        if link is None:
            return
        try:
            netlink.link("del", index=link["index"])
        except NetlinkError as error:
            # Gone already: the kernel takes both ends down when either namespace ends.
            if error.code != errno.ENODEV:
                raise

    def _load(self, text: str, keep: Collection[str]) -> int:
        """Replace the ruleset in one transaction, but for the counters and sets to keep; the generation that this made."""
        with _explained(f"cannot load the rules of {self._name}"):
            return nft.enforce(lambda: _removal(self._objects(), keep) + text)

    def _stands(self, objects: list[tuple[str, Any]]) -> bool:
        return len([item for kind, item in objects if kind == "chain" and _is_base(item)]) == len(BASE_CHAINS)

    def _objects(self, what: str = "ruleset") -> list[tuple[str, Any]]:
        with _explained(f"cannot list the {what} of {self._name}"):
            listed = json.loads(nft.run("--json", "--terse", "list", what))["nftables"]
        return [next(iter(entry.items())) for entry in listed]


def _removal(objects: list[tuple[str, Any]], keep: Collection[str]) -> str:
    """Commands that take away what is there, but for the base chains (emptied) and the counters and sets to keep."""
    ours = TABLE.split()
    lines: list[tuple[int, str]] = []
    for kind, item in objects:
        if kind == "table":
            own = [item["family"], item["name"]] == ours
            lines.append((0, f"flush table {TABLE}") if own else (0, f"delete table {item['family']} {item['name']}"))
        elif [item.get("family"), item.get("table")] != ours or item.get("name") in keep:
            continue
        elif (kind == "chain" and not _is_base(item)) or kind == "counter":
            # Maps hold verdicts that point to chains: they go first.
            lines.append((2, f"delete {kind} {TABLE} {item['name']}"))
        elif kind in ("map", "set"):
            lines.append((1, f"delete {kind} {TABLE} {item['name']}"))
    return "".join(f"{line}\n" for _, line in sorted(lines))


def _is_base(chain: Any) -> bool:
    hooked = (chain.get("hook"), chain.get("prio"), chain.get("policy"))
    return hooked[0] is not None and BASE_CHAINS.get(chain["name"]) == hooked


def _link(netlink: IPRoute, name: str) -> Any:
    found = netlink.link_lookup(ifname=name)
    return netlink.get_links(found[0])[0] if found else None


def _await_up(link: str, where: str) -> None:
    """Wait until a link carries packets: the kernel takes up a veth's carrier in a work queue, and drops until it has."""
    deadline = time.monotonic() + _UP_SECONDS
    with namespace.entered(where), IPRoute() as netlink:
        while (found := _link(netlink, link)) is None or found.get("operstate") != "UP":
            if time.monotonic() > deadline:
                raise NetworkError(f"{link} in {where} did not come up within {_UP_SECONDS} s: look at `ip -d link` there")
            time.sleep(_UP_POLL_SECONDS)


def _joined(inner: Any, outer: Any, eni: Eni) -> bool:
    """Whether the two links are both ends of this ENI, completely made."""
    return (
        inner is not None
        and outer is not None
        and inner.get("ifalias") == outer.get("ifalias") == eni.id
        and inner.get("link") == outer["index"]
        and outer.get("link") == inner["index"]
    )


def _add(call: Any, **arguments: Any) -> None:
    try:
        call("add", **arguments)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (NetlinkError, NftError, OSError) as error:
        raise NetworkError(f"{what}: {error}") from error
