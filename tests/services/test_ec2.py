"""The EC2 handlers, called directly, on a real SQLite file; what goes in and comes out is held against botocore's model."""

import base64
import re

import pytest
from ec2_client import ALL_OUT, CALLER, MODEL, self_reference
from sqlalchemy import select

from phalanx.jobs import interfaces
from phalanx.network import model
from phalanx.services.ec2.service import ensure_default_vpc
from phalanx.store.network import SecurityGroupRule
from phalanx.wire.errors import AwsError

# ------------------------------------------------------------------------------------------------------------------ VPCs


def test_a_vpc_comes_with_its_default_group(ec2):
    vpc = ec2.CreateVpc(
        CidrBlock="10.1.2.3/16",
        TagSpecifications=[{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "training"}]}],
    )["Vpc"]
    assert re.fullmatch(r"vpc-0[0-9a-f]{16}", vpc["VpcId"])
    assert vpc["CidrBlock"] == "10.1.0.0/16"
    assert (vpc["State"], vpc["IsDefault"], vpc["OwnerId"]) == ("available", False, "123456789012")
    assert vpc["CidrBlockAssociationSet"][0]["CidrBlock"] == "10.1.0.0/16"
    assert vpc["Tags"] == [{"Key": "Name", "Value": "training"}]
    assert ec2.DescribeVpcs(VpcIds=[vpc["VpcId"]])["Vpcs"] == [vpc]

    (default,) = ec2.DescribeSecurityGroups()["SecurityGroups"]
    assert (default["GroupName"], default["VpcId"]) == ("default", vpc["VpcId"])
    assert default["Description"] == "default VPC security group"
    assert default["IpPermissions"] == [
        {
            "IpProtocol": "-1",
            "UserIdGroupPairs": [{"UserId": "123456789012", "GroupId": default["GroupId"]}],
            "IpRanges": [],
            "Ipv6Ranges": [],
            "PrefixListIds": [],
        }
    ]
    assert default["IpPermissionsEgress"] == [ALL_OUT]


def test_two_vpcs_may_have_the_same_block(ec2, vpc):
    other = ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    assert other != vpc


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "10.0.0.0/15", "10.0.0.0/29", "127.0.0.0/16", "169.254.0.0/16", "224.0.0.0/16"])
def test_a_vpc_block_out_of_range(ec2, cidr):
    assert ec2.refused("InvalidVpc.Range", "CreateVpc", CidrBlock=cidr) == f"The CIDR '{cidr}' is invalid."


@pytest.mark.parametrize(
    "cidr", ["10.0.0.0", "10.0.0/16", "10.0.0.256/16", "10.0.0.0/33", "10.0.0.0/255.255.0.0", "fd00::/56", ""]
)
def test_a_vpc_block_that_is_none(ec2, cidr):
    message = ec2.refused("InvalidParameterValue", "CreateVpc", CidrBlock=cidr)
    assert message == f"Value ({cidr}) for parameter cidrBlock is invalid. This is not a valid CIDR block."


def test_a_vpc_needs_a_block(ec2):
    assert ec2.refused("MissingParameter", "CreateVpc") == "The request must contain the parameter cidrBlock"


def test_what_a_vpc_cannot_be(ec2):
    ec2.refused("UnsupportedOperation", "CreateVpc", CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)
    ec2.refused("UnsupportedOperation", "CreateVpc", CidrBlock="10.0.0.0/16", InstanceTenancy="dedicated")
    ec2.CreateVpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=False, InstanceTenancy="default")


def test_a_vpc_tag_specification_of_another_type(ec2):
    tags = [{"ResourceType": "subnet", "Tags": [{"Key": "a", "Value": "b"}]}]
    message = ec2.refused("InvalidParameterValue", "CreateVpc", CidrBlock="10.0.0.0/16", TagSpecifications=tags)
    assert message == "'subnet' is not a valid taggable resource type for this operation."


def test_an_unknown_vpc(ec2):
    for operation, members in (
        ("DescribeVpcs", {"VpcIds": ["vpc-12345678"]}),
        ("DeleteVpc", {"VpcId": "vpc-12345678"}),
        ("CreateSubnet", {"VpcId": "vpc-12345678", "CidrBlock": "10.0.0.0/24"}),
        ("CreateSecurityGroup", {"VpcId": "vpc-12345678", "GroupName": "a", "Description": "b"}),
    ):
        message = ec2.refused("InvalidVpcID.NotFound", operation, **members)
        assert message == "The vpc ID 'vpc-12345678' does not exist"
    message = ec2.refused("InvalidVpcID.Malformed", "DescribeVpcs", VpcIds=["training"])
    assert message == 'Invalid id: "training" (expecting "vpc-...")'


