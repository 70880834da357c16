"""Nobody gets in who is not let in, and nobody does what they may not: by requests to one live server with all services."""

import asyncio
import json
import os
import re
import socket
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identity_server import ACCOUNT, REGION, running
from sqlalchemy import event

from phalanx.identity import access_keys
from phalanx.identity.authority import Authority
from phalanx.identity.execution import ExecutionRoles
from phalanx.identity.exempt import Exempt
from phalanx.identity.throttle import Throttle
from phalanx.identity.trail import verify
from phalanx.store.identity import Session
from phalanx.store.lineage import artifact_name
from phalanx.store.network import NatGateway
from phalanx.wire.loader import service_model
from phalanx.wire.service import Client

JOB_ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/SageMakerTraining"
TRUST_SAGEMAKER = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
PASS = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}
JOB = {
    "AlgorithmSpecification": {"TrainingImage": "xgboost:1", "TrainingInputMode": "File"},
    "RoleArn": ROLE,
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("identity")) as server:
        yield server
        assert verify(server.path / "audit").fault is None


def allow(*actions, resource="*", **condition):
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **condition}


def deny(*actions, resource="*", **condition):
    return {**allow(*actions, resource=resource, **condition), "Effect": "Deny"}


def when(operator, key, value):
    return {"Condition": {operator: {key: value}}}


_names = iter(range(1_000_000))


def job(**members):
    return {"TrainingJobName": f"job-{next(_names)}", **JOB, **members}


# ------------------------------------------------------------------------------- who is not let in: nothing but an error


def tampered(server, service, operation, members, change):
    headers, body = server.signed(server.key, service, operation, members)
    return change(headers, body)


def header(name, value):
    def change(headers, body):
        found = next((each for each in headers if each.lower() == name), name)
        changed = {**headers, found: value(headers.get(found)) if callable(value) else value}
        return {each: text for each, text in changed.items() if text is not None}, body

    return change


def credential(old, new):
    return header("authorization", lambda text: text.replace(old, new))


def at(moment):
    """A signature of another time, right but for that."""
    return moment.strftime("%Y%m%dT%H%M%SZ")


FORGERIES = {
    "no signature": header("authorization", None),
    "an empty signature": header("authorization", ""),
    "another scheme": header("authorization", "Basic YWRtaW46YWRtaW4="),
    "a bearer token": header("authorization", "Bearer admin"),
    "a truncated signature": header("authorization", lambda text: text[:-1]),
    "a signature of zeros": header("authorization", lambda text: re.sub("Signature=.*", "Signature=" + "0" * 64, text)),
    "an upper-case signature": header("authorization", lambda text: text.split("Signature=")[0] + "Signature=" + "F" * 64),
    "no signed headers": header("authorization", lambda text: re.sub("SignedHeaders=[^,]*", "SignedHeaders=", text)),
    "the host not signed": header("authorization", lambda text: text.replace("host;", "")),
    "the date not signed": header("authorization", lambda text: text.replace(";x-amz-date", "")),
    "an unknown key": credential("Credential=AKIA", "Credential=AKIB"),
    "a key of SQL": credential("Credential=", "Credential=' OR '1'='1"),
    "a very long key": credential("Credential=", "Credential=" + "A" * 4000),
    "another region": credential(f"/{REGION}/", "/eu-west-1/"),
    "no region": credential(f"/{REGION}/", "/-/"),
    "another service": header("authorization", lambda text: re.sub("/[a-z0-9]+/aws4_request", "/s3/aws4_request", text)),
    "another terminator": credential("aws4_request", "aws5_request"),
    "another day": header("authorization", lambda text: re.sub("/2[0-9]{7}/", "/20200101/", text)),
    "another body": lambda headers, body: (headers, body + b" "),
    "another host": header("host", "phalanx.example"),
    "another time": header("x-amz-date", at(datetime.now(UTC) - timedelta(seconds=90))),
    "ten minutes ago": header("x-amz-date", at(datetime.now(UTC) - timedelta(minutes=10))),
    "in ten minutes": header("x-amz-date", at(datetime.now(UTC) + timedelta(minutes=10))),
    "no time": header("x-amz-date", None),
    "a session token": header("x-amz-security-token", "of nobody"),
}
SERVICES = {
    "sagemaker": ("ListTrainingJobs", {}),
    "ec2": ("DescribeVpcs", {}),
    "iam": ("ListUsers", {}),
}
CODES = {
    "MissingAuthenticationTokenException",
    "MissingAuthenticationToken",
    "IncompleteSignatureException",
    "IncompleteSignature",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "AuthFailure",
    "RequestExpired",
}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("forgery", FORGERIES)
def test_who_is_not_let_in_learns_nothing_but_the_error(server, service, forgery):
    operation, members = SERVICES[service]
    reply = server.send("POST", "/", *tampered(server, service, operation, members, FORGERIES[forgery]))
    code, message = reply.error
    assert 400 <= reply.status < 500
    assert code in CODES
    assert len(message) < 600
    for secret in (server.key[1], "admin", "arn:", "vpc-", "Traceback", str(server.path)):
        assert secret not in message


def test_the_request_itself_is_let_in(server):
    """The twin of the forgeries."""
    for service, (operation, members) in SERVICES.items():
        assert server.send("POST", "/", *tampered(server, service, operation, members, lambda *same: same)).status == 200


PRESIGNED = {
    "expired": (-3600, 60, {}),
    "not yet current": (600, 60, {}),
    "a validity beyond a week": (0, 604_801, {}),
    "no validity": (0, 0, {}),
    "another operation": (0, 60, {"ListUsers": "ListRoles"}),
    "a longer validity": (0, 60, {"X-Amz-Expires=60": "X-Amz-Expires=3600"}),
    "another key": (0, 60, {"Credential=AKIA": "Credential=AKIB"}),
    "a parameter more": (0, 60, {"Action=": "MaxItems=1&Action="}),
    "a signature of another": (0, 60, {"X-Amz-Signature=": "X-Amz-Signature=0"}),
}


def presigned(server, shift, expires):
    request = AWSRequest("GET", f"{server.url}/", params={"Action": "ListUsers", "Version": "2010-05-08"})
    signer = SigV4QueryAuth(Credentials(*server.key), "iam", REGION, expires=expires)
    signer.add_auth(request)
    if shift:
        moment = at(datetime.now(UTC) + timedelta(seconds=shift))
        request = AWSRequest("GET", f"{server.url}/", params={"Action": "ListUsers", "Version": "2010-05-08"})
        request.context["timestamp"] = moment
        signer._modify_request_before_signing(request)
        request.url = re.sub("X-Amz-Date=[^&]*", f"X-Amz-Date={moment}", request.url)
        signer._inject_signature_to_request(
            request, signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        )
    return request.url.removeprefix(server.url)


@pytest.mark.parametrize("wrong", PRESIGNED)
def test_presigned_urls_that_are_not_valid(server, wrong):
    shift, expires, changes = PRESIGNED[wrong]
    target = presigned(server, shift, expires)
    for old, new in changes.items():
        assert old in target
        target = target.replace(old, new, 1)
    reply = server.send("GET", target, {})
    assert reply.error[0] in CODES
    assert 400 <= reply.status < 500


def test_a_presigned_url_is_good_for_as_often_as_one_likes(server):
    target = presigned(server, 0, 60)
    assert {server.send("GET", target, {}).status for _ in range(3)} == {200}


def test_a_recorded_request_is_not_taken_again(server, monkeypatch):
    changing, changes = server.signed(server.key, "ec2", "CreateInternetGateway")
    reading, reads = server.signed(server.key, "ec2", "DescribeVpcs")
    giving, gives = server.signed(server.user(allow("sts:*")), "sts", "GetSessionToken")
    for headers, body in ((changing, changes), (reading, reads), (giving, gives)):
        assert server.send("POST", "/", headers, body).status == 200
    replays = server.app._endpoint._replays
    later = replays._clock() + 10
    monkeypatch.setattr(replays, "_clock", lambda: later)
    assert server.send("POST", "/", changing, changes).error[0] == "AuthFailure"
    assert server.send("POST", "/", reading, reads).status == 200
    assert server.send("POST", "/", giving, gives).error[0] == "SignatureDoesNotMatch"


