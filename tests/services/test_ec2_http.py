"""boto3 against a live server: EC2 through the wire."""

from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.exceptions import ClientError

from phalanx.jobs import interfaces, preflight
from phalanx.jobs.explain import End


@pytest.fixture
def ec2(client):
    return client


@pytest.fixture
def database(live_database):
    return live_database


def rules(ec2, group):
    found = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])["SecurityGroupRules"]
    return {rule["SecurityGroupRuleId"]: rule for rule in found}


def test_the_network_of_an_encrypted_job(ec2, database, control):
    vpc = ec2.create_vpc(
        CidrBlock="10.0.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "a b&<ü"}]}]
    )["Vpc"]["VpcId"]
    ec2.get_waiter("vpc_available").wait(VpcIds=[vpc])
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="eu-central-1b")["Subnet"]["SubnetId"]
    ec2.get_waiter("subnet_available").wait(SubnetIds=[subnet])
    group = ec2.create_security_group(GroupName="training", Description="encrypted", VpcId=vpc)["GroupId"]
    ec2.get_waiter("security_group_exists").wait(GroupIds=[group])
    pair = [{"GroupId": group}]
    permissions = [
        {"IpProtocol": "udp", "FromPort": 500, "ToPort": 500, "UserIdGroupPairs": pair},
        {"IpProtocol": "50", "UserIdGroupPairs": pair},
    ]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions)
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=permissions)
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    assert control.changed == [vpc] * 3
    described = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    for side in ("IpPermissions", "IpPermissionsEgress"):
        assert [(span["IpProtocol"], span.get("FromPort")) for span in described[side]] == [("udp", 500), ("50", None)]
    assert ec2.describe_vpcs(Filters=[{"Name": "tag:Name", "Values": ["a b&<ü"]}])["Vpcs"][0]["VpcId"] == vpc

    hosts = ["algo-1", "algo-2"]
    with database.write() as session:
        assert interfaces.check_vpc_config(session, [subnet], [group]) == vpc
        enis = interfaces.allocate(session, "job", hosts, [subnet], [group])
        ends = [End.at(eni.host, eni.address, eni.groups) for eni in enis]
        assert preflight.missing_rules(ends, interfaces.security_groups(session, vpc)) == []
    shown = ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [group]}])["NetworkInterfaces"]
    assert {eni["PrivateIpAddress"] for eni in shown} == {"10.0.1.4", "10.0.1.5"}

    (esp,) = [id_ for id_, rule in rules(ec2, group).items() if rule["IpProtocol"] == "50" and not rule["IsEgress"]]
    ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[esp])
    with database.read() as session:
        text = preflight.failure_reason(preflight.missing_rules(ends, interfaces.security_groups(session, vpc)))
    assert f"Security group {group} has no inbound rule for ESP (protocol 50) from itself." in text


def test_the_resource_interface(settings):
    ec2 = boto3.resource("ec2", **settings)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")
    subnet = vpc.create_subnet(CidrBlock="10.0.0.0/24")
    group = vpc.create_security_group(GroupName="training", Description="x")
    group.authorize_ingress(IpProtocol="tcp", FromPort=0, ToPort=65535, CidrIp="10.0.0.0/16")
    group.reload()
    assert group.ip_permissions[0]["IpRanges"] == [{"CidrIp": "10.0.0.0/16"}]
    vpc.create_tags(Tags=[{"Key": "Name", "Value": "n"}])
    vpc.reload()
    assert vpc.tags == [{"Key": "Name", "Value": "n"}]
    assert {found.id for found in vpc.security_groups.all()} > {group.id}
    group.delete()
    subnet.delete()
    vpc.delete()
    assert [found.is_default for found in ec2.vpcs.all()] == [True]
    ec2.meta.client.close()


@pytest.mark.parametrize(
    ("code", "operation", "members"),
    [
        ("InvalidVpcID.NotFound", "describe_vpcs", {"VpcIds": ["vpc-0123456789abcdef0"]}),
        ("InvalidSubnetID.NotFound", "describe_subnets", {"SubnetIds": ["subnet-0123456789abcdef0"]}),
        ("InvalidGroup.NotFound", "describe_security_groups", {"GroupIds": ["sg-0123456789abcdef0"]}),
        ("InvalidVpc.Range", "create_vpc", {"CidrBlock": "10.0.0.0/8"}),
        ("InvalidParameterValue", "create_vpc", {"CidrBlock": "ten"}),
        ("MissingParameter", "create_vpc", {}),
        ("InvalidParameterValue", "describe_vpcs", {"MaxResults": 2000}),
        ("InvalidGroup.NotFound", "authorize_security_group_egress", {"GroupId": "sg-0123456789abcdef0"}),
    ],
)
def test_errors(ec2, code, operation, members):
    with pytest.raises(ClientError) as refusal:
        getattr(ec2, operation)(**members)
    assert refusal.value.response["Error"]["Code"] == code
    assert refusal.value.response["Error"]["Message"]
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_dry_run(ec2):
    with pytest.raises(ClientError) as refusal:
        ec2.create_vpc(CidrBlock="10.0.0.0/16", DryRun=True)
    assert refusal.value.response["Error"] == {
        "Code": "DryRunOperation",
        "Message": "Request would have succeeded, but DryRun flag is set.",
    }
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert len(ec2.describe_vpcs()["Vpcs"]) == 1


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("describe_vpcs", "Vpcs"),
        ("describe_subnets", "Subnets"),
        ("describe_security_groups", "SecurityGroups"),
        ("describe_security_group_rules", "SecurityGroupRules"),
        ("describe_network_interfaces", "NetworkInterfaces"),
        ("describe_tags", "Tags"),
    ],
)
def test_paginators(ec2, database, operation, key):
    for number in range(6):
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
        ec2.create_tags(Resources=[vpc, group], Tags=[{"Key": "n", "Value": str(number)}])
        with database.write() as session:
            interfaces.allocate(session, f"job-{number}", ["algo-1"], [subnet], [group])
    pages = [page[key] for page in ec2.get_paginator(operation).paginate(PaginationConfig={"PageSize": 5})]
    assert len(pages) > 1
    assert all(0 < len(page) <= 5 for page in pages)
    assert [item for page in pages for item in page] == getattr(ec2, operation)()[key]


def test_the_same_rule_from_many_at_once(ec2, control):
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]

    def authorize(number):
        try:
            ec2.authorize_security_group_ingress(
                GroupId=group, IpPermissions=[{"IpProtocol": "50", "UserIdGroupPairs": [{"GroupId": group}]}]
            )
        except ClientError as refusal:
            return refusal.response["Error"]["Code"]
        return None

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(authorize, range(16)))
    assert sorted(map(str, answers)) == ["InvalidPermission.Duplicate"] * 15 + ["None"]
    assert control.changed == [vpc]
    assert len(rules(ec2, group)) == 2


def test_another_region_sees_the_same_network(settings):
    ec2 = boto3.client("ec2", **{**settings, "region_name": "us-west-2"})
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert [zone["ZoneId"] for zone in zones] == ["usw2-az1", "usw2-az2", "usw2-az3"]
    assert ec2.describe_vpcs()["Vpcs"][0]["IsDefault"]
    ec2.close()
