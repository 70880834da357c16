"""The engine against plain veth and against what else encrypts in userspace; docs/performance.md says what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from bench.esp import Tunnel
from bench.lab import Host, Pair, ensure_packages
from bench.result import Result
from bench.rivals import LIBIPSEC_MTU, TLS_PORT, WIREGUARD_MTU, Libipsec, Tls, WireguardGo
from bench.traffic import Servers, latency, throughput

WIRE, GIANT = 9001, 65535
UDP_PORT = 4500
PACKAGES = Path(__file__).parents[1] / "tools" / "packages-bench.txt"

Measure = Callable[[], float]


class Suite:
    """Everything that runs, set up once; the cases then take turns."""

    def __init__(self, stack: ExitStack, seconds: float, wanted: Callable[[str], bool]) -> None:
        self._stack = stack
        self._seconds = seconds
        self._wanted = wanted
        self.cases: list[tuple[str, str, str, str, str, str]] = []
        self.measures: dict[str, Measure] = {}

    def pair(self, mtu: int, **options: bool) -> Pair:
        pair = self._stack.enter_context(closing(Pair(mtu, **options)))
        Servers(pair.hosts[1])
        return pair

    def enter(self, rival: WireguardGo) -> None:
        self._stack.enter_context(closing(rival))

    def tunnel(self, pair: Pair, **options: object) -> None:
        self._stack.enter_context(closing(Tunnel(pair, **options)))

    def stream(self, name: str, client: Host, address: str, **options: object) -> None:
        self.measures[name] = lambda: throughput(client, address, seconds=self._seconds, **options)

    def case(self, name: str, value: str, baseline: str, what: str, against: str, unit: str = "Gbit/s") -> None:
        if self._wanted(name):
            self.cases.append((name, unit, value, baseline, what, against))

    def run(self, rounds: int) -> list[Result]:
        """Every measurement once per round, in turns, so that a change of the machine's mood meets all of them."""
        needed = [name for name in self.measures if any(name in case[2:4] for case in self.cases)]
        found: dict[str, list[float]] = {name: [] for name in needed}
        for number in range(rounds):
            for name in needed:
                print(f"\r{number + 1}/{rounds} {name:<20}", end="", flush=True)
                found[name].append(self.measures[name]())
            print(
                f"\rround {number + 1}: " + ", ".join(f"{name} {values[-1]:.2f}" for name, values in found.items()), flush=True
            )
        return [
            Result(name, unit, what, against, list(zip(found[value], found[baseline], strict=True)))
            for name, unit, value, baseline, what, against in self.cases
        ]

    def uses(self, *names: str) -> bool:
        """Whether any of these cases is wanted, so that what it needs has to be set up."""
        return any(map(self._wanted, names))


def _wire(suite: Suite) -> None:
    """Raw ESP at MTU 9001: the first measurements of each round, and the value of many cases."""
    pair = suite.pair(WIRE)
    client, server = pair.hosts
    suite.stream("plain-9001", client, server.plain)
    suite.tunnel(pair)
    suite.stream("raw-9001", client, server.secure)
    suite.stream("plain-9001-4", client, server.plain, streams=4)
    suite.stream("raw-9001-4", client, server.secure, streams=4)
    suite.stream("plain-9001-both", client, server.plain, reverse="--bidir")
    suite.stream("raw-9001-both", client, server.secure, reverse="--bidir")
    suite.measures["plain-rr"] = lambda: latency(client, server.plain)
    suite.measures["raw-rr"] = lambda: latency(client, server.secure)
    suite.case("raw-9001-single", "raw-9001", "plain-9001", "raw ESP, MTU 9001, 1 stream", "plain veth")
    suite.case("raw-9001-4", "raw-9001-4", "plain-9001-4", "raw ESP, MTU 9001, 4 streams", "plain veth")
    suite.case("raw-9001-both", "raw-9001-both", "plain-9001-both", "raw ESP, MTU 9001, both directions", "plain veth")
    suite.case("latency", "raw-rr", "plain-rr", "raw ESP, 1-byte request and response", "plain veth", "us")


def _udp(suite: Suite) -> None:
    if not suite.uses("udp-9001-single", "udp-9001-4"):
        return
    pair = suite.pair(WIRE)
    client, server = pair.hosts
    suite.tunnel(pair, udp_port=UDP_PORT)
    suite.stream("udp-9001", client, server.secure)
    suite.stream("udp-9001-4", client, server.secure, streams=4)
    suite.case("udp-9001-single", "udp-9001", "plain-9001", "ESP in UDP, MTU 9001, 1 stream", "plain veth")
    suite.case("udp-9001-4", "udp-9001-4", "plain-9001-4", "ESP in UDP, MTU 9001, 4 streams", "plain veth")