def test_keys_end(server):
    """Switched off, deleted, and of a user who was deleted: from the next request on."""
    admin = server.key
    key = server.user(allow("sagemaker:*"))
    name = f"user-{next(iter(re.findall('user-([0-9]+)', server.ask(key, 'sts', 'GetCallerIdentity').body.decode())))}"
    ask = {"UserName": name, "AccessKeyId": key[0]}
    assert server.ask(key, "sagemaker", "ListTrainingJobs").status == 200
    assert server.ask(admin, "iam", "UpdateAccessKey", {**ask, "Status": "Inactive"}).status == 200
    assert server.ask(key, "sagemaker", "ListTrainingJobs").error[0] == "UnrecognizedClientException"
    assert server.ask(admin, "iam", "UpdateAccessKey", {**ask, "Status": "Active"}).status == 200
    assert server.ask(key, "sagemaker", "ListTrainingJobs").status == 200
    assert server.ask(admin, "iam", "DeleteAccessKey", ask).status == 200
    assert server.ask(key, "sagemaker", "ListTrainingJobs").error[0] == "UnrecognizedClientException"


# --------------------------------------------------------------------------------------- who may not: operation by operation

POINTS = [{"MetricName": "loss", "Timestamp": 0, "Value": 1}]
QUERY = {"MetricName": "loss", "MetricStat": "Avg", "Period": "OneMinute", "XAxisType": "Timestamp"}
SAGEMAKER = JOB_ARN.rpartition(":")[0]
SOURCE = {"SourceUri": "s3://bucket/roc.json"}
BETWEEN = {"SourceArn": f"{SAGEMAKER}:artifact/a", "DestinationArn": f"{SAGEMAKER}:experiment-trial-component/a"}
NOTHING = [
    ("sagemaker", "CreateTrainingJob", job(), f"{JOB_ARN}/job-"),
    ("sagemaker", "DescribeTrainingJob", {"TrainingJobName": "a"}, f"{JOB_ARN}/a"),
    ("sagemaker", "StopTrainingJob", {"TrainingJobName": "a"}, f"{JOB_ARN}/a"),
    ("sagemaker", "DeleteTrainingJob", {"TrainingJobName": "a"}, f"{JOB_ARN}/a"),
    ("sagemaker", "UpdateTrainingJob", {"TrainingJobName": "a"}, f"{JOB_ARN}/a"),
    ("sagemaker", "ListTrainingJobs", {}, "*"),
    ("sagemaker", "Search", {"Resource": "TrainingJob"}, "*"),
    ("sagemaker", "AddTags", {"ResourceArn": f"{JOB_ARN}/a", "Tags": []}, f"{JOB_ARN}/a"),
    ("sagemaker", "ListTags", {"ResourceArn": f"{JOB_ARN}/a"}, f"{JOB_ARN}/a"),
    ("sagemaker", "DescribeHyperParameterTuningJob", {"HyperParameterTuningJobName": "a"}, "hyper-parameter-tuning-job/a"),
    ("sagemaker", "ListTrainingJobsForHyperParameterTuningJob", {"HyperParameterTuningJobName": "a"}, "tuning-job/a"),
    ("sagemaker", "DescribeTrial", {"TrialName": "a"}, "experiment-trial/a"),
    ("sagemaker", "DescribeTrialComponent", {"TrialComponentName": "a"}, "experiment-trial-component/a"),
    ("sagemaker-metrics", "BatchPutMetrics", {"TrialComponentName": "a", "MetricData": POINTS}, "experiment-trial-component/a"),
    ("sagemaker-metrics", "BatchGetMetrics", {"MetricQueries": [{**QUERY, "ResourceArn": f"{JOB_ARN}/a"}]}, f"{JOB_ARN}/a"),
    ("sagemaker", "DescribeAlgorithm", {"AlgorithmName": "a"}, "algorithm/a"),
    ("sagemaker", "CreateArtifact", {"ArtifactType": "a", "Source": SOURCE}, f"artifact/{artifact_name(SOURCE)}"),
    ("sagemaker", "DeleteArtifact", {"Source": SOURCE}, f"artifact/{artifact_name(SOURCE)}"),
    ("sagemaker", "DescribeArtifact", {"ArtifactArn": f"{SAGEMAKER}:artifact/a"}, "artifact/a"),
    ("sagemaker", "ListArtifacts", {}, "*"),
    ("sagemaker", "AddAssociation", BETWEEN, "artifact/a"),
    ("sagemaker", "DeleteAssociation", BETWEEN, "artifact/a"),
    ("sagemaker", "ListAssociations", {}, "*"),
    ("ec2", "CreateVpc", {"CidrBlock": "10.9.0.0/16"}, "vpc/*"),
    ("ec2", "DeleteVpc", {"VpcId": "vpc-1"}, "vpc/vpc-1"),
    ("ec2", "DescribeVpcs", {}, "*"),
    ("ec2", "CreateSubnet", {"VpcId": "vpc-1", "CidrBlock": "10.9.0.0/24"}, "subnet/*"),
    ("ec2", "CreateSecurityGroup", {"GroupName": "g", "GroupDescription": "d", "VpcId": "vpc-1"}, "security-group/*"),
    ("ec2", "AuthorizeSecurityGroupIngress", {"GroupId": "sg-1"}, "security-group/sg-1"),
    ("ec2", "RevokeSecurityGroupEgress", {"GroupId": "sg-1"}, "security-group/sg-1"),
    ("ec2", "AuthorizeSecurityGroupIngress", {"GroupName": "default"}, "security-group/sg-"),
    ("ec2", "CreateRoute", {"RouteTableId": "rtb-1", "GatewayId": "igw-1", "DestinationCidrBlock": "0.0.0.0/0"}, "rtb-1"),
    ("ec2", "CreateTags", {"ResourceId.1": "vpc-1", "Tag.1.Key": "a", "Tag.1.Value": "b"}, "vpc/vpc-1"),
    ("ec2", "CreateVpc", {"CidrBlock": "10.9.0.0/16", "DryRun": "true"}, "vpc/*"),
    ("ec2", "CreateNetworkAcl", {"VpcId": "vpc-1"}, "network-acl/*"),
    ("ec2", "DeleteNetworkAcl", {"NetworkAclId": "acl-1"}, "network-acl/acl-1"),
    ("ec2", "DeleteNetworkAclEntry", {"NetworkAclId": "acl-1", "RuleNumber": "1", "Egress": "true"}, "network-acl/acl-1"),
    ("logs", "DescribeLogGroups", {}, "log-group::log-stream:"),
    ("logs", "GetLogEvents", {"logGroupName": "/aws/g", "logStreamName": "s"}, "log-group:/aws/g:log-stream:s"),
    ("logs", "FilterLogEvents", {"logGroupName": "/aws/g"}, "log-group:/aws/g:log-stream:"),
    ("logs", "ListTagsForResource", {"resourceArn": "arn:aws:logs:r:1:log-group:/aws/g"}, "log-group:/aws/g:log-stream:"),
    ("cloudwatch", "ListMetrics", {}, "*"),
    ("kms", "CreateKey", {}, "*"),
    ("kms", "Encrypt", {"KeyId": "alias/a", "Plaintext": "AAAA"}, "key/alias/a"),
    ("kms", "Decrypt", {"CiphertextBlob": "AQAAAAAAAAAAAAAAAAAAAAA="}, "key/00000000-0000-0000-0000-000000000000"),
    ("kms", "CreateAlias", {"AliasName": "alias/a", "TargetKeyId": "k"}, ":key/k"),
    ("iam", "CreateUser", {"UserName": "eve"}, f"arn:aws:iam::{ACCOUNT}:user/eve"),
    ("iam", "GetUser", {"UserName": "admin"}, f"arn:aws:iam::{ACCOUNT}:user/admin"),
    ("iam", "ListUsers", {}, "*"),
    ("iam", "CreateAccessKey", {"UserName": "admin"}, f"arn:aws:iam::{ACCOUNT}:user/admin"),
    ("iam", "CreateAccessKey", {}, f"arn:aws:iam::{ACCOUNT}:user/user-"),
    ("iam", "DeleteAccessKey", {"UserName": "admin", "AccessKeyId": "AKIAAAAAAAAAAAAAAAAA"}, "user/admin"),
    ("iam", "PutUserPolicy", {"UserName": "eve", "PolicyName": "p", "PolicyDocument": "{}"}, "user/eve"),
    (
        "iam",
        "AttachUserPolicy",
        {"UserName": "eve", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
        "user/eve",
    ),
    ("iam", "CreateRole", {"RoleName": "r", "AssumeRolePolicyDocument": "{}"}, "role/r"),
    ("iam", "GetRole", {"RoleName": "r"}, "role/r"),
    ("iam", "CreatePolicy", {"PolicyName": "p", "PolicyDocument": "{}"}, "policy/p"),
    ("iam", "SimulatePrincipalPolicy", {"PolicySourceArn": ROLE, "ActionNames.member.1": "s3:GetObject"}, ROLE),
    ("sts", "AssumeRole", {"RoleArn": ROLE, "RoleSessionName": "eve"}, ROLE),
    ("phalanx", "DescribeTrainingJobEncryption", {"TrainingJobName": "a"}, f"{JOB_ARN}/a"),
]
DENIED = {"ec2": ("UnauthorizedOperation", 403), "iam": ("AccessDenied", 403), "sts": ("AccessDenied", 403)}


@pytest.fixture(scope="module")
def nobody(server):
    """A user without policies."""
    return server.user()


@pytest.fixture(scope="module")
def denied(server):
    """A user to whom everything is allowed, and everything denied."""
    return server.user(allow("*"), deny("*"))


def sent(members):
    """GroupDescription is EC2's name on the wire for Description, and so on: members of these tests are as on the wire."""
    return members


@pytest.mark.parametrize("number", range(len(NOTHING)))
def test_who_has_no_policy_may_nothing(server, nobody, number):
    service, operation, members, resource = NOTHING[number]
    reply = server.ask(nobody, service, operation, sent(members))
    code, message = reply.error
    assert (code, reply.status) == DENIED.get(service, ("AccessDeniedException", 400))
    opening = "You are not authorized to perform this operation. " if service == "ec2" else ""
    action = f"{service.partition('-')[0]}:{operation}"
    assert message.startswith(f"{opening}User: arn:aws:iam::{ACCOUNT}:user/user-")
    assert f" is not authorized to perform: {action} on resource: " in message
    assert resource in message
    if service != "sts":
        assert message.endswith(f" because no identity-based policy allows the {action} action")


def test_an_association_is_a_matter_of_what_it_is_of(server, nobody):
    with server.database.write() as session:
        made = NatGateway(vpc_id="vpc-1", subnet_id="subnet-1", connectivity="public", interface_id="eni-1")
        made.private_address, made.allocation_id, made.public_address = "10.9.0.4", "eipalloc-1", "203.0.113.1"
        session.add(made)
        session.flush()
        association = made.association_id
    of_address = server.ask(nobody, "ec2", "DisassociateAddress", {"AssociationId": association}).error[1]
    assert f" on resource: arn:aws:ec2:{REGION}:{ACCOUNT}:elastic-ip/eipalloc-1 " in of_address
    subnets = server.ask(server.key, "ec2", "DescribeSubnets").body.decode()
    subnet = re.search("<subnetId>(.*?)</subnetId>", subnets)[1]
    asked = {"AssociationId": subnet.replace("subnet", "aclassoc"), "NetworkAclId": "acl-1"}
    bound = server.user(allow("*"), deny("ec2:ReplaceNetworkAclAssociation", resource=f"arn:aws:ec2:*:*:subnet/{subnet}"))
    assert server.ask(bound, "ec2", "ReplaceNetworkAclAssociation", asked).error[0] == "UnauthorizedOperation"
    of_none = server.ask(nobody, "ec2", "DisassociateAddress", {"AssociationId": "eipassoc-1"}).error[1]
    assert " on resource: * " in of_none


@pytest.mark.parametrize("number", range(0, len(NOTHING), 3))
def test_an_explicit_denial_wins(server, denied, number):
    service, operation, members, _ = NOTHING[number]
    reply = server.ask(denied, service, operation, sent(members))
    code, message = reply.error
    assert code == DENIED.get(service, ("AccessDeniedException",))[0]
    assert message.endswith(" with an explicit deny in an identity-based policy")


def test_every_operation_of_every_service_asks(server, nobody):
    """Also those that are added: whoever may nothing gets no answer but what needs no permission."""
    free = {("sts", "GetCallerIdentity"), ("sts", "GetSessionToken")}
    for (service, operation), status in ask_all(server, nobody).items():
        assert (status == 200) is ((service, operation) in free), (service, operation, status)


def ask_all(server, key):
    found = {}
    endpoint = server.app._endpoint
    for api in {id(each): each for each in [*endpoint._by_target.values(), *endpoint._by_signing_name.values()]}.values():
        for operation in api.operations:
            reply = server.ask(key, api.name, operation)
            if reply.status != 200 and not reply.error[0].startswith(("AccessDenied", "UnauthorizedOperation")):
                # Members are missing that the model requires: refused before it is told whom it concerns.
                assert service_model(api.name).operation_model(operation).input_shape.required_members, (api.name, operation)
                continue
            found[api.name, operation] = reply.status
    assert len(found) > 40
    return found


# ------------------------------------------------------------------------------------------------------------- conditions

ENCRYPT = "sagemaker:InterContainerTrafficEncryption"
VPC = {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
CREATE = "sagemaker:CreateTrainingJob"
CONDITIONS = {
    "encryption has to be asked for": (
        [allow(CREATE, **when("Bool", ENCRYPT, "true"))],
        [{}, {"EnableInterContainerTrafficEncryption": False}],
        {"EnableInterContainerTrafficEncryption": True},
    ),
    "no encryption is denied": (
        [allow("*"), deny(CREATE, **when("Bool", ENCRYPT, "false"))],
        [{}, {"EnableInterContainerTrafficEncryption": False}],
        {"EnableInterContainerTrafficEncryption": True},
    ),
    "encryption left out is denied": (
        [allow("*"), deny(CREATE, **when("Null", ENCRYPT, "true"))],
        [{}],
        {"EnableInterContainerTrafficEncryption": True},
    ),
    "isolation has to be asked for": (
        [allow("*"), deny(CREATE, **when("BoolIfExists", "sagemaker:NetworkIsolation", "false"))],
        [{}, {"EnableNetworkIsolation": False}],
        {"EnableNetworkIsolation": True},
    ),
    "a VPC is required": (
        [allow("*"), deny(CREATE, **when("Null", "sagemaker:VpcSubnets", "true"))],
        [{}],
        {"VpcConfig": VPC},
    ),
    "subnets that are named": (
        [
            allow(
                CREATE,
                Condition={
                    "ForAllValues:StringEquals": {"sagemaker:VpcSubnets": ["subnet-1", "subnet-2"]},
                    "Null": {"sagemaker:VpcSubnets": "false"},
                },
            )
        ],
        [{}, {"VpcConfig": {**VPC, "Subnets": ["subnet-1", "subnet-3"]}}, {"VpcConfig": {**VPC, "Subnets": ["subnet-3"]}}],
        {"VpcConfig": VPC},
    ),
    "groups that are named": (
        [allow(CREATE, **when("ForAnyValue:StringEquals", "sagemaker:VpcSecurityGroupIds", "sg-1"))],
        [{}, {"VpcConfig": {**VPC, "SecurityGroupIds": ["sg-2"]}}],
        {"VpcConfig": VPC},
    ),
    "types that are denied": (
        [allow("*"), deny(CREATE, **when("ForAnyValue:StringLike", "sagemaker:InstanceTypes", ["ml.p*", "ml.g*"]))],
        [
            {"ResourceConfig": {**JOB["ResourceConfig"], "InstanceType": "ml.p3.2xlarge"}},
            {
                "ResourceConfig": {
                    "VolumeSizeInGB": 1,
                    "InstanceGroups": [
                        {"InstanceType": "ml.m5.large", "InstanceCount": 1, "InstanceGroupName": "a"},
                        {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "InstanceGroupName": "b"},
                    ],
                }
            },
        ],
        {},
    ),
    "a day is too long": (
        [allow("*"), deny(CREATE, **when("NumericGreaterThan", "sagemaker:MaxRuntimeInSeconds", "3600"))],
        [{"StoppingCondition": {"MaxRuntimeInSeconds": 3601}}],
        {"StoppingCondition": {"MaxRuntimeInSeconds": 3600}},
    ),
    "a volume key is required": (
        [allow("*"), deny(CREATE, **when("Null", "sagemaker:VolumeKmsKey", "true"))],
        [{}],
        None,
    ),
    "a tag is required": (
        [allow("*"), deny(CREATE, **when("StringNotEquals", "aws:RequestTag/team", "vision"))],
        [{}, {"Tags": [{"Key": "team", "Value": "speech"}]}],
        {"Tags": [{"Key": "team", "Value": "vision"}]},
    ),
    "tags that are allowed": (
        [allow("*"), deny(CREATE, **when("ForAnyValue:StringNotEquals", "aws:TagKeys", ["team"]))],
        [{"Tags": [{"Key": "team", "Value": "a"}, {"Key": "cost", "Value": "b"}]}],
        {"Tags": [{"Key": "team", "Value": "a"}]},
    ),
    "one's own tag": (
        [allow("iam:PassRole", CREATE, **when("StringEquals", "aws:RequestTag/team", "${aws:PrincipalTag/team}"))],
        [{}, {"Tags": [{"Key": "team", "Value": "speech"}]}],
        None,
    ),
    "names that begin with one's own": (
        [allow(CREATE, resource=f"{JOB_ARN}/${{aws:username}}-*"), PASS],
        [{}],
        None,
    ),
    "elsewhere": (
        [allow("*", **when("NotIpAddress", "aws:SourceIp", "127.0.0.0/8"))],
        [{}],
        None,
    ),
    "another region": (
        [allow("*", **when("StringNotEquals", "aws:RequestedRegion", REGION))],
        [{}],
        None,
    ),
    "TLS": (
        [allow("*"), deny("*", **when("Bool", "aws:SecureTransport", "false"))],
        [{}],
        None,
    ),
    "another time": (
        [allow("*", **when("DateGreaterThan", "aws:CurrentTime", "2100-01-01T00:00:00Z"))],
        [{}],
        None,
    ),
    "a role that may not be passed": (
        [allow(CREATE), {**PASS, "Resource": f"arn:aws:iam::{ACCOUNT}:role/Other"}],
        [{}],
        None,
    ),
    "a role that may be passed to another service": (
        [allow(CREATE), {**PASS, **when("StringEquals", "iam:PassedToService", "ec2.amazonaws.com")}],
        [{}],
        None,
    ),
}
CASES = [(name, number) for name, (_, refused, _) in CONDITIONS.items() for number in range(len(refused))]


@pytest.fixture(scope="module")
def bound(server):
    made = {}

    def key(name):
        if name not in made:
            made[name] = server.user(*CONDITIONS[name][0], *([] if name in ("one's own tag",) or "role" in name else [PASS]))
        return made[name]

    return key


@pytest.mark.parametrize(("name", "number"), CASES)
def test_conditions_that_do_not_hold(server, bound, name, number):
    reply = server.ask(bound(name), "sagemaker", "CreateTrainingJob", job(**CONDITIONS[name][1][number]))
    assert reply.error[0] == "AccessDeniedException", reply.body


@pytest.mark.parametrize("name", [name for name, (_, _, allowed) in CONDITIONS.items() if allowed is not None])
def test_conditions_that_hold(server, bound, name):
    reply = server.ask(bound(name), "sagemaker", "CreateTrainingJob", job(**CONDITIONS[name][2]))
    # Subnets of these names do not exist: whoever is let through is told that.
    assert reply.status == 200 or (reply.error[0] == "ValidationException" and "subnet" in reply.error[1]), reply.body


def tuning(*flags):
    definition = {
        "AlgorithmSpecification": {"TrainingImage": "xgboost:1", "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": JOB["OutputDataConfig"],
        "ResourceConfig": JOB["ResourceConfig"],
        "StoppingCondition": JOB["StoppingCondition"],
    }
    definitions = [
        {**definition, "DefinitionName": f"d{number}", "EnableInterContainerTrafficEncryption": flag}
        for number, flag in enumerate(flags)
    ]
    limits = {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1}
    return {
        "HyperParameterTuningJobName": f"tuning-{next(_names)}",
        "HyperParameterTuningJobConfig": {"Strategy": "Random", "ResourceLimits": limits},
        "TrainingJobDefinitions": definitions,
    }


@pytest.mark.parametrize("flags", [(False,), (True, False), (False, True)])
@pytest.mark.parametrize(
    "statements",
    [[allow("*"), deny("*", **when("Bool", ENCRYPT, "false"))], [allow("*", **when("Bool", ENCRYPT, "true"))]],
    ids=["denied", "not allowed"],
)
def test_every_definition_of_a_tuning_job_is_held_against_the_policy(server, flags, statements):
    reply = server.ask(server.user(*statements, PASS), "sagemaker", "CreateHyperParameterTuningJob", tuning(*flags))
    assert reply.error[0] == "AccessDeniedException"
    assert "hyper-parameter-tuning-job/tuning-" in reply.error[1]


def test_tags_of_resources(server):
    name = job(Tags=[{"Key": "team", "Value": "speech"}])
    assert server.ask(server.key, "sagemaker", "CreateTrainingJob", name).status == 200
    own = server.user(allow("sagemaker:*", **when("StringEquals", "aws:ResourceTag/team", "${aws:PrincipalTag/team}")))
    other = server.user(allow("sagemaker:*", **when("StringEquals", "sagemaker:ResourceTag/team", "speech")))
    ask = {"TrainingJobName": name["TrainingJobName"]}
    assert server.ask(own, "sagemaker", "DescribeTrainingJob", ask).error[0] == "AccessDeniedException"
    assert server.ask(other, "sagemaker", "DescribeTrainingJob", ask).status == 200


def test_tags_of_a_resource_bind_every_operation_on_it(server):
    """By the key of the resource's service, whichever service's operation it is."""
    one = job(Tags=[{"Key": "team", "Value": "speech"}])
    assert server.ask(server.key, "sagemaker", "CreateTrainingJob", one).status == 200
    bound = server.user(allow("*"), deny("*", **when("StringEquals", "sagemaker:ResourceTag/team", "speech")))
    named = {"TrainingJobName": one["TrainingJobName"]}
    assert server.ask(bound, "phalanx", "DescribeTrainingJobEncryption", named).error[0] == "AccessDeniedException"


def test_a_tag_hides_none_whose_key_differs_from_its_own_in_case_alone(server):
    """Condition keys know no case, and tags of SageMaker's do: what one of them is bound by, another must not lift."""
    one = job(Tags=[{"Key": "Team", "Value": "speech"}])
    assert server.ask(server.key, "sagemaker", "CreateTrainingJob", one).status == 200
    named, arn = {"TrainingJobName": one["TrainingJobName"]}, f"{JOB_ARN}/{one['TrainingJobName']}"
    kept_out = server.user(allow("*"), deny("sagemaker:Describe*", **when("StringEquals", "aws:ResourceTag/Team", "speech")))
    of_vision = when("StringEquals", "aws:ResourceTag/Team", "vision")
    let_in = server.user(allow("sagemaker:AddTags"), allow("sagemaker:Describe*", **of_vision))
    for key in (kept_out, let_in):
        add = {"ResourceArn": arn, "Tags": [{"Key": "TEAM", "Value": "vision"}, {"Key": "team", "Value": "vision"}]}
        assert server.ask(key, "sagemaker", "AddTags", add).status == 200
        assert server.ask(key, "sagemaker", "DescribeTrainingJob", named).error[0] == "AccessDeniedException"
    asked = when("StringEquals", "aws:RequestTag/Team", "vision")
    maker = server.user(allow("sagemaker:AddTags"), allow("sagemaker:CreateTrainingJob", **asked), PASS)
    for keys, made in ((("Team", "team"), False), (("team", "Team"), False), (("team",), True)):
        tags = [{"Key": key, "Value": "vision" if key == "team" else "speech"} for key in keys]
        reply = server.ask(maker, "sagemaker", "CreateTrainingJob", job(Tags=tags))
        assert (reply.status == 200) is made, reply.body


def test_metrics_are_a_matter_of_each_resource_that_they_are_of(server):
    queries = [{**QUERY, "ResourceArn": f"{JOB_ARN}/{name}"} for name in ("open", "guarded")]
    bound = server.user(allow("*"), deny("sagemaker:BatchGetMetrics", resource=f"{JOB_ARN}/guarded"))
    refused = server.ask(bound, "sagemaker-metrics", "BatchGetMetrics", {"MetricQueries": queries})
    assert refused.error[0] == "AccessDeniedException"
    assert server.ask(bound, "sagemaker-metrics", "BatchGetMetrics", {"MetricQueries": queries[:1]}).status == 200


@pytest.mark.parametrize("operation", ["AddAssociation", "DeleteAssociation"])
@pytest.mark.parametrize("end", BETWEEN)
def test_what_is_associated_is_a_matter_of_both(server, operation, end):
    bound = server.user(allow("*"), deny("*", resource=BETWEEN[end]))
    assert server.ask(bound, "sagemaker", operation, BETWEEN).error[0] == "AccessDeniedException"
    other = server.user(allow("*"), deny("*", resource=f"{BETWEEN[end]}-other"))
    assert server.ask(other, "sagemaker", operation, BETWEEN).error[0] == "ResourceNotFound"


@pytest.mark.parametrize("key", ["aws:ResourceTag/guarded", "iam:ResourceTag/guarded"])
def test_tags_of_users_roles_and_policies(server, key):
    number = next(_names)
    tags = {"Tags.member.1.Key": "guarded", "Tags.member.1.Value": "yes"}
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    trusts = json.dumps({"Version": "2012-10-17", "Statement": [trust, TRUST_SAGEMAKER]})
    text = json.dumps({"Version": "2012-10-17", "Statement": [allow("sagemaker:List*")]})
    for kind, members in (("Role", {"AssumeRolePolicyDocument": trusts}), ("User", {}), ("Policy", {"PolicyDocument": text})):
        for name, more in ((f"guarded-{number}", tags), (f"open-{number}", {})):
            made = server.ask(server.key, "iam", f"Create{kind}", {f"{kind}Name": name, **members, **more})
            assert made.status == 200, made.body
    bound = server.user(allow("*"), deny("*", **when("StringEquals", key, "yes")))
    for name, refused in ((f"guarded-{number}", True), (f"open-{number}", False)):
        arn = f"arn:aws:iam::{ACCOUNT}"
        for service, operation, members in (
            ("iam", "CreateAccessKey", {"UserName": name}),
            ("iam", "UpdateAssumeRolePolicy", {"RoleName": name, "PolicyDocument": trusts}),
            ("iam", "GetPolicy", {"PolicyArn": f"{arn}:policy/{name}"}),
            ("sts", "AssumeRole", {"RoleArn": f"{arn}:role/{name}", "RoleSessionName": "session"}),
            ("sagemaker", "CreateTrainingJob", job(RoleArn=f"{arn}:role/{name}")),
        ):
            reply = server.ask(bound, service, operation, members)
            assert (b"not authorized to perform" in reply.body) is refused, (operation, reply.body)


def test_the_vpc_of_a_resource(server):
    """ec2:Vpc is the ARN of the VPC that a resource is in, also where the request does not name it."""

    def made(operation, pattern, **members):
        return re.search(pattern, server.ask(server.key, "ec2", operation, members).body.decode())[1]

    vpcs = [made("CreateVpc", "<vpcId>(.*?)</vpcId>", CidrBlock="10.0.0.0/16") for _ in range(2)]
    groups = [
        made("CreateSecurityGroup", "<groupId>(.*?)</groupId>", GroupName="g", GroupDescription="g", VpcId=vpc) for vpc in vpcs
    ]
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/{vpcs[0]}"
    permission = {"IpProtocol": "tcp", "FromPort": "22", "ToPort": "22", "CidrIp": "10.0.0.0/8"}
    users = {
        "only one": (server.user(allow("ec2:*", **when("ArnEquals", "ec2:Vpc", arn))), (True, False)),
        "only one, by text": (server.user(allow("ec2:*", **when("StringEquals", "ec2:Vpc", arn))), (True, False)),
        "all but one": (server.user(allow("ec2:*"), deny("ec2:*", **when("StringEquals", "ec2:Vpc", arn))), (False, True)),
        "all but one, too": (server.user(allow("ec2:*", **when("ArnNotLike", "ec2:Vpc", arn))), (False, True)),
        "no other": (server.user(allow("ec2:*"), deny("ec2:*", **when("StringNotEquals", "ec2:Vpc", arn))), (True, False)),
    }
    for name, (user, wanted) in users.items():
        asked = [
            [
                server.ask(user, "ec2", operation, members, region=region).status == 200
                for operation, members in (
                    ("AuthorizeSecurityGroupIngress", {"GroupId": group, **permission}),
                    ("RevokeSecurityGroupIngress", {"GroupId": group, **permission}),
                    ("CreateSecurityGroup", {"VpcId": vpc, "GroupName": f"g-{next(_names)}", "GroupDescription": "g"}),
                )
            ]
            for region in (REGION, "eu-west-1")
            for vpc, group in zip(vpcs, groups, strict=True)
        ]
        assert asked[:2] == [[each] * 3 for each in wanted], name
        # Another region's signature opens nothing more.
        for here, elsewhere in zip(asked[:2], asked[2:], strict=True):
            assert not any(there and not each for each, there in zip(here, elsewhere, strict=True)), name


TRUST_ALL = json.dumps({"Version": "2012-10-17", "Statement": [TRUST_SAGEMAKER]})
IN_QUERY = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "speech"}
OF_EC2 = {
    "TagSpecification.1.ResourceType": "vpc",
    "TagSpecification.1.Tag.1.Key": "team",
    "TagSpecification.1.Tag.1.Value": "speech",
}


@pytest.mark.parametrize(
    ("service", "operation", "members", "tags", "action"),
    [
        ("sagemaker", "CreateExperiment", {}, {"Tags": [{"Key": "team", "Value": "speech"}]}, "sagemaker:AddTags"),
        ("iam", "CreateUser", {}, IN_QUERY, "iam:TagUser"),
        ("iam", "CreateRole", {"AssumeRolePolicyDocument": TRUST_ALL}, IN_QUERY, "iam:TagRole"),
        ("iam", "CreatePolicy", {"PolicyDocument": json.dumps({"Statement": allow("s3:*")})}, IN_QUERY, "iam:TagPolicy"),
        ("kms", "CreateKey", {}, {"Tags": [{"TagKey": "team", "TagValue": "speech"}]}, "kms:TagResource"),
        ("ec2", "CreateVpc", {"CidrBlock": "10.0.0.0/16"}, OF_EC2, "ec2:CreateTags"),
    ],
)
def test_who_may_not_tag_makes_nothing_with_tags(server, service, operation, members, tags, action):
    """As on AWS, where a denial of tagging is not walked around by giving the tags from the beginning."""
    barred, bare = server.user(allow("*"), deny(action)), server.user(allow(f"{service}:{operation}"))
    noun = operation.removeprefix("Create")
    for user in (barred, bare):
        named = {} if service in ("ec2", "kms") else {f"{noun}Name": f"tagged-{next(_names)}"}
        reply = server.ask(user, service, operation, {**members, **named, **tags})
        assert reply.status in (400, 403)
        assert action in reply.body.decode() or service == "ec2"
        assert server.ask(user, service, operation, {**members, **named}).status == 200
    both = server.user(allow(f"{service}:{operation}", action))
    named = {} if service in ("ec2", "kms") else {f"{noun}Name": f"tagged-{next(_names)}"}
    assert server.ask(both, service, operation, {**members, **named, **tags}).status == 200


def test_tags_may_be_given_when_something_is_made_and_not_later(server):
    """What AWS's documentation advises: ec2:CreateTags where ec2:CreateAction says what is being made."""
    user = server.user(allow("ec2:CreateVpc"), allow("ec2:CreateTags", **when("StringEquals", "ec2:CreateAction", "CreateVpc")))
    made = server.ask(user, "ec2", "CreateVpc", {"CidrBlock": "10.0.0.0/16", **OF_EC2})
    assert made.status == 200
    vpc = re.search("<vpcId>(.*?)</vpcId>", made.body.decode())[1]
    late = {"ResourceId.1": vpc, "Tag.1.Key": "team", "Tag.1.Value": "vision"}
    assert server.ask(user, "ec2", "CreateTags", late).error[0] == "UnauthorizedOperation"
    assert server.ask(user, "ec2", "CreateInternetGateway", {}).error[0] == "UnauthorizedOperation"


def test_tags_of_users_and_roles(server):
    trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    for name, level in (("tagged-a", "prod"), ("tagged-b", "test")):
        members = {
            "RoleName": name,
            "AssumeRolePolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
            "Tags.member.1.Key": "level",
            "Tags.member.1.Value": level,
        }
        assert server.ask(server.key, "iam", "CreateRole", members).status == 200
    kept = server.user(allow("*"), deny("*", **when("StringEquals", "aws:ResourceTag/level", "prod")))
    only = server.user(allow("sts:AssumeRole", "iam:*Role", **when("StringEquals", "iam:ResourceTag/level", "test")))

    def may(key):
        asked = [server.ask(key, "iam", "GetRole", {"RoleName": name}).status for name in ("tagged-a", "tagged-b")]
        assumed = [
            server.ask(
                key,
                "sts",
                "AssumeRole",
                {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{name}", "RoleSessionName": "session"},
            ).status
            for name in ("tagged-a", "tagged-b")
        ]
        return [asked, assumed]

    assert may(kept) == may(only) == [[403, 200], [403, 200]]
    turned = {"RoleName": "tagged-b", "Tags.member.1.Key": "Level", "Tags.member.1.Value": "prod"}
    assert server.ask(server.key, "iam", "TagRole", turned).status == 200
    assert may(kept) == may(only) == [[403, 403], [403, 403]]


def test_tags_of_keys(server):
    user = server.user(
        allow("kms:*"),
        deny("kms:CreateKey", **when("Null", "aws:RequestTag/team", "true")),
        deny("kms:UntagResource", **when("ForAnyValue:StringEquals", "aws:TagKeys", "team")),
        deny("kms:DisableKey", **when("StringEquals", "aws:ResourceTag/team", "speech")),
    )
    assert server.ask(user, "kms", "CreateKey").error[0] == "AccessDeniedException"
    tagged = {"Tags": [{"TagKey": "team", "TagValue": "speech"}]}
    made = {"KeyId": json.loads(server.ask(user, "kms", "CreateKey", tagged).body)["KeyMetadata"]["KeyId"]}
    assert server.ask(user, "kms", "UntagResource", {**made, "TagKeys": ["team"]}).error[0] == "AccessDeniedException"
    assert server.ask(user, "kms", "DisableKey", made).error[0] == "AccessDeniedException"
    assert server.ask(server.key, "kms", "UntagResource", {**made, "TagKeys": ["team"]}).status == 200
    assert server.ask(user, "kms", "DisableKey", made).status == 200


@pytest.fixture(scope="module")
def kept(server):
    """What there is of each kind, made in the service's region: a request of another user's, and its resource's ARN."""
    name = job(Tags=[{"Key": "team", "Value": "speech"}])
    assert server.ask(server.key, "sagemaker", "CreateTrainingJob", name).status == 200
    assert server.ask(server.key, "sagemaker", "CreateTrialComponent", {"TrialComponentName": "kept"}).status == 200
    made = json.loads(server.ask(server.key, "kms", "CreateKey").body)["KeyMetadata"]
    alias = {"AliasName": "alias/kept", "TargetKeyId": made["KeyId"]}
    assert server.ask(server.key, "kms", "CreateAlias", alias).status == 200
    groups = server.ask(server.key, "ec2", "DescribeSecurityGroups").body.decode()
    group = re.search("<groupId>(.*?)</groupId>", groups)[1]
    rule = {"GroupId": group, "IpProtocol": "tcp", "FromPort": "22", "ToPort": "22", "CidrIp": "192.0.2.0/24"}
    stream = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamName": "kept/algo-1"}
    one = {"TrainingJobName": name["TrainingJobName"]}
    component = "experiment-trial-component/kept"
    forged = f"arn:aws:sagemaker:eu-west-1:{ACCOUNT[::-1]}:{component}"
    return {
        "a training job": ("sagemaker", "StopTrainingJob", one, f"sagemaker:{{}}:{ACCOUNT}:training-job/*"),
        "its encryption": ("phalanx", "DescribeTrainingJobEncryption", one, f"sagemaker:{{}}:{ACCOUNT}:training-job/*"),
        "a component by its name": (
            *("sagemaker", "DescribeTrialComponent", {"TrialComponentName": "kept"}),
            f"sagemaker:{{}}:{ACCOUNT}:{component}",
        ),
        "a component by another's ARN": (
            *("sagemaker", "DescribeTrialComponent", {"TrialComponentName": forged}),
            f"sagemaker:{{}}:{ACCOUNT}:{component}",
        ),
        "a security group": ("ec2", "AuthorizeSecurityGroupIngress", rule, f"ec2:{{}}:{ACCOUNT}:security-group/{group}"),
        "a log": ("logs", "GetLogEvents", stream, f"logs:{{}}:{ACCOUNT}:log-group:*:log-stream:kept*"),
        "an alias": ("kms", "DeleteAlias", {"AliasName": "alias/kept"}, f"kms:{{}}:{ACCOUNT}:alias/kept"),
        "a name that is free": ("sagemaker", "CreateTrainingJob", job(), f"sagemaker:{{}}:{ACCOUNT}:training-job/*"),
    }


KEPT = (
    *("a training job", "its encryption", "a component by its name", "a component by another's ARN"),
    *("a security group", "a log", "an alias", "a name that is free"),
)


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("keeps", ["a denial", "an exception", "a denial with a variable"])
def test_the_region_of_a_signature_leads_past_no_denial(server, kept, keeps, name):
    service, operation, members, arn = kept[name]
    resource = "arn:aws:" + arn.format(REGION)
    bound = {
        "a denial": [allow("*"), deny("*", resource=resource)],
        "an exception": [{"Effect": "Allow", "Action": "*", "NotResource": resource}],
        "a denial with a variable": [allow("*"), deny("*", resource="arn:aws:" + arn.format("${aws:RequestedRegion}"))],
    }
    user = server.user(*bound[keeps])
    for region in (REGION, "eu-west-1"):
        error = server.ask(user, service, operation, members, region=region).error[0]
        assert error in ("AccessDeniedException", "UnauthorizedOperation"), region


def test_the_region_of_a_signature_hides_no_tag(server, kept):
    user = server.user(allow("*"), deny("*", **when("StringEquals", "aws:ResourceTag/team", "speech")))
    for region in (REGION, "eu-west-1"):
        reply = server.ask(user, *kept["a training job"][:3], region=region)
        assert reply.error[0] == "AccessDeniedException", region


def test_what_is_allowed_in_another_region_is_not_what_was_made_in_this_one(server, kept):
    service, operation, members, arn = kept["a training job"]
    user = server.user(allow("*", resource="arn:aws:" + arn.format("eu-west-1")))
    assert server.ask(user, service, operation, members, region="eu-west-1").error[0] == "AccessDeniedException"
    own = server.user(allow("*", resource="arn:aws:" + arn.format(REGION)))
    assert server.ask(own, "sagemaker", "DescribeTrainingJob", members, region="eu-west-1").status == 200


@pytest.mark.parametrize("name", ["a security group", "a log"])
def test_groups_and_logs_are_in_the_region_that_asks(server, kept, name):
    """As their descriptions say; what binds somebody to some of them is their ids."""
    service, operation, members, arn = kept[name]
    there = "arn:aws:" + arn.format("eu-west-1")
    other = re.sub("/sg-.*|:kept.*", lambda found: found[0][0] + "other", "arn:aws:" + arn.format("*"))
    refused = ("AccessDeniedException", "UnauthorizedOperation")
    user = server.user(allow("*", resource=there))
    assert server.ask(user, service, operation, members, region="eu-west-1").error[0] not in refused
    assert server.ask(user, service, operation, members).error[0] in refused
    by_id = server.user(allow("*", resource=other))
    for region in (REGION, "eu-west-1"):
        assert server.ask(by_id, service, operation, members, region=region).error[0] in refused


# --------------------------------------------------------------------------------------------------- roles and sessions


@pytest.fixture(scope="module")
def roles(server):
    """Roles that trust: a user by name, the account, the account with an external id, SageMaker alone, nobody any more."""
    ann = server.user(allow("sagemaker:List*"))
    arn = re.search("<Arn>(.*?)</Arn>", server.ask(ann, "sts", "GetCallerIdentity").body.decode())[1]
    account = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assume = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    documents = {
        "of-ann": [{**assume, "Principal": {"AWS": arn}}],
        "of-all": [{**assume, "Principal": account}],
        "with-id": [{**assume, "Principal": {"AWS": arn}, **when("StringEquals", "sts:ExternalId", "42")}],
        "of-sagemaker": [TRUST_SAGEMAKER],
        "but-ann": [{**assume, "Principal": account}, {**assume, "Effect": "Deny", "Principal": {"AWS": arn}}],
    }
    for name, statements in documents.items():
        text = json.dumps({"Version": "2012-10-17", "Statement": statements})
        made = server.ask(server.key, "iam", "CreateRole", {"RoleName": name, "AssumeRolePolicyDocument": text})
        assert made.status == 200, made.body
        policy = {"PolicyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess", "RoleName": name}
        assert server.ask(server.key, "iam", "AttachRolePolicy", policy).status == 200
    return ann


def assume(server, key, role, **members):
    given = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}", "RoleSessionName": "session", **members}
    return server.ask(key, "sts", "AssumeRole", given)


def credentials(reply):
    assert reply.status == 200, reply.body
    return tuple(
        re.search(f"<{name}>(.*?)</{name}>", reply.body.decode())[1]
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
    )


@pytest.mark.parametrize(
    ("role", "members", "code"),
    [
        ("of-all", {}, "AccessDenied"),
        ("with-id", {}, "AccessDenied"),
        ("with-id", {"ExternalId": "43"}, "AccessDenied"),
        ("of-sagemaker", {}, "AccessDenied"),
        ("but-ann", {}, "AccessDenied"),
        ("SageMakerTraining", {}, "AccessDenied"),
        ("absent", {}, "AccessDenied"),
        ("other/of-ann", {}, "AccessDenied"),
        ("of-ann", {"DurationSeconds": "3601"}, "ValidationError"),
        ("of-ann", {"DurationSeconds": "1"}, "ValidationError"),
        ("of-ann", {"SerialNumber": "arn:aws:iam::123456789012:mfa/x", "TokenCode": "123456"}, "ValidationError"),
        ("of-ann", {"Tags.member.1.Key": "team", "Tags.member.1.Value": "x"}, "ValidationError"),
        ("of-ann", {"Policy": "{}"}, "MalformedPolicyDocument"),
        ("of-ann", {"PolicyArns.member.1.arn": f"arn:aws:iam::{ACCOUNT}:policy/absent"}, "ValidationError"),
    ],
)
def test_roles_that_are_not_to_be_had(server, roles, role, members, code):
    assert assume(server, roles, role, **members).error[0] == code


def test_who_may_not_assume_a_role_that_trusts_the_account_is_told_so(server, roles):
    trusted = server.user(allow("sts:AssumeRole"), deny("sts:AssumeRole", resource=f"arn:aws:iam::{ACCOUNT}:role/of-a??"))
    assert assume(server, trusted, "of-all").error[1].endswith("with an explicit deny in an identity-based policy")
    assert assume(server, trusted, "but-ann").status == 200


@pytest.mark.shows("AssumeRole")
def test_a_session_may_what_its_role_may_and_its_own_policy_allows(server, roles):
    key, secret, token = credentials(assume(server, roles, "of-ann"))
    tokens = {"x-amz-security-token": token}
    session = (key, secret, token)
    assert "assumed-role/of-ann/session</Arn>" in server.ask(session, "sts", "GetCallerIdentity").body.decode()
    assert server.ask(session, "iam", "ListUsers").status == 200
    denied = server.ask(session, "sagemaker", "StopTrainingJob", {"TrainingJobName": "a"})
    assert denied.error[1].startswith(f"User: arn:aws:sts::{ACCOUNT}:assumed-role/of-ann/session is not authorized")
    # Not without the token, not with another's, not with the token of nobody.
    assert server.ask((key, secret), "iam", "ListUsers").error[0] == "InvalidClientTokenId"
    other = credentials(assume(server, roles, "of-ann"))
    assert server.ask((key, secret, other[2]), "iam", "ListUsers").error[0] == "InvalidClientTokenId"
    assert server.ask((key, other[1], token), "iam", "ListUsers").error[0] == "SignatureDoesNotMatch"
    assert server.ask(server.key, "iam", "ListUsers", headers=tokens).error[0] == "InvalidClientTokenId"
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow("sagemaker:*")]})
    narrow = credentials(assume(server, roles, "of-ann", Policy=policy))
    assert server.ask(narrow, "sagemaker", "ListTrainingJobs").status == 200
    assert server.ask(narrow, "iam", "ListUsers").error[1].endswith("because no session policy allows the iam:ListUsers action")
    assert server.ask(narrow, "sagemaker", "StopTrainingJob", {"TrainingJobName": "a"}).error[0] == "AccessDeniedException"


