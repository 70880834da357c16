"""The way out of a VPC: what leaves, where to, and what never does. The host and the internet are namespaces of their own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from network.lab import ALL_OUT, QUIET, Instance, Vpc, eventually, guard, run
from phalanx.network import namespace, relay
from phalanx.network.errors import NetworkError
from phalanx.network.exit import Exit
from phalanx.network.model import NO_EXITS, RESOLVER, S3_ADDRESS, S3_PORT, Eni, Exits, Rule

HOST, BEYOND, LAN = "8.8.4.1", "8.8.4.2", "10.77.0.2"
"""The host's address on the internet, another one there, and one in a network of the host's that is nobody else's."""
S3 = ("127.0.0.1", 19000)
SERVICE = 19001
ASK_WHO = b"!"
SUBNET = "10.0.0.0/24"
EVERYWHERE = ((SUBNET, "0.0.0.0/0"),)
OPEN = Exits(s3=(SUBNET,), names=(SUBNET,), outside=EVERYWHERE)


@dataclass
class World:
    """A VPC with two instances, its exit, and beyond it a host with a neighbour."""

    vpc: Vpc
    exit: Exit
    instance: Instance
    other: Instance
    outside: str
    """The exit's namespace."""
    host: str

    def lead(self, exits: Exits, *rules: Rule) -> None:
        self.vpc.groups["sg-1"] = rules or (ALL_OUT,)
        self.vpc.exits = exits
        self.vpc.apply()

    def fetch(self, address: str, port: int = S3_PORT, seconds: float = 10, ask: bytes = b"?") -> str | None:
        """Who answers a connection from the instance, or with ASK_WHO as whom it is seen; None where nobody does."""
        with self.instance.socket(socket.SOCK_STREAM) as opened:
            opened.settimeout(seconds)
            try:
                opened.connect((address, port))
                opened.sendall(ask)
                return opened.recv(100).decode() or None
            except OSError:
                return None

    def shut(self, address: str, port: int = S3_PORT) -> bool:
        """Whether nobody answers."""
        return self.fetch(address, port, QUIET) is None

    def resolves(self, seconds: float = QUIET) -> bool:
        with self.instance.socket(socket.SOCK_DGRAM) as opened:
            opened.settimeout(seconds)
            opened.sendto(b"who", (RESOLVER, 53))
            with suppress(OSError):
                return opened.recvfrom(100) == (b"me", (RESOLVER, 53))
            return False


