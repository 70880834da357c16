"""SimulatePrincipalPolicy and SimulateCustomPolicy: what policies would say."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy.orm import Session

from phalanx.identity import names
from phalanx.identity.conditions import Context, Value
from phalanx.identity.directory import Directory, documents
from phalanx.identity.policy import Decision, Malformed, Policies, compiled
from phalanx.services import tokens
from phalanx.services.iam.entities import DEFAULT_MAX_ITEMS, find_role, find_user, no_such, refuse
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

_PRINCIPAL = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):(?:(user|role|group)/(?:[\w+=,.@/-]*/)?([\w+=,.@-]+)|root)", re.ASCII)
_EVERYTHING = ("administrator", '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}')


class _Asked(Context):
    """A context that notes which keys were asked for in vain."""

    def __init__(self, values: dict[str, Value]) -> None:
        super().__init__(values)
        self.missing: list[str] = []

    def get(self, key: str) -> Value | None:
        found = super().get(key)
        if found is None and key not in self.missing:
            self.missing.append(key)
        return found


def simulate_principal_policy(directory: Directory, session: Session, caller: Caller, members: Members) -> Members:
    """Whether a user or role may do something: each action on each resource."""
    arn = members["PolicySourceArn"]
    found = _PRINCIPAL.fullmatch(arn)
    if found is None:
        raise AwsError("InvalidInput", f"Invalid Entity Arn: {arn[:256]} does not clearly define entity type and name.")
    if found[2] != caller.account:
        raise AwsError("NoSuchEntity", f"The entity {arn[:256]} is not of this account.", 404)
    return _simulate(_documents(directory, session, found[3], found[4], arn), members)


def simulate_custom_policy(_: Session, __: Caller, members: Members) -> Members:
    """What the request's own policies say: each action on each resource."""
    return _simulate([], members)


def _documents(directory: Directory, session: Session, kind: str | None, name: str, arn: str) -> Sequence[tuple[str, str]]:
    if kind is None or (kind, name) == ("user", names.ADMINISTRATOR):
        return [_EVERYTHING]
    if kind == "user":
        return documents(session, "user", find_user(session, name).name)
    if kind == "group":
        raise no_such(f"The entity {arn[:256]}")
    try:
        return documents(session, "role", find_role(session, name).name)
    except AwsError:
        if not directory.unmanaged(session, name):
            raise
        # Nothing is denied to a role that is not managed: the platform does for it what the job asks for.
        return [_EVERYTHING]


def _simulate(stored: Sequence[tuple[str, str]], members: Members) -> Members:
    refuse(members, "PermissionsBoundaryPolicyInputList", "OrderedOrganizationPolicyInputList", "ResourcePolicy")
    refuse(members, "PolicyExclusionList")
    given = [(f"PolicyInputList.{number}", text) for number, text in enumerate(members.get("PolicyInputList", []), 1)]
    try:
        for _, text in given:
            compiled(text, "identity")
    except Malformed as error:
        raise AwsError("InvalidInput", f"A policy of PolicyInputList is malformed: {error}") from error
    policies = Policies([*stored, *given])
    values = {
        entry["ContextKeyName"].lower(): Value(tuple(entry.get("ContextKeyValues", [])))
        for entry in members.get("ContextEntries", [])
        if "ContextKeyName" in entry
    }
    asked = [(action, resource) for action in members["ActionNames"] for resource in members.get("ResourceArns") or ["*"]]
    first = _position(members["Marker"]) if "Marker" in members else 0
    last = first + members.get("MaxItems", DEFAULT_MAX_ITEMS)
    results = [_result(policies, action, resource, values) for action, resource in asked[first:last]]
    more = last < len(asked)
    return {"EvaluationResults": results, "IsTruncated": more, "Marker": tokens.encode([last]) if more else None}


def _result(policies: Policies, action: str, resource: str, values: dict[str, Value]) -> Members:
    context = _Asked(values)
    decision, sources = policies.decide(action, resource, context)
    return {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": decision.value,
        "MatchedStatements": [
            {"SourcePolicyId": source, "SourcePolicyType": "IAM Policy"}
            for source in dict.fromkeys(sources)
            if decision is not Decision.ALLOWED or source != _EVERYTHING[0]
        ],
        "MissingContextValues": context.missing,
    }


def _position(marker: str) -> int:
    try:
        return max(0, int(tokens.decode(marker, int)[0]))
    except ValueError as error:
        raise AwsError("InvalidInput", "Invalid Marker: give that of the previous response.") from error
