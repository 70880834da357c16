"""Jobs read and write S3 as their roles, where the service requires roles."""

import json
import os
import signal
import subprocess

import pytest
from botocore.exceptions import ClientError

from e2e.conftest import IMAGE, PHALANX, ROLE, running, wait_for

ROLES = "arn:aws:iam::123456789012:role/"
BUCKET = "arn:aws:s3:::test-bucket"
TRUST = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
READING = (("s3:ListBucket", ""), ("s3:GetObject", "/train/*"))
WRITING = (("s3:PutObject", "/models/*"),)
CHECKPOINTS = (("s3:GetObject", "/checkpoints/*"), ("s3:PutObject", "/checkpoints/*"), ("s3:DeleteObject", "/checkpoints/*"))


@pytest.fixture(scope="module")
def phalanx(tmp_path_factory):
    with running(tmp_path_factory.mktemp("phalanx"), "--require-roles") as service:
        yield service


def role(phalanx, name, *allowed):
    """A role that SageMaker may assume, and that may do each of `allowed`: action, and what below the bucket or which ARN."""
    on_what = [(action, on if on.startswith("arn:") else BUCKET + on) for action, on in allowed]
    statements = [{"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in on_what]
    iam = phalanx.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [TRUST]}))
    if statements:
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_role_policy(RoleName=name, PolicyName="data", PolicyDocument=policy)
    return ROLES + name


def create(phalanx, name, role, script="true", channels=("File",), **members):
    """A job that is a shell script, with the same data once for each way of reading."""
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File", "ContainerEntrypoint": ["sh", "-c", script]}
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://test-bucket/train/"}
    data = [{"ChannelName": mode, "InputMode": mode, "DataSource": {"S3DataSource": source}} for mode in channels]
    phalanx.create(
        name, 1, encrypted=False, RoleArn=role, AlgorithmSpecification=algorithm, InputDataConfig=data or None, **members
    )


def refused(phalanx, name, role, **members):
    with pytest.raises(ClientError) as error:
        create(phalanx, name, role, **members)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    return error.value.response["Error"]["Message"]


def test_a_role_that_may_read_and_write_is_enough(phalanx):
    arn = role(phalanx, "enough", *READING, *WRITING, *CHECKPOINTS)
    script = (
        "set -e; cd /opt/ml/input/data; cat File/part-0.csv File/part-1.csv > /tmp/all; cat FastFile/* | cmp - /tmp/all;"
        " cat Pipe_0 | cmp - /tmp/all; echo one > /opt/ml/checkpoints/first; cp /tmp/all /opt/ml/model/"
    )
    where = {"S3Uri": "s3://test-bucket/checkpoints"}
    create(phalanx, "enough", arn, script, ("File", "FastFile", "Pipe"), CheckpointConfig=where)
    job = phalanx.ended("enough")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    s3 = phalanx.client("s3")
    assert s3.get_object(Bucket="test-bucket", Key="checkpoints/first")["Body"].read() == b"one\n"
    assert s3.head_object(Bucket="test-bucket", Key="models/enough/output/model.tar.gz")["ContentLength"] > 0
    # Its next attempt reads what it has kept.
    create(phalanx, "goes-on", arn, "grep one /opt/ml/checkpoints/first", (), CheckpointConfig=where)
    job = phalanx.ended("goes-on")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


def test_roles_that_nobody_created_are_none(phalanx):
    for arn in (ROLE, ROLES + "nobody"):
        assert refused(phalanx, "unmade", arn).startswith(f"Could not assume role {arn}.")


def test_a_bucket_that_a_role_may_not_list_holds_nothing(phalanx):
    arn = role(phalanx, "blind", *WRITING, ("s3:GetObject", "/*"))
    text = refused(phalanx, "blind", arn)
    assert text.startswith('No S3 objects found under S3 URL "s3://test-bucket/train/"')
    assert text.endswith(f'that the role "{arn}" has "s3:ListBucket" permissions on bucket "test-bucket".')


