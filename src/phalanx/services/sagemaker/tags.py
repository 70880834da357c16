"""AddTags, ListTags and DeleteTags on whatever has an ARN here; and the tags that requests to create something carry."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from phalanx.jobs.plan import PACK, PLACEMENT, SPREAD
from phalanx.services.sagemaker.errors import not_found, validation
from phalanx.store.base import Json
from phalanx.store.database import Database
from phalanx.store.jobs import Tag
from phalanx.store.named import NAMED
from phalanx.wire.service import Caller, Members

TAGS_PER_RESOURCE = 50
"""Most tags of one resource."""


def check(tags: Sequence[Json]) -> None:
    """Raise ValidationException where a key is given twice or is reserved, or `phalanx:placement` says what it cannot mean."""
    keys = [tag["Key"] for tag in tags]
    if len(set(keys)) < len(keys):
        raise validation("Duplicate tag keys found. Tag keys must be unique.")
    if any(key.lower().startswith("aws:") for key in keys):
        raise validation("aws: prefixed tag key names are not allowed for external use.")
    for tag in tags:
        if tag["Key"] == PLACEMENT and tag["Value"] not in (SPREAD, PACK):
            raise validation(f"Value '{tag['Value']}' of the tag {PLACEMENT} must be one of [{SPREAD}, {PACK}].")


def add(database: Database, _: Caller, members: Members) -> Members:
    """Add tags, or overwrite those with the same key; answers with all tags of the resource."""
    check(members["Tags"])
    arn = members["ResourceArn"]
    with database.write() as session:
        _find(session, arn)
        tags = {tag.key: tag for tag in session.scalars(select(Tag).where(Tag.arn == arn))}
        for given in members["Tags"]:
            if given["Key"] in tags:
                tags[given["Key"]].value = given["Value"]
            else:
                tags[given["Key"]] = Tag(arn=arn, key=given["Key"], value=given["Value"])
                session.add(tags[given["Key"]])
        if len(tags) > TAGS_PER_RESOURCE:
            raise validation(f"A resource can have at most {TAGS_PER_RESOURCE} tags; this one would have {len(tags)}.")
        return {"Tags": _listed(list(tags.values()))}


def list_tags(database: Database, _: Caller, members: Members) -> Members:
    """All tags of a resource. They fit one page: MaxResults is at least 50, and so many a resource can have."""
    if members.get("NextToken"):
        raise validation("Invalid NextToken.")
    with database.read() as session:
        _find(session, members["ResourceArn"])
        return {"Tags": _listed(session.scalars(select(Tag).where(Tag.arn == members["ResourceArn"])).all())}


def remove(database: Database, _: Caller, members: Members) -> Members:
    """Remove tags by key; keys that the resource does not have are passed over."""
    with database.write() as session:
        _find(session, members["ResourceArn"])
        session.execute(delete(Tag).where(Tag.arn == members["ResourceArn"], Tag.key.in_(members["TagKeys"])))
    return {}


def attach(session: Session, arn: str, tags: Sequence[Json]) -> None:
    """Give something new its tags, which `check` has seen."""
    session.add_all(Tag(arn=arn, key=tag["Key"], value=tag["Value"]) for tag in tags)


def forget(session: Session, arn: str) -> None:
    """Remove the tags of something that is being deleted."""
    session.execute(delete(Tag).where(Tag.arn == arn))


def of(session: Session, arns: Sequence[str]) -> dict[str, list[Members]]:
    """The tags of several resources, by ARN."""
    found: dict[str, list[Members]] = {}
    for tag in session.scalars(select(Tag).where(Tag.arn.in_(arns)).order_by(Tag.key)):
        found.setdefault(tag.arn, []).append({"Key": tag.key, "Value": tag.value})
    return found


def _find(session: Session, arn: str) -> None:
    table = NAMED.get(arn.split(":", 5)[-1].partition("/")[0])
    if table is None or session.scalar(select(table.arn).where(table.arn == arn)) is None:
        raise not_found()


def _listed(tags: Sequence[Tag]) -> list[Members]:
    return [{"Key": tag.key, "Value": tag.value} for tag in sorted(tags, key=lambda tag: tag.key)]
