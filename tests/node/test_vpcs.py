"""Members, guards and rules of a host's VPCs, in real router namespaces."""

import socket
import subprocess
from dataclasses import dataclass, replace

import pytest

from network.lab import ALL_OUT, QUIET, Instance, run
from node.test_protocol import spec
from phalanx.network import namespace
from phalanx.network.errors import NetworkError
from phalanx.network.model import RESOLVER, Exits, Overlay, Remote, Rule, SecurityGroup
from phalanx.node.names import Names
from phalanx.node.vpcs import Vpcs

GROUP = SecurityGroup(
    "sg-1",
    (Rule("ingress", "6", 0, 65535, group="sg-1"), Rule("egress", "6", 0, 65535, cidr="10.0.0.0/8")),
)
SERVER = "import socket; s = socket.create_server(('{0}', 7000)); s.accept()"
CLIENT = "import socket; socket.create_connection(('{0}', 7000), 1)"


@pytest.fixture
def names(tmp_path, monkeypatch):
    names = Names(tmp_path)
    monkeypatch.setattr("phalanx.node.names.RUN", tmp_path / "run")
    names.run_dir.mkdir(parents=True)
    yield names
    for name in namespace.listing(names.namespaces):
        for pid in namespace.processes(name):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        namespace.delete(name)


@pytest.fixture
def vpcs(names):
    return Vpcs(names)


def join(vpcs, names, *specs):
    for one in specs:
        namespace.create(names.instance_namespace(one.id))
        vpcs.admit(one)
        vpcs.join(one)


def reaches(names, source, target):
    """Whether a TCP connection from one instance to another is accepted."""
    enter = ["nsenter", f"--net={namespace.path(names.instance_namespace(target.id))}", "python3", "-c"]
    server = subprocess.Popen([*enter, SERVER.format(target.eni.address)])
    enter = ["nsenter", f"--net={namespace.path(names.instance_namespace(source.id))}", "python3", "-c"]
    script = f"import time\nfor _ in range(20):\n  try:\n    {CLIENT.format(target.eni.address)}; break\n"
    script += "  except ConnectionRefusedError: time.sleep(.1)\nelse: raise SystemExit(1)"
    try:
        return subprocess.run([*enter, script], check=False, stderr=subprocess.DEVNULL).returncode == 0
    finally:
        server.kill()
        server.wait()


def test_no_rules_pushed_means_nothing_passes(vpcs, names):
    one, two = spec("algo-1", encrypted=False), spec("algo-2", encrypted=False)
    join(vpcs, names, one, two)
    assert not reaches(names, one, two)
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    assert reaches(names, one, two)


def test_the_guard_of_an_encrypted_job_beats_its_groups(vpcs, names):
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    one, two = spec("algo-1"), spec("algo-2")
    join(vpcs, names, one, two)
    assert not reaches(names, one, two)
    assert vpcs.counters(one).dropped_packets > 0


@pytest.mark.shows("EnableNetworkIsolation")
def test_isolated_instances_reach_their_peers_and_nobody_else(vpcs, names):
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    other_hosts = {"algo-1": "10.0.0.20"}
    one, two = spec("algo-1", encrypted=False, isolated=True), spec("algo-2", encrypted=False, isolated=True)
    neighbour = spec("algo-1", job="other", encrypted=False, hosts=other_hosts)
    join(vpcs, names, one, two, neighbour)
    assert reaches(names, one, two)
    assert not reaches(names, one, neighbour)
    assert not reaches(names, neighbour, one)


def test_instances_that_are_not_isolated_reach_their_neighbours(vpcs, names):
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    one = spec("algo-1", encrypted=False)
    neighbour = spec("algo-1", job="other", encrypted=False, hosts={"algo-1": "10.0.0.20"})
    join(vpcs, names, one, neighbour)
    assert reaches(names, one, neighbour)
    assert reaches(names, neighbour, one)


def test_a_new_agent_keeps_guards_and_counters(vpcs, names):
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    one, two = spec("algo-1"), spec("algo-2")
    join(vpcs, names, one, two)
    reaches(names, one, two)
    dropped = vpcs.counters(one).dropped_packets
    again = Vpcs(names)
    again.restore([one, two])
    again.join(one)
    assert again.counters(one).dropped_packets >= dropped > 0
    again.join(two)
    assert not reaches(names, one, two)


