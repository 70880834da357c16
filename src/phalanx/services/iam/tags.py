"""Tags of users, roles and managed policies, which conditions of policies ask for."""

from __future__ import annotations

from functools import partial
from typing import Literal

from sqlalchemy.orm import Session

from phalanx.services.iam import managed
from phalanx.services.iam.entities import Operation, find_role, find_user, page, tag_list, tagged, untagged
from phalanx.store.identity import ManagedPolicy, Role, User
from phalanx.wire.service import Caller, Members

Tagged = Literal["User", "Role", "Policy"]


def operations(kind: Tagged) -> tuple[dict[str, Operation], dict[str, Operation]]:
    """The operations on the tags of users, roles or managed policies by name: those that read, and those that write."""
    reads: dict[str, Operation] = {f"List{kind}Tags": partial(_list, kind)}
    writes: dict[str, Operation] = {f"Tag{kind}": partial(_tag, kind), f"Untag{kind}": partial(_untag, kind)}
    return reads, writes


def _find(kind: Tagged, session: Session, members: Members) -> User | Role | ManagedPolicy:
    if kind == "User":
        return find_user(session, members["UserName"])
    if kind == "Role":
        return find_role(session, members["RoleName"])
    return managed.own(session, members["PolicyArn"])


def _list(kind: Tagged, session: Session, _: Caller, members: Members) -> Members:
    return page("Tags", [(tag["Key"], tag) for tag in tag_list(_find(kind, session, members).tags)], members)


def _tag(kind: Tagged, session: Session, _: Caller, members: Members) -> Members:
    found = _find(kind, session, members)
    found.tags = tagged(found.tags, members)
    return {}


def _untag(kind: Tagged, session: Session, _: Caller, members: Members) -> Members:
    found = _find(kind, session, members)
    found.tags = untagged(found.tags, members)
    return {}
