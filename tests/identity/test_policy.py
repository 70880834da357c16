"""What policies say: documents that are none, and requests against statements."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.identity import managed
from phalanx.identity.conditions import Context, Value
from phalanx.identity.policy import Decision, Malformed, Policies, compiled

STATEMENT = {"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}


def document(*statements, **changes):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **changes})


def without(name):
    return {key: value for key, value in STATEMENT.items() if key != name}


MALFORMED = {
    "": "Syntax errors",
    "[]": "Syntax errors",
    "null": "Syntax errors",
    "{": "Syntax errors",
    '{"Version":"2012-10-17"}': "Syntax errors",
    '{"Version":"2012-10-17","Statement":[]}': "Syntax errors",
    '{"Version":"2012-10-17","Statement":[1]}': "Syntax errors",
    '{"Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}': "Syntax errors",
    document(STATEMENT, Version="2020-01-01"): "Version must be",
    document(STATEMENT, Author="me"): "Syntax errors",
    document({**STATEMENT, "Sid": "a"}, {**STATEMENT, "Sid": "a"}): "must be unique",
    document({**STATEMENT, "Sid": "a b"}): "alpha-numeric",
    document(without("Effect")): "Syntax errors",
    document({**STATEMENT, "Effect": "allow"}): "Invalid effect",
    document(without("Action")): "must contain actions",
    document({**STATEMENT, "Action": []}): "must contain actions",
    document({**STATEMENT, "NotAction": "ec2:*"}): "Syntax errors",
    document({**STATEMENT, "Action": "CreateTrainingJob"}): "prefaced by a vendor",
    document({**STATEMENT, "Action": "sagemaker:Create Training"}): "is invalid",
    document({**STATEMENT, "Action": 7}): "Syntax errors",
    document(without("Resource")): "must contain resources",
    document({**STATEMENT, "Resource": "training-job/a"}): "must be in ARN format",
    document({**STATEMENT, "Resource": "arn:aws:s3"}): "must be in ARN format",
    document({**STATEMENT, "Principal": "*"}): "should not specify a principal",
    document({**STATEMENT, "Reason": "none"}): "Syntax errors",
    document({**STATEMENT, "Condition": []}): "Syntax errors",
    document({**STATEMENT, "Resource": "arn:aws:s3:::\ud800"}): "Syntax errors",
    document({**STATEMENT, "Condition": {"StringEquals": "a"}}): "Syntax errors",
    document({**STATEMENT, "Condition": {"Equals": {"aws:SourceIp": "a"}}}): "Invalid Condition type",
    document({**STATEMENT, "Condition": {"ForSomeValues:StringEquals": {"aws:SourceIp": "a"}}}): "Invalid Condition type",
    document({**STATEMENT, "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}}): "not an address",
    document({**STATEMENT, "Condition": {"Bool": {"sagemaker:NetworkIsolation": "yes"}}}): "true or false",
    document({**STATEMENT, "Condition": {"Null": {"sagemaker:VpcSubnets": "no"}}}): "true or false",
    document({**STATEMENT, "Condition": {"NumericLessThan": {"sagemaker:MaxRuntimeInSeconds": "an hour"}}}): "not a number",
    document({**STATEMENT, "Condition": {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}}): "ISO 8601",
    document({**STATEMENT, "Condition": {"ArnLike": {"aws:PrincipalArn": "admin"}}}): "not an ARN",
    document({**STATEMENT, "Condition": {"StringEquals": {"SourceIp": "a"}}}): "prefaced by a vendor",
    document({**STATEMENT, "Condition": {"StringEquals": {"aws:SourceIp": {"a": 1}}}}): "Syntax errors",
    # A key that no request here has would make a denial that never comes about.
    document(
        {**STATEMENT, "Effect": "Deny", "Condition": {"Bool": {"sagemaker:InterContainerEncryption": "false"}}}
    ): "never have",
    document({**STATEMENT, "Condition": {"IpAddress": {"aws:SourceIp": "${aws:username}"}}}): "variable cannot be used",
    document({**STATEMENT, "Resource": "*" + " " * 21_000}): "at most",
}


@pytest.mark.parametrize(("text", "words"), MALFORMED.items())
def test_documents_that_are_no_policies(text, words):
    with pytest.raises(Malformed, match=words):
        compiled(text, "identity")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Missing required field Principal"),
        ({"Principal": {"AWS": "somebody"}}, "Invalid principal"),
        ({"Principal": {"Group": "a"}}, "Invalid principal"),
        ({"NotPrincipal": {"AWS": "*"}}, "not supported"),
        ({"Principal": "*", "Resource": "*"}, "prohibited field Resource"),
    ],
)
def test_trust_policies_that_are_none(changes, words):
    with pytest.raises(Malformed, match=words):
        compiled(document({"Effect": "Allow", "Action": "sts:AssumeRole", **changes}), "trust")


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["Version", "Statement", "Effect", "Action", "Resource", "Condition", "Sid", "StringEquals", "aws:a"]
                ),
                inner,
            )
        ),
    )
)
def test_whatever_is_no_policy_is_said_to_be_none(value):
    with contextlib.suppress(Malformed):
        compiled(json.dumps(value), "identity")


def test_the_policies_that_aws_manages_are_policies():
    for text in managed.POLICIES.values():
        compiled(text, "identity")


# ------------------------------------------------------------------------------------------------------------ decisions

TRAINING = "arn:aws:sagemaker:us-west-2:123456789012:training-job/secret-1"


def decide(*statements, action="sagemaker:CreateTrainingJob", resource=TRAINING, **keys):
    context = Context({key.lower().replace("__", ":"): Value(tuple(value)) for key, value in keys.items()})
    return Policies([("p", document(*statements))]).decide(action, resource, context)[0]


def test_an_explicit_denial_wins_and_nothing_is_a_denial():
    denial = {**STATEMENT, "Effect": "Deny", "Action": "sagemaker:create*"}
    assert decide(STATEMENT) is Decision.ALLOWED
    assert decide(STATEMENT, denial) is decide(denial, STATEMENT) is Decision.EXPLICIT_DENY
    assert decide(STATEMENT, denial, action="sagemaker:StopTrainingJob") is Decision.ALLOWED
    assert decide({**STATEMENT, "Action": "ec2:*"}) is Decision.IMPLICIT_DENY


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*", True),
        (TRAINING, True),
        ("arn:aws:sagemaker:*:*:training-job/secret-*", True),
        ("arn:aws:sagemaker:us-west-?:*:training-job/secret-?", True),
        ("arn:aws:sagemaker:*:123456789012:*", True),
        ("arn:aws:sagemaker:*:*:training-job/Secret-1", False),
        ("arn:aws:sagemaker:*:training-job/secret-1:x", False),
        ("arn:aws:s3:*:*:*", False),
        ("arn:aws:sagemaker:*:*:training-job/${aws:username}-*", True),
        ("arn:aws:sagemaker:*:*:training-job/${aws:userid}-*", False),
        ("arn:aws:sagemaker:*:*:training-job/${aws:userid, 'secret'}-*", True),
        ("arn:aws:sagemaker:*:*:training-job/secret${*}", False),
    ],
)
def test_resources(pattern, matches):
    wanted = Decision.ALLOWED if matches else Decision.IMPLICIT_DENY
    assert decide({**STATEMENT, "Resource": ["arn:aws:x:::y", pattern]}, aws__username=["secret"]) is wanted
    negated = {"Effect": "Allow", "Action": "*", "NotResource": pattern}
    assert (decide(negated, aws__username=["secret"]) is Decision.ALLOWED) is not matches


def test_a_variable_is_no_pattern():
    """Who calls themselves `*` does not get everybody's jobs."""
    own = {**STATEMENT, "Resource": "arn:aws:sagemaker:*:*:training-job/${aws:username}-*"}
    assert decide(own, aws__username=["*"]) is Decision.IMPLICIT_DENY


