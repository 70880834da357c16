"""Users."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.identity import names
from phalanx.services.iam.entities import (
    conflict,
    find_user,
    page,
    refuse,
    tag_list,
    tags_of,
    user_of,
)
from phalanx.services.iam.identity_policies import nothing_left
from phalanx.services.times import whole_second
from phalanx.store.identity import AccessKey, User, user_named
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members


def create_user(session: Session, caller: Caller, members: Members) -> Members:
    """A new user, who may do nothing yet."""
    refuse(members, "PermissionsBoundary")
    name = members["UserName"]
    if user_named(session, name) is not None:
        raise AwsError("EntityAlreadyExists", f"User with name {name} already exists.", 409)
    user = User(name=name, id=names.unique_id("AIDA"), path=members.get("Path", "/"), tags=tags_of(members))
    session.add(user)
    session.flush()
    return {"User": _shown(caller, user)}


def get_user(session: Session, caller: Caller, members: Members) -> Members:
    """A user, or the caller."""
    return {"User": _shown(caller, user_of(session, caller, members))}


def list_users(session: Session, caller: Caller, members: Members) -> Members:
    """The users under a path."""
    prefix = members.get("PathPrefix", "/")
    users = session.scalars(select(User)).all()
    return page("Users", [(user.name, _shown(caller, user)) for user in users if user.path.startswith(prefix)], members)


def delete_user(session: Session, _: Caller, members: Members) -> Members:
    """Delete a user who has neither keys nor policies."""
    user = find_user(session, members["UserName"])
    if user.name == names.ADMINISTRATOR:
        raise conflict(f"The administrator, user {names.ADMINISTRATOR}, cannot be deleted.")
    if session.scalar(select(AccessKey.id).filter_by(user_name=user.name).limit(1)) is not None:
        raise conflict("Cannot delete entity, must delete access keys first.")
    nothing_left(session, "user", user.name)
    session.delete(user)
    return {}


def _shown(caller: Caller, user: User) -> Members:
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": names.user_arn(caller.account, user),
        "CreateDate": whole_second(user.created),
        **({"Tags": tag_list(user.tags)} if user.tags else {}),
    }