@pytest.mark.shows("GetSessionToken")
def test_a_users_session_reaches_neither_iam_nor_sts(server):
    user = server.user(allow("*"))
    session = credentials(server.ask(user, "sts", "GetSessionToken"))
    assert server.ask(session, "sagemaker", "ListTrainingJobs").status == 200
    assert server.ask(session, "sts", "GetCallerIdentity").status == 200
    for service, operation in (("iam", "ListUsers"), ("iam", "GetUser"), ("sts", "GetSessionToken")):
        assert server.ask(session, service, operation).error[0] == "InvalidClientTokenId"


@pytest.mark.parametrize(
    ("service", "code"), [("sagemaker", "ExpiredTokenException"), ("iam", "ExpiredToken"), ("ec2", "RequestExpired")]
)
def test_sessions_end(server, roles, service, code):
    session = credentials(assume(server, roles, "of-ann"))
    operation, members = SERVICES[service]
    assert server.ask(session, service, operation, members).status == 200
    with server.database.write() as transaction:
        transaction.get_one(Session, session[0]).expires = 1
    server.directory.changed()
    assert server.ask(session, service, operation, members).error[0] == code


def test_a_role_that_is_made_anew_is_another(server, roles):
    text = json.dumps({"Version": "2012-10-17", "Statement": [{**TRUST_SAGEMAKER, "Principal": "*"}]})
    made = {"RoleName": "again", "AssumeRolePolicyDocument": text}
    assert server.ask(server.key, "iam", "CreateRole", made).status == 200
    session = credentials(assume(server, server.key, "again"))
    assert server.ask(session, "sts", "GetCallerIdentity").status == 200
    for operation, members in (("DeleteRole", {"RoleName": "again"}), ("CreateRole", made)):
        assert server.ask(server.key, "iam", operation, members).status == 200
    assert server.ask(session, "sts", "GetCallerIdentity").error[0] == "InvalidClientTokenId"


