"""The errors of SageMaker, in its own words as far as they are on record."""

from __future__ import annotations

from phalanx.wire.errors import AwsError


def validation(message: str) -> AwsError:
    """ValidationException: not in the service model, but what SageMaker answers to almost every bad request."""
    return AwsError("ValidationException", message)


def missing(path: str) -> AwsError:
    """A member that SageMaker requires although the model does not say so. `path` in the service's lower camel case."""
    return constraint("null", path, "Member must not be null")


def constraint(value: str, path: str, rule: str) -> AwsError:
    """A member that breaks a rule of the API reference."""
    return validation(f"1 validation error detected: Value {value} at '{path}' failed to satisfy constraint: {rule}")


def not_found() -> AwsError:
    """What SageMaker says of an unknown training job, instead of the modelled ResourceNotFound (aws/aws-sdk#165)."""
    return validation("Requested resource not found.")


def no_such(kind: str, name: str) -> AwsError:
    """ResourceNotFound: there is no Experiment, Trial … of that name."""
    return AwsError("ResourceNotFound", f"{kind} '{name}' does not exist.")


def taken(kind: str, name: str) -> AwsError:
    """A name that is not free. SDK v2 looks for `already exists` in a ValidationException in order to load what is there."""
    return validation(
        f"{kind} names must be unique within an AWS account and region. {kind} with name ({name}) already exists."
    )


def over_limit(quota: str, limit: int) -> AwsError:
    """ResourceLimitExceeded: one more would be too many."""
    return AwsError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{quota}' is {limit}, with current utilization of {limit} and a request delta of 1.",
    )
