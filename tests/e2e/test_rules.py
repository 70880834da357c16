"""Security groups of encrypted jobs: made, broken and mended with the AWS CLI while jobs run."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import boto3
from botocore.config import Config

from e2e.conftest import ESP, IMAGE, ROLE, UDP_500, channel, wait_for
from e2e.test_first_job import capture, kinds
from phalanx.network import namespace
from phalanx.network.capture import Capture
from phalanx.network.model import S3_ADDRESS

GROUPS = int(os.environ.get("CHURN_GROUPS", "32"))


def documented(aws):
    """The manual's procedure ("Protect Communications Between ML Compute Instances"), typed: subnet and group."""
    vpc = aws("aws ec2 create-vpc --cidr-block 10.40.0.0/16")["Vpc"]["VpcId"]
    subnet = aws(f"aws ec2 create-subnet --vpc-id {vpc} --cidr-block 10.40.1.0/24")["Subnet"]["SubnetId"]
    group = aws(f'aws ec2 create-security-group --group-name training --description "encrypted jobs" --vpc-id {vpc}')["GroupId"]
    aws(f"aws ec2 authorize-security-group-ingress --group-id {group} --protocol udp --port 500 --source-group {group}")
    esp = f"IpProtocol=50,UserIdGroupPairs=[{{GroupId={group}}}]"
    ike = f"IpProtocol=udp,FromPort=500,ToPort=500,UserIdGroupPairs=[{{GroupId={group}}}]"
    aws(f"aws ec2 authorize-security-group-ingress --group-id {group} --ip-permissions {esp}")
    aws(f"aws ec2 authorize-security-group-egress --group-id {group} --ip-permissions {ike} {esp}")
    aws(f"aws ec2 revoke-security-group-egress --group-id {group} --protocol all --cidr 0.0.0.0/0")
    return subnet, group


def create(aws, name, subnet, group):
    words = {
        "algorithm-specification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "hyper-parameters": {"objective": "binary:logistic", "eval_metric": "auc", "num_round": "20"},
        "input-data-config": [channel("train", "ShardedByS3Key")],
    }
    typed = " ".join(f"--{option} '{json.dumps(value)}'" for option, value in words.items())
    return aws(
        f"aws sagemaker create-training-job --training-job-name {name} --role-arn {ROLE} {typed}"
        " --output-data-config S3OutputPath=s3://test-bucket/models"
        " --resource-config InstanceType=ml.m5.large,InstanceCount=2,VolumeSizeInGB=1"
        " --stopping-condition MaxRuntimeInSeconds=300"
        f" --vpc-config Subnets={subnet},SecurityGroupIds={group} --enable-inter-container-traffic-encryption"
    )


def test_the_documented_procedure_and_each_of_its_four_rules(phalanx, aws):
    subnet, group = documented(aws)
    create(aws, "by-the-book", subnet, group)
    job = phalanx.ended("by-the-book")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert len(phalanx.evidence("by-the-book")["pairs"]) == 2

    traffic = {"udp": "IKE (UDP 500)", "50": "ESP (protocol 50)"}
    listed = aws(f"aws ec2 describe-security-group-rules --filters Name=group-id,Values={group}")["SecurityGroupRules"]
    assert len(listed) == 4
    for number, rule in enumerate(listed):
        way, side, word = ("egress", "outbound", "to") if rule["IsEgress"] else ("ingress", "inbound", "from")
        told = traffic[rule["IpProtocol"]]
        rule_id = rule["SecurityGroupRuleId"]
        aws(f"aws ec2 revoke-security-group-{way} --group-id {group} --security-group-rule-ids {rule_id}")
        create(aws, f"lacks-{number}", subnet, group)
        job = phalanx.ended(f"lacks-{number}")
        assert job["TrainingJobStatus"] == "Failed"
        reason = job["FailureReason"]
        assert reason.startswith(f"ClientError: Security group {group} has no {side} rule for {told} {word} itself.")
        explained = phalanx.run("explain", f"lacks-{number}").stdout
        assert explained.count("blocked. ") == 1
        assert f"blocked. Security group {group} has no {side} rule for {told} {word} itself." in explained
        # What the failure says to run is what mends it.
        command = reason.partition(" Run: ")[2]
        assert command in explained
        aws(command)

    create(aws, "mended", subnet, group)
    assert phalanx.ended("mended")["TrainingJobStatus"] == "Completed"


