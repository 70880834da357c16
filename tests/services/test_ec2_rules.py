"""Changing rules of security groups in place, and what else is asked about groups; the handlers called directly."""

import pytest
from ec2_client import self_reference

CIDR = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.1.0.0/16", "Description": "ssh"}]}
V6 = {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]}


@pytest.fixture
def added(ec2, group):
    """Ids of four inbound rules, one of each kind of peer."""
    made = ec2.CreateManagedPrefixList(PrefixListName="offices", AddressFamily="IPv4", MaxEntries=2)["PrefixList"]
    permissions = [CIDR, V6, self_reference("50", group), {"IpProtocol": "6", "FromPort": 1, "ToPort": 2}]
    permissions[3]["PrefixListIds"] = [{"PrefixListId": made["PrefixListId"]}]
    rules = ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=permissions)["SecurityGroupRules"]
    return [rule["SecurityGroupRuleId"] for rule in rules]


def rule(ec2, rule_id):
    return ec2.DescribeSecurityGroupRules(SecurityGroupRuleIds=[rule_id])["SecurityGroupRules"][0]


def modification(rule_id, **wanted):
    return {"SecurityGroupRuleId": rule_id, "SecurityGroupRule": wanted}


def test_modifying_rules(ec2, vpc, group, added):
    told = len(ec2.control.changed)
    other = ec2.CreateSecurityGroup(GroupName="other", Description="x", VpcId=vpc)["GroupId"]
    before = rule(ec2, added[0])
    answer = ec2.ModifySecurityGroupRules(
        GroupId=group,
        SecurityGroupRules=[
            modification(added[0], IpProtocol="udp", FromPort=500, ToPort=500, CidrIpv4="10.2.3.4/24", Description="ike"),
            modification(added[1], IpProtocol="-1", CidrIpv6="2001:DB8:1::/48"),
            modification(added[2], IpProtocol="51", ReferencedGroupId=other),
        ],
    )
    assert answer == {"Return": True}
    assert rule(ec2, added[0]) == {
        **before,
        "IpProtocol": "udp",
        "FromPort": 500,
        "ToPort": 500,
        "CidrIpv4": "10.2.3.0/24",
        "Description": "ike",
    }
    second, third = rule(ec2, added[1]), rule(ec2, added[2])
    assert (second["IpProtocol"], second["FromPort"], second["CidrIpv6"]) == ("-1", -1, "2001:db8:1::/48")
    assert (third["IpProtocol"], third["ReferencedGroupInfo"]["GroupId"]) == ("51", other)
    assert "FromPort" not in third
    (changed,) = ec2.control.changed[told:]
    rules = {found.id: found.rules for found in changed[1]}[group]
    assert (changed[0], [(found.protocol, found.cidr or found.group) for found in rules if found.direction == "ingress"]) == (
        vpc,
        [("17", "10.2.3.0/24"), ("-1", "2001:db8:1::/48"), ("51", other)],
    )


def test_a_modified_rule_without_a_description_has_none(ec2, group, added):
    ec2.ModifySecurityGroupRules(
        GroupId=group,
        SecurityGroupRules=[modification(added[0], IpProtocol="tcp", FromPort=22, ToPort=22, CidrIpv4="10.1.0.0/16")],
    )
    assert "Description" not in rule(ec2, added[0])


def test_two_rules_may_change_places(ec2, group):
    permissions = [{"IpProtocol": "50", "IpRanges": [{"CidrIp": f"10.{number}.0.0/16"}]} for number in (1, 2)]
    rules = ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=permissions)["SecurityGroupRules"]
    one, two = (found["SecurityGroupRuleId"] for found in rules)
    ec2.ModifySecurityGroupRules(
        GroupId=group,
        SecurityGroupRules=[
            modification(one, IpProtocol="50", CidrIpv4="10.2.0.0/16"),
            modification(two, IpProtocol="50", CidrIpv4="10.1.0.0/16"),
        ],
    )
    assert [rule(ec2, found)["CidrIpv4"] for found in (one, two)] == ["10.2.0.0/16", "10.1.0.0/16"]


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("InvalidParameterValue", {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "CidrIpv6": "::/0"}),
        ("InvalidParameterValue", {"IpProtocol": "tcp", "FromPort": 2, "ToPort": 1, "CidrIpv4": "10.0.0.0/8"}),
        ("InvalidParameterValue", {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "CidrIpv4": "10.0.0.0"}),
        ("InvalidParameterCombination", {"IpProtocol": "-1", "CidrIpv4": "10.0.0.0/8", "CidrIpv6": "::/0"}),
        ("InvalidParameterCombination", {"IpProtocol": "-1"}),
        ("MissingParameter", {"CidrIpv4": "10.0.0.0/8"}),
        ("InvalidPermission.Duplicate", {"IpProtocol": "89", "CidrIpv4": "10.9.0.0/16"}),
    ],
)
def test_modifications_that_are_refused(ec2, group, added, code, wanted):
    ec2.AuthorizeSecurityGroupIngress(
        GroupId=group, IpPermissions=[{"IpProtocol": "89", "IpRanges": [{"CidrIp": "10.9.0.0/16"}]}]
    )
    # A good modification before the bad one must not be made either.
    good = modification(added[1], IpProtocol="-1", CidrIpv6="::/0")
    members = {"GroupId": group, "SecurityGroupRules": [good, modification(added[0], **wanted)]}
    ec2.refused(code, "ModifySecurityGroupRules", **members)


