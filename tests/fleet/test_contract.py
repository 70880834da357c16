"""What every fleet keeps to: the local one, and one of two hosts under Ray, which puts a job's instances on different ones."""

import socket
import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fleet.lan import Lan
from node.test_protocol import HOSTS, spec
from phalanx.data.model import RoleCredentials
from phalanx.fleet.base import FleetError, NoRoom, Refused
from phalanx.fleet.local import LocalFleet
from phalanx.fleet.ray.credentials import Authority
from phalanx.fleet.ray.fleet import RayFleet
from phalanx.fleet.ray.ledger import File
from phalanx.fleet.ray.runtime import HOST_PORTS, PORTS
from phalanx.ipsec.pki import issue_mesh
from phalanx.network.model import Exits, Rule, SecurityGroup
from phalanx.node.messages import HOST_BYTES, Phase
from phalanx.node.names import Names
from phalanx.runtime.images import Images
from stores import discard, stock

GROUP = SecurityGroup(
    "sg-1",
    tuple(
        Rule(direction, protocol, low, high, group="sg-1")
        for direction in ("ingress", "egress")
        for protocol, low, high in (("17", 500, 500), ("50", None, None))
    ),
)


IMAGE = "test/tiny:1"
LENT = RoleCredentials("arn:aws:iam::123456789012:role/a", "ASIAEXAMPLE", "secret", "token", datetime(2030, 1, 1, tzinfo=UTC))
ZONES = ("us-west-2a", "us-west-2b")


class Local:
    """This host."""

    def __init__(self, directory):
        self.directory = directory
        self.images = stock(directory, IMAGE)
        self.stores = [self.images]
        self.fleet = self.made()

    def made(self, planned=None):
        fleet = LocalFleet(self.directory, self.images)
        fleet.open(planned)
        return fleet

    def residents(self, id_, file="spec.json"):
        """On how many hosts an instance's secrets are."""
        return int((Names(self.directory).run_dir / id_ / file).exists())

    def close(self):
        self.fleet.close()
        discard(self.images)
        assert not Names(self.directory).run_dir.exists()


class Ray:
    """Two hosts on a wire, without images, in two zones."""

    def __init__(self, directory):
        self.directory = directory / "control"
        self.images = stock(directory, IMAGE)
        (self.directory / "ray").mkdir(parents=True)
        self.lan = Lan(directory).__enter__()
        with socket.create_server((self.lan.address(1), 0)) as probe:
            self.port = probe.getsockname()[1]
        try:
            self.fleet = self.made()
            authority = Authority(self.directory / "ray")
            for zone in ZONES:
                machine = self.lan.machine()
                machine.zone = zone
                machine.data_dir.mkdir()
                machine.images = directory / f"{machine.name}.images"
                head = f"{self.lan.address(1)}:{self.port}"
                authority.invite(head, machine.address, None).save(machine.invitation)
                machine.join()
            eventually(lambda: len(self.fleet._joined) == 2)
            self.stores = [machine.images for machine in self.lan.machines]
        except BaseException:
            self.lan.__exit__()
            raise

    def made(self, planned=None):
        address = self.lan.address(1)
        fleet = RayFleet(
            self.directory,
            address,
            self.port,
            self.images,
            File(self.directory / "ledger.json"),
            spread=True,
            reserve=lambda _: 1 << 30,
        )
        fleet.open(planned)
        return fleet

    def residents(self, id_, file="spec.json"):
        return sum(machine.path(Names(machine.data_dir).run_dir / id_ / file).exists() for machine in self.lan.machines)

    def close(self):
        try:
            assert [machine.leave() for machine in self.lan.machines] == [0, 0]
            assert [machine.processes() for machine in self.lan.machines] == [[], []]
        finally:
            self.fleet.close()
            discard(self.images)
            self.lan.__exit__()


