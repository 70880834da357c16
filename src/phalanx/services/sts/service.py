"""STS: who a caller is, and temporary credentials."""

from __future__ import annotations

from functools import partial

from sqlalchemy.orm import Session as Transaction

from phalanx.identity import names
from phalanx.identity.directory import Directory, document
from phalanx.identity.policy import Malformed, compiled
from phalanx.identity.sessions import Credentials, begin
from phalanx.store.base import Json
from phalanx.store.identity import role_named
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members, Service

ROLE_SECONDS, USER_SECONDS = 3600, 43_200
"""How long sessions of roles and of users last unless a request says otherwise."""
CHAINED_SECONDS = 3600
"""The longest session of a role that was assumed by a session of another."""
POLICY_CHARACTERS = 2048
_UNSUPPORTED = ("Tags", "TransitiveTagKeys", "SourceIdentity", "ProvidedContexts", "SerialNumber", "TokenCode")


def service(directory: Directory) -> Service:
    """The STS service over a directory of identities."""
    return Service(
        "sts",
        {
            "GetCallerIdentity": get_caller_identity,
            "AssumeRole": partial(assume_role, directory),
            "GetSessionToken": partial(get_session_token, directory),
        },
    )


def get_caller_identity(caller: Caller, request: Members) -> Members:
    """GetCallerIdentity: account, ARN and unique id of whoever signed the request."""
    return {"UserId": caller.user_id, "Account": caller.account, "Arn": caller.arn}


def assume_role(directory: Directory, caller: Caller, request: Members) -> Members:
    """Temporary credentials of a role. Whether the caller may have them was asked before (identity.authority)."""
    _refuse_unsupported(request)
    name, seconds = request["RoleSessionName"], request.get("DurationSeconds", ROLE_SECONDS)
    if ":assumed-role/" in caller.arn and seconds > CHAINED_SECONDS:
        raise _invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
    with directory.database.write() as transaction:
        role = role_named(transaction, request["RoleArn"].rpartition("/")[2])
        if role is None:
            raise AwsError("AccessDenied", f"Role {request['RoleArn']} does not exist.", 403)
        if seconds > role.longest:
            raise _invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
        bounds = _session_policies(transaction, request)
        credentials = begin(transaction, directory.seal, "role", role.name, role.id, name, seconds, bounds)
        user = {
            "AssumedRoleId": f"{role.id}:{name}",
            "Arn": f"arn:{names.PARTITION}:sts::{caller.account}:assumed-role/{role.name}/{name}",
        }
    return {"Credentials": _shown(credentials), "AssumedRoleUser": user}


def get_session_token(directory: Directory, caller: Caller, request: Members) -> Members:
    """Temporary credentials of the user who asks. They may do what the user may, but for IAM and most of STS."""
    _refuse_unsupported(request)
    who = directory.find(caller.access_key)
    if who is None or who.session:
        raise AwsError("AccessDenied", "Cannot call GetSessionToken with session credentials", 403)
    seconds = request.get("DurationSeconds", USER_SECONDS)
    with directory.database.write() as transaction:
        return {"Credentials": _shown(begin(transaction, directory.seal, "user", who.name, who.owner_id, "", seconds))}


def _shown(credentials: Credentials) -> Members:
    return {
        "AccessKeyId": credentials.id,
        "SecretAccessKey": credentials.secret,
        "SessionToken": credentials.token,
        "Expiration": credentials.expires,
    }


def _session_policies(transaction: Transaction, request: Members) -> Json | None:
    """The policies that bound a session: the request's own, and managed ones that it names."""
    found = [request["Policy"]] if "Policy" in request else []
    for each in request.get("PolicyArns", []):
        text = document(transaction, each.get("arn", ""))
        if text is None:
            raise _invalid(f"Policy {each.get('arn', '')[:256]} does not exist.")
        found.append(text)
    if "Policy" in request and len(request["Policy"]) > POLICY_CHARACTERS:
        raise AwsError("PackedPolicyTooLarge", f"A session policy has at most {POLICY_CHARACTERS} characters.")
    try:
        for text in found:
            compiled(text, "identity")
    except Malformed as error:
        raise AwsError("MalformedPolicyDocument", str(error)) from error
    return {"documents": found} if found else None


def _refuse_unsupported(request: Members) -> None:
    for name in _UNSUPPORTED:
        if request.get(name):
            raise _invalid(f"{name} is not supported. Leave it out.")


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message)
