"""Identity-based policies: those that are part of a user or role, and managed ones that are attached to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from phalanx.services.iam.entities import (
    Operation,
    characters,
    checked,
    conflict,
    find_role,
    find_user,
    no_such,
    not_the_administrator,
    over,
    page,
    quoted,
)
from phalanx.services.iam.managed import find_policy
from phalanx.store.identity import Attachment, InlinePolicy, Role, User
from phalanx.wire.service import Caller, Members

Owner = Literal["user", "role"]

INLINE_CHARACTERS = {"user": 2048, "role": 10_240}
"""Most that the inline policies of one user or role have together, without white space."""
ATTACHED = 10
"""Most managed policies of one user or role."""


def operations(kind: Owner) -> tuple[dict[str, Operation], dict[str, Operation]]:
    """The operations on the policies of users or of roles by name: those that read, and those that write."""
    noun = kind.capitalize()
    reads: dict[str, Operation] = {
        f"Get{noun}Policy": partial(_get, kind),
        f"List{noun}Policies": partial(_list, kind),
        f"ListAttached{noun}Policies": partial(_list_attached, kind),
    }
    writes: dict[str, Operation] = {
        f"Put{noun}Policy": partial(_put, kind),
        f"Delete{noun}Policy": partial(_delete, kind),
        f"Attach{noun}Policy": partial(_attach, kind),
        f"Detach{noun}Policy": partial(_detach, kind),
    }
    return reads, writes


def list_entities_for_policy(session: Session, _: Caller, members: Members) -> Members:
    """The users and roles that a managed policy is attached to; it bounds the permissions of nobody."""
    arn, prefix = find_policy(session, members["PolicyArn"]), members.get("PathPrefix", "/")
    rows: dict[str, Sequence[User | Role]] = {
        "User": session.scalars(select(User).where(User.name.in_(_attached_to("user", arn)))).all(),
        "Role": session.scalars(select(Role).where(Role.name.in_(_attached_to("role", arn)))).all(),
    }
    if members.get("PolicyUsageFilter") == "PermissionsBoundary":
        rows = {}
    found = [
        (f"{kind} {row.name}", (kind, {f"{kind}Name": row.name, f"{kind}Id": row.id}))
        for kind, entities in rows.items()
        for row in entities
        if members.get("EntityFilter", kind) == kind and row.path.startswith(prefix)
    ]
    shown = page("Entities", found, members)
    listed = shown.pop("Entities")
    return {
        "PolicyGroups": [],
        **{f"Policy{kind}s": [each for of, each in listed if of == kind] for kind in ("User", "Role")},
        **shown,
    }


def nothing_left(session: Session, kind: Owner, name: str) -> None:
    """Raise DeleteConflict where a user or role still has policies."""
    if session.scalar(select(Attachment.policy).filter_by(kind=kind, owner=name).limit(1)) is not None:
        raise conflict("Cannot delete entity, must detach all policies first.")
    if session.scalar(select(InlinePolicy.name).filter_by(kind=kind, owner=name).limit(1)) is not None:
        raise conflict("Cannot delete entity, must delete policies first.")


def _attached_to(kind: Owner, arn: str) -> Select[str]:
    return select(Attachment.owner).where(Attachment.kind == kind, Attachment.policy == arn)


def _owner(session: Session, kind: Owner, members: Members) -> str:
    if kind == "user":
        return find_user(session, members["UserName"]).name
    return find_role(session, members["RoleName"]).name


def _put(kind: Owner, session: Session, _: Caller, members: Members) -> Members:
    owner = _owner(session, kind, members)
    if kind == "user":
        not_the_administrator(owner)
    others = select(InlinePolicy.document).where(
        InlinePolicy.kind == kind, InlinePolicy.owner == owner, InlinePolicy.name != members["PolicyName"]
    )
    taken = sum(map(characters, session.scalars(others)))
    limit = INLINE_CHARACTERS[kind]
    text = checked(members["PolicyDocument"], "identity", limit, f"{kind} {owner}")
    if taken + characters(text) > limit:
        raise over(f"inline policies of {kind} {owner}, characters", limit)
    session.merge(InlinePolicy(kind=kind, owner=owner, name=members["PolicyName"], document=text))
    return {}


def _get(kind: Owner, session: Session, _: Caller, members: Members) -> Members:
    owner = _owner(session, kind, members)
    found = session.get(InlinePolicy, (kind, owner, members["PolicyName"]))
    if found is None:
        raise _absent(kind, members["PolicyName"])
    return {f"{kind.capitalize()}Name": owner, "PolicyName": found.name, "PolicyDocument": quoted(found.document)}


def _list(kind: Owner, session: Session, _: Caller, members: Members) -> Members:
    owner = _owner(session, kind, members)
    found = session.scalars(select(InlinePolicy.name).filter_by(kind=kind, owner=owner))
    return page("PolicyNames", [(name, name) for name in found], members)


def _delete(kind: Owner, session: Session, _: Caller, members: Members) -> Members:
    owner = _owner(session, kind, members)
    found = session.get(InlinePolicy, (kind, owner, members["PolicyName"]))
    if found is None:
        raise _absent(kind, members["PolicyName"])
    session.delete(found)
    return {}


def _attach(kind: Owner, session: Session, _: Caller, members: Members) -> Members:
    owner = _owner(session, kind, members)
    if kind == "user":
        not_the_administrator(owner)
    arn = find_policy(session, members["PolicyArn"])
    session.merge(Attachment(kind=kind, owner=owner, policy=arn))
    session.flush()
    if (session.scalar(select(func.count()).select_from(Attachment).filter_by(kind=kind, owner=owner)) or 0) > ATTACHED:
        raise over(f"PoliciesPer{kind.capitalize()}", ATTACHED)
    return {}


def _detach(kind: Owner, session: Session, _: Caller, members: Members) -> Members:
    owner = _owner(session, kind, members)
    found = session.get(Attachment, (kind, owner, members["PolicyArn"]))
    if found is None:
        raise no_such(f"Policy {members['PolicyArn'][:256]} was not found: it is not attached, and")
    session.delete(found)
    return {}


def _list_attached(kind: Owner, session: Session, _: Caller, members: Members) -> Members:
    owner, prefix = _owner(session, kind, members), members.get("PathPrefix", "/")
    found = session.scalars(select(Attachment.policy).filter_by(kind=kind, owner=owner))
    shown = [
        (arn, {"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn})
        for arn in found
        if arn.partition(":policy")[2].startswith(prefix)
    ]
    return page("AttachedPolicies", shown, members)


def _absent(kind: Owner, name: str) -> Exception:
    return no_such(f"The {kind} policy with name {name}")
