"""Times of requests and answers, and as the store keeps them: in milliseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(milliseconds: int | None) -> datetime | None:
    """A time to the millisecond; None for none, which an answer leaves out."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def milliseconds(time: datetime) -> int:
    """A timestamp of the service model as the store keeps it."""
    return int(time.timestamp() * 1000)


def whole_second(milliseconds: int) -> datetime:
    """The second that a time is in, as IAM shows it."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC)