def test_modifying_what_is_not_there(ec2, vpc, group, added):
    other = ec2.CreateSecurityGroup(GroupName="other", Description="x", VpcId=vpc)["GroupId"]
    wanted = {"IpProtocol": "-1", "CidrIpv4": "10.0.0.0/8"}
    for group_id, rule_id in ((other, added[0]), (group, "sgr-12345678")):
        message = ec2.refused(
            "InvalidSecurityGroupRuleId.NotFound",
            "ModifySecurityGroupRules",
            GroupId=group_id,
            SecurityGroupRules=[modification(rule_id, **wanted)],
        )
        assert message == f"The security group rule ID '{rule_id}' does not exist"
    twice = [modification(added[0], **wanted)] * 2
    ec2.refused("InvalidParameterValue", "ModifySecurityGroupRules", GroupId=group, SecurityGroupRules=twice)
    ec2.refused("InvalidGroup.NotFound", "ModifySecurityGroupRules", GroupId="sg-12345678", SecurityGroupRules=twice)


def test_descriptions(ec2, group, added):
    told = len(ec2.control.changed)
    span = {**CIDR, "IpRanges": [{"CidrIp": "10.1.0.0/16", "Description": "new"}]}
    ec2.UpdateSecurityGroupRuleDescriptionsIngress(GroupId=group, IpPermissions=[span, V6])
    assert (rule(ec2, added[0])["Description"], "Description" in rule(ec2, added[1])) == ("new", False)
    ec2.UpdateSecurityGroupRuleDescriptionsIngress(
        GroupId=group,
        SecurityGroupRuleDescriptions=[
            {"SecurityGroupRuleId": added[2], "Description": "esp"},
            {"SecurityGroupRuleId": added[0]},
        ],
    )
    assert (rule(ec2, added[2])["Description"], "Description" in rule(ec2, added[0])) == ("esp", False)
    out = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}]}
    assert ec2.UpdateSecurityGroupRuleDescriptionsEgress(GroupId=group, IpPermissions=[out]) == {"Return": True}
    assert ec2.group(group)["IpPermissionsEgress"][0]["IpRanges"] == [{"CidrIp": "0.0.0.0/0", "Description": "all"}]
    assert len(ec2.control.changed) == told, "a description allows nothing"


def test_descriptions_that_are_refused(ec2, group, added):
    operation = "UpdateSecurityGroupRuleDescriptionsEgress"
    ec2.refused("InvalidPermission.NotFound", operation, GroupId=group, IpPermissions=[CIDR])
    one = [{"SecurityGroupRuleId": added[0], "Description": "x"}]
    ec2.refused("InvalidSecurityGroupRuleId.NotFound", operation, GroupId=group, SecurityGroupRuleDescriptions=one)
    ec2.refused("MissingParameter", operation, GroupId=group)
    both = {"SecurityGroupRuleDescriptions": one, "IpPermissions": [CIDR]}
    ec2.refused("InvalidParameterCombination", operation, GroupId=group, **both)
    bad = [{"SecurityGroupRuleId": added[0], "Description": "it's"}]
    operation = "UpdateSecurityGroupRuleDescriptionsIngress"
    ec2.refused("InvalidParameterValue", operation, GroupId=group, SecurityGroupRuleDescriptions=bad)


def test_the_groups_of_a_vpc(ec2, vpc, group):
    ec2.CreateVpc(CidrBlock="10.9.0.0/16")
    ec2.CreateTags(Resources=[group], Tags=[{"Key": "team", "Value": "a"}])
    found = ec2.GetSecurityGroupsForVpc(VpcId=vpc)["SecurityGroupForVpcs"]
    assert {item["GroupName"] for item in found} == {"default", "training"}
    (mine,) = [item for item in found if item["GroupId"] == group]
    assert (mine["PrimaryVpcId"], mine["Tags"]) == (vpc, [{"Key": "team", "Value": "a"}])
    for name, value in (("group-name", "train*"), ("group-id", group), ("tag:team", "a")):
        filtered = ec2.GetSecurityGroupsForVpc(VpcId=vpc, Filters=[{"Name": name, "Values": [value]}])
        assert filtered["SecurityGroupForVpcs"] == [mine], name
    ec2.refused("InvalidVpcID.NotFound", "GetSecurityGroupsForVpc", VpcId="vpc-12345678")


def test_nothing_is_stale_and_nothing_refers_from_afar(ec2, vpc, group):
    assert ec2.DescribeStaleSecurityGroups(VpcId=vpc) == {"StaleSecurityGroupSet": []}
    assert ec2.DescribeSecurityGroupReferences(GroupId=[group]) == {"SecurityGroupReferenceSet": []}
    ec2.refused("InvalidVpcID.NotFound", "DescribeStaleSecurityGroups", VpcId="vpc-12345678")
    ec2.refused("InvalidGroup.NotFound", "DescribeSecurityGroupReferences", GroupId=[group, "sg-12345678"])
