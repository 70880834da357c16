"""The endpoint as boto3 sees it, and as those see it who send it garbage."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from guards import Open
from phalanx.wire import app as wire_app
from phalanx.wire.api import apis
from phalanx.wire.app import application
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Client, Service
from wire.conftest import ACCESS_KEY, ACCOUNT, ARN, CREATED, REGION, Server, keys
from wire.raw import FORM, JSON, call_json, call_query, send, sign

JOB: dict[str, Any] = {
    "TrainingJobName": "first",
    "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/training",
    "AlgorithmSpecification": {"TrainingImage": "xgboost:1", "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    "HyperParameters": {"eta": "0.2"},
    "EnableInterContainerTrafficEncryption": True,
}


def refused(call: Any, **arguments: Any) -> tuple[str, str, int]:
    """Code, message and HTTP status of the error that a call answers with."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    metadata = response["ResponseMetadata"]
    assert metadata["HTTPHeaders"]["x-amzn-requestid"] == metadata["RequestId"]
    assert metadata["HTTPHeaders"]["x-amzn-errortype"] == response["Error"]["Code"]
    return response["Error"]["Code"], response["Error"]["Message"], metadata["HTTPStatusCode"]


# ------------------------------------------------------------------------------------------------------- what is served


def test_json(server: Server) -> None:
    client = server.client("sagemaker")
    answer = client.create_training_job(**JOB)
    assert answer["TrainingJobArn"] == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/first"
    assert server.calls.last == JOB
    described = client.describe_training_job(TrainingJobName="first")
    assert described["CreationTime"] == CREATED
    assert described["FinalMetricDataList"] == [{"MetricName": "auc", "Value": 0.5, "Timestamp": CREATED}]
    assert described["EnableInterContainerTrafficEncryption"] is True
    assert "FailureReason" not in described
    assert described["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/x-amz-json-1.1"
    client.stop_training_job(TrainingJobName="first")


def test_logs(server: Server) -> None:
    answer = server.client("logs").get_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamName="first/algo-1")
    assert answer["events"] == [{"timestamp": 1, "message": "loss=0.1 \u2713", "ingestionTime": 2}]


def test_ec2(server: Server) -> None:
    client = server.client("ec2")
    tags = [{"ResourceType": "security-group", "Tags": [{"Key": "Name", "Value": "a&b=c ü"}]}]
    created = client.create_security_group(GroupName="training", Description="d", VpcId="vpc-1", TagSpecifications=tags)
    assert created["GroupId"] == "sg-1"
    assert server.calls.last == {"GroupName": "training", "Description": "d", "VpcId": "vpc-1", "TagSpecifications": tags}
    permissions = [
        {"IpProtocol": "udp", "FromPort": 500, "ToPort": 500, "UserIdGroupPairs": [{"GroupId": "sg-1"}]},
        {"IpProtocol": "50", "FromPort": -1, "ToPort": -1, "UserIdGroupPairs": [{"GroupId": "sg-1"}]},
    ]
    assert client.authorize_security_group_ingress(GroupId="sg-1", IpPermissions=permissions)["Return"] is True
    assert server.calls.last == {"GroupId": "sg-1", "IpPermissions": permissions}
    filters = [{"Name": f"name-{number}", "Values": ["a", "b"]} for number in range(12)]
    described = client.describe_security_groups(Filters=filters, GroupIds=["sg-1"])
    assert server.calls.last == {"Filters": filters, "GroupIds": ["sg-1"]}
    (group,) = described["SecurityGroups"]
    assert group["Description"] == "a < b & c\r\n"
    assert group["IpPermissions"][0]["IpRanges"] == []
    assert client.delete_vpc(VpcId="vpc-1")["ResponseMetadata"]["RequestId"]


