"""Idempotent requests: one that is repeated with its client token is answered as before, and does nothing again.

"Ensuring idempotency in Amazon EC2 API requests": the same token with other parameters is IdempotentParameterMismatch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from phalanx.services.ec2.errors import invalid_parameter
from phalanx.store.base import now_ms
from phalanx.store.network import ClientToken
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

REMEMBERED = 24 * 3_600_000
"""Milliseconds for which a token is known."""
MAX_LENGTH = 64
"""Characters of a token."""

Operation = Callable[[Session, Caller, Members], Members]

_TIME = "datetime"


def idempotent(name: str, operation: Operation, *, echo: bool = True) -> Operation:
    """`operation`, which is called `name`, made idempotent. `echo`: its response repeats the token.

    Adds AwsError IdempotentParameterMismatch and InvalidParameterValue (a token that is too long) to what it raises.
    """

    def once(session: Session, caller: Caller, request: Members) -> Members:
        token = request.get("ClientToken")
        if not token:
            return operation(session, caller, request)
        if len(token) > MAX_LENGTH:
            raise invalid_parameter(f"The client token must not be longer than {MAX_LENGTH} characters")
        session.execute(delete(ClientToken).where(ClientToken.created < now_ms() - REMEMBERED))
        fingerprint = _fingerprint(caller, request)
        made = session.get(ClientToken, (name, token))
        if made is None:
            response = operation(session, caller, request) | ({"ClientToken": token} if echo else {})
            text = json.dumps(response, default=_encode)
            session.add(ClientToken(operation=name, token=token, fingerprint=fingerprint, response=text))
            return response
        if made.fingerprint != fingerprint:
            text = f"Arguments on this idempotent request are inconsistent with arguments used in previous request(s): {token}"
            raise AwsError("IdempotentParameterMismatch", text)
        answered: Members = json.loads(made.response, object_hook=_decode)
        return answered

    return once


def _fingerprint(caller: Caller, request: Members) -> str:
    asked = {member: value for member, value in request.items() if member not in ("ClientToken", "DryRun")}
    return hashlib.sha256(json.dumps([caller.region, asked], sort_keys=True).encode()).hexdigest()


def _encode(value: Any) -> Members:
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    raise TypeError(f"{type(value)} is in no response")


def _decode(members: Members) -> Any:
    return datetime.fromisoformat(members[_TIME]) if members.keys() == {_TIME} else members
