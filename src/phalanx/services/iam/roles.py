"""Roles. Until the first one is created, every well-formed role of the account exists: SageMaker may assume it, nobody else."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.identity import names, unmanaged
from phalanx.identity.directory import Directory
from phalanx.services.iam.entities import (
    checked,
    find_role,
    no_such,
    page,
    quoted,
    refuse,
    tag_list,
    tags_of,
)
from phalanx.services.iam.identity_policies import nothing_left
from phalanx.services.times import whole_second
from phalanx.store.identity import Role, role_named
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

TRUST_CHARACTERS = 2048
LONGEST_SESSION = 3600
"""Seconds of a role's longest session where nothing else was said."""
_CREATED = datetime(2026, 1, 1, tzinfo=UTC)
"""Of roles that nobody created; any time would do, a client may want the same one twice."""


def create_role(session: Session, caller: Caller, members: Members) -> Members:
    """A new role, which those may assume whom its trust policy names, and which may do nothing yet."""
    refuse(members, "PermissionsBoundary")
    name = members["RoleName"]
    trust = checked(members["AssumeRolePolicyDocument"], "trust", TRUST_CHARACTERS, f"role {name}")
    if role_named(session, name) is not None:
        raise AwsError("EntityAlreadyExists", f"Role with name {name} already exists.", 409)
    role = Role(
        name=name,
        id=names.unique_id("AROA"),
        path=members.get("Path", "/"),
        trust=trust,
        description=members.get("Description"),
        longest=members.get("MaxSessionDuration", LONGEST_SESSION),
        tags=tags_of(members),
    )
    session.add(role)
    session.flush()
    return {"Role": _shown(caller, role)}


def get_role(directory: Directory, session: Session, caller: Caller, members: Members) -> Members:
    """A role by its name."""
    name = members["RoleName"]
    try:
        return {"Role": _shown(caller, find_role(session, name))}
    except AwsError:
        if directory.unmanaged(session, name):
            return {"Role": _unmanaged(caller, name)}
        raise no_such(f"The role with name {name}") from None


def list_roles(directory: Directory, session: Session, caller: Caller, members: Members) -> Members:
    """The roles under a path; the suggested one is among them, where it need not be created."""
    prefix = members.get("PathPrefix", "/")
    found = {role.name: _shown(caller, role) for role in session.scalars(select(Role))}
    if unmanaged.SUGGESTED not in found and directory.unmanaged(session, unmanaged.SUGGESTED):
        found[unmanaged.SUGGESTED] = _unmanaged(caller, unmanaged.SUGGESTED)
    shown = [
        (name, {key: value for key, value in role.items() if key != "Tags"})
        for name, role in found.items()
        if role["Path"].startswith(prefix)
    ]
    return page("Roles", shown, members)


def delete_role(session: Session, _: Caller, members: Members) -> Members:
    """Delete a role that has no policies. Its sessions end with it."""
    role = find_role(session, members["RoleName"])
    nothing_left(session, "role", role.name)
    session.delete(role)
    return {}


def update_assume_role_policy(session: Session, _: Caller, members: Members) -> Members:
    """Change who may assume a role."""
    role = find_role(session, members["RoleName"])
    role.trust = checked(members["PolicyDocument"], "trust", TRUST_CHARACTERS, f"role {role.name}")
    return {}


def update_role(session: Session, _: Caller, members: Members) -> Members:
    """Change a role's description, where the request has one, and how long its sessions may be: an hour where it does not say.

    "If you do not specify a value for this setting, the default value of one hour is applied" (UpdateRole).
    """
    role = find_role(session, members["RoleName"])
    role.description = members.get("Description", role.description)
    role.longest = members.get("MaxSessionDuration", LONGEST_SESSION)
    return {}


def update_role_description(session: Session, caller: Caller, members: Members) -> Members:
    """Change a role's description."""
    role = find_role(session, members["RoleName"])
    role.description = members["Description"]
    return {"Role": _shown(caller, role)}


def _shown(caller: Caller, role: Role) -> Members:
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": names.role_arn(caller.account, role),
        "CreateDate": whole_second(role.created),
        "AssumeRolePolicyDocument": quoted(role.trust),
        "Description": role.description,
        "MaxSessionDuration": role.longest,
        **({"Tags": tag_list(role.tags)} if role.tags else {}),
    }


def _unmanaged(caller: Caller, name: str) -> Members:
    arn = f"arn:{names.PARTITION}:iam::{caller.account}:role/{name}"
    return {
        "Path": "/",
        "RoleName": name,
        "RoleId": "AROA" + hashlib.sha256(arn.encode()).hexdigest()[:17].upper(),
        "Arn": arn,
        "CreateDate": _CREATED,
        "AssumeRolePolicyDocument": quoted(json.dumps(unmanaged.TRUST)),
        "MaxSessionDuration": LONGEST_SESSION,
    }