@contextmanager
def served(where: str, address: str, port: int, name: str) -> Iterator[None]:
    """A TCP server that answers each byte with its name, or ASK_WHO with the client's address, until the client has ended."""
    with namespace.entered(where):
        listener = socket.create_server((address, port))

    def answer(opened: socket.socket) -> None:
        with opened, suppress(OSError):
            while asked := opened.recv(1):
                opened.sendall((opened.getpeername()[0] if asked == ASK_WHO else name).encode())

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def named(where: str, address: tuple[str, int]) -> Iterator[None]:
    """A name server that knows one answer."""
    with namespace.entered(where):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(address)

    def answer() -> None:
        while (question := opened.recvfrom(100))[0]:
            opened.sendto(b"me", question[1])

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with namespace.entered(where), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", address)
        thread.join()
        opened.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    prefix = f"phxt{os.getpid()}-exit-"
    host, beyond = f"{prefix}host", f"{prefix}beyond"
    with ExitStack() as stack:
        stack.callback(lambda: [namespace.delete(name) for name in namespace.listing(prefix)])
        for name in (host, beyond):
            namespace.create(name)
        run(host, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", beyond)
        for where, address, lan in ((host, HOST, "10.77.0.1"), (beyond, BEYOND, LAN)):
            for each in (address, lan):
                run(where, "ip", "addr", "add", f"{each}/24", "dev", "up0")
            run(where, "ip", "link", "set", "up0", "up")
        vpc = Vpc(f"{prefix}vpc-")
        vpc.router.ensure()
        outside = f"{prefix}vpc-router-exit"
        made = World(vpc, Exit(outside, vpc.router), vpc.instance("sg-1"), vpc.instance("sg-1"), outside, host)
        with namespace.entered(host):
            made.exit.ensure(S3)
        stack.callback(made.exit.destroy)
        server = relay.name_server()
        if server is not None:
            if not server[0].startswith("127."):
                run(host, "ip", "addr", "add", f"{server[0]}/32", "dev", "lo")
            stack.enter_context(named(host, server))
        for where, address, port, name in (
            (host, *S3, "s3"),
            (host, "127.0.0.1", SERVICE, "secret"),
            (host, HOST, SERVICE, "secret"),
            (beyond, BEYOND, SERVICE, "beyond"),
            (beyond, LAN, SERVICE, "neighbour"),
        ):
            stack.enter_context(served(where, address, port, name))
        yield made


@contextmanager
def led_to(world: World, s3: tuple[str, int]) -> Iterator[None]:
    """The exit with S3 elsewhere."""
    with namespace.entered(world.host):
        world.exit.ensure(s3)
    yield
    with namespace.entered(world.host):
        world.exit.ensure(S3)


@pytest.fixture(autouse=True)
def afresh(world: World) -> None:
    world.vpc.guards = ()


def test_s3_is_reached_where_a_route_leads_there_and_nothing_else_is(world: World):
    world.lead(replace(NO_EXITS, s3=(SUBNET,)))
    assert world.fetch(S3_ADDRESS) == "s3"
    assert world.shut(S3_ADDRESS, 80)
    assert world.shut(BEYOND, SERVICE)
    assert not world.resolves()
    world.lead(NO_EXITS)
    assert world.shut(S3_ADDRESS)
    world.lead(replace(NO_EXITS, s3=("10.0.1.0/24",)))
    assert world.shut(S3_ADDRESS)


@pytest.mark.parametrize("s3", [S3, (HOST, S3[1])], ids=["on loopback", "on an address of the host"])
def test_s3_on_the_host_sees_which_vpc_asks(world: World, s3: tuple[str, int]):
    world.lead(OPEN)
    with ExitStack() as stack:
        if s3 != S3:
            stack.enter_context(served(world.host, *s3, "s3"))
            stack.enter_context(led_to(world, s3))
        seen = world.fetch(S3_ADDRESS, ask=ASK_WHO)
        assert ip_address(seen) in ip_network("127.128.0.0/9")
        assert replace(world, instance=world.other).fetch(S3_ADDRESS, ask=ASK_WHO) == seen
        assert world.fetch(BEYOND, SERVICE, ask=ASK_WHO) == HOST
        other = Exit(f"{world.outside}-other", world.vpc.router)
        assert other.source not in (world.exit.source, ip_address("127.0.0.1"))
        assert str(world.exit.source) == seen


@pytest.mark.parametrize(
    ("rule", "reached"),
    [
        (Rule("egress", "6", 443, 443, cidr=f"{S3_ADDRESS}/32"), True),
        (Rule("egress", "6", 80, 80, cidr=f"{S3_ADDRESS}/32"), False),
        (Rule("egress", "6", 443, 443, cidr="10.0.0.0/8"), False),
        (Rule("ingress", "-1", cidr="0.0.0.0/0"), False),
    ],
)
def test_the_security_group_must_let_it_out(world: World, rule: Rule, reached: bool):
    world.lead(OPEN, rule)
    assert world.fetch(S3_ADDRESS, seconds=10 if reached else QUIET) == ("s3" if reached else None)


@pytest.mark.parametrize("groups", [("sg-endpoint",), ("sg-shut",)])
def test_an_interface_endpoint_is_reached_as_its_own_groups_say(world: World, groups: tuple[str, ...]):
    endpoint = Eni("eni-endpoint", "10.0.0.100", groups)
    world.vpc.groups["sg-endpoint"] = (Rule("ingress", "6", 443, 443, group="sg-1"),)
    world.lead(Exits(endpoints=(endpoint,)), Rule("egress", "6", 443, 443, group="sg-endpoint"))
    reached = groups == ("sg-endpoint",)
    assert world.fetch(endpoint.address, seconds=10 if reached else QUIET) == ("s3" if reached else None)
    assert world.shut(S3_ADDRESS)


def test_a_nat_route_leads_to_the_internet_to_s3_and_to_names(world: World):
    world.lead(OPEN)
    assert world.fetch(BEYOND, SERVICE) == "beyond"
    assert world.fetch(S3_ADDRESS) == "s3"
    assert world.resolves(10) == (relay.name_server() is not None)
    world.lead(replace(OPEN, names=()))
    assert not world.resolves()
    world.lead(replace(OPEN, outside=((SUBNET, "9.0.0.0/8"), ("10.0.1.0/24", "0.0.0.0/0"))))
    assert world.shut(BEYOND, SERVICE)


@pytest.mark.parametrize("rule", [Rule("egress", "6", 443, 443, cidr="0.0.0.0/0"), Rule("ingress", "-1", cidr="0.0.0.0/0")])
def test_names_are_for_routes_to_allow_whatever_groups_say(world: World, rule: Rule):
    def leaves(kind: int, port: int) -> bool:
        """Whether something to a port of the name server's comes to the exit."""
        with (
            world.instance.socket(kind) as sender,
            namespace.entered(world.outside),
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as seen,
        ):
            seen.bind(("eth0", 0x0800))
            seen.settimeout(QUIET)
            with suppress(TimeoutError, ConnectionError):
                sender.connect((RESOLVER, port))
                sender.send(b"who")
            with suppress(TimeoutError):
                # Connections of other tests may still say goodbye.
                while (frame := seen.recv(100))[30:34] != socket.inet_aton(RESOLVER):
                    pass
                return int.from_bytes(frame[36:38]) == port
            return False

    world.lead(OPEN, rule)
    assert world.resolves(10) == (relay.name_server() is not None)
    assert leaves(socket.SOCK_DGRAM, 53)
    assert leaves(socket.SOCK_STREAM, 53)
    assert not leaves(socket.SOCK_DGRAM, 54)
    world.lead(OPEN, ALL_OUT)
    assert world.resolves(10) == (relay.name_server() is not None)
    world.lead(replace(OPEN, names=()), rule)
    assert not leaves(socket.SOCK_DGRAM, 53)
    assert not leaves(socket.SOCK_STREAM, 53)


def test_an_instance_may_have_so_many_connections_and_others_have_theirs(world: World):
    world.lead(OPEN)
    with ExitStack() as stack:
        for _ in range(relay.MOST_CONNECTIONS):
            opened = stack.enter_context(world.instance.socket(socket.SOCK_STREAM))
            opened.settimeout(10)
            opened.connect((BEYOND, SERVICE))
            opened.sendall(b"?")
            assert opened.recv(100) == b"beyond"
        assert world.fetch(BEYOND, SERVICE) is None
        assert replace(world, instance=world.other).fetch(BEYOND, SERVICE) == "beyond"
    assert eventually(lambda: world.fetch(BEYOND, SERVICE) == "beyond")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "168.63.129.16",
        "169.254.1.1",
        "169.254.1.2",
        "169.254.169.254",
        RESOLVER,
        HOST,
        LAN,
        "10.77.0.1",
        "224.0.0.1",
    ],
)
def test_the_host_and_its_networks_are_never_reached(world: World, address: str):
    """Not by any route; the sanity run is the neighbour's twin on the internet, at the same port."""
    world.lead(OPEN)
    assert world.shut(address, SERVICE)
    assert world.fetch(BEYOND, SERVICE) == "beyond"