def test_a_vpc_is_deleted_with_its_default_group_and_tags(ec2, vpc):
    default = ec2.DescribeSecurityGroups()["SecurityGroups"][0]["GroupId"]
    rule = ec2.DescribeSecurityGroupRules()["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    ec2.CreateTags(Resources=[vpc, default, rule], Tags=[{"Key": "a", "Value": "b"}])
    assert ec2.DeleteVpc(VpcId=vpc) == {}
    left = {table: rows for table, rows in ec2.everything().items() if rows}
    assert left.keys() == {"dhcp_options"}, "the account's, for the next VPC"


def test_a_vpc_with_something_in_it_stays(ec2, vpc):
    text = f"The vpc '{vpc}' has dependencies and cannot be deleted."
    subnet = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    assert ec2.refused("DependencyViolation", "DeleteVpc", VpcId=vpc) == text
    ec2.DeleteSubnet(SubnetId=subnet)
    group = ec2.CreateSecurityGroup(GroupName="a", Description="b", VpcId=vpc)["GroupId"]
    assert ec2.refused("DependencyViolation", "DeleteVpc", VpcId=vpc) == text
    ec2.DeleteSecurityGroup(GroupId=group)
    ec2.DeleteVpc(VpcId=vpc)


def test_the_default_vpc_is_made_once(ec2):
    ensure_default_vpc(ec2.database, "us-east-1")
    ensure_default_vpc(ec2.database, "us-east-1")
    (vpc,) = ec2.DescribeVpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    assert vpc["CidrBlock"] == "172.31.0.0/16"
    subnets = ec2.DescribeSubnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    assert {(subnet["CidrBlock"], subnet["AvailabilityZone"]) for subnet in subnets} == {
        ("172.31.0.0/20", "us-east-1a"),
        ("172.31.16.0/20", "us-east-1b"),
        ("172.31.32.0/20", "us-east-1c"),
    }
    assert [group["GroupName"] for group in ec2.DescribeSecurityGroups()["SecurityGroups"]] == ["default"]
    group = ec2.CreateSecurityGroup(GroupName="training", Description="in the default VPC")["GroupId"]
    assert ec2.group(group)["VpcId"] == vpc["VpcId"]


def test_the_default_vpc_is_not_forced_on_those_who_deleted_it(ec2, vpc):
    ensure_default_vpc(ec2.database, "us-east-1")
    assert [found["VpcId"] for found in ec2.DescribeVpcs()["Vpcs"]] == [vpc]
    message = ec2.refused("VPCIdNotSpecified", "CreateSecurityGroup", GroupName="a", Description="b")
    assert message == "No default VPC for this user"


# --------------------------------------------------------------------------------------------------------------- Subnets


def test_a_subnet(ec2, vpc):
    subnet = ec2.CreateSubnet(
        VpcId=vpc,
        CidrBlock="10.0.1.7/24",
        AvailabilityZone="us-east-1b",
        TagSpecifications=[{"ResourceType": "subnet", "Tags": [{"Key": "Name", "Value": "b"}]}],
    )["Subnet"]
    assert re.fullmatch(r"subnet-0[0-9a-f]{16}", subnet["SubnetId"])
    assert (subnet["CidrBlock"], subnet["VpcId"], subnet["State"]) == ("10.0.1.0/24", vpc, "available")
    assert (subnet["AvailabilityZone"], subnet["AvailabilityZoneId"]) == ("us-east-1b", "use1-az2")
    assert subnet["AvailableIpAddressCount"] == 251
    assert subnet["SubnetArn"] == f"arn:aws:ec2:us-east-1:123456789012:subnet/{subnet['SubnetId']}"
    assert subnet["Tags"] == [{"Key": "Name", "Value": "b"}]
    assert ec2.DescribeSubnets(SubnetIds=[subnet["SubnetId"]])["Subnets"] == [subnet]


def test_the_zone_of_a_subnet(ec2, vpc):
    first = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]
    assert first["AvailabilityZone"] == "us-east-1a"
    by_id = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.2.0/24", AvailabilityZoneId="use1-az3")["Subnet"]
    assert by_id["AvailabilityZone"] == "us-east-1c"
    members = {"VpcId": vpc, "CidrBlock": "10.0.3.0/24", "AvailabilityZone": "us-west-2a"}
    assert ec2.refused("InvalidParameterValue", "CreateSubnet", **members) == (
        "Value (us-west-2a) for parameter availabilityZone is invalid. Subnets can currently only be created in the"
        " following availability zones: us-east-1a, us-east-1b, us-east-1c."
    )


@pytest.mark.parametrize("cidr", ["10.1.0.0/24", "10.0.0.0/15", "10.0.0.0/29", "192.168.0.0/24"])
def test_a_subnet_out_of_range(ec2, vpc, cidr):
    message = ec2.refused("InvalidSubnet.Range", "CreateSubnet", VpcId=vpc, CidrBlock=cidr)
    assert message == f"The CIDR '{cidr}' is invalid."


@pytest.mark.parametrize("cidr", ["10.0.4.0/24", "10.0.4.128/25", "10.0.0.0/16"])
def test_overlapping_subnets(ec2, vpc, cidr):
    ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.4.0/24")
    message = ec2.refused("InvalidSubnet.Conflict", "CreateSubnet", VpcId=vpc, CidrBlock=cidr)
    assert message == f"The CIDR '{cidr}' conflicts with another subnet"
    other = ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.CreateSubnet(VpcId=other, CidrBlock=cidr)


def test_a_subnet_block_that_is_none(ec2, vpc):
    message = ec2.refused("InvalidParameterValue", "CreateSubnet", VpcId=vpc, CidrBlock="10.0.0.0.0/24")
    assert message == "Value (10.0.0.0.0/24) for parameter cidrBlock is invalid. This is not a valid CIDR block."
    ec2.refused("MissingParameter", "CreateSubnet", VpcId=vpc)


def test_an_attribute_of_a_subnet(ec2, vpc):
    subnet = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    assert ec2.ModifySubnetAttribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True}) == {}
    filters = [{"Name": "map-public-ip-on-launch", "Values": ["true"]}]
    (found,) = ec2.DescribeSubnets(Filters=filters)["Subnets"]
    assert found["MapPublicIpOnLaunch"] is True
    ec2.ModifySubnetAttribute(SubnetId=subnet, EnableDns64={"Value": False})
    ec2.refused("UnsupportedOperation", "ModifySubnetAttribute", SubnetId=subnet, EnableDns64={"Value": True})
    ec2.refused("UnsupportedOperation", "ModifySubnetAttribute", SubnetId=subnet, EnableLniAtDeviceIndex=1)
    names = found["PrivateDnsNameOptionsOnLaunch"]
    assert names == {
        "HostnameType": "ip-name",
        "EnableResourceNameDnsARecord": False,
        "EnableResourceNameDnsAAAARecord": False,
    }
    ec2.ModifySubnetAttribute(SubnetId=subnet, PrivateDnsHostnameTypeOnLaunch=names["HostnameType"])
    other = {"PrivateDnsHostnameTypeOnLaunch": "resource-name"}
    ec2.refused("UnsupportedOperation", "ModifySubnetAttribute", SubnetId=subnet, **other)
    ec2.refused("MissingParameter", "ModifySubnetAttribute", SubnetId=subnet)
    both = {"MapPublicIpOnLaunch": {"Value": True}, "EnableDns64": {"Value": False}}
    ec2.refused("InvalidParameterCombination", "ModifySubnetAttribute", SubnetId=subnet, **both)


