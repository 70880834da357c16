"""What the operations of IAM share: finding users and roles, IAM's errors, documents, tags and pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

from sqlalchemy.orm import Session

from phalanx.identity import names
from phalanx.identity.policy import Kind, Malformed, compiled
from phalanx.services import tokens
from phalanx.store.base import Json
from phalanx.store.identity import Role, User, role_named, user_named
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Caller, Members

Operation = Callable[[Session, Caller, Members], Members]
"""A handler within its transaction."""

DEFAULT_MAX_ITEMS = 100
TAGS = 50
"""Most tags of an entity."""


def no_such(what: str) -> AwsError:
    """NoSuchEntity."""
    return AwsError("NoSuchEntity", f"{what} cannot be found.", 404)


def conflict(message: str) -> AwsError:
    """DeleteConflict."""
    return AwsError("DeleteConflict", message, 409)


def over(quota: str, limit: int) -> AwsError:
    """LimitExceeded."""
    return AwsError("LimitExceeded", f"Cannot exceed quota for {quota}: {limit}", 409)


def find_user(session: Session, name: str) -> User:
    """A user; names are found whatever their case. Raises NoSuchEntity."""
    found = user_named(session, name)
    if found is None:
        raise no_such(f"The user with name {name}")
    return found


def find_role(session: Session, name: str) -> Role:
    """A role that was created. Raises NoSuchEntity."""
    found = role_named(session, name)
    if found is None:
        raise no_such(f"The role with name {name}")
    return found


def user_of(session: Session, caller: Caller, members: Members) -> User:
    """The user whom a request names, or else who makes it."""
    if "UserName" in members:
        return find_user(session, members["UserName"])
    if ":user/" not in caller.arn:
        raise AwsError("ValidationError", "Must specify userName when calling with non-User credentials")
    return find_user(session, caller.arn.rpartition("/")[2])


def not_the_administrator(name: str) -> None:
    """Raise where a policy is meant for the administrator, whom none binds."""
    if name == names.ADMINISTRATOR:
        raise AwsError(
            "UnmodifiableEntity",
            f"No policy binds the administrator, user {names.ADMINISTRATOR}. Create a user of their own for whoever shall be"
            " bound by one.",
        )


def refuse(members: Members, *unsupported: str) -> None:
    """Raise InvalidInput for members that would have no effect: what they should forbid would be allowed."""
    for name in unsupported:
        if name in members:
            raise AwsError("InvalidInput", f"{name} is not supported. Leave it out.")


def characters(document: str) -> int:
    """How long a policy document is as IAM's quotas have it, which do not count white space."""
    return sum(not character.isspace() for character in document)


def quoted(document: str) -> str:
    """A document as IAM answers with it: percent-encoded (RFC 3986); clients decode it."""
    return quote(document, safe="")


def checked(text: str, kind: Kind, limit: int, what: str) -> str:
    """A policy document within IAM's quota. Raises MalformedPolicyDocument, LimitExceeded."""
    if characters(text) > limit:
        raise AwsError("LimitExceeded", f"Maximum policy size of {limit} bytes exceeded for {what}", 409)
    try:
        compiled(text, kind)
    except Malformed as error:
        raise AwsError("MalformedPolicyDocument", str(error)) from error
    return text


def tags_of(members: Members) -> Json:
    """The tags of a request as they are stored. Raises InvalidInput."""
    given = members.get("Tags", [])
    tags = {tag["Key"]: tag["Value"] for tag in given}
    if len({key.lower() for key in tags}) < len(given):
        raise AwsError("InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if len(tags) > TAGS:
        raise over("TagsPerEntity", TAGS)
    return tags


def tagged(tags: Json, members: Members) -> Json:
    """Stored tags with those of a request, which take the place of those whose keys differ in case alone.

    Raises InvalidInput, LimitExceeded.
    """
    added = tags_of(members)
    folded = {key.lower() for key in added}
    found = {key: value for key, value in tags.items() if key.lower() not in folded} | added
    if len(found) > TAGS:
        raise over("TagsPerEntity", TAGS)
    return found


def untagged(tags: Json, members: Members) -> Json:
    """Stored tags without those whose keys a request names; it does not matter whether they are there."""
    folded = {key.lower() for key in members["TagKeys"]}
    return {key: value for key, value in tags.items() if key.lower() not in folded}


def tag_list(tags: Json) -> list[Members]:
    """Stored tags as a response has them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def page(name: str, items: Sequence[tuple[str, object]], members: Members) -> Members:
    """The page that a request asks for: `items` with a key each, which is unique and by which they are in order."""
    after = ""
    if "Marker" in members:
        try:
            after = str(tokens.decode(members["Marker"], str)[0])
        except ValueError as error:
            raise AwsError("InvalidInput", "Invalid Marker: give that of the previous response.") from error
    rest = [item for item in sorted(items, key=lambda item: item[0]) if item[0] > after]
    shown = rest[: members.get("MaxItems", DEFAULT_MAX_ITEMS)]
    more = len(rest) > len(shown)
    marker = {"Marker": tokens.encode([shown[-1][0]])} if more else {}
    return {name: [item for _, item in shown], "IsTruncated": more, **marker}
