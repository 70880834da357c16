"""Network ACLs between the subnets of a job: what it is told, before it starts and while it trains."""

import json
import re
import shlex
from ipaddress import IPv4Network

import pytest

from jobs.test_explain import explained
from jobs.test_runner import create, load
from jobs.test_traffic import Lab
from phalanx.jobs import acls, exits, traffic
from phalanx.jobs.explain import ESP, IKE, End, Flow, ends, rules, verdict
from phalanx.jobs.preflight import blocked, border_reason
from phalanx.jobs.record import FAILURE_REASON_LIMIT
from phalanx.jobs.runner import Runner
from phalanx.network.model import Acl, AclRule, Rule
from phalanx.store.jobs import TrainingJob
from phalanx.store.network import InternetGateway, NatGateway, NetworkAcl, Route, RouteTable, RouteTableAssociation, Subnet

VPC = {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}


def entry(number, egress, protocol="-1", action="allow", cidr="0.0.0.0/0", **more):
    key = f"{'egress' if egress else 'ingress'}-{number}"
    return {
        key: {"RuleNumber": number, "Protocol": protocol, "RuleAction": action, "Egress": egress, "CidrBlock": cidr, **more}
    }


OPEN = {**entry(100, True), **entry(100, False)}
ALL = Rule("egress", "-1", cidr="0.0.0.0/0")


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    with lab.database.write() as session:
        session.add(Subnet(id="subnet-2", vpc_id="vpc-1", cidr="10.0.2.0/24", zone="us-west-2b"))
        session.add(NetworkAcl(id="acl-1", vpc_id="vpc-1", is_default=True, entries=OPEN))
    yield lab
    lab.close()


def write(lab, entries, id="acl-1"):
    with lab.database.write() as session:
        session.get_one(NetworkAcl, id).entries = entries
    lab.enforcement.changed("vpc-1")


def of_vpc(lab):
    with lab.database.read() as session:
        return acls.of_vpc(session, "vpc-1")


def test_an_acl_that_allows_everything_is_none(lab):
    assert of_vpc(lab) == ()
    write(lab, {**OPEN, **entry(200, True, action="deny")})
    assert of_vpc(lab) == ()
    write(lab, {**OPEN, **entry(99, True, protocol="6", action="deny", PortRange={"From": 22, "To": 22})})
    (found,) = of_vpc(lab)
    assert found.networks == ("10.0.1.0/24", "10.0.2.0/24")
    assert found.rules[0] == AclRule(99, False, Rule("egress", "6", 22, 22, cidr="0.0.0.0/0"))
    # Each subnet has its own; who watches none is none.
    with lab.database.write() as session:
        session.add(NetworkAcl(id="acl-2", vpc_id="vpc-1", entries={}))
    assert len(of_vpc(lab)) == 1
    with lab.database.write() as session:
        session.get_one(Subnet, "subnet-2").acl_id = "acl-2"
    assert [(each.id, each.networks) for each in of_vpc(lab)] == [("acl-1", ("10.0.1.0/24",)), ("acl-2", ("10.0.2.0/24",))]


def test_an_encrypted_job_whose_subnets_do_not_let_esp_pass_is_told_before_it_starts(lab):
    ike = {"PortRange": {"From": 500, "To": 500}}
    write(lab, {**OPEN, **entry(100, False, "17", **ike), **entry(200, False, "50", "deny")})
    create(lab.database, VpcConfig=VPC)
    Runner("job", lab.world).run()
    job = load(lab.database)
    assert job.status == "Failed"
    lines = [
        r"ClientError: Network ACL acl-1 lets no inbound ESP \(protocol 50\) from 10\.0\.[12]\.\d+ pass: rule 200 denies it\.",
        r"An encrypted job needs UDP 500 and ESP allowed both ways between its subnets\.",
        r"Run: aws ec2 create-network-acl-entry --network-acl-id acl-1 --ingress --rule-number 199 --protocol 50"
        r" --cidr-block 10\.0\.[12]\.0/24 --rule-action allow",
    ]
    for line in lines:
        assert re.search(line, job.failure_reason), job.failure_reason


@pytest.mark.parametrize(("instances", "subnets"), [(1, ["subnet-1", "subnet-2"]), (2, ["subnet-1"])])
def test_within_a_subnet_acls_have_no_say(lab, instances, subnets):
    write(lab, {})
    create(lab.database, instances=instances, VpcConfig={**VPC, "Subnets": subnets})
    with lab.training():
        assert lab.told().startswith("Training image download completed")


def test_a_training_job_is_told_that_an_acl_stops_it_and_that_it_goes_on(lab):
    create(lab.database, VpcConfig=VPC)
    with lab.training():
        write(lab, entry(100, True))
        assert lab.told().startswith(
            traffic.STOPPED + "Network ACL acl-1 lets no inbound IKE (UDP 500) and ESP (protocol 50) from"
        )
        assert lab.fleet.exits["vpc-1"].acls == of_vpc(lab)
        write(lab, {**OPEN, **entry(50, True, "17", "deny", PortRange={"From": 0, "To": 65535})})
        assert lab.told().startswith(traffic.AT_RISK + "Network ACL acl-1 lets no outbound IKE (UDP 500) to")
        write(lab, OPEN)
        assert lab.told() == traffic.FLOWS


