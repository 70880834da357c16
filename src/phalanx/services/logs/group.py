"""The one log group, and what a request says about it."""

from __future__ import annotations

from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

GROUP = "/aws/sagemaker/TrainingJobs"
"""Where SageMaker keeps the logs of training jobs. It always exists here, also before the first job."""


def invalid(message: str) -> AwsError:
    """InvalidParameterException."""
    return AwsError("InvalidParameterException", message)


def not_found(what: str) -> AwsError:
    """ResourceNotFoundException for a `log group`, a `log stream` or any `resource`."""
    return AwsError("ResourceNotFoundException", f"The specified {what} does not exist.")


def arn(caller: Caller) -> str:
    """ARN of the group, without the `:*` that some members carry."""
    return caller.arn_of("logs", f"log-group:{GROUP}")


def check(caller: Caller, members: Members) -> None:
    """Raise unless logGroupName or logGroupIdentifier (a name or an ARN), but not both, names the group."""
    given = [members[name] for name in ("logGroupName", "logGroupIdentifier") if name in members]
    if len(given) != 1:
        raise invalid("You must include either logGroupName or logGroupIdentifier, but not both.")
    if given[0].removesuffix(":*") not in (GROUP, arn(caller)):
        raise not_found("log group")