def test_a_subnet_in_use_stays(ec2, vpc, group):
    subnet = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.0.0/28")["Subnet"]["SubnetId"]
    with ec2.database.write() as session:
        interfaces.allocate(session, "job", ["algo-1"], [subnet], [group])
    assert ec2.DescribeSubnets()["Subnets"][0]["AvailableIpAddressCount"] == 10
    message = ec2.refused("DependencyViolation", "DeleteSubnet", SubnetId=subnet)
    assert message == f"The subnet '{subnet}' has dependencies and cannot be deleted."
    assert ec2.refused("DependencyViolation", "DeleteSecurityGroup", GroupId=group) == (
        f"resource {group} has a dependent object"
    )
    with ec2.database.write() as session:
        interfaces.release(session, "job")
    ec2.DeleteSubnet(SubnetId=subnet)
    ec2.DeleteSecurityGroup(GroupId=group)
    assert ec2.refused("InvalidSubnetID.NotFound", "DeleteSubnet", SubnetId=subnet) == (
        f"The subnet ID '{subnet}' does not exist"
    )


# ------------------------------------------------------------------------------------------------------- Security groups


def test_a_group_lets_all_out_and_nothing_in(ec2, vpc):
    created = ec2.CreateSecurityGroup(
        GroupName="training  ",
        Description="for jobs",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": [{"Key": "team", "Value": "a"}]}],
    )
    assert re.fullmatch(r"sg-0[0-9a-f]{16}", created["GroupId"])
    found = ec2.group(created["GroupId"])
    assert (found["GroupName"], found["Description"], found["VpcId"]) == ("training", "for jobs", vpc)
    assert (found["IpPermissions"], found["IpPermissionsEgress"]) == ([], [ALL_OUT])
    assert found["Tags"] == created["Tags"] == [{"Key": "team", "Value": "a"}]
    assert found["SecurityGroupArn"] == created["SecurityGroupArn"]


def test_a_group_name_is_unique_in_its_vpc(ec2, vpc, group):
    message = ec2.refused("InvalidGroup.Duplicate", "CreateSecurityGroup", GroupName="training", Description="x", VpcId=vpc)
    assert message == f"The security group 'training' already exists for VPC '{vpc}'"
    other = ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.CreateSecurityGroup(GroupName="training", Description="x", VpcId=other)


@pytest.mark.parametrize(
    ("name", "description", "message"),
    [
        (
            "sg-training",
            "x",
            "Value (sg-training) for parameter GroupName is invalid. Group names may not be in the format sg-*.",
        ),
        ("träning", "x", "Value (träning) for parameter GroupName is invalid. Character sets beyond ASCII are not supported."),
        ("default", "x", "Cannot use reserved security group name: default"),
        (
            "a" * 256,
            "x",
            "Invalid security group name. Valid names are strings less than 256 characters from the following set: ",
        ),
        ("jobs", "the team's", "Invalid security group description. Valid descriptions are strings less than 256 characters"),
        ("jobs", "x" * 256, "Invalid security group description."),
    ],
)
def test_group_names_and_descriptions(ec2, vpc, name, description, message):
    refusal = ec2.refused("InvalidParameterValue", "CreateSecurityGroup", GroupName=name, Description=description, VpcId=vpc)
    assert refusal.startswith(message)


def test_a_group_has_a_description(ec2, vpc):
    said = ec2.refused("MissingParameter", "CreateSecurityGroup", GroupName="g", Description="", VpcId=vpc)
    assert said == "The request must contain the parameter GroupDescription"


def test_a_group_is_deleted_with_its_rules(ec2, group):
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[self_reference("50", group)])
    before = len(ec2.DescribeSecurityGroupRules()["SecurityGroupRules"])
    assert ec2.DeleteSecurityGroup(GroupId=group) == {"Return": True, "GroupId": group}
    assert len(ec2.DescribeSecurityGroupRules()["SecurityGroupRules"]) == before - 2
    message = ec2.refused("InvalidGroup.NotFound", "DeleteSecurityGroup", GroupId=group)
    assert message == f"The security group '{group}' does not exist"


def test_a_group_that_another_refers_to_stays(ec2, vpc, group):
    other = ec2.CreateSecurityGroup(GroupName="other", Description="x", VpcId=vpc)["GroupId"]
    ec2.AuthorizeSecurityGroupIngress(GroupId=other, IpPermissions=[self_reference("-1", group)])
    message = ec2.refused("DependencyViolation", "DeleteSecurityGroup", GroupId=group)
    assert message == f"resource {group} has a dependent object"


def test_a_default_group_stays(ec2, vpc):
    default = ec2.DescribeSecurityGroups()["SecurityGroups"][0]["GroupId"]
    message = ec2.refused("CannotDelete", "DeleteSecurityGroup", GroupId=default)
    assert message == f'the specified group: "{default}" name: "default" cannot be deleted by a user'


def test_groups_by_name_are_those_of_the_default_vpc(ec2):
    ensure_default_vpc(ec2.database, "us-east-1")
    default_vpc = ec2.DescribeVpcs()["Vpcs"][0]["VpcId"]
    other = ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    mine = ec2.CreateSecurityGroup(GroupName="jobs", Description="x")["GroupId"]
    ec2.CreateSecurityGroup(GroupName="elsewhere", Description="x", VpcId=other)
    assert ec2.DescribeSecurityGroups(GroupNames=["jobs"])["SecurityGroups"][0]["GroupId"] == mine
    message = ec2.refused("InvalidGroup.NotFound", "DescribeSecurityGroups", GroupNames=["elsewhere"])
    assert message == f"The security group 'elsewhere' does not exist in default VPC '{default_vpc}'"
    ec2.DeleteSecurityGroup(GroupName="jobs")
    message = ec2.refused("MissingParameter", "DeleteSecurityGroup")
    assert message == "The request must contain the parameter groupName or groupId"


# ----------------------------------------------------------------------------------------------------------------- Rules


