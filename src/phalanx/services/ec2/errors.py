"""EC2's error codes and messages, where more than one operation gives them.

Codes: "Error codes for the Amazon EC2 API"; messages as the service words them.
"""

from __future__ import annotations

from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members


def invalid_parameter(message: str) -> AwsError:
    """InvalidParameterValue."""
    return AwsError("InvalidParameterValue", message)


def invalid_combination(message: str) -> AwsError:
    """InvalidParameterCombination."""
    return AwsError("InvalidParameterCombination", message)


def missing_parameter(name: str) -> AwsError:
    """MissingParameter for a parameter that the service model does not require but this request does."""
    return AwsError("MissingParameter", f"The request must contain the parameter {name}")


def unsupported(message: str) -> AwsError:
    """UnsupportedOperation: EC2 has the feature, Phalanx has not."""
    return AwsError("UnsupportedOperation", message)


def refuse(request: Members, *members: str) -> None:
    """Raise UnsupportedOperation for the first of these members that a request has: EC2 has them, Phalanx has not."""
    for member in members:
        if request.get(member):
            raise unsupported(f"The parameter {member} is not supported")


def dependency_violation(message: str) -> AwsError:
    """DependencyViolation."""
    return AwsError("DependencyViolation", message)


def group_not_found(group_id: str) -> AwsError:
    """InvalidGroup.NotFound for an id."""
    return AwsError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")


def different_networks() -> AwsError:
    """InvalidGroup.NotFound for a group of another VPC."""
    return AwsError("InvalidGroup.NotFound", "You have specified two resources that belong to different networks.")


def different(one: str, other: str) -> AwsError:
    """InvalidParameterValue for two resources of different VPCs."""
    return invalid_parameter(f"{one} and {other} belong to different networks")
