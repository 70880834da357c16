"""What things and callers are called: ARNs and user contexts."""

from __future__ import annotations

from phalanx.store.base import Json
from phalanx.wire.service import Caller


def arn(caller: Caller, resource: str) -> str:
    """The ARN of a resource such as `training-job/NAME` in the caller's region."""
    return f"arn:{caller.arn.split(':')[1]}:sagemaker:{caller.region}:{caller.account}:{resource}"


def user_context(caller: Caller) -> Json:
    """CreatedBy and LastModifiedBy."""
    return {"IamIdentity": {"Arn": caller.arn, "PrincipalId": caller.user_id}}