def test_query(server: Server) -> None:
    answer = server.client("sts").get_caller_identity()
    assert (answer["Account"], answer["Arn"]) == (ACCOUNT, ARN)
    server.client("iam").tag_role(RoleName="r", Tags=[{"Key": "a", "Value": "b"}, {"Key": "c", "Value": ""}])
    assert server.calls.last == {"RoleName": "r", "Tags": [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": ""}]}


def test_a_handler_learns_who_calls(server: Server) -> None:
    answer = server.client("sts", region_name="ap-southeast-2").get_caller_identity()
    caller = server.calls.seen[-1][1]
    assert (caller.account, caller.region, caller.access_key, caller.arn) == (ACCOUNT, "ap-southeast-2", ACCESS_KEY, ARN)
    assert caller.request_id == answer["ResponseMetadata"]["RequestId"]


def test_timestamps_in_requests(server: Server) -> None:
    start = datetime(2026, 5, 1, 1, 2, 3, tzinfo=UTC)
    server.client("sagemaker").search(Resource="TrainingJob", NextToken="t", MaxResults=3)
    assert server.calls.last == {"Resource": "TrainingJob", "NextToken": "t", "MaxResults": 3}
    server.client("logs").put_log_events(
        logGroupName="g", logStreamName="s", logEvents=[{"timestamp": int(start.timestamp() * 1000), "message": "m"}]
    )
    assert server.calls.last["logEvents"][0]["timestamp"] == 1777597323000


def test_presigned_query_by_get(server: Server) -> None:
    url = server.client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
    reply = send("GET", url)
    assert reply.status == 200
    assert ARN.encode() in reply.body


def test_more_routes_and_nothing_else(server: Server) -> None:
    assert send("GET", server.url + "/healthz").body == b"ok"
    for path in ("/absent", "/service/SageMaker/operation/ListTrainingJobs"):
        reply = send("POST", server.url + path, b"{}")
        assert (reply.status, reply.code) == (404, "UnknownOperationException")
    assert send("PUT", server.url + "/").status == 405


# ------------------------------------------------------------------------------------------------------------ errors


def test_a_line_feed_in_the_path_is_no_service(server: Server) -> None:
    for path in ("/%0A", "/service/%0A", "/service/GraniteServiceVersion20100801/operation/ListMetrics%0A"):
        assert 400 <= send("POST", server.url + path).status < 500


def test_unknown_operations(server: Server) -> None:
    """An operation of the model without a handler has the code of one that does not exist, and says whose fault it is."""
    code, message, status = refused(server.client("sagemaker").list_models)
    assert (code, status) == ("UnknownOperationException", 400)
    assert message == "The operation ListModels is not supported by this version of Phalanx."
    for name, action in (("ec2", "DescribeVpcs"), ("iam", "ListRoles")):
        call = {"ec2": "describe_vpcs", "iam": "list_roles"}[name]
        code, message, status = refused(getattr(server.client(name), call))
        assert (code, status) == ("InvalidAction", 400)
        assert message == f"The operation {action} is not supported by this version of Phalanx."
    reply = call_json(server.url, "sagemaker", "SageMaker.NoSuchThing", b"{}")
    assert reply.code == "UnknownOperationException"
    assert b"The operation NoSuchThing is not valid for this web service." in reply.body
    for target in ("Nonsense", "StopTrainingJob", ".StopTrainingJob", "Nonsense.StopTrainingJob", ""):
        assert call_json(server.url, "sagemaker", target, b"{}").code == "UnknownOperationException"
    assert call_json(server.url, "unheard-of", "Unheard.Of", b"{}").code == "UnknownOperationException"
    assert call_query(server.url, "ec2", b"Action=NoSuchThing&Version=2016-11-15").code == "InvalidAction"
    assert call_query(server.url, "unheard-of", b"Action=NoSuchThing").code == "InvalidAction"
    assert call_query(server.url, "sts", b"Version=2011-06-15").code == "MissingAction"
    headers = sign("GET", server.url + "/", b"", {**JSON, "x-amz-target": "SageMaker.StopTrainingJob"}, "sagemaker")
    assert send("GET", server.url, b"", headers).code == "UnknownOperationException"


def test_modelled_errors(server: Server) -> None:
    client = server.client("sagemaker")
    with pytest.raises(client.exceptions.ResourceInUse) as caught:
        client.create_training_job(**{**JOB, "TrainingJobName": "taken"})
    assert caught.value.response["Message"].startswith("Training job names must be unique")
    logs = server.client("logs")
    with pytest.raises(logs.exceptions.ResourceNotFoundException, match="log stream does not exist"):
        logs.get_log_events(logGroupName="g", logStreamName="absent")
    iam = server.client("iam")
    with pytest.raises(iam.exceptions.NoSuchEntityException) as caught:
        iam.get_role(RoleName="x")
    assert caught.value.response["Error"]["Code"] == "NoSuchEntity"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


@pytest.mark.parametrize("name", ["broken", "unwritable"])
def test_a_bug_is_an_internal_failure_with_its_traceback_in_the_log(server: Server, name: str) -> None:
    with capture_logs() as logs:
        code, message, status = refused(server.client("sagemaker").describe_training_job, TrainingJobName=name)
    assert (code, status) == ("InternalFailure", 500)
    assert "bug" not in message
    (entry,) = logs
    assert entry["operation"] == "DescribeTrainingJob"
    assert entry["exc_info"]
    assert len(entry["request_id"]) == 36


def test_a_failing_key_lookup_is_an_internal_failure_and_lets_nobody_in() -> None:
    def fails(access_key: str) -> None:
        raise OSError("database is gone")

    endpoint = application([Service("sts", {})], fails, ACCOUNT, Open()).routes[0].endpoint  # type: ignore[attr-defined]
    headers = sign("POST", "http://localhost/", b"", FORM, "sts")
    request = wire_app.HttpRequest("POST", b"", {name.lower(): value.encode() for name, value in headers.items()}, b"")
    assert endpoint._answer(request, "id", Client(), 0.0, []).status == 500


class Away(Exception):
    """What is stored cannot be reached."""


def away(*_arguments: Any) -> Any:
    raise Away


@pytest.mark.parametrize("known", [True, False])
def test_what_is_away_is_service_unavailable_whoever_asks(known: bool) -> None:
    services = [Service("sts", {"GetCallerIdentity": away})]
    app = application(services, keys if known else away, ACCOUNT, Open(), unavailable=(Away,))
    endpoint = app.routes[0].endpoint  # type: ignore[attr-defined]
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    headers = {"host": "localhost", **sign("POST", "http://localhost/", body, FORM, "sts")}
    request = wire_app.HttpRequest("POST", b"", {name.lower(): value.encode() for name, value in headers.items()}, body)
    answer = endpoint._answer(request, "id", Client(), 0.0, [])
    assert answer.status == 503
    assert b"<Code>ServiceUnavailable</Code>" in answer.body


class Slow:
    """A store whose disk is told when to be done, and how."""

    def __init__(self) -> None:
        self.told = 0
        self.begun, self.done = threading.Event(), threading.Event()
        self.fault: OSError | None = None

    @contextlib.contextmanager
    def postponing(self) -> Iterator[list[Callable[[], None]]]:
        yield [self.tell]

    def tell(self) -> None:
        self.told += 1

    def sync(self) -> None:
        self.begun.set()
        assert self.done.wait(60)
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize(("fault", "status"), [(None, 200), (OSError("Input/output error"), 503)])
def test_nobody_is_told_before_it_is_on_the_disk(fault: OSError | None, status: int) -> None:
    store = Slow()
    store.fault = fault
    who = {"UserId": "u", "Account": ACCOUNT, "Arn": ARN}
    app = application([Service("sts", {"GetCallerIdentity": lambda caller, members: who})], keys, ACCOUNT, Open(), store=store)
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    headers = {"host": "localhost", **sign("POST", "http://localhost/", body, FORM, "sts")}
    sent: list[Any] = []

    async def main() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def keep(message: Any) -> None:
            sent.append(message)

        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": encoded}
        served = asyncio.create_task(app(scope, receive, keep))
        await asyncio.to_thread(store.begun.wait, 60)
        assert sent == []
        store.done.set()
        await served

    asyncio.run(main())
    assert sent[0]["status"] == status
    assert store.told == (1 if fault is None else 0)
    assert (ARN.encode() in sent[1]["body"]) == (fault is None)


def test_a_handler_without_an_operation_is_a_mistake_at_start() -> None:
    with pytest.raises(ValueError, match="NoSuchThing"):
        application([Service("sts", {"NoSuchThing": lambda caller, request: {}})], keys, ACCOUNT, Open())


# ------------------------------------------------------------------------------------------------------- bad requests


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b'{"TrainingJobName": "\\ud800"}',
        b'{"TrainingJobName": NaN}',
        b'{"TrainingJobName": 1}',
        b'{"TrainingJobName": true}',
        b'{"TrainingJobName": {}}',
        b'{"TrainingJobName": []}',
        b'{"MaxResults": "1"}',
        b'{"MaxResults": 1.5}',
        b'{"MaxResults": 1e999}',
        b'{"MaxResults": 2147483648}',
        b'{"MaxResults": ' + b"9" * 5000 + b"}",
        b'{"SearchExpression": "x"}',
        b'{"SearchExpression": {"Filters": {}}}',
        b'{"CrossAccountFilterOption": 1, "VisibilityConditions": [3]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"SearchExpression":' + b'{"SubExpressions":[' * 400 + b"]}" * 400 + b"}",
        "{}".encode("utf-16"),
    ],
)
def test_json_that_does_not_fit(server: Server, body: bytes) -> None:
    operation = "CreateTrainingJob" if b"TrainingJobName" in body else "Search"
    reply = call_json(server.url, "sagemaker", f"SageMaker.{operation}", body)
    assert (reply.status, reply.code) == (400, "SerializationException"), reply.body