def _giant(suite: Suite) -> None:
    if not suite.uses("giant-single", "giant-udp-single"):
        return
    pair = suite.pair(GIANT)
    client, server = pair.hosts
    suite.stream("plain-giant", client, server.plain)
    suite.tunnel(pair)
    suite.stream("giant", client, server.secure)
    encapsulated = suite.pair(GIANT)
    suite.tunnel(encapsulated, udp_port=UDP_PORT)
    suite.stream("giant-udp", encapsulated.hosts[0], encapsulated.hosts[1].secure)
    suite.case("giant-single", "giant", "plain-giant", "raw ESP, MTU 65535, 1 stream", "plain veth, MTU 65535")
    suite.case("giant-udp-single", "giant-udp", "plain-giant", "ESP in UDP, MTU 65535, 1 stream", "plain veth, MTU 65535")


def _routed(suite: Suite) -> None:
    """As in Phalanx: a router's namespace between the two, which the engine's packets cross one by one."""
    if not suite.uses("raw-9001-routed"):
        return
    pair = suite.pair(WIRE, routed=True)
    client, server = pair.hosts
    suite.stream("plain-routed", client, server.plain)
    suite.tunnel(pair)
    suite.stream("raw-routed", client, server.secure)
    suite.case("raw-9001-routed", "raw-routed", "plain-routed", "raw ESP, MTU 9001, through a router", "plain, through it")


def _unoffloaded(suite: Suite) -> None:
    """No segmentation by the veth devices: every packet of every side has the size of the wire."""
    if not suite.uses("udp-9001-wire"):
        return
    pair = suite.pair(WIRE, offloads=False)
    client, server = pair.hosts
    suite.stream("plain-wire", client, server.plain)
    suite.tunnel(pair, udp_port=UDP_PORT)
    suite.stream("udp-wire", client, server.secure)
    suite.case("udp-9001-wire", "udp-wire", "plain-wire", "ESP in UDP, veth offloads off", "plain veth, offloads off")


def _libipsec(suite: Suite) -> None:
    if not suite.uses("vs-libipsec", "vs-libipsec-1400"):
        return
    rival = suite.pair(WIRE)
    Libipsec(rival)
    suite.stream("libipsec", rival.hosts[0], rival.hosts[1].secure)
    small = suite.pair(WIRE)
    suite.tunnel(small, mtu=LIBIPSEC_MTU)
    suite.stream("raw-1400", small.hosts[0], small.hosts[1].secure)
    suite.case("vs-libipsec", "raw-9001", "libipsec", "raw ESP, MTU 9001", "strongSwan kernel-libipsec, MTU 1400")
    suite.case("vs-libipsec-1400", "raw-1400", "libipsec", "raw ESP, MTU 1400", "strongSwan kernel-libipsec, MTU 1400")


def _wireguard(suite: Suite) -> None:
    if not suite.uses("vs-wireguard-go"):
        return
    rival = suite.pair(WIRE)
    suite.enter(WireguardGo(rival))
    suite.stream("wireguard-go", rival.hosts[0], rival.hosts[1].secure)
    suite.case("vs-wireguard-go", "raw-9001", "wireguard-go", "raw ESP, MTU 9001", f"wireguard-go, MTU {WIREGUARD_MTU}")


def _tls(suite: Suite) -> None:
    if not suite.uses("vs-tls"):
        return
    rival = suite.pair(WIRE)
    Tls(rival)
    suite.stream("tls", rival.hosts[0], "127.0.0.1", port=TLS_PORT)
    suite.case("vs-tls", "raw-9001", "tls", "raw ESP, MTU 9001", "TLS 1.3 proxy pair (OpenSSL)")


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """The engine's cases, those of `chosen` only where that is not empty."""
    ensure_packages([line for line in PACKAGES.read_text().splitlines() if not line.startswith("#")])
    with ExitStack() as stack:
        suite = Suite(stack, 1.5 if quick else 3, lambda name: not chosen or name in chosen)
        for part in (_wire, _udp, _giant, _routed, _unoffloaded, _libipsec, _wireguard, _tls):
            part(suite)
        return suite.run(2 if quick else 5)