def test_rules_that_somebody_flushed_are_re_asserted(vpcs, names):
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    one, two = spec("algo-1"), spec("algo-2")
    join(vpcs, names, one, two)
    assert not vpcs.verify("vpc-1")
    router = namespace.path(names.router_namespace("vpc-1"))
    subprocess.run(["nsenter", f"--net={router}", "nft", "flush", "ruleset"], check=True)
    assert vpcs.verify("vpc-1")
    assert not vpcs.verify("vpc-1")
    assert not reaches(names, one, two)


def test_what_an_earlier_agent_applied_is_not_taken_for_a_change_by_others(vpcs, names):
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    join(vpcs, names, spec("algo-1"))
    again = Vpcs(names)
    again.restore([spec("algo-1")])
    assert not again.verify("vpc-1")
    assert not again.verify("vpc-2")


def test_a_router_that_somebody_deleted_is_made_again(vpcs, names):
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    one, two = spec("algo-1", encrypted=False), spec("algo-2", encrypted=False)
    join(vpcs, names, one, two)
    namespace.delete(names.router_namespace("vpc-1"))
    assert vpcs.verify("vpc-1")
    assert reaches(names, one, two)


def test_who_has_no_namespace_yet_keeps_no_router_from_being_made_again(vpcs, names):
    one, two, late = (
        spec("algo-1", encrypted=False),
        spec("algo-2", encrypted=False),
        spec("algo-1", job="late", encrypted=False),
    )
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    late = replace(late, eni=replace(late.eni, address="10.0.0.77"))
    join(vpcs, names, one, two)
    vpcs.admit(late)
    namespace.delete(names.router_namespace("vpc-1"))
    assert vpcs.verify("vpc-1")
    assert reaches(names, one, two)


def test_the_last_to_leave_takes_the_router_along(vpcs, names):
    one, two = spec("algo-1"), spec("algo-2")
    join(vpcs, names, one, two)
    vpcs.leave(one)
    assert namespace.exists(names.router_namespace("vpc-1"))
    vpcs.leave(two)
    vpcs.leave(two)
    assert not namespace.exists(names.router_namespace("vpc-1"))


def asks_for_names(names, member):
    """Whether a question of an instance's to the name server comes to the exit."""
    with (
        namespace.entered(names.exit_namespace(member.vpc_id)),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as seen,
    ):
        seen.settimeout(QUIET)
        with Instance(member.eni, names.instance_namespace(member.id)).udp(5353) as asking:
            asking.sendto(b"who", (RESOLVER, 53))
            try:
                while seen.recv(100)[26:34] != socket.inet_aton(member.eni.address) + socket.inet_aton(RESOLVER):
                    pass
            except TimeoutError:
                return False
            return True


def test_the_exit_stands_while_something_leads_out_and_is_mended(vpcs, names):
    one = spec("algo-1", encrypted=False)
    isolated = spec("algo-1", job="isolated", encrypted=False, isolated=True, hosts={"algo-1": "10.0.0.20"})
    there = names.exit_namespace("vpc-1")
    vpcs.enforce("vpc-1", (GROUP,), Exits())
    join(vpcs, names, one, isolated)
    assert not namespace.exists(there)
    subnet = f"{one.eni.address.rpartition('.')[0]}.0/24"
    vpcs.enforce("vpc-1", (GROUP,), Exits(s3=(subnet,), names=(subnet,)))
    (relay,) = namespace.processes(there)
    assert vpcs.finds_names(one)
    assert asks_for_names(names, one)
    assert not vpcs.finds_names(isolated)
    assert not asks_for_names(names, isolated)
    again = Vpcs(names)
    again.restore([one, isolated])
    again.join(one)
    assert namespace.processes(there) == {relay}, "a new agent takes it up"
    subprocess.run(["kill", "-9", str(relay)], check=True)
    while relay in namespace.processes(there):
        pass
    assert not again.verify("vpc-1")
    assert namespace.processes(there) not in (set(), {relay})
    namespace.delete(names.router_namespace("vpc-1"))
    assert again.verify("vpc-1"), "the router is made again, and the exit wired to it"
    for each in (one, isolated):
        again.leave(each)
    assert namespace.listing(names.router_namespace("vpc-1")) == []
    assert (again._routers, again._exits) == ({}, {})


