"""What callers are called."""

from __future__ import annotations

from phalanx.store.base import Json
from phalanx.wire.service import Caller


def user_context(caller: Caller) -> Json:
    """CreatedBy and LastModifiedBy."""
    return {"IamIdentity": {"Arn": caller.arn, "PrincipalId": caller.user_id}}
