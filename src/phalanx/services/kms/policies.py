"""The policy of a key: it lets the account's policies decide who may use the key, and nothing else is served."""

from __future__ import annotations

import json

from phalanx.jobs.keyring import KeyFault
from phalanx.services.kms.errors import answered
from phalanx.services.kms.naming import changeable, named
from phalanx.store.database import Database
from phalanx.wire import unambiguous
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

NAME = "default"
"""What the one policy of a key is called."""


def checked(text: str, caller: Caller) -> str:
    """A document that says what every key's policy does here. Raises AwsError MalformedPolicyDocumentException, and
    UnsupportedOperationException for any other: nobody would be bound by it, or let in."""
    try:
        document = unambiguous.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "Statement" not in document or set(document) - {"Version", "Id", "Statement"}:
        raise AwsError("MalformedPolicyDocumentException", "The new key policy is not a valid policy document.")
    given = document["Statement"]
    (statement,) = given if isinstance(given, list) and len(given) == 1 else [given]
    root = f"arn:aws:iam::{caller.account}:root"
    said = {key: _only(value) for key, value in statement.items() if key != "Sid"} if isinstance(statement, dict) else {}
    served = said.pop("Principal", None) in ({"AWS": root}, {"AWS": caller.account})
    served = served and said == {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    if not served:
        raise AwsError(
            "UnsupportedOperationException",
            f"Policy is not served here but with one statement, which allows kms:* on * to {root}: who may use a key is for"
            " the policies of users and roles to say. Leave it out.",
        )
    return text


@answered
def get(database: Database, caller: Caller, members: Members) -> Members:
    """The policy of a key: as it was given, or else KMS's own."""
    _check_name(members)
    with database.read() as session:
        text = named(session, members["KeyId"]).policy
    return {"Policy": text or _default(caller), "PolicyName": NAME}


@answered
def put(database: Database, caller: Caller, members: Members) -> Members:
    """Give a key a policy that says the same in other words."""
    _check_name(members)
    text = checked(members["Policy"], caller)
    with database.write() as session:
        changeable(session, members["KeyId"]).policy = text
    return {}


def _check_name(members: Members) -> None:
    if members.get("PolicyName", NAME) != NAME:
        raise KeyFault("NotFoundException", "No such policy exists")


def _only(value: object) -> object:
    """What a list of one has in it, also below Principal: policies may be written either way."""
    if isinstance(value, dict):
        return {key: _only(each) for key, each in value.items()}
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _default(caller: Caller) -> str:
    """As KMS words it ("Default key policy" in its developer guide)."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{caller.account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]}, indent=2)
