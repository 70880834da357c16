"""Two replicas of a control plane on one PostgreSQL: both answer, one leads, either may be killed or stopped at any time."""

import http.client
import json
import signal
from urllib.parse import urlsplit

import psycopg
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from e2e.conftest import ESP, IMAGE, UDP_500, running, wait_for
from phalanx.cli.replica import DEPOSED
from phalanx.wire.loader import OWN_MODELS
from postgres import Postgres

TALK = """
import contextlib, signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
link = socket.socket(type=socket.SOCK_DGRAM)
while True:
    for host in ("algo-1", "algo-2"):
        with contextlib.suppress(OSError):
            link.sendto(b"still there", (host, 4000))
    time.sleep(0.5)
"""
"""Never ends by itself, and leaves the processors to others."""


@pytest.fixture
def server():
    server = Postgres()
    server.start()
    yield server
    server.close()


@pytest.fixture
def pair(tmp_path, server):
    """Two replicas, the first of which leads."""
    with running(tmp_path, "--database", server.fresh("phalanx")) as first:
        second = first.replica()
        try:
            second.start()
            yield first, second
        finally:
            second.end()


def test_a_job_outlives_every_leader(pair, monkeypatch):
    monkeypatch.setenv("AWS_DATA_PATH", OWN_MODELS)
    first, second = pair
    assert first.leads()
    assert not second.leads()
    network = second.network(UDP_500, ESP)
    # What the one has taken the other does.
    entry = ["python3", "-c", "import os; exec(os.environ['TALK'])"]
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File", "ContainerEntrypoint": entry}
    members = {"AlgorithmSpecification": algorithm, "InputDataConfig": None, "Environment": {"TALK": TALK}}
    second.create("long", network=network, StoppingCondition={"MaxRuntimeInSeconds": 3600}, **members)
    wait_for(lambda: second.describe("long")["SecondaryStatus"] == "Training", 120, "the job to train")
    assert all(pair["established"] for pair in measured(second, "long"))
    # Rules that are changed at a replica that does not lead are in force all the same.
    group = network["SecurityGroupIds"][0]
    esp = [{**ESP, "UserIdGroupPairs": [{"GroupId": group}]}]
    second.client("ec2").revoke_security_group_ingress(GroupId=group, IpPermissions=esp)
    wait_for(lambda: "no inbound rule" in first.describe("long")["SecondaryStatusTransitions"][-1]["StatusMessage"], 60, "word")
    second.client("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=esp)
    first.kill()
    wait_for(second.leads, 60, "the other to lead")
    first.start()
    assert not first.leads()
    # A leader that is stopped, and wakes when another leads.
    second.process.send_signal(signal.SIGSTOP)
    wait_for(first.leads, 60, "the other to lead")
    first.create("meanwhile", instances=1, encrypted=False)
    assert first.ended("meanwhile")["TrainingJobStatus"] == "Completed"
    second.process.send_signal(signal.SIGCONT)
    assert second.process.wait(60) == DEPOSED
    second.start()
    # A leader that is asked to stop hands over.
    assert first.stop() == 0
    wait_for(second.leads, 60, "the other to lead")
    second.client("sagemaker").stop_training_job(TrainingJobName="long")
    assert second.ended("long")["TrainingJobStatus"] == "Stopped"
    told = [each["Status"] for each in second.describe("long")["SecondaryStatusTransitions"]]
    assert "Restarting" not in told
    assert told.count("Stopped") == 1
    assert all(pair["established"] and pair["packets"] for pair in second.evidence("long")["pairs"])
    trail = second.run("trail")
    assert trail.returncode == 0, trail.stderr
    assert "audit.2" in trail.stdout


def measured(service, name):
    """The pairs of a running job, as a replica that does not lead measures them."""
    report = json.loads(service.fresh("phalanx").describe_training_job_encryption(TrainingJobName=name)["Report"])
    assert report["gaps"] == []
    return report["pairs"]


def test_what_one_has_refused_or_taken_no_other_takes(pair, server):
    first, second = pair
    iam = first.client("iam")
    iam.create_user(UserName="u")
    iam.put_user_policy(
        UserName="u",
        PolicyName="p",
        PolicyDocument='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}',
    )
    made = iam.create_access_key(UserName="u")["AccessKey"]
    second.env |= {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
    ec2 = second.fresh("ec2")
    ec2.describe_vpcs()
    iam.delete_user_policy(UserName="u", PolicyName="p")
    wait_for(lambda: refusal(ec2.describe_vpcs) == "UnauthorizedOperation", 10, "the other to hear of it")
    iam.delete_access_key(UserName="u", AccessKeyId=made["AccessKeyId"])
    wait_for(lambda: refusal(ec2.describe_vpcs) == "AuthFailure", 10, "the other to hear of it")

    signed = AWSRequest(
        "POST",
        first.env["AWS_ENDPOINT_URL"] + "/",
        data="Action=CreateVpc&Version=2016-11-15&CidrBlock=10.99.0.0/16",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    keys = Credentials(first.env["AWS_ACCESS_KEY_ID"], first.env["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, "ec2", first.env["AWS_REGION"]).add_auth(signed)
    assert send(first, signed) == 200
    # Ten seconds go by.
    with psycopg.connect(server.url("phalanx")) as connection:
        connection.execute("UPDATE used_signatures SET used = used - 10000")
    assert send(second, signed) in (401, 403)
    assert len(first.client("ec2").describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.99.0.0/16"]}])["Vpcs"]) == 1


def refusal(ask):
    try:
        ask()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def send(service, request):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    headers = dict(request.headers) | {"Host": urlsplit(request.url).netloc}
    connection.request("POST", "/", request.data, headers)
    status = connection.getresponse().status
    connection.close()
    return status
