"""STS: who a caller is."""

from __future__ import annotations

from phalanx.wire.service import Caller, Members, Service


def service() -> Service:
    """The STS service."""
    return Service("sts", {"GetCallerIdentity": get_caller_identity})


def get_caller_identity(caller: Caller, request: Members) -> Members:
    """GetCallerIdentity: account, ARN and unique id of whoever signed the request."""
    return {"UserId": caller.user_id, "Account": caller.account, "Arn": caller.arn}
