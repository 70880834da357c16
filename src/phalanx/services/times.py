"""Times of the store, in milliseconds since 1970, as answers have them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(milliseconds: int) -> datetime:
    """A time to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def whole_second(milliseconds: int) -> datetime:
    """The second that a time is in, as IAM shows it."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC)
