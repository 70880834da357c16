"""Network ACLs; the handlers called directly."""

import pytest

from phalanx.services.ec2.network_acls import ENTRIES

EVERYTHING = {"Protocol": "-1", "RuleAction": "allow", "CidrBlock": "0.0.0.0/0"}


@pytest.fixture
def subnet(ec2, vpc):
    return ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]


def shown(ec2, acl):
    (found,) = ec2.DescribeNetworkAcls(NetworkAclIds=[acl])["NetworkAcls"]
    return found


def default(ec2, vpc):
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "default", "Values": ["true"]}]
    (found,) = ec2.DescribeNetworkAcls(Filters=filters)["NetworkAcls"]
    return found


def numbers(acl):
    return [(entry["Egress"], entry["RuleNumber"], entry["RuleAction"]) for entry in acl["Entries"]]


def enforced(ec2, vpc):
    """What the jobs room was told last: by ACL its networks, and its rules."""
    return {
        acl.id: (
            acl.networks,
            [(each.rule.direction, each.number, each.allow, each.rule.protocol, each.rule.cidr) for each in acl.rules],
        )
        for acl in ec2.control.exits[vpc].acls
    }


def test_infrastructure_code_writes_the_default_acl_anew(ec2, vpc, subnet):
    """As Terraform's aws_default_network_acl does: every entry is deleted, and those that are wanted are made."""
    acl = default(ec2, vpc)["NetworkAclId"]
    for egress in (True, False):
        ec2.DeleteNetworkAclEntry(NetworkAclId=acl, RuleNumber=100, Egress=egress)
    # Nothing crosses the subnet's border any more.
    assert numbers(shown(ec2, acl)) == [(True, 32767, "deny"), (False, 32767, "deny")]
    assert enforced(ec2, vpc) == {acl: (("10.0.1.0/24",), [])}
    for egress in (True, False):
        ec2.CreateNetworkAclEntry(NetworkAclId=acl, RuleNumber=100, Egress=egress, **EVERYTHING)
        of_ipv6 = {"Protocol": "-1", "RuleAction": "allow", "Ipv6CidrBlock": "::/0"}
        ec2.CreateNetworkAclEntry(NetworkAclId=acl, RuleNumber=101, Egress=egress, **of_ipv6)
    assert numbers(shown(ec2, acl))[3:] == [(False, 100, "allow"), (False, 101, "allow"), (False, 32767, "deny")]
    assert shown(ec2, acl)["Entries"][1] == {"RuleNumber": 101, "Egress": True, **of_ipv6}
    assert enforced(ec2, vpc) == {}


def test_an_acl_of_ones_own(ec2, vpc, subnet):
    first = default(ec2, vpc)
    made = ec2.CreateNetworkAcl(
        VpcId=vpc, TagSpecifications=[{"ResourceType": "network-acl", "Tags": [{"Key": "a", "Value": "b"}]}], ClientToken="t"
    )
    acl = made["NetworkAcl"]["NetworkAclId"]
    assert made == ec2.CreateNetworkAcl(
        VpcId=vpc, TagSpecifications=[{"ResourceType": "network-acl", "Tags": [{"Key": "a", "Value": "b"}]}], ClientToken="t"
    )
    assert (made["NetworkAcl"]["IsDefault"], made["NetworkAcl"]["Associations"]) == (False, [])
    assert numbers(made["NetworkAcl"]) == [(True, 32767, "deny"), (False, 32767, "deny")]
    ec2.CreateNetworkAclEntry(
        NetworkAclId=acl,
        RuleNumber=110,
        Egress=False,
        Protocol="6",
        RuleAction="allow",
        CidrBlock="10.0.2.7/24",
        PortRange={"From": 443, "To": 443},
    )
    ec2.CreateNetworkAclEntry(
        NetworkAclId=acl,
        RuleNumber=50,
        Egress=False,
        Protocol="1",
        RuleAction="deny",
        CidrBlock="0.0.0.0/0",
        IcmpTypeCode={"Type": 8, "Code": -1},
    )
    assert enforced(ec2, vpc) == {}
    (before,) = first["Associations"]
    after = ec2.ReplaceNetworkAclAssociation(AssociationId=before["NetworkAclAssociationId"], NetworkAclId=acl)
    assert shown(ec2, acl)["Associations"] == [
        {"NetworkAclAssociationId": after["NewAssociationId"], "NetworkAclId": acl, "SubnetId": subnet}
    ]
    assert default(ec2, vpc)["Associations"] == []
    rules = [("ingress", 50, False, "1", "0.0.0.0/0"), ("ingress", 110, True, "6", "10.0.2.0/24")]
    assert enforced(ec2, vpc) == {acl: (("10.0.1.0/24",), rules)}
    for name, value, known in (
        ("association.subnet-id", subnet, [acl]),
        ("association.association-id", after["NewAssociationId"], [acl]),
        ("entry.port-range.from", "443", [acl]),
        ("entry.icmp.type", "8", [acl]),
        ("entry.cidr", "10.0.2.0/24", [acl]),
        ("entry.rule-number", "100", [first["NetworkAclId"]]),
        ("tag:a", "b", [acl]),
    ):
        found = ec2.DescribeNetworkAcls(Filters=[{"Name": name, "Values": [value]}])["NetworkAcls"]
        assert [each["NetworkAclId"] for each in found] == known, name
    ec2.refused("DependencyViolation", "DeleteNetworkAcl", NetworkAclId=acl)
    ec2.refused(
        "InvalidAssociationID.NotFound",
        "ReplaceNetworkAclAssociation",
        AssociationId=before["NetworkAclAssociationId"],
        NetworkAclId=acl,
    )
    ec2.ReplaceNetworkAclEntry(NetworkAclId=acl, RuleNumber=110, Egress=False, **EVERYTHING)
    assert enforced(ec2, vpc)[acl][1][1] == ("ingress", 110, True, "-1", "0.0.0.0/0")
    ec2.ReplaceNetworkAclAssociation(AssociationId=after["NewAssociationId"], NetworkAclId=first["NetworkAclId"])
    assert enforced(ec2, vpc) == {}
    ec2.DeleteSubnet(SubnetId=subnet)
    ec2.refused("DependencyViolation", "DeleteVpc", VpcId=vpc)
    ec2.DeleteNetworkAcl(NetworkAclId=acl)
    ec2.refused("InvalidNetworkAclID.NotFound", "DeleteNetworkAcl", NetworkAclId=acl)
    ec2.refused("InvalidParameterValue", "DeleteNetworkAcl", NetworkAclId=first["NetworkAclId"])
    ec2.DeleteVpc(VpcId=vpc)