def test_a_network_acl_that_does_not_let_esp_into_a_subnet_and_the_command_that_mends_it(phalanx, aws):
    vpc = aws("aws ec2 create-vpc --cidr-block 10.42.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        aws(f"aws ec2 create-subnet --vpc-id {vpc} --cidr-block 10.42.{number}.0/24")["Subnet"]["SubnetId"] for number in (1, 2)
    ]
    mine = f"--filters Name=vpc-id,Values={vpc}"
    group = aws(f"aws ec2 describe-security-groups {mine}")["SecurityGroups"][0]["GroupId"]
    (default,) = aws(f"aws ec2 describe-network-acls {mine}")["NetworkAcls"]
    acl = aws(f"aws ec2 create-network-acl --vpc-id {vpc}")["NetworkAcl"]["NetworkAclId"]
    (second,) = [each for each in default["Associations"] if each["SubnetId"] == subnets[1]]
    aws(f"aws ec2 replace-network-acl-association --association-id {second['NetworkAclAssociationId']} --network-acl-id {acl}")
    entry = f"aws ec2 create-network-acl-entry --network-acl-id {acl} --cidr-block 10.42.0.0/16 --rule-number 100"
    aws(f"{entry} --egress --protocol all --rule-action allow")
    aws(f"{entry} --ingress --protocol udp --port-range From=500,To=500 --rule-action allow")
    create(aws, "behind-an-acl", ",".join(subnets), group)
    job = phalanx.ended("behind-an-acl")
    assert job["TrainingJobStatus"] == "Failed"
    reason, _, command = job["FailureReason"].partition(" Run: ")
    assert reason.startswith(f"ClientError: Network ACL {acl} lets no inbound ESP (protocol 50) from 10.42.1.")
    assert command in phalanx.run("explain", "behind-an-acl").stdout
    aws(command)
    create(aws, "let-in", ",".join(subnets), group)
    assert phalanx.ended("let-in")["TrainingJobStatus"] == "Completed"
    pairs = phalanx.evidence("let-in")["pairs"]
    assert len(pairs) == 2
    assert all(pair["algorithm"] == "AES_GCM_16" and pair["bytes"] > 0 for pair in pairs)


CALLER = """
import os, urllib.request
assert os.environ["OBJECT"].startswith(os.environ["AWS_ENDPOINT_URL_S3"])
while True:
    try:
        print("S3 has", len(urllib.request.urlopen(os.environ["OBJECT"], timeout=1).read()), flush=True)
        break
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        print("S3 is away:", error, flush=True)
"""
"""Reads an object as soon as it can."""


def test_a_container_reaches_s3_from_when_a_route_leads_there(phalanx, aws):
    vpc = aws("aws ec2 create-vpc --cidr-block 10.41.0.0/16")["Vpc"]["VpcId"]
    subnet = aws(f"aws ec2 create-subnet --vpc-id {vpc} --cidr-block 10.41.1.0/24")["Subnet"]["SubnetId"]
    mine = f"--filters Name=vpc-id,Values={vpc}"
    group = aws(f"aws ec2 describe-security-groups {mine}")["SecurityGroups"][0]["GroupId"]
    table = aws(f"aws ec2 describe-route-tables {mine}")["RouteTables"][0]["RouteTableId"]
    thing = {"Bucket": "test-bucket", "Key": "train/part-0.csv"}
    size = phalanx.client("s3").head_object(**thing)["ContentLength"]
    keys = {
        "aws_access_key_id": phalanx.env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": phalanx.env["AWS_SECRET_ACCESS_KEY"],
    }
    keys |= {"region_name": phalanx.env["AWS_REGION"], "config": Config(signature_version="s3v4")}
    inside = boto3.client("s3", endpoint_url=f"http://{S3_ADDRESS}:443", **keys)
    there = inside.generate_presigned_url("get_object", thing)
    entry = ["python3", "-c", "import os; exec(os.environ['CALLER'])"]
    caller = {"ContainerEntrypoint": entry, "TrainingImage": IMAGE, "TrainingInputMode": "File"}
    network = {"Subnets": [subnet], "SecurityGroupIds": [group]}
    members = {"AlgorithmSpecification": caller, "InputDataConfig": None, "Environment": {"CALLER": CALLER, "OBJECT": there}}
    phalanx.create("calls-s3", 1, network=network, **members)

    logs, log = phalanx.client("logs"), {"logGroupName": "/aws/sagemaker/TrainingJobs"}

    def said():
        with suppress(logs.exceptions.ResourceNotFoundException):
            for stream in logs.describe_log_streams(**log, logStreamNamePrefix="calls-s3/")["logStreams"]:
                events = logs.get_log_events(**log, logStreamName=stream["logStreamName"])["events"]
                return [event["message"] for event in events]
        return []

    wait_for(lambda: any("timed out" in line for line in said()), 60, "S3 to be away")
    exits = f"{phalanx.names.namespaces}{vpc}-exit"
    assert namespace.listing(exits) == []
    region = phalanx.env["AWS_REGION"]
    aws(f"aws ec2 create-vpc-endpoint --vpc-id {vpc} --service-name com.amazonaws.{region}.s3 --route-table-ids {table}")
    assert phalanx.ended("calls-s3")["TrainingJobStatus"] == "Completed"
    assert said()[-1] == f"S3 has {size}"
    wait_for(lambda: namespace.listing(exits) == [], 10, "the exit to go with the VPC's last instance")