CONDITIONS = [
    # operator, policy's values, request's values (None: none), holds to allow, holds to deny
    ("StringEquals", "a", ["a"], True, True),
    ("StringEquals", ["a", "b"], ["b"], True, True),
    ("StringEquals", "a", ["A"], False, False),
    ("StringEquals", "a", None, False, False),
    ("StringEqualsIfExists", "a", None, True, True),
    ("StringEquals", "a", ["a", "b"], False, True),  # the stricter reading, both times
    ("StringNotEquals", "a", ["b"], True, True),
    ("StringNotEquals", "a", None, True, True),
    ("StringNotEquals", "a", ["a", "b"], False, True),
    ("StringEqualsIgnoreCase", "a", ["A"], True, True),
    ("StringLike", "a*?", ["abc"], True, True),
    ("StringLike", "a*?", ["a"], False, False),
    ("StringNotLike", "a*", ["abc"], False, False),
    ("ForAllValues:StringEquals", ["a", "b"], ["a", "b"], True, True),
    ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False, False),
    ("ForAllValues:StringEquals", "a", None, True, True),
    ("ForAllValues:StringNotEquals", "a", ["b", "a"], False, False),
    ("ForAnyValue:StringEquals", "a", ["c", "a"], True, True),
    ("ForAnyValue:StringEquals", "a", ["c"], False, False),
    ("ForAnyValue:StringEquals", "a", None, False, False),
    ("ForAnyValue:StringNotEquals", "a", ["a", "b"], True, True),
    ("ForAnyValue:StringNotEquals", "a", None, False, False),
    ("ForAnyValue:StringLike", "ml.p*", ["ml.m5.large", "ml.p4d.24xlarge"], True, True),
    ("Bool", True, ["true"], True, True),
    ("Bool", "false", ["true"], False, False),
    ("Bool", "false", None, False, False),
    ("BoolIfExists", "false", None, True, True),
    ("Null", "true", None, True, True),
    ("Null", "true", ["a"], False, False),
    ("Null", "false", ["a"], True, True),
    ("NumericLessThanEquals", "3600", ["3600"], True, True),
    ("NumericLessThan", 3600, ["3600"], False, False),
    ("NumericGreaterThan", "3600", ["86400"], True, True),
    ("NumericEquals", "1", ["one"], False, False),
    ("NumericNotEquals", "1", ["2"], True, True),
    ("DateLessThan", "2026-01-01T00:00:00Z", ["2025-12-31T23:59:59Z"], True, True),
    ("DateGreaterThan", "2026-01-01T00:00:00Z", ["1"], False, False),
    ("IpAddress", "10.0.0.0/8", ["10.1.2.3"], True, True),
    ("IpAddress", "10.0.0.0/8", ["::ffff:10.1.2.3"], True, True),
    ("IpAddress", "10.0.0.0/8", ["11.1.2.3"], False, False),
    ("IpAddress", "2001:db8::/32", ["2001:db8::1"], True, True),
    ("IpAddress", "10.0.0.0/8", ["nowhere"], False, False),
    ("NotIpAddress", ["10.0.0.0/8", "192.0.2.0/24"], ["192.0.2.9"], False, False),
    ("NotIpAddress", "10.0.0.0/8", ["192.0.2.9"], True, True),
    ("ArnLike", "arn:aws:iam::*:user/*", ["arn:aws:iam::123456789012:user/ann"], True, True),
    ("ArnEquals", "arn:aws:iam::*:role/*", ["arn:aws:iam::123456789012:user/ann"], False, False),
    ("ArnNotLike", "arn:aws:iam::*:user/a*", ["arn:aws:iam::123456789012:user/ann"], False, False),
    ("StringEquals", "${aws:username}", ["ann"], True, True),
    ("StringLike", "${aws:username}-*", ["ann-1"], True, True),
    ("StringEquals", "${aws:userid}", ["ann"], False, False),
]


