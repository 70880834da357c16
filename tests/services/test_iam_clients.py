"""IAM as boto3 and the AWS CLI use it, from a first user to none."""

import json

import boto3
import pytest
from identity_server import REGION, running

from clients import AwsCli

ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}]}
DENY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "sagemaker:Stop*", "Resource": "*"}]}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("identity")) as server:
        yield server


@pytest.fixture(scope="module")
def iam(server):
    id, secret = server.key
    client = boto3.client(
        "iam", endpoint_url=server.url, region_name=REGION, aws_access_key_id=id, aws_secret_access_key=secret
    )
    yield client
    client.close()


@pytest.mark.shows("CreateUser", "GetUser", "ListUsers", "DeleteUser")
@pytest.mark.shows("CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey")
def test_users_and_their_keys(iam):
    user = iam.create_user(UserName="ann", Path="/team/", Tags=[{"Key": "team", "Value": "vision"}])["User"]
    assert user["Arn"] == "arn:aws:iam::123456789012:user/team/ann"
    assert iam.get_user(UserName="ANN")["User"] == user
    assert iam.get_user()["User"]["UserName"] == "admin"
    assert [each["UserName"] for each in iam.list_users(PathPrefix="/team/")["Users"]] == ["ann"]
    assert [
        each["UserName"]
        for each in iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 1}).search("Users[]")
    ] == ["admin", "ann"]
    keys = [iam.create_access_key(UserName="ann")["AccessKey"] for _ in range(2)]
    assert len({key["SecretAccessKey"] for key in keys}) == 2
    with pytest.raises(iam.exceptions.LimitExceededException):
        iam.create_access_key(UserName="ann")
    iam.update_access_key(UserName="ann", AccessKeyId=keys[0]["AccessKeyId"], Status="Inactive")
    listed = iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]
    assert {each["AccessKeyId"]: each["Status"] for each in listed} == {
        keys[0]["AccessKeyId"]: "Inactive",
        keys[1]["AccessKeyId"]: "Active",
    }
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_user(UserName="ann")
    for key in keys:
        iam.delete_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="ann")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_user(UserName="ann")


@pytest.mark.shows("PutUserPolicy", "GetUserPolicy", "ListUserPolicies", "DeleteUserPolicy")
@pytest.mark.shows("PutRolePolicy", "GetRolePolicy", "ListRolePolicies", "DeleteRolePolicy")
@pytest.mark.shows("AttachUserPolicy", "DetachUserPolicy", "ListAttachedUserPolicies")
@pytest.mark.shows("AttachRolePolicy", "DetachRolePolicy", "ListAttachedRolePolicies")
@pytest.mark.parametrize("kind", ["user", "role"])
def test_policies_of_users_and_roles(iam, kind):
    def call(verb, noun, **members):
        return getattr(iam, f"{verb}_{noun}")(**{f"{kind.capitalize()}Name": "bob", **members})

    if kind == "user":
        iam.create_user(UserName="bob")
    else:
        iam.create_role(RoleName="bob", AssumeRolePolicyDocument=json.dumps(TRUST))
    call("put", f"{kind}_policy", PolicyName="own", PolicyDocument=json.dumps(DENY))
    call("put", f"{kind}_policy", PolicyName="own", PolicyDocument=json.dumps(ALLOW))
    assert call("list", f"{kind}_policies")["PolicyNames"] == ["own"]
    assert call("get", f"{kind}_policy", PolicyName="own")["PolicyDocument"] == ALLOW
    with pytest.raises(iam.exceptions.LimitExceededException):
        call("put", f"{kind}_policy", PolicyName="big", PolicyDocument=json.dumps({**ALLOW, "Id": "x" * 10_240}))
    arn = "arn:aws:iam::aws:policy/AmazonSageMakerReadOnly"
    call("attach", f"{kind}_policy", PolicyArn=arn)
    call("attach", f"{kind}_policy", PolicyArn=arn)
    assert call("list", f"attached_{kind}_policies")["AttachedPolicies"] == [
        {"PolicyName": "AmazonSageMakerReadOnly", "PolicyArn": arn}
    ]
    with pytest.raises(iam.exceptions.DeleteConflictException):
        call("delete", kind)
    call("detach", f"{kind}_policy", PolicyArn=arn)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        call("detach", f"{kind}_policy", PolicyArn=arn)
    call("delete", f"{kind}_policy", PolicyName="own")
    call("delete", kind)