def test_the_four_rules_of_an_encrypted_job(ec2, vpc, group):
    permissions = [self_reference("udp", group, FromPort=500, ToPort=500), self_reference("50", group)]
    ec2.RevokeSecurityGroupEgress(GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    inbound = ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=permissions)
    outbound = ec2.AuthorizeSecurityGroupEgress(GroupId=group, IpPermissions=permissions)
    assert inbound["Return"] is outbound["Return"] is True
    for answer, is_egress in ((inbound, False), (outbound, True)):
        ike, esp = answer["SecurityGroupRules"]
        assert (ike["IpProtocol"], ike["FromPort"], ike["ToPort"]) == ("udp", 500, 500)
        assert esp["IpProtocol"] == "50"
        assert not {"FromPort", "ToPort"} & esp.keys()
        for rule in (ike, esp):
            assert re.fullmatch(r"sgr-0[0-9a-f]{16}", rule["SecurityGroupRuleId"])
            assert rule["ReferencedGroupInfo"] == {"GroupId": group, "UserId": "123456789012"}
            assert (rule["IsEgress"], rule["GroupId"], rule["GroupOwnerId"]) == (is_egress, group, "123456789012")
    expected = [
        {
            **span,
            "UserIdGroupPairs": [{"UserId": "123456789012", "GroupId": group}],
            "IpRanges": [],
            "Ipv6Ranges": [],
            "PrefixListIds": [],
        }
        for span in ({"IpProtocol": "udp", "FromPort": 500, "ToPort": 500}, {"IpProtocol": "50"})
    ]
    assert ec2.group(group)["IpPermissions"] == ec2.group(group)["IpPermissionsEgress"] == expected

    assert [changed for changed, _ in ec2.control.changed] == [vpc] * 3
    last = {found.id: found.rules for found in ec2.control.changed[-1][1]}[group]
    assert set(last) == {
        model.Rule(direction, protocol, *ports, group=group)
        for direction in ("ingress", "egress")
        for protocol, ports in (("17", (500, 500)), ("50", ()))
    }


def test_the_flat_form(ec2, group):
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="203.0.113.77/24")
    (permission,) = ec2.group(group)["IpPermissions"]
    assert (permission["IpProtocol"], permission["FromPort"], permission["ToPort"]) == ("tcp", 22, 22)
    assert permission["IpRanges"] == [{"CidrIp": "203.0.113.0/24"}]
    ec2.RevokeSecurityGroupIngress(GroupId=group, IpProtocol="6", FromPort=22, ToPort=22, CidrIp="203.0.113.0/24")
    assert ec2.group(group)["IpPermissions"] == []


def test_the_flat_form_with_a_source_group(ec2):
    ensure_default_vpc(ec2.database, "us-east-1")
    group = ec2.CreateSecurityGroup(GroupName="jobs", Description="x")["GroupId"]
    ec2.AuthorizeSecurityGroupIngress(GroupName="jobs", SourceSecurityGroupName="jobs")
    found = ec2.group(group)["IpPermissions"]
    assert [(span["IpProtocol"], span["FromPort"], span["ToPort"]) for span in found] == [
        ("tcp", 0, 65535),
        ("udp", 0, 65535),
        ("icmp", -1, -1),
    ]
    assert {pair["GroupId"] for span in found for pair in span["UserIdGroupPairs"]} == {group}
    assert ec2.refused(
        "InvalidParameterCombination",
        "AuthorizeSecurityGroupIngress",
        GroupName="jobs",
        SourceSecurityGroupName="jobs",
        IpProtocol="tcp",
    )
    ec2.RevokeSecurityGroupIngress(GroupName="jobs", SourceSecurityGroupName="jobs")
    assert ec2.group(group)["IpPermissions"] == []


def test_a_group_of_another_vpc_is_not_named(ec2, vpc, group):
    ensure_default_vpc(ec2.database, "us-east-1")
    pair = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupName": "training"}]}
    assert ec2.refused("InvalidParameterValue", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[pair]) == (
        "Invalid value 'training' for groupName. You may not reference Amazon VPC security groups by name."
        " Please use the corresponding id for this operation."
    )


def test_peers_of_one_span_are_returned_together(ec2, group):
    ec2.AuthorizeSecurityGroupIngress(
        GroupId=group,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 80,
                "ToPort": 90,
                "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "inside"}, {"CidrIp": "192.0.2.1/32"}],
                "Ipv6Ranges": [{"CidrIpv6": "2001:DB8::1/64"}],
                "UserIdGroupPairs": [{"GroupId": group, "UserId": "123456789012"}],
            }
        ],
    )
    (permission,) = ec2.group(group)["IpPermissions"]
    assert permission["IpRanges"] == [{"CidrIp": "10.0.0.0/8", "Description": "inside"}, {"CidrIp": "192.0.2.1/32"}]
    assert permission["Ipv6Ranges"] == [{"CidrIpv6": "2001:db8::/64"}]
    assert permission["UserIdGroupPairs"] == [{"UserId": "123456789012", "GroupId": group}]


@pytest.mark.parametrize(
    ("asked", "returned", "ports"),
    [
        ("tcp", "tcp", (1, 2)),
        ("TCP", "tcp", (1, 2)),
        ("6", "tcp", (1, 2)),
        ("17", "udp", (0, 65535)),
        ("icmp", "icmp", (8, 0)),
        ("1", "icmp", (-1, -1)),
        ("icmpv6", "icmpv6", None),
        ("58", "icmpv6", (128, -1)),
        ("-1", "-1", None),
        ("-1", "-1", (1, 2)),
        ("50", "50", None),
        ("50", "50", (0, 65535)),
        ("50", "50", (-1, -1)),
        ("esp", "50", None),
        ("ah", "51", (0, 0)),
        ("47", "47", None),
        ("0", "0", None),
        ("255", "255", None),
    ],
)
def test_protocols(ec2, group, asked, returned, ports):
    span = {"IpProtocol": asked, **({"FromPort": ports[0], "ToPort": ports[1]} if ports else {})}
    answer = ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[{**span, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}])
    (permission,) = ec2.group(group)["IpPermissions"]
    (rule,) = answer["SecurityGroupRules"]
    assert permission["IpProtocol"] == rule["IpProtocol"] == returned
    if returned in ("tcp", "udp", "icmp", "icmpv6"):
        assert (permission["FromPort"], permission["ToPort"]) == (ports or (-1, -1))
    else:
        assert not {"FromPort", "ToPort"} & permission.keys()
        with ec2.database.read() as session:
            stored = session.scalars(select(SecurityGroupRule).filter_by(id=rule["SecurityGroupRuleId"])).one()
        assert stored.from_port is stored.to_port is None