def judged(lab, flow):
    with lab.database.read() as session:
        job = session.get_one(TrainingJob, "job")
        there = ends(session, job)
        return verdict(flow, there["algo-1"], there["algo-2"], rules(session, job), acls.of_job(session, job))


def test_explain_names_the_rule_of_the_acl(lab, tmp_path):
    create(lab.database, VpcConfig=VPC)
    write(lab, {**entry(100, True), **entry(40, False, "50"), **entry(50, False, "1", IcmpTypeCode={"Type": 8, "Code": -1})})
    found = judged(lab, ESP)
    assert found.allowed
    assert [check.allowed_by[-1] for check in found.checks] == ["rule 100 of acl-1", "rule 40 of acl-1"]
    assert [check.reason for check in judged(lab, IKE).checks] == [
        None,
        "Network ACL acl-1 lets no inbound IKE (UDP 500) from 10.0.1.0/24, 10.0.2.0/24 pass: no rule allows it.",
    ]
    # Rules of groups come before: those of ICMP are not there at all.
    assert "Security group" in judged(lab, Flow("1", 8)).checks[1].reason
    lab.close()
    shown = json.loads(explained(lab, tmp_path, "--json").stdout)
    assert [flow["allowed"] for flow in shown["flows"]] == [False, True]
    (command,) = [check["command"] for check in shown["flows"][0]["checks"] if check["command"]]
    assert "--port-range From=500,To=500" in command


def at(*addresses, subnets=()):
    blocks = [IPv4Network(subnet) for subnet in subnets]
    return [End.at(f"algo-{number}", address, (), blocks) for number, address in enumerate(addresses, 1)]


def test_what_stops_many_instances_fits_the_reason():
    networks = [f"10.0.{number}.0/24" for number in range(1, 17)]
    instances = at(*(f"10.0.{number}.4" for number in range(1, 17)), subnets=networks)
    found = blocked(instances, [Acl("acl-0123456789abcdef0", tuple(networks), ())])
    # Each address, both ways, both flows.
    assert len(found) == 16 * 2 * 2
    reason = border_reason(found)
    assert len(reason) <= FAILURE_REASON_LIMIT
    assert "More is denied. An encrypted job needs" in reason
    assert border_reason([]) is None
    assert blocked(instances, []) == []


def test_a_command_has_a_number_before_the_rule_that_denies():
    denying = [AclRule(number, False, Rule("ingress", "-1", cidr="0.0.0.0/0")) for number in (1, 2)]
    some = Acl("acl-1", ("10.0.1.0/24",), (AclRule(100, True, ALL), *denying))
    reason = border_reason(blocked(at("10.0.1.4", "10.0.2.4"), [some]))
    assert "rule 1 denies it" in reason
    assert "Run:" not in reason
    none = Acl(
        "acl-1", ("10.0.1.0/24",), (AclRule(32766, True, Rule("ingress", "50", cidr="0.0.0.0/0")), AclRule(1, True, ALL))
    )
    reason = border_reason(blocked(at("10.0.1.4", "10.0.2.4"), [none]))
    (command,) = reason.split("Run: ")[1:]
    assert shlex.split(command)[6:8] == ["--rule-number", "32765"]


def test_each_command_has_a_number_of_its_own():
    shut = Acl("acl-1", ("10.0.1.0/24",), (AclRule(100, True, ALL),))
    instances = at("10.0.1.4", "10.0.2.4", "10.0.2.5", subnets=["10.0.1.0/24", "10.0.2.0/24"])
    commands = border_reason(blocked(instances, [shut])).split(" Run: ")[1:]
    told = [
        re.search(r"--(ingress|egress) --rule-number (\d+) --protocol (\d+) .*--cidr-block (\S+)", each) for each in commands
    ]
    assert sorted(each.groups() for each in told) == [
        ("ingress", "32765", "50", "10.0.2.0/24"),
        ("ingress", "32766", "17", "10.0.2.0/24"),
    ]


def test_a_nat_gateway_is_behind_the_acl_of_its_subnet(lab):
    with lab.database.write() as session:
        session.get_one(Subnet, "subnet-2").acl_id = "acl-2"
        session.add(NetworkAcl(id="acl-2", vpc_id="vpc-1", entries=entry(100, True)))
        session.add_all(RouteTable(id=f"rtb-{number}", vpc_id="vpc-1") for number in (1, 2))
        session.flush()
        session.add_all(
            RouteTableAssociation(route_table_id=f"rtb-{number}", subnet_id=f"subnet-{number}") for number in (1, 2)
        )
        session.add(
            NatGateway(
                id="nat-1",
                vpc_id="vpc-1",
                subnet_id="subnet-2",
                connectivity="public",
                interface_id="eni-1",
                private_address="10.0.2.9",
            )
        )
        session.add(Route(route_table_id="rtb-1", destination="8.8.8.0/24", target="nat-1"))
        session.add(Route(route_table_id="rtb-2", destination="0.0.0.0/0", target="igw-1"))
        session.add(InternetGateway(id="igw-1", vpc_id="vpc-1"))
    with lab.database.read() as session:
        found = exits.of_vpc(session, "vpc-1")
    assert found.outside == (("10.0.1.0/24", "8.8.8.0/24"),)
    assert [(acl.id, acl.behind) for acl in found.acls] == [("acl-2", (("10.0.1.0/24", "8.8.8.0/24"),))]
