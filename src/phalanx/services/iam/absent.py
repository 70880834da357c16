"""What users and roles have in AWS and not here: who deletes one asks for it before, and is told that there is none."""

from __future__ import annotations

from functools import partial

from sqlalchemy.orm import Session

from phalanx.services.iam.entities import Operation, find_role, no_such, user_of
from phalanx.wire.service import Caller, Members

_OF_USERS = {
    "ListGroupsForUser": "Groups",
    "ListMFADevices": "MFADevices",
    "ListServiceSpecificCredentials": "ServiceSpecificCredentials",
    "ListSSHPublicKeys": "SSHPublicKeys",
    "ListSigningCertificates": "Certificates",
}
"""By operation, the member that lists what a user has none of."""


def operations() -> dict[str, Operation]:
    """The operations by name; all of them only read."""
    return {
        **{name: partial(_none_of_user, member) for name, member in _OF_USERS.items()},
        "ListInstanceProfilesForRole": _no_instance_profiles,
        "ListVirtualMFADevices": lambda _session, _caller, _members: {"VirtualMFADevices": [], "IsTruncated": False},
        "GetLoginProfile": _no_login_profile,
        "DeleteLoginProfile": _no_login_profile,
    }


def _none_of_user(member: str, session: Session, caller: Caller, members: Members) -> Members:
    user_of(session, caller, members)
    # Credentials of single services are not paged in AWS.
    return {member: [], **({} if member == "ServiceSpecificCredentials" else {"IsTruncated": False})}


def _no_instance_profiles(session: Session, _: Caller, members: Members) -> Members:
    find_role(session, members["RoleName"])
    return {"InstanceProfiles": [], "IsTruncated": False}


def _no_login_profile(session: Session, caller: Caller, members: Members) -> Members:
    raise no_such(f"Login Profile for User {user_of(session, caller, members).name}")