@pytest.mark.parametrize("address", [HOST, LAN, "10.77.0.1", "169.254.169.254"])
def test_not_even_where_the_router_has_lost_its_rules(world: World, address: str):
    """The relay's own lock: with every rule of the router gone it leads to S3 and the internet, and nowhere else."""
    world.lead(OPEN)
    run(world.vpc.router_namespace, "nft", "flush", "ruleset")
    assert world.fetch(address, SERVICE, QUIET) in (None, "s3")
    assert world.fetch(BEYOND, SERVICE) == "beyond"


@pytest.mark.parametrize("protocol", [socket.IPPROTO_UDP, socket.IPPROTO_ICMP, 50, 47])
def test_only_tcp_and_names_leave(world: World, protocol: int):
    world.lead(OPEN)
    with (
        world.instance.socket(socket.SOCK_RAW, protocol) as sender,
        namespace.entered(world.outside),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as seen,
    ):
        seen.bind(("eth0", 0x0800))
        seen.settimeout(0.25)
        sender.sendto(bytes(16), (BEYOND, 0))
        with pytest.raises(TimeoutError):
            # Connections of other tests may still say goodbye.
            while seen.recv(100)[23] != protocol:
                pass
    assert world.fetch(BEYOND, SERVICE) == "beyond"


def test_what_flows_stops_when_its_route_is_taken_away_and_goes_on_with_it(world: World):
    world.lead(replace(NO_EXITS, s3=(SUBNET,)))
    with world.instance.socket(socket.SOCK_STREAM) as opened:
        opened.settimeout(0.5)
        opened.connect((S3_ADDRESS, S3_PORT))
        opened.sendall(b"?")
        assert opened.recv(100) == b"s3"
        world.lead(NO_EXITS)
        opened.sendall(b"?")
        with pytest.raises(TimeoutError):
            opened.recv(100)
        world.lead(replace(NO_EXITS, s3=(SUBNET,)))
        opened.settimeout(10)
        assert opened.recv(100) == b"s3"


