"""Roles and what they may do. They are not managed yet: every well-formed role of the account exists, SageMaker may assume it,
and nothing is denied to it."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from urllib.parse import quote

from phalanx.services import tokens
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

SUGGESTED = "SageMakerTraining"
"""The one role that ListRoles shows, for those who have to choose one."""
DEFAULT_MAX_ITEMS = 100

_PRINCIPAL = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):(?:(?:user|role|group)/[\w+=,.@/-]+|root)", re.ASCII)
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
_CREATED = datetime(2026, 1, 1, tzinfo=UTC)
"""Any time would do; a client may want the same one twice."""


def get_role(caller: Caller, members: Members) -> Members:
    """A role by its name."""
    return {"Role": _role(caller, members["RoleName"])}


def list_roles(caller: Caller, members: Members) -> Members:
    """The suggested role, if it is under the path prefix."""
    shown = "/".startswith(members.get("PathPrefix", "/")) and "Marker" not in members
    return {"Roles": [_role(caller, SUGGESTED)] if shown else [], "IsTruncated": False}


def simulate_principal_policy(caller: Caller, members: Members) -> Members:
    """Whether a principal may do something: for each action and resource, the same answer."""
    arn = members["PolicySourceArn"]
    found = _PRINCIPAL.fullmatch(arn)
    if found is None:
        raise AwsError("InvalidInput", f"Invalid Entity Arn: {arn[:256]} does not clearly define entity type and name.")
    if found[2] != caller.account:
        raise AwsError("NoSuchEntity", f"The entity {arn[:256]} is not of this account.", 404)
    asked = [(action, resource) for action in members["ActionNames"] for resource in members.get("ResourceArns") or ["*"]]
    first = _position(members["Marker"]) if "Marker" in members else 0
    last = first + members.get("MaxItems", DEFAULT_MAX_ITEMS)
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": "allowed",
            "MatchedStatements": [],
            "MissingContextValues": [],
        }
        for action, resource in asked[first:last]
    ]
    more = last < len(asked)
    return {"EvaluationResults": results, "IsTruncated": more, **({"Marker": tokens.encode([last])} if more else {})}


def _position(marker: str) -> int:
    try:
        return max(0, int(tokens.decode(marker, int)[0]))
    except ValueError as error:
        raise AwsError("InvalidInput", "Invalid Marker: give that of the previous response.") from error


def _role(caller: Caller, name: str) -> Members:
    arn = f"arn:{caller.arn.split(':')[1]}:iam::{caller.account}:role/{name}"
    return {
        "Path": "/",
        "RoleName": name,
        "RoleId": "AROA" + hashlib.sha256(arn.encode()).hexdigest()[:17].upper(),
        "Arn": arn,
        "CreateDate": _CREATED,
        # As IAM has it: percent-encoded (RFC 3986); clients decode it.
        "AssumeRolePolicyDocument": quote(json.dumps(_TRUST), safe=""),
        "MaxSessionDuration": 3600,
    }