FRIENDS = (
    SecurityGroup(
        "sg-server",
        (ALL_OUT, Rule("ingress", "17", 7000, 7000, cidr="10.0.0.0/24"), Rule("ingress", "17", 6000, 6000, group="sg-friend")),
    ),
    SecurityGroup("sg-friend", (ALL_OUT,)),
    SecurityGroup("sg-foe", (ALL_OUT,)),
)
REUSED = "10.0.0.20"


@dataclass
class Host:
    """A host of its own: a namespace with an address on the link to the other, and VPCs of its own."""

    name: str
    address: str
    names: Names

    def __post_init__(self):
        self.vpcs = Vpcs(self.names)

    def enforce(self, *remotes):
        with namespace.entered(self.name):
            self.vpcs.enforce("vpc-1", FRIENDS, Exits(), Overlay(7, self.address, tuple(remotes)))

    def join(self, member):
        with namespace.entered(self.name):
            join(self.vpcs, self.names, member)
        return Instance(member.eni, self.names.instance_namespace(member.id))

    def leave(self, member):
        with namespace.entered(self.name):
            self.vpcs.leave(member)
        namespace.delete(self.names.instance_namespace(member.id))


@pytest.fixture
def hosts(names, tmp_path):
    """Two hosts of one VPC."""
    made = []
    for letter, address in (("a", "192.168.7.1"), ("b", "192.168.7.2")):
        name = f"{names.namespaces}{letter}"
        namespace.create(name)
        if made:
            run(made[0].name, "ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", name)
        own = Names(tmp_path / letter)
        own.run_dir.mkdir()
        made.append(Host(name, address, own))
    for host in made:
        run(host.name, "ip", "addr", "add", f"{host.address}/24", "dev", "wire")
        run(host.name, "ip", "link", "set", "wire", "up")
    yield made
    for host in made:
        for name in namespace.listing(host.names.namespaces):
            namespace.delete(name)


def alone(job, group, address):
    return spec("algo-1", job=job, groups=(group,), encrypted=False, hosts={"algo-1": address})


def exchange(one, two):
    """Whether a datagram passes, and its answer, by the connection alone."""
    return one.reaches_udp(two, 6000, source=5000) and two.reaches_udp(one, 5000, source=6000)


def test_who_has_the_address_of_one_that_has_left_inherits_nothing_on_another_host_either(hosts):
    here, there = hosts
    friend, foe = alone("friend", "sg-friend", REUSED), alone("foe", "sg-foe", REUSED)
    here.enforce()
    server = here.join(alone("server", "sg-server", "10.0.0.10"))
    assert exchange(here.join(friend), server)
    here.leave(friend)
    there.enforce(Remote(server.eni, here.address))
    heir = there.join(foe)
    here.enforce(Remote(foe.eni, there.address))
    assert heir.reaches_udp(server, 7000, source=5000)
    assert not heir.reaches_udp(server, 6000, source=5000)


def test_connections_of_those_who_left_other_hosts_are_forgotten_where_it_fails_at_first(hosts, monkeypatch):
    here, there = hosts
    friend, foe = alone("friend", "sg-friend", REUSED), alone("foe", "sg-foe", REUSED)
    here.enforce(Remote(friend.eni, there.address))
    server = here.join(alone("server", "sg-server", "10.0.0.10"))
    there.enforce(Remote(server.eni, here.address))
    assert exchange(there.join(friend), server)
    there.leave(friend)
    there.enforce(Remote(server.eni, here.address))
    heir = there.join(foe)
    with monkeypatch.context() as broken:
        broken.setenv("PATH", "/nowhere")
        with pytest.raises(NetworkError, match="cannot run nft"):
            here.enforce(Remote(foe.eni, there.address))
    here.enforce(Remote(foe.eni, there.address))
    assert heir.reaches_udp(server, 7000, source=5000)
    assert not heir.reaches_udp(server, 6000, source=5000)
