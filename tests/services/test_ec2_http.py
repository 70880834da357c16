"""boto3 against a live server: EC2 through the wire."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
import uvicorn
from botocore.config import Config
from botocore.exceptions import ClientError

from phalanx.jobs import interfaces, preflight
from phalanx.services.ec2.service import ensure_default_vpc, service
from phalanx.store.base import Base
from phalanx.store.database import Database, sqlite_url
from phalanx.wire.app import application
from phalanx.wire.sigv4 import Principal


class StubControl:
    """A jobs room that only remembers which VPCs' rules changed."""

    def __init__(self):
        self.changed = []

    def network_changed(self, vpc_id):
        self.changed.append(vpc_id)


@pytest.fixture
def database(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    ensure_default_vpc(database, "eu-central-1")
    yield database
    database.close()


@pytest.fixture
def control():
    return StubControl()


@pytest.fixture
def settings(database, control):
    """What boto3 needs to reach the server."""
    keys = {"AKIAEXAMPLE": Principal("secret", "arn:aws:iam::123456789012:user/admin", "AIDAEXAMPLE")}
    app = application([service(database, control)], keys.get, "123456789012")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "region_name": "eu-central-1",
        "aws_access_key_id": "AKIAEXAMPLE",
        "aws_secret_access_key": "secret",
        "config": Config(retries={"total_max_attempts": 1}, max_pool_connections=20),
    }
    server.should_exit = True
    thread.join()


@pytest.fixture
def ec2(settings):
    client = boto3.client("ec2", **settings)
    yield client
    client.close()


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
        arguments = (
            {eni.host: eni.groups for eni in enis},
            {eni.host: eni.address for eni in enis},
            interfaces.security_groups(session, vpc),
        )
    assert preflight.failure_reason(*arguments) is None
    shown = ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [group]}])["NetworkInterfaces"]
    assert {eni["PrivateIpAddress"] for eni in shown} == {"10.0.1.4", "10.0.1.5"}

    (esp,) = [id_ for id_, rule in rules(ec2, group).items() if rule["IpProtocol"] == "50" and not rule["IsEgress"]]
    ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[esp])
    with database.read() as session:
        text = preflight.failure_reason(*arguments[:2], interfaces.security_groups(session, vpc))
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
