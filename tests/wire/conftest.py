"""A live server on loopback with small handlers for real operations of each protocol, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi import listening
from guards import Open
from phalanx.wire.app import application
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members, Service
from phalanx.wire.sigv4 import Principal

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # the documentation's own example
ACCOUNT = "123456789012"
REGION = "eu-central-1"
ARN = f"arn:aws:iam::{ACCOUNT}:user/admin"
CREATED = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)


@dataclass
class Calls:
    """What the handlers were called with."""

    seen: list[tuple[str, Caller, Members]] = field(default_factory=list)

    def handler(self, name: str, answer: Callable[[Caller, Members], Members]) -> Callable[[Caller, Members], Members]:
        def handle(caller: Caller, request: Members) -> Members:
            self.seen.append((name, caller, request))
            return answer(caller, request)

        return handle

    @property
    def last(self) -> Members:
        return self.seen[-1][2]


def _create_training_job(caller: Caller, request: Members) -> Members:
    if request["TrainingJobName"] == "taken":
        raise AwsError("ResourceInUse", "Training job names must be unique within an AWS account and region.")
    name = request["TrainingJobName"]
    return {"TrainingJobArn": f"arn:aws:sagemaker:{caller.region}:{caller.account}:training-job/{name}", "Unknown": 1}


def _describe_training_job(caller: Caller, request: Members) -> Members:
    if request["TrainingJobName"] == "broken":
        raise RuntimeError("a bug in a handler")
    if request["TrainingJobName"] == "unwritable":
        return {"CreationTime": datetime(2026, 3, 1)}
    return {
        "TrainingJobName": request["TrainingJobName"],
        "TrainingJobStatus": "InProgress",
        "CreationTime": CREATED,
        "FailureReason": None,
        "HyperParameters": {"eta": "0.2"},
        "EnableInterContainerTrafficEncryption": True,
        "FinalMetricDataList": [{"MetricName": "auc", "Value": 0.5, "Timestamp": CREATED}],
    }


def _describe_security_groups(caller: Caller, request: Members) -> Members:
    permission = {"IpProtocol": "50", "UserIdGroupPairs": [{"GroupId": "sg-1", "UserId": caller.account}], "IpRanges": []}
    group = {"GroupId": "sg-1", "Description": "a < b & c\r\n", "IpPermissions": [permission], "VpcId": "vpc-1"}
    return {"SecurityGroups": [group], "NextToken": None}


def _get_role(caller: Caller, request: Members) -> Members:
    raise AwsError("NoSuchEntityException", f"The role with name {request['RoleName']} cannot be found.")


def _get_log_events(caller: Caller, request: Members) -> Members:
    if request["logStreamName"] == "absent":
        raise AwsError("ResourceNotFoundException", "The specified log stream does not exist.")
    return {"events": [{"timestamp": 1, "message": "loss=0.1 \u2713", "ingestionTime": 2}], "nextForwardToken": "f/1"}


def services(calls: Calls) -> list[Service]:
    """The services of the live server."""
    handlers: dict[str, dict[str, Callable[[Caller, Members], Members]]] = {
        "sagemaker": {
            "CreateTrainingJob": _create_training_job,
            "DescribeTrainingJob": _describe_training_job,
            "StopTrainingJob": lambda caller, request: {},
            "Search": lambda caller, request: {"Results": []},
            "AddTags": lambda caller, request: {"Tags": request["Tags"]},
        },
        "logs": {"GetLogEvents": _get_log_events, "PutLogEvents": lambda caller, request: {}},
        "ec2": {
            "CreateSecurityGroup": lambda caller, request: {"GroupId": "sg-1", "Tags": []},
            "AuthorizeSecurityGroupIngress": lambda caller, request: {"Return": True},
            "DescribeSecurityGroups": _describe_security_groups,
            "DeleteVpc": lambda caller, request: {},
        },
        "sts": {
            "GetCallerIdentity": lambda caller, request: {
                "UserId": caller.user_id,
                "Account": caller.account,
                "Arn": caller.arn,
            },
            "DecodeAuthorizationMessage": lambda caller, request: {"DecodedMessage": request["EncodedMessage"]},
        },
        "iam": {"GetRole": _get_role, "TagRole": lambda caller, request: {}},
    }
    return [
        Service(name, {operation: calls.handler(operation, answer) for operation, answer in operations.items()})
        for name, operations in handlers.items()
    ]


def keys(access_key: str) -> Principal | None:
    """The one key that there is."""
    return Principal(SECRET, ARN, "AIDACKCEVSQ6C2EXAMPLE") if access_key == ACCESS_KEY else None


@dataclass
class Server:
    """The live server."""

    url: str
    calls: Calls

    def client(self, service: str, **changes: Any) -> Any:
        """A boto3 client of it that neither validates nor retries."""
        arguments: dict[str, Any] = {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET,
        }
        arguments.update(changes)
        config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
        arguments["config"] = config.merge(arguments["config"]) if "config" in arguments else config
        return boto3.session.Session().client(service, **arguments)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server, up for the whole run."""
    calls = Calls()
    healthz = Route("/healthz", lambda request: PlainTextResponse("ok"))
    app = application(services(calls), keys, ACCOUNT, Open(), routes=[healthz])
    with listening(app) as url:
        yield Server(url, calls)