def test_an_empty_json_body_is_an_empty_request(server: Server) -> None:
    reply = call_json(server.url, "sagemaker", "SageMaker.StopTrainingJob", b"")
    assert reply.code == "ValidationException"
    assert b"Value null at 'trainingJobName'" in reply.body


def test_members_unknown_to_the_model_are_ignored_by_json(server: Server) -> None:
    body = json.dumps({"TrainingJobName": "first", "Future": {"a": 1}, "Nothing": None}).encode()
    assert call_json(server.url, "sagemaker", "SageMaker.StopTrainingJob", body).status == 200
    assert server.calls.last == {"TrainingJobName": "first"}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"TrainingJobName": "first", "Future": {"Enable": True}}, "Future of StopTrainingJobRequest"),
        ({"TrainingJobName": "first", "Future": False}, "Future of StopTrainingJobRequest"),
        ({"TrainingJobName": "first", "": []}, " of StopTrainingJobRequest"),
        ({"ResourceConfig": {"Future": 1}}, "Future of ResourceConfig"),
        ({"InputDataConfig": [{"DataSource": {"S3DataSource": {"Future": ""}}}]}, "Future of S3DataSource"),
    ],
)
def test_members_unknown_to_the_model_are_refused_by_what_changes_something_in_a_strict_service(
    body: dict[str, Any], name: str
) -> None:
    operation = "StopTrainingJob" if "TrainingJobName" in body else "CreateTrainingJob"
    (served,) = apis(Service("sagemaker", {operation: lambda caller, members: {}}, strict=True))
    with pytest.raises(AwsError) as caught:
        served.operations[operation].read(json.dumps(body).encode())
    text = f"The member {name} is not supported by this version of Phalanx. Leave it out."
    assert (caught.value.code, caught.value.message) == ("ValidationException", text)