@pytest.mark.parametrize(
    ("code", "permission", "message"),
    [
        ("InvalidParameterValue", {"IpProtocol": "gre"}, "Invalid value 'gre' for IP protocol. Unknown protocol."),
        ("InvalidParameterValue", {"IpProtocol": "all"}, "Invalid value 'all' for IP protocol. Unknown protocol."),
        ("InvalidParameterValue", {"IpProtocol": "256"}, "Invalid value '256' for IP protocol. Unknown protocol."),
        ("InvalidParameterValue", {"IpProtocol": "-2"}, "Invalid value '-2' for IP protocol. Unknown protocol."),
        ("MissingParameter", {}, "The request must contain the parameter ipProtocol"),
        (
            "InvalidParameterValue",
            {"IpProtocol": "tcp"},
            "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.",
        ),
        (
            "InvalidParameterValue",
            {"IpProtocol": "17", "FromPort": 500},
            "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.",
        ),
        (
            "InvalidParameterValue",
            {"IpProtocol": "tcp", "FromPort": -1, "ToPort": -1},
            "TCP/UDP (from) port (-1) out of range",
        ),
        (
            "InvalidParameterValue",
            {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 65536},
            "TCP/UDP (to) port (65536) out of range",
        ),
        (
            "InvalidParameterValue",
            {"IpProtocol": "udp", "FromPort": 501, "ToPort": 500},
            "Invalid TCP/UDP port range (501:500)",
        ),
        ("InvalidParameterValue", {"IpProtocol": "icmp", "FromPort": 8, "ToPort": 65535}, "ICMP code (65535) out of range"),
        ("InvalidParameterValue", {"IpProtocol": "icmp", "FromPort": -1, "ToPort": 0}, "ICMP code (0) out of range"),
        (
            "InvalidParameterValue",
            {"IpProtocol": "icmp"},
            "Invalid value for portRange. Must specify both from and to ports with ICMP.",
        ),
        (
            "InvalidParameterValue",
            {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0"}]},
            "CIDR block 10.0.0.0 is malformed",
        ),
        ("InvalidParameterValue", {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "::/0"}]}, "CIDR block ::/0 is malformed"),
        (
            "InvalidParameterValue",
            {"IpProtocol": "-1", "IpRanges": [], "Ipv6Ranges": [{"CidrIpv6": "10.0.0.0/8"}]},
            "CIDR block 10.0.0.0/8 is malformed",
        ),
        (
            "MissingParameter",
            {"IpProtocol": "-1", "IpRanges": []},
            "The request must contain the parameter ipRanges, ipv6Ranges or groups",
        ),
        (
            "MissingParameter",
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"UserId": "123456789012"}]},
            "Source group ID missing.",
        ),
        (
            "InvalidGroup.NotFound",
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-12345678"}]},
            "The security group 'sg-12345678' does not exist",
        ),
        (
            "InvalidGroupId.Malformed",
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "training"}]},
            'Invalid id: "training" (expecting "sg-...")',
        ),
        (
            "InvalidPrefixListID.NotFound",
            {"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]},
            "The prefix list ID 'pl-1' does not exist",
        ),
        (
            "InvalidParameterValue",
            {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "it's"}]},
            "Invalid rule description. Valid descriptions are strings less than 256 characters from the following set:"
            "  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        ),
    ],
)
@pytest.mark.parametrize("operation", ["AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress"])
def test_rules_that_are_refused(ec2, group, operation, code, permission, message):
    # A good permission before the bad one must not be added either.
    good = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "IpRanges": [{"CidrIp": "10.1.0.0/16"}]}
    bad = {"IpRanges": [{"CidrIp": "10.0.0.0/8"}], **permission}
    assert ec2.refused(code, operation, GroupId=group, IpPermissions=[good, bad]) == message


def test_rules_between_vpcs(ec2, group):
    other = ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    foreign = ec2.CreateSecurityGroup(GroupName="training", Description="x", VpcId=other)["GroupId"]
    message = ec2.refused(
        "InvalidGroup.NotFound", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[self_reference("-1", foreign)]
    )
    assert message == "You have specified two resources that belong to different networks."
    pair = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group, "UserId": "999999999999"}]}
    ec2.refused("InvalidGroup.NotFound", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[pair])
    pair = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group, "VpcPeeringConnectionId": "pcx-1"}]}
    code = "InvalidVpcPeeringConnectionId.NotFound"
    ec2.refused(code, "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[pair])


def test_requests_without_a_permission(ec2, group):
    message = ec2.refused("MissingParameter", "AuthorizeSecurityGroupIngress", GroupId=group)
    assert message == "The request must contain the parameter ipPermissions"
    message = ec2.refused("MissingParameter", "AuthorizeSecurityGroupIngress", IpProtocol="-1", CidrIp="10.0.0.0/8")
    assert message == "The request must contain the parameter groupName or groupId"
    message = ec2.refused("MissingParameter", "RevokeSecurityGroupEgress", GroupId=group)
    assert message == "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided."
    ec2.refused(
        "InvalidParameterCombination",
        "AuthorizeSecurityGroupIngress",
        GroupId=group,
        IpProtocol="-1",
        CidrIp="10.0.0.0/8",
        IpPermissions=[self_reference("50", group)],
    )
    ec2.refused("InvalidGroup.NotFound", "AuthorizeSecurityGroupIngress", GroupId="sg-12345678", IpProtocol="-1")


@pytest.mark.parametrize(
    ("permission", "worded"),
    [
        ({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, "peer: 0.0.0.0/0, ALL, ALLOW"),
        (
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
            "peer: 10.0.0.0/8, TCP, from port: 22, to port: 22, ALLOW",
        ),
        ({"IpProtocol": "50", "UserIdGroupPairs": [{}]}, "peer: {group}, 50, ALLOW"),
        (
            {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
            "peer: ::/0, ICMP, type: ALL, code: ALL, ALLOW",
        ),
    ],
)
def test_a_rule_is_there_once(ec2, group, permission, worded):
    if permission.get("UserIdGroupPairs"):
        permission = {**permission, "UserIdGroupPairs": [{"GroupId": group}]}
    new = {"IpProtocol": "89", "IpRanges": [{"CidrIp": "10.2.0.0/16"}]}
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[permission])
    message = ec2.refused(
        "InvalidPermission.Duplicate", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[new, permission]
    )
    assert message == f'the specified rule "{worded.format(group=group)}" already exists'
    message = ec2.refused("InvalidParameterValue", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[new, new])
    assert message == "The same permission must not appear multiple times"


def test_ports_of_esp_do_not_make_another_rule(ec2, group):
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[self_reference("50", group, FromPort=0, ToPort=65535)])
    ec2.refused(
        "InvalidPermission.Duplicate",
        "AuthorizeSecurityGroupIngress",
        GroupId=group,
        IpPermissions=[self_reference("50", group)],
    )


def test_sixty_rules_a_direction(ec2, group):
    def ranges(numbers):
        return [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": f"10.0.{number}.0/24"} for number in numbers]}]

    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=ranges(range(59)))
    message = ec2.refused(
        "RulesPerSecurityGroupLimitExceeded",
        "AuthorizeSecurityGroupIngress",
        GroupId=group,
        IpPermissions=ranges(range(59, 61)),
    )
    assert message == "The maximum number of rules per security group has been reached."
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=ranges([59]))
    # The other IP version and the other direction have a quota of their own; a group as a peer counts for both versions.
    v6 = {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]}
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[v6])
    ec2.AuthorizeSecurityGroupEgress(GroupId=group, IpPermissions=ranges(range(59)))
    peer = [self_reference("50", group)]
    ec2.refused("RulesPerSecurityGroupLimitExceeded", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=peer)


