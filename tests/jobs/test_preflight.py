"""The preflight: what may pass between the instances of an encrypted job, and the words for what may not."""

import itertools
import re
import shlex

import botocore.session
import pytest
from botocore.validate import ParamValidator

from phalanx.jobs.explain import ESP, IKE, End
from phalanx.jobs.preflight import MissingRule, failure_reason, missing_rules
from phalanx.jobs.record import FAILURE_REASON_LIMIT
from phalanx.network.model import Rule, SecurityGroup

FLOWS = {"17": IKE, "50": ESP}
SG = "sg-0123456789abcdef0"
OTHER = "sg-0fedcba9876543210"

IKE_IN = Rule("ingress", "17", 500, 500, group=SG)
ESP_IN = Rule("ingress", "50", group=SG)
IKE_OUT = Rule("egress", "17", 500, 500, group=SG)
ESP_OUT = Rule("egress", "50", group=SG)
FOUR = (IKE_IN, ESP_IN, IKE_OUT, ESP_OUT)
ALL_OUT = Rule("egress", "-1", cidr="0.0.0.0/0")


def job(instances, *groups):
    """The instances of a job that all have the same groups."""
    return [End.at(f"algo-{number}", f"10.0.0.{3 + number}", groups) for number in range(1, instances + 1)]


def missing(rules, instances=2):
    return missing_rules(job(instances, SG), [SecurityGroup(SG, tuple(rules))])


def reason(rules, instances=2):
    return failure_reason(missing_rules(job(instances, SG), [SecurityGroup(SG, tuple(rules))]))


def lacking(*pairs):
    return [MissingRule((SG,), direction, FLOWS[protocol], (SG,)) for direction, protocol in pairs]


@pytest.mark.parametrize("instances", [2, 3, 16])
def test_the_documented_rules_are_enough(instances):
    assert missing(FOUR, instances) == []
    assert reason(FOUR, instances) is None


def test_a_single_instance_needs_no_rule():
    assert missing([], 1) == []
    assert reason([], 1) is None


@pytest.mark.parametrize("count", range(4))
def test_each_rule_that_is_not_there_is_missing_once(count):
    names = {
        IKE_IN: ("ingress", "17"),
        ESP_IN: ("ingress", "50"),
        IKE_OUT: ("egress", "17"),
        ESP_OUT: ("egress", "50"),
    }
    for present in itertools.combinations(FOUR, count):
        absent = [names[rule] for rule in FOUR if rule not in present]
        assert missing(present, 4) == lacking(*absent)


def test_the_default_egress_rule_is_enough_outbound():
    assert missing([IKE_IN, ESP_IN, ALL_OUT]) == []


@pytest.mark.parametrize(
    "rule",
    [
        Rule("ingress", "-1", group=SG),
        Rule("ingress", "17", 0, 65535, group=SG),
        Rule("ingress", "17", 500, 4500, group=SG),
        Rule("ingress", "17", 500, 500, cidr="10.0.0.0/24"),
        Rule("ingress", "17", 500, 500, cidr="0.0.0.0/0"),
    ],
)
def test_rules_that_let_ike_in(rule):
    assert missing([rule, ESP_IN, ALL_OUT]) == []


@pytest.mark.parametrize(
    "rule",
    [
        Rule("egress", "17", 500, 500, group=SG),
        Rule("ingress", "6", 500, 500, group=SG),
        Rule("ingress", "17", 501, 65535, group=SG),
        Rule("ingress", "17", 0, 499, group=SG),
        Rule("ingress", "17", 4500, 4500, group=SG),
        Rule("ingress", "17", group=SG),
        Rule("ingress", "50", group=SG),
        Rule("ingress", "17", 500, 500, group=OTHER),
        Rule("ingress", "17", 500, 500, cidr="10.0.1.0/24"),
        Rule("ingress", "17", 500, 500, cidr="::/0"),
        # One of the two instances only.
        Rule("ingress", "17", 500, 500, cidr="10.0.0.4/32"),
    ],
)
def test_rules_that_do_not_let_ike_in(rule):
    assert missing([rule, ESP_IN, ALL_OUT]) == lacking(("ingress", "17"))


def test_ports_mean_nothing_to_esp():
    assert missing([IKE_IN, Rule("ingress", "50", 1, 2, group=SG), ALL_OUT]) == []


def test_esp_by_address():
    by_host = [Rule("ingress", "50", cidr=f"10.0.0.{last}/32") for last in (4, 5)]
    assert missing([IKE_IN, *by_host, ALL_OUT]) == []
    assert missing([IKE_IN, *by_host, ALL_OUT], 3) == lacking(("ingress", "50"))


def test_rules_of_several_groups_add_up():
    groups = [
        SecurityGroup(SG, (IKE_IN, Rule("ingress", "50", group=OTHER))),
        SecurityGroup(OTHER, (ALL_OUT,)),
    ]
    assert missing_rules(job(2, SG, OTHER), groups) == []
    both = (SG, OTHER)
    assert missing_rules(job(2, *both), groups[:1]) == [MissingRule(both, "egress", flow, both) for flow in (IKE, ESP)]


def test_a_group_that_is_gone_allows_nothing():
    assert len(missing_rules(job(2, SG), [])) == 4