def test_a_strict_service_ignores_nothing_but_nulls_and_what_reading_operations_do_not_know() -> None:
    names = ("StopTrainingJob", "DescribeTrainingJob", "CreateTrainingJob")
    (served,) = apis(Service("sagemaker", {name: lambda caller, members: {} for name in names}, strict=True))
    read = {name: served.operations[name].read for name in names}
    assert read["StopTrainingJob"](b'{"TrainingJobName": "first", "Future": null}') == {"TrainingJobName": "first"}
    assert read["DescribeTrainingJob"](b'{"TrainingJobName": "first", "Future": 1}') == {"TrainingJobName": "first"}
    assert read["CreateTrainingJob"](json.dumps(JOB).encode()) == JOB


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Action=DeleteVpc&VpcId=vpc-1&Colour=blue", "UnknownParameter"),
        (b"Action=DeleteVpc&VpcId=vpc-1&VpcId.1=vpc-2", "UnknownParameter"),
        (b"Action=DescribeSecurityGroups&GroupId=sg-1", "UnknownParameter"),
        (b"Action=DescribeSecurityGroups&GroupId.x=sg-1", "UnknownParameter"),
        (b"Action=DescribeSecurityGroups&GroupId.9999999999999=sg-1", "UnknownParameter"),
        (b"Action=DescribeSecurityGroups&Filter.1.Colour=blue", "UnknownParameter"),
        (b"Action=DescribeSecurityGroups&.=x", "UnknownParameter"),
        (b"Action=DeleteVpc", "MissingParameter"),
        (b"Action=DeleteVpc&VpcId=%FF", "MalformedQueryString"),
        (b"Action=DeleteVpc&VpcId=\xff", "MalformedQueryString"),
        (b"Action=DeleteVpc&" + b"a." * 100 + b"=x", "MalformedQueryString"),
        (b"Action=DeleteVpc" + b"&a=b" * 30_000, "MalformedQueryString"),
        (b"Action=DeleteVpc&VpcId=%00", "InvalidCharacter"),
        (b"Action=DeleteVpc&VpcId=x&DryRun=perhaps", "InvalidParameterValue"),
        (b"Action=DescribeSecurityGroups&MaxResults=ten", "InvalidParameterValue"),
        (b"Action=DescribeSecurityGroups&MaxResults=99999999999", "InvalidParameterValue"),
        (b"Action=DescribeSecurityGroups&MaxResults=4", "InvalidParameterValue"),
    ],
)
def test_ec2_queries_that_do_not_fit(server: Server, body: bytes, code: str) -> None:
    reply = call_query(server.url, "ec2", body)
    assert (reply.status, reply.code) == (400, code), reply.body


