"""Conditional requests for objects (RFC 9110 section 13): the server behind does not heed them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

NAMES = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


def outcome(headers: Mapping[str, bytes], etag: bytes, modified: bytes) -> int:
    """What a request for an object comes to by its headers (names in lower case): 200 where its conditions hold, else 412
    (Precondition Failed) or 304 (Not Modified). `etag` and `modified` (Last-Modified) are the object's.

    Entity tags go before dates, as section 13.2.2 says; a date that is none is no condition.
    """
    if "if-match" in headers:
        if not _among(etag, headers["if-match"]):
            return 412
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and _later(modified, since):
        return 412
    if "if-none-match" in headers:
        if _among(etag, headers["if-none-match"]):
            return 304
    elif (since := _date(headers.get("if-modified-since"))) is not None and not _later(modified, since):
        return 304
    return 200


def _among(etag: bytes, field: bytes) -> bool:
    """Whether a list of entity tags has this one. AWS takes one without its quotes as well."""
    tags = [each.strip().removeprefix(b"W/").strip(b'"') for each in field.split(b",")]
    return b"*" in tags or etag.strip(b'"') in tags


def _later(modified: bytes, since: datetime) -> bool:
    last = _date(modified)
    return last is not None and last > since


def _date(field: bytes | None) -> datetime | None:
    """An HTTP date, to the second."""
    try:
        found = parsedate_to_datetime((field or b"").decode("ascii"))
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else None