@pytest.mark.parametrize("role", ["of-ann", "absent", "other/of-sagemaker"])
def test_a_job_gets_no_role_that_sagemaker_may_not_assume(server, roles, role):
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    reply = server.ask(server.key, "sagemaker", "CreateTrainingJob", job(RoleArn=arn))
    assert reply.error == (
        "ValidationException",
        f"Could not assume role {arn}. Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' to"
        " assume the role.",
    )
    for good in ("of-sagemaker", "SageMakerTraining"):
        members = job(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{good}")
        assert server.ask(server.key, "sagemaker", "CreateTrainingJob", members).status == 200


@pytest.mark.parametrize(
    ("operation", "members", "code"),
    [
        ("DeleteUser", {"UserName": "admin"}, "DeleteConflict"),
        ("PutUserPolicy", {"UserName": "admin", "PolicyName": "p", "PolicyDocument": "{}"}, "UnmodifiableEntity"),
        (
            "AttachUserPolicy",
            {"UserName": "admin", "PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess"},
            "UnmodifiableEntity",
        ),
        ("CreateUser", {"UserName": "ADMIN"}, "EntityAlreadyExists"),
        ("CreateUser", {"UserName": "x", "PermissionsBoundary": "arn:aws:iam::aws:policy/IAMReadOnlyAccess"}, "InvalidInput"),
        ("PutUserPolicy", {"UserName": "absent", "PolicyName": "p", "PolicyDocument": "{}"}, "NoSuchEntity"),
        ("CreatePolicy", {"PolicyName": "p", "PolicyDocument": "{}"}, "MalformedPolicyDocument"),
        ("CreateRole", {"RoleName": "x", "AssumeRolePolicyDocument": "[]"}, "MalformedPolicyDocument"),
        ("DeletePolicy", {"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}, "AccessDenied"),
        ("GetRole", {"RoleName": "absent"}, "NoSuchEntity"),
    ],
)
def test_what_iam_refuses(server, roles, operation, members, code):
    assert server.ask(server.key, "iam", operation, members).error[0] == code


def test_the_administrator_keeps_a_key(server):
    ask = {"UserName": "admin", "AccessKeyId": server.key[0]}
    assert server.ask(server.key, "iam", "DeleteAccessKey", ask).error[0] == "DeleteConflict"
    assert server.ask(server.key, "iam", "UpdateAccessKey", {**ask, "Status": "Inactive"}).error[0] == "DeleteConflict"


def test_the_platforms_key_is_no_users_and_reaches_s3_alone(server):
    key = access_keys.platforms(server.database, server.directory.seal)
    assert access_keys.platforms(server.database, server.directory.seal) == key
    iam = ("CreateAccessKey", "ListAccessKeys", "GetUser", "CreateUser", "DeleteUser")
    for operation in iam:
        assert server.ask(server.key, "iam", operation, {"UserName": ":platform"}).error[0] == "ValidationError", operation
    for members in ({"AccessKeyId": key[0]}, {"AccessKeyId": key[0], "UserName": "admin"}):
        assert server.ask(server.key, "iam", "DeleteAccessKey", members).error[0] == "NoSuchEntity"
        assert server.ask(server.key, "iam", "UpdateAccessKey", {**members, "Status": "Inactive"}).error[0] == "NoSuchEntity"
    assert key[0].encode() not in server.ask(server.key, "iam", "ListAccessKeys").body
    assert b"platform" not in server.ask(server.key, "iam", "ListUsers").body
    for service, (operation, members) in SERVICES.items():
        assert "is not authorized to perform" in server.ask(key, service, operation, members).error[1], service


# ----------------------------------------------------------------------------------------------------- floods and fuzzing


def test_a_flood_of_failures_is_cut_off_and_does_not_touch_who_is_let_in(tmp_path):
    with running(tmp_path, Throttle(burst=10, per_second=0.0)) as server:
        assert server.ask(server.key, "iam", "ListUsers").status == 200
        codes = [server.ask((server.key[0], "guessed"), "sagemaker", "ListTrainingJobs").error[0] for _ in range(10)]
        assert set(codes) == {"InvalidSignatureException"}
        for service, code in (("sagemaker", "ThrottlingException"), ("iam", "Throttling"), ("ec2", "RequestLimitExceeded")):
            operation, members = SERVICES[service]
            assert server.ask(("AKIAOTHER", "guessed"), service, operation, members).error[0] == code
        assert server.ask(server.key, "iam", "ListUsers").status == 200
        recorded = (tmp_path / "audit/000000000000.jsonl").read_text().count("InvalidSignatureException")
        assert recorded == 10


def test_a_flood_from_its_own_address_does_not_touch_the_platform(tmp_path):
    """As on a fleet's hosts, which containers share with it: neither its sessions of roles nor its own key."""
    role = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [TRUST_SAGEMAKER, role]})
    with running(tmp_path) as server:
        made = {"RoleName": "trainer", "AssumeRolePolicyDocument": trust}
        assert server.ask(server.key, "iam", "CreateRole", made).status == 200
        another = credentials(assume(server, server.key, "trainer"))
        arn = f"arn:aws:iam::{ACCOUNT}:role/trainer"
        own = access_keys.platforms(server.database, server.directory.seal)
        session = ExecutionRoles(server.directory).assume(arn, 60)
        guard = Authority(server.directory, server.trail, Throttle(burst=1, per_second=0.0))
        client = Client("192.0.2.1")
        guard.refused(client)
        assert [guard.admit(client, key) for key in (own[0], session.id)] == [True, True]
        others = ("AKIAOTHER", "ASIAOTHER", another[0], server.key[0])
        assert [guard.admit(client, key) for key in others] == [False, False, False, False]


def test_a_flood_of_made_up_keys_asks_the_database_no_more_for_it(tmp_path):
    """Nor does it crowd the platform out, whose new session is known a second later at most."""
    with running(tmp_path) as server:
        trust = json.dumps({"Version": "2012-10-17", "Statement": [TRUST_SAGEMAKER]})
        made = {"RoleName": "trainer", "AssumeRolePolicyDocument": trust}
        assert server.ask(server.key, "iam", "CreateRole", made).status == 200
        own = access_keys.platforms(server.database, server.directory.seal)
        now, asked = [0.0], []
        exempt = Exempt(server.database, lambda: now[0])
        guard = Authority(server.directory, server.trail, Throttle(burst=1, per_second=0.0), exempt)
        client = Client("192.0.2.1")
        guard.refused(client)
        event.listen(server.database.engine, "before_cursor_execute", lambda *statement: asked.append(statement[2]))

        def flood():
            asked.clear()
            assert not any(guard.admit(client, f"{kind}{number}") for number in range(500) for kind in ("AKIA", "ASIA"))
            return len(asked)

        assert 1 <= flood() <= 4
        assert flood() == 0
        session = ExecutionRoles(server.directory).assume(f"arn:aws:iam::{ACCOUNT}:role/trainer", 60)
        now[0] = 1.0
        assert 1 <= flood() <= 4
        asked.clear()
        assert [guard.admit(client, key) for key in (own[0], session.id)] == [True, True]
        assert asked == []
        # A session ends with its role, and what it was is no more than made up.
        assert server.ask(server.key, "iam", "DeleteRole", {"RoleName": "trainer"}).status == 200
        now[0] = 2.0
        flood()
        assert not guard.admit(client, session.id)


def test_a_nested_request_is_refused_and_on_record_at_every_depth(tmp_path):
    with running(tmp_path) as server:
        depths = range(100, 401, 30)
        for depth in depths:
            expression = {}
            for _ in range(depth):
                expression = {"SubExpressions": [expression]}
            asked = {"Resource": "TrainingJob", "SearchExpression": expression}
            assert server.ask(server.key, "sagemaker", "Search", asked).status == 400, depth
        records = (tmp_path / "audit/000000000000.jsonl").read_text().splitlines()
        assert [json.loads(line)["eventName"] for line in records] == ["Search"] * len(depths)
    assert verify(tmp_path / "audit").fault is None


REQUESTS = int(os.environ.get("PHALANX_FUZZ_REQUESTS", "300"))
"""Requests of each fuzz test; a longer search asks for more."""
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "é"])
TARGETS = st.sampled_from(["SageMaker.CreateTrainingJob", "SageMaker.", ".", "Logs_20140328.GetLogEvents", "\x7f"]) | st.text(
    max_size=30
)
PATHS = st.sampled_from(
    ["/", "//", "/service/GraniteServiceVersion20100801/operation/ListMetrics", "/console/", "/%00", "/\n"]
) | st.text(max_size=30).map(lambda text: "/" + text)
NAMES = st.sampled_from(
    [
        "host",
        "x-amz-target",
        "content-type",
        "authorization",
        "x-amz-date",
        "x-amz-security-token",
        "user-agent",
        "smithy-protocol",
    ]
) | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
VALUES = TARGETS | st.sampled_from(
    [
        "application/x-amz-json-1.1",
        "application/x-www-form-urlencoded",
        "application/cbor",
        "AWS4-HMAC-SHA256 Credential=A/20260101/us-west-2/iam/aws4_request,SignedHeaders=host,Signature=0",
        "20260101T000000Z",
    ]
)
BODIES = st.binary(max_size=200) | st.sampled_from(
    [b"{}", b"[" * 5000, b'{"a":' * 3000, b"Action=ListUsers", b"Action=DescribeVpcs&Version=2016-11-15", b"\xa1\x61\x61" * 9]
)