@pytest.mark.parametrize(("operator", "wanted", "given", "allows", "denies"), CONDITIONS)
def test_conditions(operator, wanted, given, allows, denies):
    keys = {"aws__username": ["ann"], **({} if given is None else {"other__key": given})}
    conditional = {**STATEMENT, "Condition": {operator: {"Other:Key": wanted}}}
    assert (decide(conditional, **keys) is Decision.ALLOWED) is allows
    denied = decide(STATEMENT, {**conditional, "Effect": "Deny"}, **keys) is Decision.EXPLICIT_DENY
    assert denied is denies


def test_a_default_is_compared_and_is_null():
    context = Context({"k:flag": Value(("false",), given=False)})
    for condition in ({"Bool": {"k:flag": "false"}}, {"Null": {"k:flag": "true"}}, {"BoolIfExists": {"k:flag": "false"}}):
        policies = Policies([("p", document({**STATEMENT, "Effect": "Deny", "Condition": condition}))])
        assert policies.decide("sagemaker:CreateTrainingJob", TRAINING, context)[0] is Decision.EXPLICIT_DENY
    policies = Policies([("p", document({**STATEMENT, "Condition": {"BoolIfExists": {"k:flag": "true"}}}))])
    assert policies.decide("sagemaker:CreateTrainingJob", TRAINING, context)[0] is Decision.IMPLICIT_DENY
