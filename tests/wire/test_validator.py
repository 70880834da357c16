"""Constraints, in AWS's words."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.model import Shape

from phalanx.wire.errors import AwsError
from phalanx.wire.loader import service_model
from phalanx.wire.validator import Validators, compile_pattern, matches, validate
from wire.conftest import Server
from wire.test_app import JOB, refused


def message(service: str, operation: str, members: dict[str, Any]) -> str:
    """The message of the error for `members`, or "" where there is nothing wrong with them."""
    validators = Validators("ValidationException")
    shape = service_model(service).operation_model(operation).input_shape
    try:
        validate(validators.of(shape), validators, members)
    except AwsError as error:
        return error.message
    return ""


def job(**changes: Any) -> str:
    return message("sagemaker", "CreateTrainingJob", {**JOB, **changes})


ONE = "1 validation error detected: "
NAME = "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"


def test_nothing_wrong() -> None:
    assert job() == ""


def test_patterns() -> None:
    assert job(TrainingJobName="-x") == f"{ONE}Value '-x' at 'trainingJobName' failed to satisfy constraint: {NAME}"
    assert job(TrainingJobName="first\n").startswith(ONE)
    assert job(TrainingJobName="ﬁrst").startswith(ONE)


def test_required() -> None:
    without = {name: value for name, value in JOB.items() if name != "RoleArn"}
    text = message("sagemaker", "CreateTrainingJob", without)
    assert text == f"{ONE}Value null at 'roleArn' failed to satisfy constraint: Member must not be null"


def test_nested_members_and_enums() -> None:
    assert job(AlgorithmSpecification={"TrainingInputMode": "Fast"}) == (
        f"{ONE}Value 'Fast' at 'algorithmSpecification.trainingInputMode' failed to satisfy constraint: "
        "Member must satisfy enum value set: [Pipe, File, FastFile]"
    )
    assert job(ResourceConfig={**JOB["ResourceConfig"], "InstanceType": "ml.none"}).startswith(
        f"{ONE}Value 'ml.none' at 'resourceConfig.instanceType' failed to satisfy constraint: "
        "Member must satisfy enum value set: [ml.m4.xlarge, "
    )


def test_several_violations() -> None:
    text = job(TrainingJobName="", StoppingCondition={"MaxRuntimeInSeconds": 0})
    assert text == (
        "3 validation errors detected: "
        "Value '' at 'trainingJobName' failed to satisfy constraint: Member must have length greater than or equal to 1; "
        f"Value '' at 'trainingJobName' failed to satisfy constraint: {NAME}; "
        "Value '0' at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1"
    )


def test_lengths_come_first() -> None:
    assert job(TrainingJobName="-" * 64) == (
        f"{ONE}Value '{'-' * 64}' at 'trainingJobName' failed to satisfy constraint: "
        "Member must have length less than or equal to 63"
    )
    assert len(job(TrainingJobName="x" * 1_000_000)) < 2000


def test_lists() -> None:
    groups = {"SecurityGroupIds": ["sg-1", "s g"], "Subnets": ["subnet-1"]}
    assert job(VpcConfig=groups) == (
        f"{ONE}Value '[sg-1, s g]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: "
        "Member must satisfy constraint: [Member must have length less than or equal to 32, "
        "Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: [-0-9a-zA-Z]+]"
    )
    assert job(VpcConfig={"SecurityGroupIds": [], "Subnets": ["subnet-1"]}) == (
        f"{ONE}Value '[]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: "
        "Member must have length greater than or equal to 1"
    )
    assert job(InputDataConfig=[{"ChannelName": "train"}]) == (
        f"{ONE}Value null at 'inputDataConfig.1.member.dataSource' failed to satisfy constraint: Member must not be null"
    )
    assert job(Tags=[{"Key": "a", "Value": "b"}, None]) == (
        f"{ONE}Value null at 'tags.2.member' failed to satisfy constraint: Member must not be null"
    )


def test_maps() -> None:
    assert job(HyperParameters={"eta": "x" * 2501}).endswith(
        "' at 'hyperParameters' failed to satisfy constraint: Map value must satisfy constraint: "
        "[Member must have length less than or equal to 2500, Member must have length greater than or equal to 0, "
        "Member must satisfy regular expression pattern: .*]"
    )
    assert "Map keys must satisfy constraint: [Member must have length less than or equal to 256" in job(
        HyperParameters={"k" * 257: "1"}
    )
    many = {f"p{number}": "1" for number in range(101)}
    assert "at 'hyperParameters' failed to satisfy constraint: Member must have length less than or equal to 100" in job(
        HyperParameters=many
    )
    assert "'hyperParameters.eta.member' failed to satisfy constraint: Member must not be null" in job(
        HyperParameters={"eta": None}
    )


def test_numbers() -> None:
    query = {"Resource": "TrainingJob", "MaxResults": 101}
    assert message("sagemaker", "Search", query) == (
        f"{ONE}Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100"
    )


def test_sensitive_values_are_not_repeated() -> None:
    text = message("iam", "CreateLoginProfile", {"UserName": "u", "Password": "p\u0000" * 500})
    assert "p\u0000" not in text
    assert text.startswith(f"{ONE}Value at 'password' failed to satisfy constraint: ")


def test_unions_have_one_member() -> None:
    values = {"IntegerValue": 1, "StringValue": "a"}
    shape = service_model("sagemaker").shape_for("MetricSpecification")
    validators = Validators("ValidationException")
    assert shape.is_tagged_union
    for members in ({}, {"Predefined": {}, "Customized": {}}, values):
        with pytest.raises(AwsError, match="Member must have exactly one of these set"):
            validate(validators.of(shape), validators, members)


def test_codes_by_service(server: Server) -> None:
    assert refused(server.client("sagemaker").stop_training_job)[0] == "ValidationException"
    assert refused(server.client("iam").get_role) == (
        "ValidationError",
        f"{ONE}Value null at 'roleName' failed to satisfy constraint: Member must not be null",
        400,
    )
    code, text, _ = refused(server.client("logs").get_log_events, logGroupName="", logStreamName="s")
    assert code == "InvalidParameterException"
    assert text.startswith("2 validation errors detected: Value '' at 'logGroupName' failed to satisfy constraint: ")


# ----------------------------------------------------------------------------------------------------------- patterns


def _patterns() -> list[Shape]:
    services = [service_model(name) for name in ("sagemaker", "logs", "ec2", "sts", "iam")]
    shapes = [service.shape_for(name) for service in services for name in service.shape_names]
    return [shape for shape in shapes if "pattern" in shape.metadata]


def test_every_pattern_of_the_models_compiles() -> None:
    shapes = _patterns()
    assert len(shapes) > 400
    for shape in shapes:
        compile_pattern(shape.metadata["pattern"])


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", ["a b", "größe 漢字"], ["a!", "\n"]),
        (r"[\w+=,.@-]+", ["user@a"], ["größe", ""]),
        (r"\d{12}", ["123456789012"], ["१२३४५६७८९०१२"]),
        (r"arn:[\p{Alnum}\-]+:lambda", ["arn:aws-cn:lambda"], ["arn:é:lambda"]),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", ["a\tb", "\U0001f600"], ["\n", "\uffff"]),
        (r"^abc$", ["abc"], ["abc\n", "xabc"]),
        (r".*", ["one line", ""], ["two\nlines"]),
        (r"[\w-_]*", ["a-_"], ["a b"]),
    ],
)
def test_patterns_mean_what_they_mean_in_java(pattern: str, good: list[str], bad: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert [text for text in good if not matches(compiled, text)] == []
    assert [text for text in bad if matches(compiled, text)] == []


def test_input_made_for_backtracking_is_refused() -> None:
    """The model's own pattern, on a value within its length: without a bound this would run for longer than anybody waits."""
    shape = service_model("sagemaker").shape_for("RepositoryUrl")
    value = "https://" + "a" * (shape.metadata["max"] - 9) + "!"
    assert not matches(compile_pattern(shape.metadata["pattern"]), value)