@pytest.mark.shows("CreatePolicy", "GetPolicy", "ListPolicies", "DeletePolicy")
@pytest.mark.shows("CreatePolicyVersion", "GetPolicyVersion", "ListPolicyVersions", "DeletePolicyVersion")
@pytest.mark.shows("SetDefaultPolicyVersion", "SimulateCustomPolicy")
def test_managed_policies_and_their_versions(iam):
    policy = iam.create_policy(PolicyName="train", PolicyDocument=json.dumps(ALLOW), Description="to train")["Policy"]
    arn = policy["Arn"]
    assert (policy["DefaultVersionId"], iam.get_policy(PolicyArn=arn)["Policy"]["Description"]) == ("v1", "to train")
    iam.create_user(UserName="carl")
    iam.attach_user_policy(UserName="carl", PolicyArn=arn)

    def decision(**members):
        asked = {"PolicySourceArn": "arn:aws:iam::123456789012:user/carl", "ActionNames": ["sagemaker:StopTrainingJob"]}
        return iam.simulate_principal_policy(**asked, **members)["EvaluationResults"][0]["EvalDecision"]

    assert decision() == "allowed"
    assert decision(PolicyInputList=[json.dumps(DENY)]) == "explicitDeny"
    made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(DENY), SetAsDefault=True)["PolicyVersion"]
    assert (made["VersionId"], made["IsDefaultVersion"]) == ("v2", True)
    assert decision() == "explicitDeny"
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    assert iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]["Document"] == DENY
    versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    assert [(each["VersionId"], each["IsDefaultVersion"]) for each in versions] == [("v1", True), ("v2", False)]
    local = iam.list_policies(Scope="Local", OnlyAttached=True)["Policies"]
    assert [(each["Arn"], each["AttachmentCount"]) for each in local] == [(arn, 1)]
    assert "AdministratorAccess" in [each["PolicyName"] for each in iam.list_policies(Scope="AWS")["Policies"]]
    for refused, members in (
        (iam.delete_policy, {}),
        (iam.delete_policy_version, {"VersionId": "v1"}),
    ):
        with pytest.raises(iam.exceptions.DeleteConflictException):
            refused(PolicyArn=arn, **members)
    iam.detach_user_policy(UserName="carl", PolicyArn=arn)
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    iam.delete_policy(PolicyArn=arn)
    iam.delete_user(UserName="carl")
    condition = {"Condition": {"Bool": {"sagemaker:InterContainerTrafficEncryption": "true"}}}
    conditional = {**ALLOW, "Statement": [{**ALLOW["Statement"][0], **condition}]}
    for value, wanted in (("true", "allowed"), ("false", "implicitDeny")):
        key = {"ContextKeyName": "sagemaker:InterContainerTrafficEncryption", "ContextKeyType": "boolean"}
        asked = {"PolicyInputList": [json.dumps(conditional)], "ActionNames": ["sagemaker:CreateTrainingJob"]}
        told = iam.simulate_custom_policy(**asked, ContextEntries=[{**key, "ContextKeyValues": [value]}])
        assert told["EvaluationResults"][0]["EvalDecision"] == wanted


@pytest.mark.shows("CreateRole", "UpdateAssumeRolePolicy", "DeleteRole")
def test_roles_that_are_managed(iam):
    assert iam.get_role(RoleName="any")["Role"]["RoleName"] == "any"
    made = iam.create_role(RoleName="trainer", AssumeRolePolicyDocument=json.dumps(TRUST), MaxSessionDuration=7200)["Role"]
    assert iam.get_role(RoleName="trainer")["Role"] == made
    assert made["AssumeRolePolicyDocument"] == TRUST
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName="any")
    assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == ["SageMakerTraining", "trainer"]
    changed = {**TRUST, "Statement": [{**TRUST["Statement"][0], "Principal": {"AWS": "123456789012"}}]}
    iam.update_assume_role_policy(RoleName="trainer", PolicyDocument=json.dumps(changed))
    assert iam.get_role(RoleName="trainer")["Role"]["AssumeRolePolicyDocument"] == changed
    iam.delete_role(RoleName="trainer")
    assert iam.get_role(RoleName="any")["Role"]["RoleName"] == "any"


def test_a_user_by_the_aws_cli(server, tmp_path):
    def cli(id, secret):
        return AwsCli(tmp_path, endpoint=server.url, region=REGION, access_key=id, secret=secret)

    admin = cli(*server.key)
    assert admin("aws iam create-user --user-name dora")["User"]["UserName"] == "dora"
    admin("aws iam attach-user-policy --user-name dora --policy-arn arn:aws:iam::aws:policy/AmazonSageMakerFullAccess")
    (tmp_path / "policy.json").write_text(json.dumps(DENY))
    admin(f"aws iam put-user-policy --user-name dora --policy-name no-stop --policy-document file://{tmp_path}/policy.json")
    key = admin("aws iam create-access-key --user-name dora")["AccessKey"]
    dora = cli(key["AccessKeyId"], key["SecretAccessKey"])
    assert dora("aws sts get-caller-identity")["Arn"].endswith("user/dora")
    assert dora("aws sagemaker list-training-jobs") == {"TrainingJobSummaries": []}
    refused = dora.refused("aws sagemaker stop-training-job --training-job-name a")
    assert "(AccessDeniedException)" in refused
    assert "with an explicit deny in an identity-based policy" in refused
    assert "(AccessDenied)" in dora.refused("aws iam create-user --user-name eve")
    assert "(UnauthorizedOperation)" in dora.refused("aws ec2 create-vpc --cidr-block 10.0.0.0/16")
