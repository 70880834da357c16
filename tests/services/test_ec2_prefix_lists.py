"""Managed prefix lists and the rules that refer to them; the handlers called directly."""

import re

import pytest

from phalanx.jobs import interfaces
from phalanx.network import model


@pytest.fixture
def offices(ec2):
    made = ec2.CreateManagedPrefixList(
        PrefixListName="offices",
        AddressFamily="IPv4",
        MaxEntries=5,
        Entries=[{"Cidr": "10.8.0.1/16", "Description": "a"}, {"Cidr": "10.9.0.0/16"}],
        TagSpecifications=[{"ResourceType": "prefix-list", "Tags": [{"Key": "team", "Value": "a"}]}],
    )
    return made["PrefixList"]


def refer(ec2, group, list_id, protocol="50"):
    permission = {"IpProtocol": protocol, "PrefixListIds": [{"PrefixListId": list_id, "Description": "x"}]}
    return ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[permission])["SecurityGroupRules"][0]


def blocks(ec2, vpc, group):
    """The inbound blocks of a group as they are enforced."""
    with ec2.database.read() as session:
        rules = {found.id: found.rules for found in interfaces.security_groups(session, vpc)}[group]
    return [rule.cidr for rule in rules if rule.direction == "ingress"]


def entries(ec2, list_id, **members):
    found = ec2.GetManagedPrefixListEntries(PrefixListId=list_id, **members)["Entries"]
    return {entry["Cidr"]: entry.get("Description") for entry in found}


def test_a_prefix_list(ec2, offices):
    assert re.fullmatch(r"pl-0[0-9a-f]{16}", offices["PrefixListId"])
    assert (offices["State"], offices["Version"], offices["MaxEntries"]) == ("create-complete", 1, 5)
    assert (offices["AddressFamily"], offices["OwnerId"]) == ("IPv4", "123456789012")
    assert offices["PrefixListArn"] == f"arn:aws:ec2:us-east-1:123456789012:prefix-list/{offices['PrefixListId']}"
    assert offices["Tags"] == [{"Key": "team", "Value": "a"}]
    assert ec2.DescribeManagedPrefixLists(PrefixListIds=[offices["PrefixListId"]])["PrefixLists"] == [offices]
    assert entries(ec2, offices["PrefixListId"]) == {"10.8.0.0/16": "a", "10.9.0.0/16": None}
    for name, value in (("prefix-list-name", "off*"), ("owner-id", "123456789012"), ("tag:team", "a")):
        found = ec2.DescribeManagedPrefixLists(Filters=[{"Name": name, "Values": [value]}])["PrefixLists"]
        assert found == [offices], name


def test_the_list_of_s3_has_the_address_that_instances_reach_it_by(ec2, vpc, group):
    (listed,) = ec2.DescribePrefixLists()["PrefixLists"]
    assert (listed["PrefixListName"], listed["Cidrs"]) == ("com.amazonaws.us-east-1.s3", [f"{model.S3_ADDRESS}/32"])
    (managed,) = ec2.DescribeManagedPrefixLists()["PrefixLists"]
    assert (managed["PrefixListId"], managed["OwnerId"]) == (listed["PrefixListId"], "AWS")
    assert entries(ec2, listed["PrefixListId"]) == {f"{model.S3_ADDRESS}/32": None}
    refer(ec2, group, listed["PrefixListId"])
    assert blocks(ec2, vpc, group) == [f"{model.S3_ADDRESS}/32"]
    s3 = {"PrefixListId": listed["PrefixListId"]}
    ec2.refused("OperationNotPermitted", "DeleteManagedPrefixList", **s3)
    ec2.refused("OperationNotPermitted", "ModifyManagedPrefixList", **s3, PrefixListName="mine")


