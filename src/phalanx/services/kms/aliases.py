"""Aliases: names for keys."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from phalanx.jobs import keyring
from phalanx.services.kms import paging
from phalanx.services.kms.errors import answered
from phalanx.services.kms.naming import changeable
from phalanx.services.times import moment
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.keys import Key, KeyAlias
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

ALIASES_PER_PAGE = 50


@answered
def create(database: Database, caller: Caller, members: Members) -> Members:
    """A name for a key."""
    name = members["AliasName"]
    if not name.startswith("alias/") or name == "alias/":
        raise AwsError(
            "ValidationException",
            'Alias must start with the prefix "alias/". Please see '
            "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        )
    if name.startswith("alias/aws/"):
        raise AwsError("NotAuthorizedException", "AWS reserves aliases that begin with alias/aws/. Choose another name.")
    if ":" in name:
        raise AwsError("ValidationException", "AliasName contains invalid characters for an alias: give a name, not an ARN.")
    arn = caller.arn_of("kms", name)
    with database.write() as session:
        keyring.purge(session)
        key = changeable(session, members["TargetKeyId"])
        if session.get(KeyAlias, name) is not None:
            raise AwsError("AlreadyExistsException", f"An alias with the name {arn} already exists")
        session.add(KeyAlias(name=name, arn=arn, key=key.id, created=now_ms()))
    return {}


@answered
def update(database: Database, _caller: Caller, members: Members) -> Members:
    """Give a name to another key."""
    with database.write() as session:
        alias = _find(session, members["AliasName"])
        alias.key = changeable(session, members["TargetKeyId"]).id
        alias.updated = now_ms()
    return {}


def delete(database: Database, caller: Caller, members: Members) -> Members:
    """Take a name away from its key."""
    with database.write() as session:
        session.delete(_find(session, members["AliasName"]))
    return {}


@answered
def listing(database: Database, _caller: Caller, members: Members) -> Members:
    """The aliases, or those of one key, by name."""
    limit = members.get("Limit", ALIASES_PER_PAGE)
    after = paging.after(members, str)
    with database.read() as session:
        query = select(KeyAlias).join(Key).where((Key.deletion.is_(None)) | (Key.deletion > now_ms()))
        if "KeyId" in members:
            query = query.where(KeyAlias.key == keyring.find(session, members["KeyId"]).id)
        if after is not None:
            query = query.where(KeyAlias.name > after[0])
        found = session.scalars(query.order_by(KeyAlias.name).limit(limit + 1)).all()
    return paging.page("Aliases", found, limit, _shown, lambda alias: [alias.name])


def _find(session: Session, name: str) -> KeyAlias:
    alias = session.get(KeyAlias, name)
    if alias is None:
        raise AwsError("NotFoundException", f"Alias {name} is not found.")
    return alias


def _shown(alias: KeyAlias) -> Members:
    return {
        "AliasName": alias.name,
        "AliasArn": alias.arn,
        "TargetKeyId": alias.key,
        "CreationDate": moment(alias.created),
        "LastUpdatedDate": moment(alias.updated or alias.created),
    }
