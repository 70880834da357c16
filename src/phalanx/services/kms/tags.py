"""Tags of keys, which conditions of policies ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from phalanx.services.kms import paging
from phalanx.services.kms.errors import answered
from phalanx.services.kms.naming import changeable, named
from phalanx.store.database import Database
from phalanx.store.jobs import Tag
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

TAGS_PER_KEY = 50
TAGS_PER_PAGE = 50


def checked(given: Sequence[Members]) -> dict[str, str]:
    """The tags of a request by key. Raises AwsError TagException."""
    tags: dict[str, str] = {tag["TagKey"]: tag["TagValue"] for tag in given}
    if len(tags) < len(given):
        raise AwsError("TagException", "Duplicate tag keys")
    if any(key.lower().startswith("aws:") for key in tags):
        raise AwsError("TagException", "Tags beginning with aws: are reserved")
    return tags


def attach(session: Session, arn: str, tags: Mapping[str, str]) -> None:
    """Give a key tags; those that it has get the new value. Raises AwsError LimitExceededException."""
    for key, value in tags.items():
        session.merge(Tag(arn=arn, key=key, value=value))
    session.flush()
    if (session.scalar(select(func.count()).select_from(Tag).filter_by(arn=arn)) or 0) > TAGS_PER_KEY:
        raise AwsError("LimitExceededException", "Too many tags")


@answered
def tag(database: Database, _caller: Caller, members: Members) -> Members:
    """Give a key tags."""
    tags = checked(members["Tags"])
    with database.write() as session:
        attach(session, changeable(session, members["KeyId"]).arn, tags)
    return {}


@answered
def untag(database: Database, _caller: Caller, members: Members) -> Members:
    """Take tags away from a key; it does not matter whether they are there."""
    with database.write() as session:
        arn = changeable(session, members["KeyId"]).arn
        session.execute(delete(Tag).where(Tag.arn == arn, Tag.key.in_(members["TagKeys"])))
    return {}


@answered
def listing(database: Database, _caller: Caller, members: Members) -> Members:
    """The tags of a key, by their keys."""
    limit = members.get("Limit", TAGS_PER_PAGE)
    after = paging.after(members, str)
    with database.read() as session:
        query = select(Tag).where(Tag.arn == named(session, members["KeyId"]).arn)
        if after is not None:
            query = query.where(Tag.key > after[0])
        found = session.scalars(query.order_by(Tag.key).limit(limit + 1)).all()
    return paging.page("Tags", found, limit, lambda tag: {"TagKey": tag.key, "TagValue": tag.value}, lambda tag: [tag.key])