def test_a_rule_with_a_list_is_a_rule_for_each_block(ec2, vpc, group, offices):
    rule = refer(ec2, group, offices["PrefixListId"])
    assert (rule["PrefixListId"], rule["Description"]) == (offices["PrefixListId"], "x")
    (permission,) = ec2.group(group)["IpPermissions"]
    assert permission["PrefixListIds"] == [{"PrefixListId": offices["PrefixListId"], "Description": "x"}]
    assert permission["IpRanges"] == permission["UserIdGroupPairs"] == []
    rules = {found.id: found.rules for found in ec2.control.changed[-1][1]}[group]
    assert [found for found in rules if found.direction == "ingress"] == [
        model.Rule("ingress", "50", cidr="10.8.0.0/16"),
        model.Rule("ingress", "50", cidr="10.9.0.0/16"),
    ]
    found = ec2.DescribeSecurityGroups(Filters=[{"Name": "ip-permission.prefix-list-id", "Values": [offices["PrefixListId"]]}])[
        "SecurityGroups"
    ]
    assert [item["GroupId"] for item in found] == [group]
    associations = ec2.GetManagedPrefixListAssociations(PrefixListId=offices["PrefixListId"])["PrefixListAssociations"]
    assert associations == [{"ResourceId": group, "ResourceOwner": "123456789012"}]
    ec2.refused(
        "InvalidPermission.Duplicate",
        "AuthorizeSecurityGroupIngress",
        GroupId=group,
        IpPermissions=[{"IpProtocol": "50", "PrefixListIds": [{"PrefixListId": offices["PrefixListId"]}]}],
    )
    ec2.RevokeSecurityGroupIngress(
        GroupId=group,
        IpPermissions=[{"IpProtocol": "50", "PrefixListIds": [{"PrefixListId": offices["PrefixListId"]}]}],
    )
    assert blocks(ec2, vpc, group) == []


def test_changing_a_list_changes_the_rules(ec2, vpc, group, offices):
    refer(ec2, group, offices["PrefixListId"])
    told = len(ec2.control.changed)
    changed = ec2.ModifyManagedPrefixList(
        PrefixListId=offices["PrefixListId"],
        CurrentVersion=1,
        AddEntries=[{"Cidr": "10.7.0.0/16"}, {"Cidr": "10.9.0.0/16", "Description": "b"}],
        RemoveEntries=[{"Cidr": "10.8.0.0/16"}],
    )["PrefixList"]
    assert (changed["Version"], changed["State"], changed["Tags"]) == (2, "modify-complete", offices["Tags"])
    assert [vpc_id for vpc_id, _ in ec2.control.changed[told:]] == [vpc]
    assert blocks(ec2, vpc, group) == ["10.7.0.0/16", "10.9.0.0/16"]
    assert entries(ec2, offices["PrefixListId"]) == {"10.7.0.0/16": None, "10.9.0.0/16": "b"}
    assert entries(ec2, offices["PrefixListId"], TargetVersion=1) == {"10.8.0.0/16": "a", "10.9.0.0/16": None}

    restored = ec2.RestoreManagedPrefixListVersion(PrefixListId=offices["PrefixListId"], PreviousVersion=1, CurrentVersion=2)[
        "PrefixList"
    ]
    assert (restored["Version"], restored["State"]) == (3, "restore-complete")
    assert entries(ec2, offices["PrefixListId"]) == entries(ec2, offices["PrefixListId"], TargetVersion=1)
    assert blocks(ec2, vpc, group) == ["10.8.0.0/16", "10.9.0.0/16"]


def test_renaming_and_resizing_makes_no_version(ec2, offices):
    ec2.ModifyManagedPrefixList(PrefixListId=offices["PrefixListId"], PrefixListName="branches")
    changed = ec2.ModifyManagedPrefixList(PrefixListId=offices["PrefixListId"], MaxEntries=2)["PrefixList"]
    assert (changed["PrefixListName"], changed["MaxEntries"], changed["Version"]) == ("branches", 2, 1)


