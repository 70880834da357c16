"""Interfaces of jobs, on a real SQLite file."""

import pytest
from sqlalchemy import select

from phalanx.jobs.interfaces import InterfaceError, NoAddress, allocate, check_vpc_config, release, security_groups
from phalanx.network import model
from phalanx.store.base import Base
from phalanx.store.database import Database, sqlite_url
from phalanx.store.network import (
    NetworkInterface,
    NetworkInterfaceGroup,
    ResourceTag,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
    Vpc,
)


@pytest.fixture
def database(tmp_path):
    """Two VPCs: `vpc-1` with two /28 subnets and two groups, `vpc-2` with one of each."""
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    with database.write() as session:
        session.add_all([Vpc(id="vpc-1", cidr="10.0.0.0/16"), Vpc(id="vpc-2", cidr="10.0.0.0/16")])
        session.flush()
        session.add_all(
            [
                Subnet(id="subnet-1a", vpc_id="vpc-1", cidr="10.0.0.0/28", zone="us-east-1a"),
                Subnet(id="subnet-1b", vpc_id="vpc-1", cidr="10.0.1.0/28", zone="us-east-1b"),
                Subnet(id="subnet-2", vpc_id="vpc-2", cidr="10.0.0.0/28", zone="us-east-1a"),
                SecurityGroup(id="sg-1", vpc_id="vpc-1", name="one", description=""),
                SecurityGroup(id="sg-1x", vpc_id="vpc-1", name="another", description=""),
                SecurityGroup(id="sg-2", vpc_id="vpc-2", name="one", description=""),
            ]
        )
    yield database
    database.close()


def addresses(database, job, hosts, subnets=("subnet-1a",), groups=("sg-1",)):
    with database.write() as session:
        return [interface.address for interface in allocate(session, job, hosts, subnets, groups)]


def hosts(count):
    return [f"algo-{number}" for number in range(1, count + 1)]


def test_a_usable_config(database):
    with database.read() as session:
        assert check_vpc_config(session, ["subnet-1a", "subnet-1b"], ["sg-1", "sg-1x"]) == "vpc-1"
        assert check_vpc_config(session, ["subnet-2"], ["sg-2"]) == "vpc-2"


@pytest.mark.parametrize(
    ("subnets", "groups", "message"),
    [
        (["subnet-9"], ["sg-1"], "The subnet ID 'subnet-9' does not exist"),
        (["subnet-1a", "subnet-9"], ["sg-9"], "The subnet ID 'subnet-9' does not exist"),
        (["subnet-1a"], ["sg-1", "sg-9"], "The security group 'sg-9' does not exist"),
        (["subnet-1a", "subnet-2"], ["sg-1"], "Subnet subnet-1a and subnet subnet-2 belong to different networks."),
        (["subnet-1a"], ["sg-1", "sg-2"], "Security group sg-2 and subnet subnet-1a belong to different networks."),
    ],
)
def test_unusable_configs(database, subnets, groups, message):
    with database.read() as session, pytest.raises(InterfaceError) as error:
        check_vpc_config(session, subnets, groups)
    assert str(error.value) == message


def test_the_lowest_free_addresses(database):
    assert addresses(database, "a", hosts(2)) == ["10.0.0.4", "10.0.0.5"]
    assert addresses(database, "b", hosts(1)) == ["10.0.0.6"]
    with database.write() as session:
        release(session, "a")
    assert addresses(database, "c", hosts(3)) == ["10.0.0.4", "10.0.0.5", "10.0.0.7"]


def test_hosts_take_turns_over_the_subnets(database):
    both = ["subnet-1b", "subnet-1a", "subnet-1b"]
    assert addresses(database, "a", hosts(3), both) == ["10.0.1.4", "10.0.0.4", "10.0.1.5"]


def test_a_full_subnet_is_passed_over(database):
    assert len(addresses(database, "a", hosts(10))) == 10
    both = ["subnet-1a", "subnet-1b"]
    assert addresses(database, "b", hosts(3), both) == ["10.0.0.14", "10.0.1.4", "10.0.1.5"]
    assert addresses(database, "c", hosts(2), both) == ["10.0.1.6", "10.0.1.7"]