def test_revoking(ec2, vpc, group):
    permission = {
        "IpProtocol": "17",
        "FromPort": 500,
        "ToPort": 500,
        "IpRanges": [{"CidrIp": "10.0.0.0/16", "Description": "a"}],
    }
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[permission, self_reference("50", group)])
    other = {"IpProtocol": "udp", "FromPort": 500, "ToPort": 501, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}
    message = ec2.refused(
        "InvalidPermission.NotFound", "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[permission, other]
    )
    assert message == "The specified rule does not exist in this security group."
    # The same rule, outbound, is another.
    ec2.refused("InvalidPermission.NotFound", "RevokeSecurityGroupEgress", GroupId=group, IpPermissions=[permission])
    answer = ec2.RevokeSecurityGroupIngress(
        GroupId=group,
        IpPermissions=[{"IpProtocol": "udp", "FromPort": 500, "ToPort": 500, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}],
    )
    assert answer["Return"] is True
    (revoked,) = answer["RevokedSecurityGroupRules"]
    assert (revoked["IpProtocol"], revoked["CidrIpv4"], revoked["Description"]) == ("udp", "10.0.0.0/16", "a")
    assert [span["IpProtocol"] for span in ec2.group(group)["IpPermissions"]] == ["50"]
    assert [changed for changed, _ in ec2.control.changed] == [vpc, vpc]


def test_revoke_in_a_default_vpc_tells_what_was_not_there(ec2):
    """ "For a default VPC, …, no error is returned" (RevokeSecurityGroupIngress)."""
    vpc = ec2.CreateDefaultVpc()["Vpc"]["VpcId"]
    (group,) = [each["GroupId"] for each in ec2.DescribeSecurityGroups()["SecurityGroups"] if each["VpcId"] == vpc]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    ec2.AuthorizeSecurityGroupIngress(GroupId=group, IpPermissions=[ssh])
    both = {**ssh, "IpRanges": [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "192.0.2.0/24"}]}
    answer = ec2.RevokeSecurityGroupIngress(GroupId=group, IpPermissions=[both])
    assert [rule["CidrIpv4"] for rule in answer["RevokedSecurityGroupRules"]] == ["10.0.0.0/8"]
    (unknown,) = answer["UnknownIpPermissions"]
    assert (unknown["IpProtocol"], unknown["FromPort"], unknown["IpRanges"]) == ("tcp", 22, [{"CidrIp": "192.0.2.0/24"}])
    assert len(ec2.group(group)["IpPermissions"]) == 1
    answer = ec2.RevokeSecurityGroupEgress(GroupId=group, IpPermissions=[ssh])
    assert (answer["RevokedSecurityGroupRules"], len(answer["UnknownIpPermissions"])) == ([], 1)
    ec2.refused(
        "InvalidSecurityGroupRuleId.NotFound", "RevokeSecurityGroupEgress", GroupId=group, SecurityGroupRuleIds=["sgr-1"]
    )
    assert ec2.group(group)["IpPermissionsEgress"] == [ALL_OUT]