def test_modifications_that_are_refused(ec2, offices):
    def refused(code, **members):
        return ec2.refused(code, "ModifyManagedPrefixList", PrefixListId=offices["PrefixListId"], **members)

    one = [{"Cidr": "10.7.0.0/16"}]
    refused("PrefixListVersionMismatch", CurrentVersion=2, AddEntries=one)
    refused("MissingParameter", AddEntries=one)
    refused("InvalidPrefixListModification", CurrentVersion=1, RemoveEntries=one)
    refused("InvalidParameterCombination", CurrentVersion=1, AddEntries=one, MaxEntries=9)
    refused("InvalidParameterValue", CurrentVersion=1, AddEntries=[{"Cidr": "2001:db8::/32"}])
    refused("PrefixListMaxEntriesExceeded", CurrentVersion=1, AddEntries=[{"Cidr": f"10.{n}.0.0/16"} for n in range(4)])
    refused("PrefixListMaxEntriesExceeded", MaxEntries=1)
    refused("InvalidParameterValue", MaxEntries=0)
    refused("InvalidParameterValue", PrefixListName="com.amazonaws.mine")
    ec2.refused("InvalidPrefixListID.NotFound", "ModifyManagedPrefixList", PrefixListId="pl-12345678")
    message = ec2.refused("InvalidPrefixListID.NotFound", "GetManagedPrefixListEntries", PrefixListId="pl-12345678")
    assert message == "The prefix list ID 'pl-12345678' does not exist"
    ec2.refused("InvalidParameterValue", "GetManagedPrefixListEntries", PrefixListId=offices["PrefixListId"], TargetVersion=2)


@pytest.mark.parametrize(
    ("code", "members"),
    [
        ("InvalidParameterValue", {"AddressFamily": "IPv5"}),
        ("InvalidParameterValue", {"MaxEntries": 0}),
        ("InvalidParameterValue", {"PrefixListName": "com.amazonaws.us-east-1.s3"}),
        ("InvalidParameterValue", {"Entries": [{"Cidr": "10.0.0.0"}]}),
        ("InvalidParameterValue", {"Entries": [{"Cidr": "10.0.0.0/8"}, {"Cidr": "10.0.0.1/8"}]}),
        ("PrefixListMaxEntriesExceeded", {"Entries": [{"Cidr": "10.0.0.0/8"}, {"Cidr": "11.0.0.0/8"}]}),
        ("InvalidParameterValue", {"TagSpecifications": [{"ResourceType": "vpc", "Tags": []}]}),
    ],
)
def test_lists_that_are_refused(ec2, code, members):
    good = {"PrefixListName": "a", "AddressFamily": "IPv4", "MaxEntries": 1}
    ec2.refused(code, "CreateManagedPrefixList", **{**good, **members})


def test_a_list_in_use_stays(ec2, group, offices):
    rule = refer(ec2, group, offices["PrefixListId"])
    ec2.refused("DependencyViolation", "DeleteManagedPrefixList", PrefixListId=offices["PrefixListId"])
    ec2.RevokeSecurityGroupIngress(GroupId=group, SecurityGroupRuleIds=[rule["SecurityGroupRuleId"]])
    deleted = ec2.DeleteManagedPrefixList(PrefixListId=offices["PrefixListId"])["PrefixList"]
    assert deleted["State"] == "delete-complete"
    ec2.refused("InvalidPrefixListID.NotFound", "DescribeManagedPrefixLists", PrefixListIds=[offices["PrefixListId"]])
    assert ec2.DescribeTags()["Tags"] == []


def test_a_list_counts_for_as_many_rules_as_it_may_have_entries(ec2, group):
    big = ec2.CreateManagedPrefixList(PrefixListName="big", AddressFamily="IPv4", MaxEntries=59)["PrefixList"]["PrefixListId"]
    refer(ec2, group, big)
    one = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    two = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "11.0.0.0/8"}]}
    code, operation = "RulesPerSecurityGroupLimitExceeded", "AuthorizeSecurityGroupIngress"
    ec2.refused(code, operation, GroupId=group, IpPermissions=[one, two])
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[one])
    ec2.refused(code, "ModifyManagedPrefixList", PrefixListId=big, MaxEntries=60)
    v6 = [{"CidrIpv6": f"2001:db8:{number}::/48"} for number in range(60)]
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[{"IpProtocol": "-1", "Ipv6Ranges": v6}])


def test_pages_of_entries(ec2):
    made = ec2.CreateManagedPrefixList(
        PrefixListName="a", AddressFamily="IPv6", MaxEntries=9, Entries=[{"Cidr": f"fd00:{n}::/32"} for n in range(9)]
    )["PrefixList"]["PrefixListId"]
    seen, token = {}, None
    while len(seen) < 9:
        page = ec2.GetManagedPrefixListEntries(PrefixListId=made, MaxResults=2, **({"NextToken": token} if token else {}))
        assert 0 < len(page["Entries"]) <= 2
        seen |= {entry["Cidr"]: entry for entry in page["Entries"]}
        token = page.get("NextToken")
    assert token is None