@pytest.fixture(scope="module", params=[Local, Ray])
def hosts(request, tmp_path_factory):
    made = request.param(tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


@pytest.fixture
def fleet(hosts):
    return hosts.fleet


@pytest.fixture
def pair(fleet, request):
    """The instances of an encrypted job."""
    job = request.node.name.partition("[")[0].replace("_", "-")[:30]
    mesh = issue_mesh(job, list(HOSTS.items()))
    specs = [replace(spec(host, job, encrypted=False), vpc_id=f"vpc-{job[-12:]}", mesh=mesh[host]) for host in HOSTS]
    fleet.enforce(specs[0].vpc_id, (GROUP,), Exits())
    yield specs
    fleet.destroy([each.id for each in specs])


def answers(address, port):
    """Whether anything listens there."""
    with socket.socket() as asking:
        return asking.connect_ex((address, port)) == 0


def eventually(check, seconds=120):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def reached(fleet, specs, phase):
    """Wait until all instances have come so far."""
    deadline = time.monotonic() + 120
    while True:
        statuses = fleet.statuses([each.id for each in specs])
        assert len(statuses) == len(specs)
        assert [status.error for status in statuses.values()] == [None] * len(specs)
        if all(status.phase >= phase for status in statuses.values()):
            return
        assert time.monotonic() < deadline
        fleet.wait(statuses, 5.0)


def test_capacity_is_that_of_all_hosts_and_each_has_room_in_its_zone(fleet, hosts):
    capacity = fleet.capacity()
    assert capacity.cpus >= 1
    assert capacity.memory > 2**30
    rooms = fleet.rooms()
    assert sum(room.memory for room in rooms) == capacity.memory - HOST_BYTES
    assert sorted(str(room.zone) for room in rooms) == (["None"] if isinstance(hosts, Local) else list(ZONES))


def test_an_image_is_brought_by_its_digest_to_hosts_that_lack_it(fleet, pair, hosts):
    assert fleet.has_image(IMAGE)
    bare = [replace(each, image=IMAGE, workspace=replace(each.workspace, channels=())) for each in pair]
    fleet.place(bare)
    reached(fleet, bare, Phase.PREPARED)
    fleet.advance([each.id for each in bare], Phase.LOADED)
    reached(fleet, bare, Phase.LOADED)
    ids = [Images(store, hosts.directory / f"look{n}").id for n, store in enumerate((hosts.images, *hosts.stores))]
    known = ids[0](IMAGE)
    assert [look(known) for look in ids] == [known] * len(ids)


def test_an_unknown_image_is_not_there(fleet):
    assert not fleet.has_image("nobody/has:this")


def test_unknown_instances_are_absent_and_harm_nothing(fleet):
    assert fleet.statuses(["i-none"]) == {}
    fleet.advance(["i-none"], Phase.LOADED)
    fleet.lend(["i-none"], LENT)
    fleet.stop(["i-none"], 1.0)
    fleet.destroy(["i-none"])
    assert fleet.measure(["i-none"]) == fleet.usage(["i-none"]) == []
    assert fleet.logs("i-none", 7, True) == ([], 7)
    with pytest.raises(Refused, match="lost"):
        fleet.upload(["i-none"])


def test_rules_of_a_vpc_without_instances_are_taken(fleet):
    fleet.enforce("vpc-empty", (GROUP,), Exits())


def test_a_pair_connects_through_guards_and_is_measured(fleet, pair, hosts):
    fleet.place(pair)
    reached(fleet, pair, Phase.PREPARED)
    assert [hosts.residents(each.id) for each in pair] == [1, 1]
    fleet.advance([each.id for each in pair], Phase.CONNECTED)
    reached(fleet, pair, Phase.CONNECTED)
    measured = fleet.measure([each.id for each in pair])
    assert sorted((pair.local, pair.remote) for each in measured for pair in each.mesh.pairs) == [
        ("algo-1", "algo-2"),
        ("algo-2", "algo-1"),
    ]
    # Each machine's router counts what its own instances send.
    guards = {each.machine: each.guard for each in measured}
    assert sum(guard.ike_packets for guard in guards.values()) >= 4


def test_instances_that_shall_have_a_host_each_have_one_or_are_told_that_there_are_too_few(fleet, pair, hosts):
    apart = [replace(each, spread=True) for each in pair]
    if isinstance(hosts, Local):
        with pytest.raises(NoRoom) as told:
            fleet.place(apart)
        assert not told.value.ever
        return
    fleet.place(apart)
    assert len({fleet._ledger.places[each.id].host for each in apart}) == 2
    # As many as there will ever be; and none of a job is kept that has no room.
    more = [replace(each, id=f"i-more-{number}", spread=True) for number, each in enumerate((*pair, pair[0]))]
    with pytest.raises(NoRoom) as told:
        fleet.place(more)
    assert not told.value.ever
    assert set(fleet._ledger.places) == {each.id for each in apart}
    # A network has one number on the wire, and no other network has it.
    assert {place.vni for place in fleet._ledger.places.values()} == {fleet._ledger.vni(pair[0].vpc_id)}
    assert fleet._ledger.vni("vpc-other") != fleet._ledger.vni(pair[0].vpc_id)


def test_a_zones_instances_are_on_its_hosts_and_none_on_one_that_drains(fleet, pair, hosts):
    if isinstance(hosts, Local):
        assert fleet.capacity().zones is None
        return
    assert sorted(fleet.capacity().zones) == list(ZONES)
    nowhere, there = ([replace(pair[0], spread=False, zone=zone)] for zone in ("us-west-2c", ZONES[1]))
    with pytest.raises(NoRoom) as told:
        fleet.place(nowhere)
    assert not told.value.ever
    machine = hosts.lan.machines[1]
    assert machine.run("host", "drain") == 0
    with pytest.raises(NoRoom) as told:
        fleet.place(there)
    # It may take some again.
    assert (told.value.ever, told.value.soon) == (True, False)
    # The queue goes on, also where none takes any.
    assert hosts.lan.machines[0].run("host", "drain") == 0
    while fleet.rooms():
        time.sleep(0.1)
    assert len(fleet.rooms(draining=True)) == 2
    for each in hosts.lan.machines[:2]:
        assert each.run("host", "resume") == 0
    while len(fleet.rooms()) < 2:
        time.sleep(0.1)
    fleet.place(there)
    assert [place.host for place in fleet._ledger.places.values()] == [machine.address]


def test_what_is_lent_is_with_the_instances_that_expect_it(fleet, pair, hosts):
    expecting, other = (replace(pair[0], mesh=None, credentials="/v2/credentials/1"), replace(pair[1], mesh=None))
    fleet.place([expecting, other])
    for _ in range(2):
        fleet.lend([expecting.id, other.id], LENT)
    assert [hosts.residents(each.id, "lent") for each in (expecting, other)] == [1, 0]


def test_placing_again_changes_nothing_and_goals_never_go_back(fleet, pair):
    fleet.place(pair)
    fleet.advance([each.id for each in pair], Phase.CONNECTED)
    reached(fleet, pair, Phase.CONNECTED)
    fleet.place(pair)
    fleet.advance([each.id for each in pair], Phase.PREPARED)
    assert {status.phase for status in fleet.statuses([each.id for each in pair]).values()} == {Phase.CONNECTED}


def test_nothing_of_a_destroyed_instance_is_left(fleet, pair, hosts):
    ids = [each.id for each in pair]
    fleet.place(pair)
    reached(fleet, pair, Phase.PREPARED)
    for _ in range(2):
        fleet.destroy(ids)
        assert [hosts.residents(id_) for id_ in ids] == [0, 0]
    eventually(lambda: fleet.statuses(ids) == {})


def test_a_fleet_that_comes_after_finds_what_runs_and_takes_down_what_no_job_has(hosts, pair):
    fleet, (kept, unknown) = hosts.fleet, pair
    fleet.place(pair)
    reached(fleet, pair, Phase.PREPARED)
    if isinstance(hosts, Ray):
        fleet.close()
    else:
        fleet._closing.set()  # as if its process had been killed: closing would end the agent
    hosts.fleet = hosts.made({kept.id})
    # At no moment is it lost.
    assert set(hosts.fleet.statuses([kept.id])) == {kept.id}
    reached(hosts.fleet, [kept], Phase.PREPARED)
    eventually(lambda: hosts.residents(unknown.id) == 0)
    assert hosts.residents(kept.id) == 1

    def destroyed():
        try:
            hosts.fleet.destroy([kept.id])
        except FleetError:
            return False
        return True

    eventually(destroyed)
    # All hosts are back.
    eventually(lambda: isinstance(hosts, Local) or len(hosts.fleet._joined) == 2)


def test_strangers_are_not_spoken_to_and_ray_answers_at_the_declared_ports_alone(hosts):
    if isinstance(hosts, Ray):
        first = int((hosts.directory / "ray" / "ports").read_text())
        control = [port for port in range(first, first + PORTS - 1) if answers(hosts.lan.address(1), port)]
        assert len(control) >= 2
        asked = [(hosts.lan.address(1), port) for port in (hosts.port, *control)]
        for machine in hosts.lan.machines:
            ports = {port for address, port in machine.listeners() if not address.startswith("127.")}
            assert {HOST_PORTS, HOST_PORTS + 1} < ports <= set(range(HOST_PORTS, HOST_PORTS + PORTS))
            asked += [(machine.address, port) for port in ports - {HOST_PORTS + PORTS - 1}]
        # Neither in the clear nor without a certificate of the fleet's.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        images = int((hosts.directory / "ray" / "images.port").read_text())
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
        for where, said in (
            *((each, preface) for each in asked),
            ((hosts.lan.address(1), images), b"GET /v2/ HTTP/1.1\r\n\r\n"),
        ):
            for wrap in (lambda plain: plain, context.wrap_socket):
                with pytest.raises(OSError), wrap(socket.create_connection(where, 10)) as opened:
                    opened.sendall(said)
                    if not opened.recv(1):
                        raise ConnectionResetError