def test_revoking_by_rule_id(ec2, vpc, group):
    answer = ec2.AuthorizeSecurityGroupEgress(GroupId=group, IpPermissions=[self_reference("50", group)])
    rule = answer["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    ec2.CreateTags(Resources=[rule], Tags=[{"Key": "a", "Value": "b"}])
    for members in (
        {"SecurityGroupRuleIds": ["sgr-12345678"]},
        {"SecurityGroupRuleIds": [rule, "sgr-12345678"]},
    ):
        message = ec2.refused("InvalidSecurityGroupRuleId.NotFound", "RevokeSecurityGroupEgress", GroupId=group, **members)
        assert message == "The security group rule ID 'sgr-12345678' does not exist"
    ec2.refused("InvalidSecurityGroupRuleId.NotFound", "RevokeSecurityGroupIngress", GroupId=group, SecurityGroupRuleIds=[rule])
    other = ec2.CreateSecurityGroup(GroupName="other", Description="x", VpcId=vpc)["GroupId"]
    ec2.refused("InvalidSecurityGroupRuleId.NotFound", "RevokeSecurityGroupEgress", GroupId=other, SecurityGroupRuleIds=[rule])
    revoked = ec2.RevokeSecurityGroupEgress(GroupId=group, SecurityGroupRuleIds=[rule])["RevokedSecurityGroupRules"]
    assert [(found["SecurityGroupRuleId"], found["ReferencedGroupId"]) for found in revoked] == [(rule, group)]
    assert ec2.DescribeTags()["Tags"] == []


def test_describing_rules(ec2, group):
    ec2.AuthorizeSecurityGroupIngress(
        GroupId=group,
        IpPermissions=[self_reference("50", group)],
        TagSpecifications=[{"ResourceType": "security-group-rule", "Tags": [{"Key": "for", "Value": "esp"}]}],
    )
    rules = ec2.DescribeSecurityGroupRules(Filters=[{"Name": "group-id", "Values": [group]}])["SecurityGroupRules"]
    assert {(rule["IpProtocol"], rule["IsEgress"]) for rule in rules} == {("-1", True), ("50", False)}
    out = next(rule for rule in rules if rule["IsEgress"])
    assert (out["FromPort"], out["ToPort"], out["CidrIpv4"]) == (-1, -1, "0.0.0.0/0")
    (tagged,) = ec2.DescribeSecurityGroupRules(Filters=[{"Name": "tag:for", "Values": ["esp"]}])["SecurityGroupRules"]
    assert tagged["IpProtocol"] == "50"
    by_id = ec2.DescribeSecurityGroupRules(SecurityGroupRuleIds=[tagged["SecurityGroupRuleId"]])["SecurityGroupRules"]
    assert by_id == [tagged]
    ec2.refused("InvalidSecurityGroupRuleId.NotFound", "DescribeSecurityGroupRules", SecurityGroupRuleIds=["sgr-1"])


# ------------------------------------------------------------------------------------------- Filters, pages, tags, zones


def test_filters(ec2, vpc, group):
    other = ec2.CreateVpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ec2.CreateTags(Resources=[other], Tags=[{"Key": "Name", "Value": "a*b"}])

    def vpcs(name, *values):
        return {found["VpcId"] for found in ec2.DescribeVpcs(Filters=[{"Name": name, "Values": list(values)}])["Vpcs"]}

    assert vpcs("cidr", "10.9.0.0/16") == {other}
    assert vpcs("cidr", "10.9.0.0/16", "10.0.0.0/16") == {vpc, other}
    assert vpcs("cidr", "10.?.0.0/16") == {vpc, other}
    assert vpcs("cidr", "10.9*") == {other}
    assert vpcs("vpc-id", vpc.upper()) == set()
    assert vpcs("tag:Name", "a*") == {other}
    assert vpcs("tag:Name", r"a\*b") == {other}
    assert vpcs("tag:Name", r"a\*") == set()
    assert vpcs("tag-key", "Name") == {other}
    assert vpcs("is-default", "false") == {vpc, other}
    both = [{"Name": "cidr", "Values": ["10.*"]}, {"Name": "vpc-id", "Values": [vpc]}]
    assert [found["VpcId"] for found in ec2.DescribeVpcs(Filters=both)["Vpcs"]] == [vpc]
    message = ec2.refused("InvalidParameterValue", "DescribeVpcs", Filters=[{"Name": "colour", "Values": ["red"]}])
    assert message == "The filter 'colour' is invalid"


def test_group_filters(ec2, vpc, group):
    ec2.AuthorizeSecurityGroupIngress(
        GroupId=group,
        IpPermissions=[
            self_reference("50", group),
            {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 81, "IpRanges": [{"CidrIp": "10.7.0.0/16"}]},
            {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]},
        ],
    )

    def names(name, value):
        found = ec2.DescribeSecurityGroups(Filters=[{"Name": name, "Values": [value]}])["SecurityGroups"]
        return {item["GroupName"] for item in found}

    assert names("vpc-id", vpc) == {"training", "default"}
    for name, value in (
        ("group-name", "train*"),
        ("group-id", group),
        ("description", "for jobs"),
        ("ip-permission.protocol", "50"),
        ("ip-permission.protocol", "tcp"),
        ("ip-permission.cidr", "10.7.0.0/16"),
        ("ip-permission.ipv6-cidr", "2001:db8::/32"),
        ("ip-permission.from-port", "80"),
        ("ip-permission.to-port", "81"),
        ("ip-permission.group-id", group),
        ("ip-permission.group-name", "training"),
    ):
        assert names(name, value) == {"training"}, name
    assert names("egress.ip-permission.cidr", "0.0.0.0/0") == {"training", "default"}
    assert names("egress.ip-permission.group-id", group) == set()


def test_subnet_filters(ec2, vpc):
    first = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.2.0/25", AvailabilityZone="us-east-1b")
    for name, value in (
        ("availability-zone", "us-east-1a"),
        ("availability-zone-id", "use1-az1"),
        ("cidr-block", "10.0.1.0/24"),
        ("available-ip-address-count", "251"),
        ("subnet-id", first),
    ):
        found = ec2.DescribeSubnets(Filters=[{"Name": name, "Values": [value]}])["Subnets"]
        assert [subnet["SubnetId"] for subnet in found] == [first], name