def test_the_guard_of_an_encrypted_job_holds_whatever_leads_out(world: World):
    everything = Rule("ingress", "-1", cidr="0.0.0.0/0")
    world.vpc.guards = (guard("job", world.instance, world.other),)
    world.lead(OPEN, ALL_OUT, everything)
    assert not world.instance.reaches_udp(world.other, 7)
    assert world.fetch(S3_ADDRESS) == "s3"
    world.vpc.guards = ()
    world.lead(OPEN, ALL_OUT, everything)
    assert world.instance.reaches_udp(world.other, 7)


def test_nothing_begins_from_outside(world: World):
    everything = Rule("ingress", "-1", cidr="0.0.0.0/0")
    world.lead(OPEN, ALL_OUT, everything)
    with namespace.entered(world.outside):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, world.instance.udp(7) as receiver:
        sender.sendto(b"x", (world.instance.address, 7))
        with pytest.raises(TimeoutError):
            receiver.recv(10)


def test_a_relay_that_is_killed_is_started_again_and_has_no_privilege(world: World):
    world.lead(OPEN)
    (process,) = namespace.processes(world.outside)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    assert [int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff")] == [0, 0, 0]
    assert status["NoNewPrivs"] == "1"
    os.kill(process, 9)
    assert eventually(lambda: not world.exit.stands())
    with namespace.entered(world.host):
        # Another agent finds what runs, and mends what does not.
        again = Exit(world.outside, world.vpc.router)
        again.ensure(S3)
        (made,) = namespace.processes(world.outside)
        Exit(world.outside, world.vpc.router).ensure(S3)
        assert namespace.processes(world.outside) == {made}
        assert world.fetch(S3_ADDRESS) == "s3"
        world.exit.ensure(("127.0.0.1", SERVICE))
        assert world.fetch(S3_ADDRESS) == "secret"
        again.ensure(S3)


def test_an_exit_needs_a_router(prefix: str):
    vpc = Vpc(prefix)
    with pytest.raises(NetworkError):
        Exit(f"{prefix}exit", vpc.router).ensure(S3)