def test_ec2_messages(server: Server) -> None:
    code, message, _ = refused(server.client("ec2").delete_vpc)
    assert (code, message) == ("MissingParameter", "The request must contain the parameter VpcId")
    code, message, _ = refused(server.client("ec2").describe_security_groups, MaxResults=4)
    assert code == "InvalidParameterValue"
    assert message == "Value (4) for parameter MaxResults is invalid. Expecting a value greater than or equal to 5."
    assert b"The parameter Colour is not recognized" in call_query(server.url, "ec2", b"Action=DeleteVpc&Colour=1").body


def test_query_parameters_unknown_to_the_model_are_ignored(server: Server) -> None:
    tags = b"Tags.member.2.Key=b&Tags.member.2.Value=2&Tags.member.1.Key=a&Tags.member.1.Value="
    body = b"Action=TagRole&RoleName=r&Colour=blue&" + tags
    assert call_query(server.url, "iam", body).status == 200
    assert server.calls.last["Tags"] == [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "2"}]


def test_a_body_that_is_too_large(server: Server) -> None:
    body = b" " * (wire_app.MAX_BODY + 1)
    for reply in (call_json(server.url, "sagemaker", "SageMaker.Search", body), call_query(server.url, "ec2", body)):
        assert (reply.status, reply.code) == (413, "RequestEntityTooLargeException")


def test_a_client_that_falls_silent_is_told_and_let_go(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody has looked who it is: with as many of them as may be open nobody else could come."""
    monkeypatch.setattr(wire_app, "SILENT_SECONDS", 0.3)
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=4) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: SageMaker.Search\r\ncontent-length: 9\r\n\r\n{")
        received = client.recv(1 << 16)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b'"__type":"RequestTimeout"' in received
        assert b"\r\nconnection: close\r\n" in received
        assert client.recv(1 << 16) == b""


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Filters", "Name", "NestedFilters", "SubExpressions", "Operator", "Value"]), inner)
    ),
    max_leaves=10,
)


@given(value=st.binary(max_size=64) | JSON_VALUES.map(lambda value: json.dumps({"SearchExpression": value}).encode()))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_is_a_server_error(server: Server, value: bytes) -> None:
    assert call_json(server.url, "sagemaker", "SageMaker.Search", value).status in (200, 400)


@given(
    value=st.binary(max_size=64)
    | st.lists(
        st.tuples(
            st.lists(st.sampled_from(["Filter", "GroupId", "Name", "Value", "1", "2", "x", "", "MaxResults"]), max_size=5),
            st.text(max_size=5),
        )
    ).map(lambda pairs: "&".join(f"{'.'.join(names)}={text}" for names, text in pairs).encode("utf-8", "surrogatepass"))
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_query_is_a_server_error(server: Server, value: bytes) -> None:
    assert call_query(server.url, "ec2", b"Action=DescribeSecurityGroups&" + value).status in (200, 400)
    assert call_query(server.url, "iam", b"Action=TagRole&RoleName=r&" + value).status in (200, 400)