def test_an_acl_of_another_vpc(ec2, vpc, subnet):
    other = ec2.CreateVpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    (association,) = default(ec2, vpc)["Associations"]
    ec2.refused(
        "InvalidParameterValue",
        "ReplaceNetworkAclAssociation",
        AssociationId=association["NetworkAclAssociationId"],
        NetworkAclId=default(ec2, other)["NetworkAclId"],
    )


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("NetworkAclEntryAlreadyExists", {"RuleNumber": 100}),
        ("InvalidParameterValue", {"RuleNumber": 0}),
        ("InvalidParameterValue", {"RuleNumber": 32767}),
        ("InvalidParameterValue", {"Protocol": "esp"}),
        ("InvalidParameterValue", {"Protocol": "256"}),
        ("InvalidParameterValue", {"CidrBlock": "10.0.0.0"}),
        ("InvalidParameterCombination", {"Ipv6CidrBlock": "::/0"}),
        ("MissingParameter", {"CidrBlock": None}),
        ("MissingParameter", {"Protocol": "6"}),
        ("MissingParameter", {"Protocol": "17", "PortRange": {"From": 1}}),
        ("InvalidParameterValue", {"Protocol": "6", "PortRange": {"From": 2, "To": 1}}),
        ("InvalidParameterValue", {"Protocol": "6", "PortRange": {"From": 0, "To": 65536}}),
        ("MissingParameter", {"Protocol": "1"}),
        ("InvalidParameterValue", {"Protocol": "1", "IcmpTypeCode": {"Type": -1, "Code": 0}}),
    ],
)
def test_entries_that_cannot_be(ec2, vpc, code, changes):
    acl = default(ec2, vpc)["NetworkAclId"]
    entry = {"NetworkAclId": acl, "RuleNumber": 7, "Egress": True, **EVERYTHING, **changes}
    ec2.refused(code, "CreateNetworkAclEntry", **{name: value for name, value in entry.items() if value is not None})


def test_entries_that_are_not_there_and_too_many(ec2, vpc):
    acl = default(ec2, vpc)["NetworkAclId"]
    for operation, more in (("ReplaceNetworkAclEntry", EVERYTHING), ("DeleteNetworkAclEntry", {})):
        for number in (7, 32767):
            code = "InvalidParameterValue" if more and number == 32767 else "InvalidNetworkAclEntry.NotFound"
            ec2.refused(code, operation, NetworkAclId=acl, RuleNumber=number, Egress=True, **more)
    for number in range(1, ENTRIES):
        ec2.CreateNetworkAclEntry(NetworkAclId=acl, RuleNumber=number, Egress=True, **EVERYTHING)
    one = {"NetworkAclId": acl, "RuleNumber": ENTRIES, **EVERYTHING}
    ec2.refused("NetworkAclEntryLimitExceeded", "CreateNetworkAclEntry", Egress=True, **one)
    ec2.CreateNetworkAclEntry(Egress=False, **one)
