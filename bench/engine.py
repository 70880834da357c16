"""The engine against plain veth and against what else encrypts in userspace (issue table and case names: DESIGN section 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from bench.esp import Tunnel
from bench.lab import Host, Pair
from bench.result import Result
from bench.traffic import Servers, latency, throughput

WIRE, GIANT = 9001, 65535

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
                found[name].append(self.measures[name]())
            print(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.2f}" for name, values in found.items()), flush=True)
        return [
            Result(name, unit, what, against, list(zip(found[value], found[baseline], strict=True)))
            for name, unit, value, baseline, what, against in self.cases
        ]


def _raw(suite: Suite) -> None:
    pair = suite.pair(WIRE)
    client, server = pair.hosts
    suite.stream("plain-9001", client, server.plain)
    suite.tunnel(pair)
    suite.stream("raw-9001", client, server.secure)
    suite.stream("plain-9001-4", client, server.plain, streams=4)
    suite.stream("raw-9001-4", client, server.secure, streams=4)
    suite.measures["plain-rr"] = lambda: latency(client, server.plain)
    suite.measures["raw-rr"] = lambda: latency(client, server.secure)
    suite.case("raw-9001-single", "raw-9001", "plain-9001", "raw ESP, MTU 9001, 1 stream", "plain veth")
    suite.case("raw-9001-4", "raw-9001-4", "plain-9001-4", "raw ESP, MTU 9001, 4 streams", "plain veth")
    suite.case("latency", "raw-rr", "plain-rr", "raw ESP, 1-byte request and response", "plain veth", "us")


def run(quick: bool, chosen: Sequence[str]) -> list[Result]:
    """The engine's cases, those of `chosen` only where that is not empty."""
    with ExitStack() as stack:
        suite = Suite(stack, 1.5 if quick else 3, lambda name: not chosen or name in chosen)
        _raw(suite)
        return suite.run(2 if quick else 5)