@pytest.mark.parametrize(
    ("name", "allowed", "channels", "what", "denied"),
    [
        ("unread", (("s3:ListBucket", ""), *WRITING), ("File",), "Data download failed", "s3:GetObject"),
        ("unpiped", (("s3:ListBucket", ""), *WRITING), ("Pipe",), "Data download failed", "s3:GetObject"),
        ("unwritten", READING, ("File",), "Artifact upload failed", "s3:PutObject"),
        ("elsewhere", (*READING, ("s3:PutObject", "/other/*")), (), "Artifact upload failed", "s3:PutObject"),
    ],
)
def test_a_job_may_in_s3_what_its_role_may(phalanx, name, allowed, channels, what, denied):
    arn = role(phalanx, name, *allowed)
    script = "cat /opt/ml/input/data/Pipe_0 > /tmp/read; sleep 60" if "Pipe" in channels else "echo model > /opt/ml/model/m"
    create(phalanx, name, arn, script, channels)
    job = phalanx.ended(name)
    assert job["TrainingJobStatus"] == "Failed"
    who = f"User: arn:aws:sts::123456789012:assumed-role/{name}/SageMaker is not authorized to perform: {denied} on resource"
    assert job["FailureReason"].startswith(f"ClientError: {what}:AccessDenied (403): {who}"), job["FailureReason"]
    stored = phalanx.client("s3").list_objects_v2(Bucket="test-bucket", Prefix=f"models/{name}/")
    # What has trained is uploaded, also of a job that failed.
    assert ("Contents" in stored) == ("Pipe" in channels)


def test_a_job_may_with_keys_what_its_role_may(phalanx):
    key = phalanx.client("kms").create_key()["KeyMetadata"]["Arn"]
    where, output = {"S3Uri": "s3://test-bucket/checkpoints"}, {"S3OutputPath": "s3://test-bucket/models", "KmsKeyId": key}
    neither = role(phalanx, "no-keys", *READING, *WRITING, *CHECKPOINTS)
    text = refused(phalanx, "no-keys", neither, OutputDataConfig=output)
    denied = f"The role {neither} is not authorized to perform: kms:GenerateDataKey on resource: {key}."
    assert text == f"Invalid OutputDataConfig.KmsKeyId: {denied}"
    writes = role(phalanx, "seals", *READING, *WRITING, *CHECKPOINTS, ("kms:GenerateDataKey", key))
    create(
        phalanx, "seals", writes, "echo one > /opt/ml/checkpoints/sealed", (), CheckpointConfig=where, OutputDataConfig=output
    )
    reads = role(phalanx, "unseals", *READING, *WRITING, *CHECKPOINTS, ("kms:Decrypt", key))
    assert phalanx.ended("seals")["TrainingJobStatus"] == "Completed"
    for name, arn in (("no-keys", neither), ("unseals", reads)):
        create(phalanx, name, arn, "grep one /opt/ml/checkpoints/sealed", (), CheckpointConfig=where)
    assert phalanx.ended("unseals")["TrainingJobStatus"] == "Completed"
    job = phalanx.ended("no-keys")
    assert job["TrainingJobStatus"] == "Failed"
    assert f"is encrypted under {key}" in job["FailureReason"]
    assert "kms:Decrypt" in job["FailureReason"]


def test_what_a_role_may_no_more_its_running_jobs_may_no_more(phalanx):
    arn = role(phalanx, "revoked", *READING, *WRITING)
    create(phalanx, "revoked", arn, "sleep 600")
    wait_for(lambda: phalanx.describe("revoked")["SecondaryStatus"] == "Training", 60, "the job to train")
    phalanx.client("iam").delete_role_policy(RoleName="revoked", PolicyName="data")
    # A job that is stopped uploads what it has.
    phalanx.client("sagemaker").stop_training_job(TrainingJobName="revoked")
    job = phalanx.ended("revoked")
    assert job["TrainingJobStatus"] == "Failed"
    assert "because no identity-based policy allows the s3:PutObject action" in job["FailureReason"]


