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


@pytest.mark.shows("ListEntitiesForPolicy")
def test_whom_a_policy_is_attached_to(iam):
    """Who deletes a policy has to detach it first; Terraform's aws_iam_policy_attachment asks whenever it reads."""
    own = iam.create_policy(PolicyName="attached", PolicyDocument=json.dumps(ALLOW))["Policy"]["Arn"]
    aws = "arn:aws:iam::aws:policy/AmazonSageMakerReadOnly"
    iam.create_user(UserName="gus", Path="/team/")
    iam.create_user(UserName="both")
    iam.create_role(RoleName="both", AssumeRolePolicyDocument=json.dumps(TRUST))
    for arn in (own, aws):
        assert iam.list_entities_for_policy(PolicyArn=arn)["PolicyUsers"] == []
        iam.attach_user_policy(UserName="gus", PolicyArn=arn)
        iam.attach_role_policy(RoleName="both", PolicyArn=arn)

        def attached(arn=arn, **members):
            told = (
                iam.get_paginator("list_entities_for_policy")
                .paginate(PolicyArn=arn, PaginationConfig={"PageSize": 1}, **members)
                .build_full_result()
            )
            assert told["PolicyGroups"] == []
            return [user["UserName"] for user in told["PolicyUsers"]], [role["RoleName"] for role in told["PolicyRoles"]]

        assert attached() == (["gus"], ["both"])
        assert attached(EntityFilter="Role") == ([], ["both"])
        assert attached(PathPrefix="/team/") == (["gus"], [])
        assert attached(EntityFilter="Group") == attached(PolicyUsageFilter="PermissionsBoundary") == ([], [])
        iam.detach_user_policy(UserName="gus", PolicyArn=arn)
        iam.detach_role_policy(RoleName="both", PolicyArn=arn)
    iam.delete_policy(PolicyArn=own)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.list_entities_for_policy(PolicyArn=own)
    iam.delete_role(RoleName="both")
    for name in ("gus", "both"):
        iam.delete_user(UserName=name)


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


@pytest.mark.shows("TagUser", "UntagUser", "ListUserTags", "TagRole", "UntagRole", "ListRoleTags")
@pytest.mark.shows("TagPolicy", "UntagPolicy", "ListPolicyTags")
@pytest.mark.parametrize("kind", ["user", "role", "policy"])
def test_tags(iam, kind):
    """What Terraform asks of everything that it has tagged: a tag that is not told again is set at every run."""
    made = {
        "user": lambda **members: iam.create_user(UserName="tagged", **members)["User"],
        "role": lambda **members: iam.create_role(RoleName="tagged", AssumeRolePolicyDocument=json.dumps(TRUST), **members)[
            "Role"
        ],
        "policy": lambda **members: iam.create_policy(
            PolicyName="tagged", PolicyDocument=json.dumps(ALLOW), Description="d", **members
        )["Policy"],
    }[kind](Tags=[{"Key": "team", "Value": "vision"}])
    named = {"PolicyArn": made["Arn"]} if kind == "policy" else {f"{kind.capitalize()}Name": "tagged"}

    def call(verb, noun, **members):
        return getattr(iam, f"{verb}_{noun}")(**named, **members)

    def tags():
        shown = call("get", kind)[kind.capitalize()].get("Tags", [])
        listed = iam.get_paginator(f"list_{kind}_tags").paginate(**named, PaginationConfig={"PageSize": 1}).search("Tags[]")
        assert shown == list(listed)
        return {tag["Key"]: tag["Value"] for tag in shown}

    assert made["Tags"] == [{"Key": "team", "Value": "vision"}]
    assert tags() == {"team": "vision"}
    call("tag", kind, Tags=[{"Key": "Team", "Value": "speech"}, {"Key": "env", "Value": ""}])
    assert tags() == {"Team": "speech", "env": ""}
    with pytest.raises(iam.exceptions.LimitExceededException):
        call("tag", kind, Tags=[{"Key": str(number), "Value": "x"} for number in range(49)])
    call("untag", kind, TagKeys=["TEAM", "absent"])
    assert tags() == {"env": ""}
    listed = [each for each in iam.list_policies(Scope="Local")["Policies"] if each["Arn"] == made["Arn"]]
    assert all("Tags" not in each and "Description" not in each for each in listed)
    call("delete", kind)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        call("tag", kind, Tags=[{"Key": "a", "Value": "b"}])


@pytest.mark.shows("UpdateRole", "UpdateRoleDescription")
def test_what_is_said_of_a_role_can_be_changed(iam):
    iam.create_role(RoleName="changed", AssumeRolePolicyDocument=json.dumps(TRUST), Description="one", MaxSessionDuration=7200)

    def told():
        role = iam.get_role(RoleName="changed")["Role"]
        return role["Description"], role["MaxSessionDuration"]

    assert iam.update_role_description(RoleName="changed", Description="two")["Role"]["Description"] == "two"
    assert told() == ("two", 7200)
    iam.update_role(RoleName="changed", MaxSessionDuration=3600 * 3)
    assert told() == ("two", 3600 * 3)
    iam.update_role(RoleName="changed", Description="three")
    assert told() == ("three", 3600)
    iam.delete_role(RoleName="changed")


@pytest.mark.shows("ListGroupsForUser", "ListMFADevices", "ListVirtualMFADevices", "ListServiceSpecificCredentials")
@pytest.mark.shows("ListSSHPublicKeys", "ListSigningCertificates", "GetLoginProfile", "DeleteLoginProfile")
@pytest.mark.shows("ListInstanceProfilesForRole")
def test_who_deletes_a_user_or_role_is_told_that_nothing_is_left(iam):
    """The calls of Terraform's provider before DeleteUser (with force_destroy) and DeleteRole."""
    iam.create_user(UserName="leaver")
    for operation, member in (
        ("list_groups_for_user", "Groups"),
        ("list_ssh_public_keys", "SSHPublicKeys"),
        ("list_mfa_devices", "MFADevices"),
        ("list_signing_certificates", "Certificates"),
        ("list_service_specific_credentials", "ServiceSpecificCredentials"),
    ):
        assert getattr(iam, operation)(UserName="leaver")[member] == []
        with pytest.raises(iam.exceptions.NoSuchEntityException):
            getattr(iam, operation)(UserName="nobody")
    assert iam.list_virtual_mfa_devices(AssignmentStatus="Any")["VirtualMFADevices"] == []
    for operation in (iam.get_login_profile, iam.delete_login_profile):
        with pytest.raises(iam.exceptions.NoSuchEntityException, match="Login Profile for User leaver"):
            operation(UserName="leaver")
    iam.delete_user(UserName="leaver")
    iam.create_role(RoleName="leaver", AssumeRolePolicyDocument=json.dumps(TRUST))
    assert iam.list_instance_profiles_for_role(RoleName="leaver")["InstanceProfiles"] == []
    iam.delete_role(RoleName="leaver")


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