def received(phalanx, network):
    """ESP packets that reach the instances of a VPC within a second."""
    addresses = ec2_addresses(phalanx, network)
    with ExitStack() as stack:
        names = namespace.listing(phalanx.names.namespaces + "i-")
        captures = [stack.enter_context(Capture(name)) for name in names]
        time.sleep(1)
    flows = [flow for capture in captures for flow in capture.summary() if flow.kind == "ESP"]
    return sum(flow.frames for flow in flows if flow.destination in addresses)


def ec2_addresses(phalanx, network):
    found = phalanx.client("ec2").describe_network_interfaces(Filters=[{"Name": "subnet-id", "Values": network["Subnets"]}])
    return {interface["PrivateIpAddress"] for interface in found["NetworkInterfaces"]}


def told(phalanx, name):
    transition = phalanx.describe(name)["SecondaryStatusTransitions"][-1]
    return transition["Status"], transition["StatusMessage"]


def test_esp_revoked_in_mid_job_stops_within_a_second_and_flows_again(phalanx):
    ec2, name = phalanx.client("ec2"), "interrupted"
    network = phalanx.network(UDP_500, ESP)
    (group,) = network["SecurityGroupIds"]
    rule = {"GroupId": group, "IpPermissions": [{**ESP, "UserIdGroupPairs": [{"GroupId": group}]}]}
    process = capture(phalanx, phalanx.vpc_of(network))
    phalanx.create_steady(name, network=network)
    phalanx.training(name)
    assert received(phalanx, network) > 0

    ec2.revoke_security_group_ingress(**rule)
    time.sleep(1)
    assert received(phalanx, network) == 0
    status, message = told(phalanx, name)
    assert status == "Training"
    assert message.startswith(f"Traffic between the instances is stopped: Security group {group} has no inbound rule for ESP")
    assert f"blocked. Security group {group} has no inbound rule for ESP" in phalanx.run("explain", name).stdout

    ec2.authorize_security_group_ingress(**rule)
    assert told(phalanx, name) == ("Training", "Traffic between the instances flows again.")
    wait_for(lambda: received(phalanx, network) > 0, 30, "ESP to flow again")
    phalanx.training(name, since=time.time())
    job = phalanx.finished(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert kinds(process) == {"UDP 500", "ESP"}
    assert phalanx.run("explain", name).stdout.count(": allowed\n") == 2


def test_groups_made_by_many_clients_outlive_the_service_and_leave_nothing_in_the_kernel(own_phalanx):
    clients, each, ports = 8, GROUPS // 8, 18
    vpc = own_phalanx.client("ec2").create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]

    def churn(worker):
        """The groups that one client leaves, with their rules as it saw them."""
        ec2 = own_phalanx.fresh("ec2")
        left = {}
        for number in range(worker * each, (worker + 1) * each):
            group = ec2.create_security_group(GroupName=f"g-{number}", Description="churn", VpcId=vpc)["GroupId"]
            peers = {"UserIdGroupPairs": [{"GroupId": group}]}
            permissions = [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port + number, **peers} for port in range(ports)]
            permissions += [{**permission, **peers} for permission in (UDP_500, ESP)]
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions)
            if number % 3 == 0:
                ec2.delete_security_group(GroupId=group)
            else:
                left[group] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
        return left

    network = own_phalanx.network(UDP_500, ESP)
    own_phalanx.create("beside", network=network)
    with ThreadPoolExecutor(clients) as pool:
        left = {group: found for found_by in pool.map(churn, range(clients)) for group, found in found_by.items()}
    assert all(len(found["IpPermissions"]) == ports + 2 for found in left.values())
    assert own_phalanx.ended("beside")["TrainingJobStatus"] == "Completed"
    own_phalanx.kill()
    own_phalanx.start()
    shown = own_phalanx.fresh("ec2").describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["SecurityGroups"]
    assert {found["GroupId"]: found for found in shown if found["GroupName"] != "default"} == left
    assert namespace.listing(own_phalanx.names.namespaces) == []
    assert own_phalanx.stop() == 0
    assert own_phalanx.leftovers() == []
