"""What users, roles, policies and credentials are called."""

from __future__ import annotations

import secrets
import string

from phalanx.store.identity import Role, User

PARTITION = "aws"
ADMINISTRATOR = "admin"
"""The user whom no policy binds, as none binds the root of an AWS account."""
PLATFORM = ":platform"
"""Whose access key the platform's own is. No user can be called so, and IAM neither shows nor changes it."""
SESSION = "SageMaker"
"""The name of SageMaker's sessions, in AWS's audit trails too."""

_UNIQUE = string.ascii_uppercase + string.digits
_KEY = string.ascii_uppercase + "234567"


def unique_id(prefix: str) -> str:
    """A unique id (AIDA… of a user, AROA… of a role, ANPA… of a managed policy)."""
    return prefix + "".join(secrets.choice(_UNIQUE) for _ in range(17))


def access_key_id(prefix: str) -> str:
    """An access key's id: AKIA… of a user, ASIA… of a session."""
    return prefix + "".join(secrets.choice(_KEY) for _ in range(16))


def secret_key() -> str:
    """An access key's secret: 40 characters, as AWS's have."""
    return secrets.token_urlsafe(30)


def user_arn(account: str, user: User) -> str:
    """ARN of a user."""
    return f"arn:{PARTITION}:iam::{account}:user{user.path}{user.name}"


def role_arn(account: str, role: Role) -> str:
    """ARN of a role."""
    return f"arn:{PARTITION}:iam::{account}:role{role.path}{role.name}"