def test_instances_with_different_groups():
    ends = [End.at("algo-1", "10.0.0.4", [SG]), End.at("algo-2", "10.0.0.5", [OTHER])]
    groups = [
        SecurityGroup(SG, (ALL_OUT, Rule("ingress", "17", 500, 500, group=OTHER))),
        SecurityGroup(OTHER, (ALL_OUT, Rule("ingress", "-1", group=SG))),
    ]
    assert missing_rules(ends, groups) == [MissingRule((SG,), "ingress", ESP, (OTHER,))]
    assert failure_reason(missing_rules(ends, groups)) == (
        f"ClientError: Security group {SG} has no inbound rule for ESP (protocol 50) from {OTHER}."
        " An encrypted job needs UDP 500 and ESP allowed both ways between its instances."
        f" Run: aws ec2 authorize-security-group-ingress --group-id {SG}"
        f" --ip-permissions 'IpProtocol=50,UserIdGroupPairs=[{{GroupId={OTHER}}}]'"
    )


def test_the_message_for_one_rule():
    assert reason([IKE_IN, ALL_OUT]) == (
        f"ClientError: Security group {SG} has no inbound rule for ESP (protocol 50) from itself."
        " An encrypted job needs UDP 500 and ESP allowed both ways between its instances."
        f" Run: aws ec2 authorize-security-group-ingress --group-id {SG}"
        f" --ip-permissions 'IpProtocol=50,UserIdGroupPairs=[{{GroupId={SG}}}]'"
    )


def test_the_message_for_all_rules():
    text = reason([], 5)
    assert text.startswith(
        f"ClientError: Security group {SG} has no inbound rule for IKE (UDP 500) from itself,"
        " no inbound rule for ESP (protocol 50) from itself, no outbound rule for IKE (UDP 500) to itself,"
        " no outbound rule for ESP (protocol 50) to itself. "
    )
    assert text.count("Run: ") == 2
    assert len(text) <= FAILURE_REASON_LIMIT


def test_the_message_for_several_groups():
    groups = [f"sg-{number:017x}" for number in range(5)]
    text = failure_reason(missing_rules(job(3, *groups), [SecurityGroup(group, (ALL_OUT,)) for group in groups]))
    assert f"Security groups {', '.join(groups)} have no inbound rule for IKE (UDP 500) from themselves," in text
    assert text.count("Run: ") == 1
    everything = failure_reason(missing_rules(job(3, *groups), []))
    assert len(everything) <= FAILURE_REASON_LIMIT
    assert everything.count("rule for") == 4
    assert everything.count("Run: ") == 2


@pytest.mark.parametrize("instances", range(2, 9))
def test_a_message_that_would_be_too_long(instances):
    """An own group for each instance: no such job exists in SageMaker, but the text must stay within its limit."""
    ends = [End.at(f"algo-{number}", f"10.0.0.{3 + number}", [f"sg-{number:017x}"]) for number in range(1, instances + 1)]
    text = failure_reason(missing_rules(ends, []))
    assert len(text) <= FAILURE_REASON_LIMIT
    assert "An encrypted job needs UDP 500 and ESP" in text
    assert text.endswith("More commands are needed.")
    assert ("More groups lack rules." in text) == (instances > 2)


@pytest.mark.parametrize("present", [(), (IKE_IN,), (ESP_IN, ESP_OUT), (IKE_IN, IKE_OUT), (ALL_OUT,)])
def test_the_commands_add_what_is_missing(present):
    """Read as a shell and the AWS CLI read them, they are valid requests, and nothing is missing after them."""
    model = botocore.session.get_session().get_service_model("ec2")
    rules = list(present)
    commands = re.findall(r"Run: (aws ec2 .*?)(?= Run: |$)", reason(present))
    assert commands
    for command in commands:
        program, service, operation, *options = shlex.split(command)
        assert (program, service) == ("aws", "ec2")
        assert options[:2] == ["--group-id", SG]
        assert options[2] == "--ip-permissions"
        permissions = [shorthand(text) for text in options[3:]]
        direction = operation.removeprefix("authorize-security-group-")
        shape = model.operation_model(f"AuthorizeSecurityGroup{direction.capitalize()}").input_shape
        report = ParamValidator().validate({"GroupId": SG, "IpPermissions": permissions}, shape)
        assert not report.has_errors(), report.generate_report()
        for permission in permissions:
            (pair,) = permission["UserIdGroupPairs"]
            ports = permission.get("FromPort"), permission.get("ToPort")
            rules.append(Rule(direction, permission["IpProtocol"], *ports, group=pair["GroupId"]))
    assert reason(rules) is None


def shorthand(text):
    """The AWS CLI's shorthand syntax, as far as the commands use it."""
    fields, _, pairs = text.partition(",UserIdGroupPairs=")
    permission = dict(field.split("=") for field in fields.split(","))
    for port in ("FromPort", "ToPort"):
        if port in permission:
            permission[port] = int(permission[port])
    key, _, value = re.fullmatch(r"\[\{(.*)\}\]", pairs)[1].partition("=")
    return {**permission, "UserIdGroupPairs": [{key: value}]}