def test_full_subnets(database):
    taken = addresses(database, "a", hosts(11))
    # 16 addresses, less the first four and the last.
    assert taken == [f"10.0.0.{last}" for last in range(4, 15)]
    with database.write() as session:
        allocate(session, "b", hosts(5), ["subnet-1b"], ["sg-1"])
    with pytest.raises(NoAddress) as error:
        addresses(database, "c", hosts(7), ["subnet-1a", "subnet-1b"])
    assert str(error.value) == "There are not enough free addresses in subnets 'subnet-1a', 'subnet-1b' for 7 instances."
    with pytest.raises(NoAddress) as error:
        addresses(database, "c", hosts(1))
    assert str(error.value) == "There are not enough free addresses in subnet 'subnet-1a' for 1 instances."
    with database.read() as session:
        assert list(session.scalars(select(NetworkInterface).filter_by(job="c"))) == []


def test_a_host_keeps_its_interface(database):
    first = addresses(database, "a", hosts(2))
    addresses(database, "b", hosts(1))
    assert addresses(database, "a", hosts(3)) == [*first, "10.0.0.7"]


def test_an_interface_knows_where_it_belongs(database):
    with database.write() as session:
        allocate(session, "a", hosts(1), ["subnet-1a"], ["sg-1x", "sg-1", "sg-1x"])
    with database.read() as session:
        (interface,) = session.scalars(select(NetworkInterface))
    assert interface.id.startswith("eni-0")
    assert len(interface.id) == len("eni-") + 17
    assert (interface.vpc_id, interface.subnet_id, interface.status) == ("vpc-1", "subnet-1a", "in-use")
    assert (interface.job, interface.host) == ("a", "algo-1")
    assert interface.groups == ("sg-1x", "sg-1")


def test_an_unknown_subnet_or_group(database):
    with pytest.raises(InterfaceError, match="subnet-9"):
        addresses(database, "a", hosts(1), ["subnet-9"])
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        addresses(database, "a", hosts(1), groups=["sg-9"])


def test_release_leaves_nothing_and_may_be_repeated(database):
    addresses(database, "a", hosts(2))
    addresses(database, "b", hosts(1))
    with database.write() as session:
        for interface in session.scalars(select(NetworkInterface)):
            session.add(ResourceTag(resource_id=interface.id, key="of", value=interface.job))
    for _ in range(2):
        with database.write() as session:
            release(session, "a")
    with database.read() as session:
        assert [interface.job for interface in session.scalars(select(NetworkInterface))] == ["b"]
        assert len(list(session.scalars(select(NetworkInterfaceGroup)))) == 1
        assert [tag.value for tag in session.scalars(select(ResourceTag))] == ["b"]


def test_the_rules_of_a_vpc(database):
    with database.write() as session:
        session.add_all(
            [
                SecurityGroupRule(group_id="sg-1", direction="egress", protocol="-1", cidr="::/0"),
                SecurityGroupRule(
                    group_id="sg-1", direction="ingress", protocol="17", from_port=500, to_port=500, peer_group="sg-1"
                ),
                SecurityGroupRule(group_id="sg-2", direction="ingress", protocol="50", peer_group="sg-2"),
            ]
        )
    with database.read() as session:
        assert security_groups(session, "vpc-1") == (
            model.SecurityGroup(
                "sg-1", (model.Rule("egress", "-1", cidr="::/0"), model.Rule("ingress", "17", 500, 500, group="sg-1"))
            ),
            model.SecurityGroup("sg-1x", ()),
        )
        assert security_groups(session, "vpc-3") == ()


def test_a_rule_has_one_peer(database):
    for peer in ({}, {"cidr": "0.0.0.0/0", "peer_group": "sg-1"}):
        with pytest.raises(Exception, match=r"(?i)check"), database.write() as session:
            session.add(SecurityGroupRule(group_id="sg-1", direction="egress", protocol="-1", **peer))
