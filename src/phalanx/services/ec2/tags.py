"""Tags on EC2 resources: CreateTags, DeleteTags, DescribeTags, and the TagSpecifications of other operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from phalanx.services.ec2.errors import invalid_parameter, missing_parameter
from phalanx.services.ec2.lookup import find
from phalanx.services.ec2.query import matching, page
from phalanx.store.network import BY_PREFIX, Resource, ResourceTag
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

MAX_TAGS = 50
_MAX_KEY, _MAX_VALUE = 127, 256


def requested(request: Members, kind: type[Resource]) -> dict[str, str]:
    """The tags that TagSpecifications ask for on a new resource of a kind.

    Raises AwsError InvalidParameterValue (another type, reserved or overlong key) and TagLimitExceeded.
    """
    pairs: list[Members] = []
    for specification in request.get("TagSpecifications", []):
        named = specification.get("ResourceType")
        if named is None:
            raise missing_parameter("ResourceType")
        if named != kind.type_name:
            raise invalid_parameter(f"'{named}' is not a valid taggable resource type for this operation.")
        pairs.extend(specification.get("Tags", []))
    return _checked(pairs)


def attach(session: Session, resource_id: str, tags: Mapping[str, str]) -> None:
    """Set tags on a resource; a key that is there gets the new value."""
    for key, value in tags.items():
        session.merge(ResourceTag(resource_id=resource_id, key=key, value=value))


def forget(session: Session, resource_ids: Iterable[str]) -> None:
    """Drop all tags of resources that are being deleted."""
    session.execute(delete(ResourceTag).where(ResourceTag.resource_id.in_(list(resource_ids))))


class Tags:
    """The tags of all resources of a kind, read once."""

    def __init__(self, session: Session, kind: type[Resource]) -> None:
        self._tags: dict[str, dict[str, str]] = {}
        for tag in session.scalars(select(ResourceTag).where(ResourceTag.resource_id.startswith(f"{kind.prefix}-"))):
            self._tags.setdefault(tag.resource_id, {})[tag.key] = tag.value

    def of(self, resource: Resource) -> Mapping[str, str]:
        """Tags of a resource by key."""
        return self._tags.get(resource.id, {})


def as_members(tags: Mapping[str, str]) -> list[Members]:
    """Tags as the API returns them, in the order of their keys."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def create_tags(session: Session, caller: Caller, request: Members) -> Members:
    """CreateTags. Raises AwsError InvalidID, the resource's NotFound, InvalidParameterValue, TagLimitExceeded."""
    tags = _checked(request["Tags"])
    for resource_id in request["Resources"]:
        _existing(session, resource_id)
        attach(session, resource_id, tags)
        session.flush()
        count = session.scalar(select(func.count()).select_from(ResourceTag).filter_by(resource_id=resource_id)) or 0
        if count > MAX_TAGS:
            raise _too_many()
    return {}


def delete_tags(session: Session, caller: Caller, request: Members) -> Members:
    """DeleteTags: by key, by key and value, or all where no tags are named. Raises AwsError as CreateTags does."""
    for resource_id in request["Resources"]:
        _existing(session, resource_id)
        if not request.get("Tags"):
            forget(session, [resource_id])
        for pair in request.get("Tags", []):
            doomed = delete(ResourceTag).where(ResourceTag.resource_id == resource_id, ResourceTag.key == pair.get("Key", ""))
            if "Value" in pair:
                doomed = doomed.where(ResourceTag.value == pair["Value"])
            session.execute(doomed)
    return {}


def describe_tags(session: Session, caller: Caller, request: Members) -> Members:
    """DescribeTags. Raises AwsError InvalidParameterValue."""
    filters: dict[str, Callable[[ResourceTag], Iterable[str]]] = {
        "key": lambda tag: (tag.key,),
        "value": lambda tag: (tag.value,),
        "resource-id": lambda tag: (tag.resource_id,),
        "resource-type": lambda tag: (_type_of(tag.resource_id),),
    }
    rows = list(session.scalars(select(ResourceTag)))
    # `tag:<key>` asks for the tag of that key itself here, so every tag row stands for a resource with one tag.
    kept = matching(request, rows, filters, lambda tag: {tag.key: tag.value})
    shown, more = page(request, kept, lambda tag: f"{tag.resource_id} {tag.key}")
    described = [
        {"ResourceId": tag.resource_id, "ResourceType": _type_of(tag.resource_id), "Key": tag.key, "Value": tag.value}
        for tag in shown
    ]
    return {"Tags": described, **more}


def _type_of(resource_id: str) -> str:
    return BY_PREFIX[resource_id.partition("-")[0]].type_name


def _existing(session: Session, resource_id: str) -> None:
    table = BY_PREFIX.get(resource_id.partition("-")[0])
    if table is None:
        raise AwsError("InvalidID", f"The ID '{resource_id}' is not valid")
    find(session, table, resource_id)


def _checked(pairs: Iterable[Members]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        key, value = pair.get("Key", ""), pair.get("Value", "")
        if not key:
            raise invalid_parameter("Tag key cannot be empty. Please provide a valid tag key.")
        if key.startswith("aws:"):
            raise invalid_parameter("Tag keys starting with 'aws:' are reserved for internal use")
        if len(key) > _MAX_KEY:
            raise invalid_parameter(f"Tag key exceeds the maximum length of {_MAX_KEY} characters")
        if len(value) > _MAX_VALUE:
            raise invalid_parameter(f"Tag value exceeds the maximum length of {_MAX_VALUE} characters")
        if key in tags:
            raise invalid_parameter(f"Duplicate tag key '{key}' specified.")
        tags[key] = value
    if len(tags) > MAX_TAGS:
        raise _too_many()
    return tags


def _too_many() -> AwsError:
    return AwsError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
