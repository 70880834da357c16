"""Which rule allows or blocks traffic between two instances, in words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.stub_fleet import Script, StubFleet
from jobs.test_runner import create, run
from jobs.test_traffic import Lab
from phalanx.jobs.explain import ESP, IKE, Flow, ends, rules, verdict
from phalanx.network.model import Rule
from phalanx.store.jobs import TrainingJob
from phalanx.store.network import SecurityGroupRule

PHALANX = str(Path(sys.executable).parent / "phalanx")
VPC = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def judged(lab, flow, sender="algo-1", receiver="algo-2"):
    with lab.database.read() as session:
        job = session.get_one(TrainingJob, "job")
        there = ends(session, job)
        return verdict(flow, there[sender], there[receiver], rules(session, job))


def explained(lab, tmp_path, *words):
    command = [PHALANX, "explain", "job", *words, "--data-dir", str(tmp_path)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_rules_that_allow_are_named_by_id_group_and_words(lab):
    create(lab.database, VpcConfig=VPC)
    found = judged(lab, IKE)
    assert found.allowed
    (out,), (into,) = (check.allowed_by for check in found.checks)
    assert out.startswith("sgr-0")
    assert out.endswith(" of sg-1: outbound UDP 500 to sg-1")
    assert into.endswith(" of sg-1: inbound UDP 500 from sg-1")
    assert [check.host for check in found.checks] == ["algo-1", "algo-2"]


@pytest.mark.parametrize(
    ("direction", "protocol", "flow", "reason"),
    [
        ("ingress", "17", IKE, "Security group sg-1 has no inbound rule for IKE (UDP 500) from itself."),
        ("egress", "17", IKE, "Security group sg-1 has no outbound rule for IKE (UDP 500) to itself."),
        ("ingress", "50", ESP, "Security group sg-1 has no inbound rule for ESP (protocol 50) from itself."),
        ("egress", "50", ESP, "Security group sg-1 has no outbound rule for ESP (protocol 50) to itself."),
    ],
)
def test_a_rule_that_is_not_there_is_named_with_the_command_that_adds_it(lab, direction, protocol, flow, reason):
    create(lab.database, VpcConfig=VPC)
    lab.revoke(direction, protocol)
    found = judged(lab, flow)
    assert not found.allowed
    (check,) = [check for check in found.checks if check.reason]
    assert (check.direction, check.reason) == (direction, reason)
    port = "FromPort=500,ToPort=500," if protocol == "17" else ""
    assert check.command == (
        f"aws ec2 authorize-security-group-{direction} --group-id sg-1"
        f" --ip-permissions 'IpProtocol={protocol},{port}UserIdGroupPairs=[{{GroupId=sg-1}}]'"
    )
    other = judged(lab, ESP if flow == IKE else IKE)
    assert other.allowed


@pytest.mark.parametrize(
    ("rule", "flow", "words"),
    [
        (Rule("ingress", "-1", cidr="0.0.0.0/0"), Flow("6", 80), "inbound all traffic from 0.0.0.0/0"),
        (Rule("ingress", "6", 80, 90, cidr="10.0.1.0/24"), Flow("6", 80), "inbound TCP 80-90 from 10.0.1.0/24"),
        (Rule("ingress", "6", 80, 90, cidr="10.0.1.0/24"), Flow("6", 91), None),
        (Rule("ingress", "6", 80, 90, cidr="10.0.2.0/24"), Flow("6", 80), None),
        (Rule("ingress", "6", 80, 90, cidr="::/0"), Flow("6", 80), None),
        (Rule("ingress", "6", 80, 90, group="sg-2"), Flow("6", 80), None),
        (Rule("ingress", "1", 8, -1, group="sg-1"), Flow("1", 8), "inbound ICMP type 8 from sg-1"),
        (Rule("ingress", "1", 8, -1, group="sg-1"), Flow("1", 13), None),
        (Rule("ingress", "1", -1, -1, group="sg-1"), Flow("1", 13), "inbound ICMP from sg-1"),
        (Rule("ingress", "47", group="sg-1"), Flow("47"), "inbound protocol 47 from sg-1"),
        (Rule("egress", "47", group="sg-1"), Flow("47"), None),
    ],
)
def test_any_traffic_of_a_job_that_is_not_encrypted(lab, rule, flow, words):
    create(lab.database, encrypted=False, VpcConfig=VPC)
    with lab.database.read() as session:
        there = ends(session, session.get_one(TrainingJob, "job"))
    check = verdict(flow, there["algo-1"], there["algo-2"], {"sg-1": [("sgr-1", rule)]}).checks[1]
    assert check.allowed_by == ((f"sgr-1 of sg-1: {words}",) if words else ())


def test_an_ended_job_is_explained_by_the_rules_of_today(lab, tmp_path):
    create(lab.database, VpcConfig=VPC)
    job = run(lab.database, StubFleet(Script()), lab.world.signer)
    assert job.status == "Completed"
    assert judged(lab, ESP).allowed
    lab.revoke("egress", "50")
    shown = explained(lab, tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[0] == "algo-1 (10.0.1.4) → algo-2 (10.0.1.5)"
    assert "ESP (protocol 50): blocked\n  leaves algo-1: blocked. Security group sg-1 has no outbound rule" in shown.stdout
    assert "\n    aws ec2 authorize-security-group-egress --group-id sg-1 --ip-permissions 'IpProtocol=50," in shown.stdout
    told = json.loads(explained(lab, tmp_path, "--json", "--from", "algo-2", "--to", "algo-1").stdout)
    assert [(flow["traffic"], flow["allowed"]) for flow in told["flows"]] == [
        ("IKE (UDP 500)", True),
        ("ESP (protocol 50)", False),
    ]


def test_a_group_that_is_gone_is_told(lab):
    create(lab.database, VpcConfig=VPC)
    run(lab.database, StubFleet(Script()), lab.world.signer)
    with lab.database.write() as session:
        for rule in session.query(SecurityGroupRule):
            session.delete(rule)
    with lab.database.read() as session:
        there = ends(session, session.get_one(TrainingJob, "job"))
    check = verdict(ESP, there["algo-1"], there["algo-2"], {}).checks[0]
    assert check.reason.endswith("sg-1 does not exist any more.")
    assert check.command is None


def test_a_job_without_a_vpc_is_in_one_where_all_is_allowed(lab):
    create(lab.database)
    assert judged(lab, ESP).allowed
    assert judged(lab, ESP).checks[0].allowed_by[0].startswith("the platform's rule of sg-")


@pytest.mark.parametrize(
    ("encrypted", "words", "answer"),
    [
        (True, ["--protocol", "tcp", "--port", "80"], "travels as IKE (UDP 500) and ESP alone"),
        (False, [], "name what it sends"),
        (False, ["--protocol", "tcp"], "Name the destination port"),
        (False, ["--protocol", "ipx"], "is not a protocol"),
        (True, ["--to", "algo-3"], "job has no instance algo-3: it has algo-1, algo-2."),
        (True, ["--to", "algo-1"], "name two instances"),
    ],
)
def test_questions_without_an_answer_say_what_to_ask(lab, tmp_path, encrypted, words, answer):
    create(lab.database, encrypted=encrypted, VpcConfig=VPC)
    shown = explained(lab, tmp_path, *words)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert answer in shown.stderr


def test_tcp_between_instances_in_the_clear(lab, tmp_path):
    create(lab.database, encrypted=False, VpcConfig=VPC)
    shown = explained(lab, tmp_path, "--protocol", "tcp", "--port", "50000")
    assert "TCP 50000: blocked" in shown.stdout
    assert "'IpProtocol=6,FromPort=50000,ToPort=50000,UserIdGroupPairs=[{GroupId=sg-1}]'" in shown.stdout