@settings(max_examples=REQUESTS, suppress_health_check=list(HealthCheck))
@given(
    method=METHODS,
    path=PATHS,
    query=st.text(max_size=30) | st.sampled_from(["X-Amz-Signature=1", "Action=ListUsers&X-Amz-Algorithm=AWS4-HMAC-SHA256"]),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    body=BODIES,
)
def test_no_request_without_a_signature_gets_more_than_an_error(server, method, path, query, headers, body):
    status, content = called(server.app, method, path, query, headers, body)
    assert 400 <= status < 500, content
    for word in (b"Traceback", b"phalanx/", b".py", str(server.path).encode(), server.key[1].encode()):
        assert word not in content


@settings(max_examples=REQUESTS, suppress_health_check=list(HealthCheck))
@given(
    service=st.sampled_from(["sagemaker", "logs", "cloudwatch", "ec2", "iam", "sts", "phalanx"]),
    number=st.integers(0, 200),
    body=BODIES | st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=4).map(lambda d: json.dumps(d).encode()),
)
def test_no_signed_request_breaks_it(server, service, number, body):
    operations = sorted(service_model(service).operation_names)
    operation = operations[number % len(operations)]
    model = service_model(service)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    if "json" in model.metadata["protocols"]:
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"{model.metadata['targetPrefix']}.{operation}",
        }
    else:
        body = f"Action={operation}&Version={model.api_version}&".encode() + body
    request = AWSRequest("POST", "http://phalanx.test/", headers, body)
    from botocore.auth import SigV4Auth

    SigV4Auth(Credentials(*server.key), model.signing_name, REGION).add_auth(request)
    given = [*request.headers.items(), ("host", "phalanx.test")]
    status, content = called(server.app, "POST", "/", "", given, body)
    assert status < 500, content


PARTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"POST / HTTP/1.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://elsewhere/ HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
        b"Expect: 100-continue\r\n",
        b"X-Amz-Target: SageMaker.Search\r\n",
        b" folded\r\n",
        b"\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ]
)


@settings(max_examples=REQUESTS, suppress_health_check=list(HealthCheck))
@given(parts=st.lists(PARTS | st.binary(max_size=20), min_size=1, max_size=8))
def test_whatever_comes_over_a_connection_gets_no_more_than_an_error(server, parts):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(b"".join(parts))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while received := connection.recv(65536):
                answer += received
        except ConnectionResetError:
            pass
    for status in re.findall(rb"^HTTP/1\.[01] ([0-9]{3})", answer, re.MULTILINE):
        assert status[:1] in (b"1", b"4"), answer
    assert b"Traceback" not in answer


def called(app, method, path, query, headers, body):
    """Status and body of the answer to a request that comes without an HTTP parser in between."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode("latin-1", "replace"), str(value).encode()) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    answered = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        answered.append(message)

    asyncio.run(app(scope, receive, send))
    return answered[0]["status"], b"".join(message.get("body", b"") for message in answered[1:])
