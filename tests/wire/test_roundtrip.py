"""What botocore sends we read, and what we write botocore reads: random members of real and of made-up shapes."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phalanx.wire.api import PROTOCOLS
from phalanx.wire.cbor import FROM_CBOR, cbor_document
from phalanx.wire.loader import service_model
from phalanx.wire.parser import JsonParsers, json_document
from phalanx.wire.query import Ec2Parsers, QueryParsers, parameter_tree, query_parameters
from phalanx.wire.serializer import JsonSerializers, XmlSerializers, json_body
from phalanx.wire.service import Service
from wire.models import everything
from wire.strategies import members

REQUESTS = [
    ("sagemaker", "CreateTrainingJob"),
    ("sagemaker", "CreateHyperParameterTuningJob"),
    ("sagemaker", "Search"),
    ("logs", "PutLogEvents"),
    ("ec2", "CreateSecurityGroup"),
    ("ec2", "AuthorizeSecurityGroupIngress"),
    ("ec2", "DescribeSecurityGroups"),
    ("ec2", "RunInstances"),
    ("ec2", "ImportKeyPair"),
    ("iam", "SimulatePrincipalPolicy"),
    ("iam", "CreateRole"),
    ("sts", "AssumeRole"),
    ("cloudwatch", "GetMetricData"),
    ("made-up", "smithy-rpc-v2-cbor"),
    ("made-up", "json"),
    ("made-up", "query"),
    ("made-up", "ec2"),
]
RESPONSES = [
    ("sagemaker", "DescribeTrainingJob"),
    ("sagemaker", "ListTrainingJobs"),
    ("logs", "DescribeLogStreams"),
    ("logs", "GetLogEvents"),
    ("ec2", "CreateVpc"),
    ("ec2", "DescribeSecurityGroups"),
    ("ec2", "DescribeInstances"),
    ("iam", "GetRole"),
    ("iam", "GetAccountSummary"),
    ("iam", "SimulatePrincipalPolicy"),
    ("sts", "GetCallerIdentity"),
    ("cloudwatch", "GetMetricData"),
    ("made-up", "smithy-rpc-v2-cbor"),
    ("made-up", "json"),
    ("made-up", "query"),
    ("made-up", "ec2"),
]


def operation(service: str, name: str) -> OperationModel:
    model = everything(name) if service == "made-up" else service_model(service)
    return model.operation_model("Echo" if service == "made-up" else name)


def modest(examples: int) -> Any:
    return settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize(("service", "name"), REQUESTS)
@given(data=st.data())
@modest(40)
def test_requests(service: str, name: str, data: st.DataObject) -> None:
    model = operation(service, name)
    protocol = model.service_model.protocol
    # Query requests cannot tell an empty list or structure from an absent one; documents can.
    sent = data.draw(members(model.input_shape, least=1 if protocol in ("query", "ec2") else 0))
    request = create_serializer(protocol, include_validation=False).serialize_to_request(sent, model)
    body = AWSRequest("POST", "http://localhost/", request["headers"], request["body"]).prepare().body
    body = body.encode() if isinstance(body, str) else body
    if protocol == "json":
        assert JsonParsers().of(model.input_shape)(json_document(body)) == sent
    elif protocol == "smithy-rpc-v2-cbor":
        assert JsonParsers(FROM_CBOR).of(model.input_shape)(cbor_document(body)) == sent
    else:
        parsers = Ec2Parsers() if protocol == "ec2" else QueryParsers()
        assert parsers.of(model.input_shape)(parameter_tree(query_parameters(body)), "") == sent


@pytest.mark.parametrize(("service", "name"), RESPONSES)
@given(data=st.data())
@modest(40)
def test_responses(service: str, name: str, data: st.DataObject) -> None:
    model = operation(service, name)
    protocol = model.service_model.protocol
    answered = data.draw(members(model.output_shape))
    body = _written(model.service_model, model, answered)
    headers = {"x-amzn-requestid": "id"}
    parsed = create_parser(protocol).parse({"status_code": 200, "headers": headers, "body": body}, model.output_shape)
    assert parsed.pop("ResponseMetadata")["RequestId"] == "id"
    assert parsed == answered


def _written(service: ServiceModel, model: OperationModel, answered: dict[str, Any]) -> bytes:
    api = PROTOCOLS[service.protocol](Service("x", {model.name: lambda caller, request: {}}), service)
    return api.answer(api.operations[model.name], answered, "id").body


@given(text=st.text())
def test_any_text_is_written_as_xml_that_parses(text: str) -> None:
    """What XML cannot hold is replaced, so that one bad character in a log line or a tag cannot break an answer."""
    model = operation("sts", "GetCallerIdentity")
    body = _written(model.service_model, model, {"Arn": text})
    parsed = create_parser("query").parse({"status_code": 200, "headers": {}, "body": body}, model.output_shape)
    assert len(parsed["Arn"]) == len(text)


@given(text=st.text(st.characters()))
def test_any_text_is_written_as_json_that_parses(text: str) -> None:
    model = operation("logs", "GetLogEvents")
    body = json_body(JsonSerializers().of(model.output_shape)({"nextForwardToken": text}))
    parsed = create_parser("json").parse({"status_code": 200, "headers": {}, "body": body}, model.output_shape)
    assert parsed["nextForwardToken"] == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("protocol", ["json", "query", "ec2"])
def test_special_numbers(protocol: str, value: float) -> None:
    """The Smithy protocols write them as strings: bare NaN is not JSON, and JavaScript's parser refuses it."""
    shape = everything(protocol).operation_model("Echo").input_shape
    assert shape is not None
    model = everything(protocol).operation_model("Echo")
    body = create_serializer(protocol, include_validation=False).serialize_to_request({"Ratio": value}, model)["body"]
    if protocol == "json":
        read = JsonParsers().of(shape)(json_document(body))["Ratio"]
        assert JsonSerializers().of(shape)({"Ratio": value}) == {"Ratio": body.decode().split('"')[3]}
    else:
        parsers = Ec2Parsers() if protocol == "ec2" else QueryParsers()
        read = parsers.of(shape)(parameter_tree({key: str(item) for key, item in body.items()}), "")["Ratio"]
        out: list[str] = []
        XmlSerializers().of(shape)(out, {"Ratio": value})
        assert "".join(out) == f"<Ratio>{body['Ratio']}</Ratio>"
    assert repr(read) == repr(value)


def test_none_and_unknown_members_are_dropped() -> None:
    json_shape = operation("sagemaker", "DescribeTrainingJob").output_shape
    assert JsonSerializers().of(json_shape)({"FailureReason": None, "Nonsense": 1}) == {}
    out: list[str] = []
    XmlSerializers().of(operation("ec2", "DescribeVpcs").output_shape)(out, {"Vpcs": None, "Nonsense": 1})
    assert out == []


def test_traits_that_are_not_spoken_are_refused_when_the_service_is_built() -> None:
    model = operation("logs", "StartLiveTail")
    with pytest.raises(NotImplementedError, match="eventstream"):
        JsonSerializers().of(model.output_shape)