def test_pages(ec2):
    made = {ec2.CreateVpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"] for _ in range(12)}
    seen, token, pages = [], None, 0
    while pages == 0 or token:
        answer = ec2.DescribeVpcs(MaxResults=5, **({"NextToken": token} if token else {}))
        seen += [vpc["VpcId"] for vpc in answer["Vpcs"]]
        token, pages = answer.get("NextToken"), pages + 1
    assert (pages, len(seen), set(seen)) == (3, 12, made)
    assert "NextToken" not in ec2.DescribeVpcs(MaxResults=12)
    for number, bound in ((4, "greater than or equal to 5"), (1001, "smaller than or equal to 1000")):
        with pytest.raises(AwsError) as refusal:
            ec2.handlers["DescribeVpcs"](CALLER, {"MaxResults": number})
        assert refusal.value.message == (f"Value ( {number} ) for parameter MaxResults is invalid. Expecting a value {bound}.")
    message = ec2.refused("InvalidParameterCombination", "DescribeVpcs", MaxResults=5, VpcIds=seen[:1])
    assert message == "The parameter VpcIds cannot be used with the parameter MaxResults"
    for token in ("nonsense!", base64.b64encode(b"\xff").decode(), "é"):
        assert ec2.refused("InvalidParameterValue", "DescribeVpcs", NextToken=token) == "Unable to parse pagination token"


def test_tags(ec2, vpc, group):
    ec2.CreateTags(Resources=[vpc, group], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    ec2.CreateTags(Resources=[vpc], Tags=[{"Key": "a", "Value": "3"}])
    assert ec2.DescribeVpcs()["Vpcs"][0]["Tags"] == [{"Key": "a", "Value": "3"}, {"Key": "b", "Value": "2"}]
    described = ec2.DescribeTags(Filters=[{"Name": "resource-type", "Values": ["security-group"]}])["Tags"]
    assert described == [
        {"ResourceId": group, "ResourceType": "security-group", "Key": key, "Value": value} for key, value in ("a1", "b2")
    ]
    assert len(ec2.DescribeTags(Filters=[{"Name": "key", "Values": ["a"]}])["Tags"]) == 2
    assert len(ec2.DescribeTags(Filters=[{"Name": "tag:a", "Values": ["3"]}])["Tags"]) == 1
    ec2.DeleteTags(Resources=[vpc], Tags=[{"Key": "a", "Value": "another"}, {"Key": "b"}])
    assert ec2.DescribeVpcs()["Vpcs"][0]["Tags"] == [{"Key": "a", "Value": "3"}]
    ec2.DeleteTags(Resources=[vpc, group])
    assert ec2.DescribeTags()["Tags"] == []


def test_tags_that_are_refused(ec2, vpc):
    assert ec2.refused("InvalidID", "CreateTags", Resources=["training"], Tags=[]) == "The ID 'training' is not valid"
    tag = [{"Key": "a", "Value": "b"}]
    ec2.refused("InvalidGroup.NotFound", "CreateTags", Resources=[vpc, "sg-12345678"], Tags=tag)
    for bad in ([{"Key": "aws:a", "Value": "b"}], [{"Value": "b"}], [*tag, *tag], [{"Key": "k" * 128, "Value": ""}]):
        ec2.refused("InvalidParameterValue", "CreateTags", Resources=[vpc], Tags=bad)
    many = [{"Key": f"k{number}", "Value": ""} for number in range(51)]
    ec2.refused("TagLimitExceeded", "CreateTags", Resources=[vpc], Tags=many)
    ec2.CreateTags(Resources=[vpc], Tags=many[:50])
    ec2.refused("TagLimitExceeded", "CreateTags", Resources=[vpc], Tags=many[50:])


def test_interfaces_of_a_job(ec2, vpc, group):
    subnet = ec2.CreateSubnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="us-east-1c")["Subnet"]["SubnetId"]
    default = next(found for found in ec2.DescribeSecurityGroups()["SecurityGroups"] if found["GroupName"] == "default")
    with ec2.database.write() as session:
        interfaces.allocate(session, "job", ["algo-1", "algo-2"], [subnet], [group, default["GroupId"]])
    one, two = sorted(ec2.DescribeNetworkInterfaces()["NetworkInterfaces"], key=lambda eni: eni["PrivateIpAddress"])
    assert (one["PrivateIpAddress"], two["PrivateIpAddress"]) == ("10.0.0.4", "10.0.0.5")
    assert (one["VpcId"], one["SubnetId"], one["AvailabilityZone"], one["Status"]) == (vpc, subnet, "us-east-1c", "in-use")
    assert one["Groups"] == [
        {"GroupId": group, "GroupName": "training"},
        {"GroupId": default["GroupId"], "GroupName": "default"},
    ]
    assert one["Description"] == "Training job job, algo-1"
    for name, value in (
        ("private-ip-address", "10.0.0.5"),
        ("network-interface-id", two["NetworkInterfaceId"]),
        ("description", "*algo-2"),
    ):
        found = ec2.DescribeNetworkInterfaces(Filters=[{"Name": name, "Values": [value]}])["NetworkInterfaces"]
        assert found == [two], name
    for name, value in (("group-id", group), ("group-name", "default"), ("subnet-id", subnet), ("vpc-id", vpc)):
        found = ec2.DescribeNetworkInterfaces(Filters=[{"Name": name, "Values": [value]}])["NetworkInterfaces"]
        assert len(found) == 2, name
    message = ec2.refused("InvalidNetworkInterfaceID.NotFound", "DescribeNetworkInterfaces", NetworkInterfaceIds=["eni-1"])
    assert message == "The networkInterface ID 'eni-1' does not exist"


def test_zones(ec2):
    zones = ec2.DescribeAvailabilityZones()["AvailabilityZones"]
    assert [(zone["ZoneName"], zone["ZoneId"]) for zone in zones] == [
        ("us-east-1a", "use1-az1"),
        ("us-east-1b", "use1-az2"),
        ("us-east-1c", "use1-az3"),
    ]
    assert {zone["State"] for zone in zones} == {"available"}
    (one,) = ec2.DescribeAvailabilityZones(Filters=[{"Name": "zone-id", "Values": ["use1-az2"]}])["AvailabilityZones"]
    assert one["ZoneName"] == "us-east-1b"
    assert ec2.DescribeAvailabilityZones(ZoneNames=["us-east-1b"])["AvailabilityZones"] == [one]
    message = ec2.refused("InvalidParameterValue", "DescribeAvailabilityZones", ZoneNames=["eu-west-1a"])
    assert message == "Invalid availability zone: [eu-west-1a]"


def test_every_operation_answers_a_dry_run(ec2):
    no_dry_run = {"ModifyVpcAttribute", "ModifySubnetAttribute"}  # whose models have none
    before = ec2.everything()
    for operation, handler in ec2.handlers.items():
        with pytest.raises(AwsError) as refusal:
            handler(CALLER, {"DryRun": True})
        assert (refusal.value.code, refusal.value.status) == ("DryRunOperation", 412), operation
        assert refusal.value.message == "Request would have succeeded, but DryRun flag is set."
        assert operation in no_dry_run or "DryRun" in MODEL.operation_model(operation).input_shape.members
    assert ec2.everything() == before
