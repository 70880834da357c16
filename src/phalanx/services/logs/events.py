"""GetLogEvents: the events of one stream, a page at a time, in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import select

from phalanx.services.logs import group
from phalanx.store.database import Database
from phalanx.store.jobs import LogEvent, LogStream
from phalanx.wire.service import Caller, Members

MOST_EVENTS = 10_000
"""Events on a page, at most and by default."""
PAGE_BYTES = 1_048_576
"""Size of a page: messages in UTF-8 and EVENT_OVERHEAD for each event."""
EVENT_OVERHEAD = 26
"""Bytes that CloudWatch counts for an event besides its message."""

_TOKEN = re.compile(r"(?P<direction>[fb])/(?P<number>\d{56})/s")


def size(message: str) -> int:
    """What an event counts towards PAGE_BYTES."""
    return len(message.encode()) + EVENT_OVERHEAD


def get_log_events(database: Database, caller: Caller, members: Members) -> Members:
    """A page of a stream, oldest event first.

    Tokens are places between two events: `f/N` reads from event N onwards, `b/N` what lies before it. A page without
    events answers with the token it was asked with, in that direction: the end, for now. Without a token the page is the
    stream's head (startFromHead) or its tail.
    """
    group.check(caller, members)
    name = members["logStreamName"]
    with database.read() as session:
        count = session.scalar(select(LogStream.events).where(LogStream.name == name))
        if count is None:
            raise group.not_found("log stream")
        forward, place = _place(members, count)
        query = select(LogEvent.number, LogEvent.timestamp, LogEvent.ingested, LogEvent.message).where(LogEvent.stream == name)
        query = query.where(LogEvent.number >= place if forward else LogEvent.number < place)
        if "startTime" in members:
            query = query.where(LogEvent.timestamp >= members["startTime"])
        if "endTime" in members:
            query = query.where(LogEvent.timestamp < members["endTime"])
        query = query.order_by(LogEvent.number.asc() if forward else LogEvent.number.desc())
        query = query.limit(members.get("limit", MOST_EVENTS)).execution_options(yield_per=500)
        page = _page(session.execute(query))
    if not forward:
        page.reverse()
    first, after = (page[0][0], page[-1][0] + 1) if page else (place, place)
    return {
        "events": [
            {"timestamp": timestamp, "message": message, "ingestionTime": ingested} for _, timestamp, ingested, message in page
        ],
        "nextForwardToken": f"f/{after:056d}/s",
        "nextBackwardToken": f"b/{first:056d}/s",
    }


def _place(members: Members, count: int) -> tuple[bool, int]:
    """Direction (forward?) and number of the event that the page begins or ends at."""
    if "nextToken" in members:
        token = _TOKEN.fullmatch(members["nextToken"])
        # Numbers beyond any stream's are not from here, and SQL integers end at 64 bits.
        if token is None or int(token["number"]) > count:
            raise group.invalid("The specified nextToken is invalid.")
        return token["direction"] == "f", int(token["number"])
    return (True, 0) if members.get("startFromHead", False) else (False, count)


def _page(rows: Iterable[tuple[int, int, int, str]]) -> list[tuple[int, int, int, str]]:
    page: list[tuple[int, int, int, str]] = []
    used = 0
    for row in rows:
        used += size(row[3])
        if page and used > PAGE_BYTES:
            break
        page.append(row)
    return page