CALLER = """
import boto3, os, pathlib, time
from botocore.exceptions import ClientError

s3 = boto3.client("s3")
who = s3._request_signer._credentials
assert who.method == "container-role", who.method
print("read", len(s3.get_object(Bucket="test-bucket", Key="train/part-0.csv")["Body"].read()), flush=True)
for refused in (lambda: s3.get_object(Bucket="test-bucket", Key="secret/x"), lambda: s3.list_buckets()):
    try:
        refused()
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error
    else:
        raise SystemExit("a container may what its role may not")
first = who.get_frozen_credentials().access_key
s3.put_object(Bucket="test-bucket", Key=f"models/inside/from-{os.uname().nodename}", Body=first)
while not s3.list_objects_v2(Bucket="test-bucket", Prefix="go")["KeyCount"]:
    time.sleep(0.2)
# An SDK that asks anew: of a process that was started anew, and while there is no agent.
assert boto3.Session().get_credentials().get_frozen_credentials().access_key == first
pathlib.Path("/opt/ml/model/key").write_text(first)
"""
"""What a script of a user's does with boto3, which nobody gave a key."""


def test_a_container_acts_as_the_jobs_role_whatever_is_killed(phalanx):
    arn = role(phalanx, "inside", *READING, ("s3:GetObject", "/code/*"), *WRITING)
    network = phalanx.network({"IpProtocol": "-1"})
    ec2, s3 = phalanx.client("ec2"), phalanx.client("s3")
    ec2.authorize_security_group_egress(
        GroupId=network["SecurityGroupIds"][0],
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )
    vpc = phalanx.vpc_of(network)
    table = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"][0]["RouteTableId"]
    service = f"com.amazonaws.{phalanx.env['AWS_REGION']}.s3"
    ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=service, RouteTableIds=[table])
    s3.put_object(Bucket="test-bucket", Key="code/main.py", Body=CALLER)
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://test-bucket/code/"}
    entry = ["python3", "/opt/ml/input/data/code/main.py"]
    members = {
        "RoleArn": arn,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File", "ContainerEntrypoint": entry},
        "InputDataConfig": [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}],
    }
    phalanx.create("inside", 2, network=network, **members)

    def written():
        found = s3.list_objects_v2(Bucket="test-bucket", Prefix="models/inside/from-")
        return found["KeyCount"] == 2 or phalanx.describe("inside")["TrainingJobStatus"] == "Failed"

    wait_for(written, 120, "both containers to write")
    assert phalanx.describe("inside").get("FailureReason") is None
    lenders = set(phalanx.processes("-m", "phalanx.data.lender"))
    assert len(lenders) == 2
    for process in lenders:
        os.kill(process, signal.SIGKILL)
    wait_for(lambda: len(set(phalanx.processes("-m", "phalanx.data.lender")) - lenders) == 2, 60, "others")
    for process in phalanx.processes("-m", "phalanx.node"):
        os.kill(process, signal.SIGKILL)
    s3.put_object(Bucket="test-bucket", Key="go", Body=b"")
    job = phalanx.ended("inside")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    key = s3.get_object(Bucket="test-bucket", Key="models/inside/from-algo-2")["Body"].read()
    assert key.startswith(b"ASIA")
    # Isolated, a container has neither a way to S3 nor a key.
    alone = "env | grep -c -e AWS_CONTAINER -e AWS_ENDPOINT; test $? = 1"
    create(phalanx, "alone", arn, alone, (), VpcConfig=network, EnableNetworkIsolation=True)
    job = phalanx.ended("alone")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


def test_another_s3_knows_no_roles(tmp_path):
    command = [PHALANX, "serve", "--require-roles", "--s3-endpoint", "http://127.0.0.1:1", "--data-dir", str(tmp_path / "data")]
    shown = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert shown.returncode != 0
    assert "--require-roles needs the embedded S3" in shown.stderr
    assert not (tmp_path / "data").exists()
