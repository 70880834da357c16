"""What the SDKs ask IAM, by the handlers and by boto3's own reading of the answers."""

from functools import partial

import pytest
from botocore.parsers import create_parser

from phalanx.identity.directory import Directory
from phalanx.identity.seal import Seal
from phalanx.services.iam.service import service
from phalanx.wire.api import apis
from phalanx.wire.errors import AwsError
from phalanx.wire.loader import service_model
from phalanx.wire.service import Caller

CALLER = Caller("123456789012", "eu-central-1", "AKIAEXAMPLE", "arn:aws:iam::123456789012:user/admin", "AIDAEXAMPLE", "r-1")
ROLE = "arn:aws:iam::123456789012:role/Any"


@pytest.fixture
def call(live_database, tmp_path):
    return partial(answered, service(Directory(live_database, Seal(tmp_path / "identity.key"), CALLER.account)))


def answered(iam, operation, **members):
    """The answer as it comes over the wire."""
    (served,) = apis(iam)
    answer = served.answer(served.operations[operation], served.operations[operation].handler(CALLER, members), "r-1")
    response = {"status_code": answer.status, "headers": {}, "body": answer.body}
    return create_parser("query").parse(response, service_model("iam").operation_model(operation).output_shape)


@pytest.mark.shows("GetRole")
def test_any_role_of_the_account_exists_and_trusts_sagemaker(call):
    role = call("GetRole", RoleName="Any")["Role"]
    assert role["Arn"] == ROLE
    assert role["AssumeRolePolicyDocument"].count("sagemaker.amazonaws.com") == 1
    assert "{" not in role["AssumeRolePolicyDocument"]


@pytest.mark.shows("ListRoles")
def test_one_role_is_suggested(call):
    assert [role["RoleName"] for role in call("ListRoles")["Roles"]] == ["SageMakerTraining"]
    assert call("ListRoles", PathPrefix="/service-role/")["Roles"] == []


def test_no_role_is_there_that_nobody_created_where_roles_are_required(live_database, tmp_path):
    iam = service(Directory(live_database, Seal(tmp_path / "identity.key"), CALLER.account, require_roles=True))
    assert answered(iam, "ListRoles")["Roles"] == []
    for operation, members in (
        ("GetRole", {"RoleName": "SageMakerTraining"}),
        ("SimulatePrincipalPolicy", {"PolicySourceArn": ROLE, "ActionNames": ["s3:GetObject"]}),
    ):
        with pytest.raises(AwsError) as error:
            answered(iam, operation, **members)
        assert error.value.code == "NoSuchEntity"


@pytest.mark.shows("SimulatePrincipalPolicy")
def test_every_action_is_allowed_page_by_page(call):
    members = {"PolicySourceArn": ROLE, "ActionNames": ["s3:GetObject", "ecr:BatchGetImage"], "ResourceArns": ["a", "b"]}
    first = call("SimulatePrincipalPolicy", **members, MaxItems=3)
    rest = call("SimulatePrincipalPolicy", **members, MaxItems=3, Marker=first["Marker"])
    assert (first["IsTruncated"], rest["IsTruncated"]) == (True, False)
    results = first["EvaluationResults"] + rest["EvaluationResults"]
    assert [(each["EvalActionName"], each["EvalResourceName"]) for each in results] == [
        ("s3:GetObject", "a"),
        ("s3:GetObject", "b"),
        ("ecr:BatchGetImage", "a"),
        ("ecr:BatchGetImage", "b"),
    ]
    assert {each["EvalDecision"] for each in results} == {"allowed"}


@pytest.mark.parametrize(
    ("arn", "code"),
    [("arn:aws:iam::123456789012:policy/x-y-z", "InvalidInput"), ("arn:aws:iam::999999999999:role/Any", "NoSuchEntity")],
)
def test_strangers_are_refused(call, arn, code):
    with pytest.raises(AwsError) as caught:
        call("SimulatePrincipalPolicy", PolicySourceArn=arn, ActionNames=["s3:GetObject"])
    assert caught.value.code == code
