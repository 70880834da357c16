"""FilterLogEvents: events of several streams in one order of time."""

from __future__ import annotations

import hashlib

from sqlalchemy import Select, select, tuple_

from phalanx.services import tokens
from phalanx.services.logs import group
from phalanx.services.logs.events import MOST_EVENTS, PAGE_BYTES, size
from phalanx.services.logs.pattern import compile_pattern
from phalanx.services.logs.streams import begins_with
from phalanx.store.database import Database
from phalanx.store.jobs import LogEvent, LogStream
from phalanx.wire.service import Caller, Members

EVENTS_SEARCHED = 50_000
"""Most events that one request looks at; a page may be short, or empty, with a nextToken."""


def filter_log_events(database: Database, caller: Caller, members: Members) -> Members:
    """A page of the events that match, by timestamp. `nextToken` is there as long as events are left to search."""
    group.check(caller, members)
    if "logStreamNames" in members and "logStreamNamePrefix" in members:
        raise group.invalid("LogStreamNamePrefix and LogStreamNames are mutually exclusive parameters.")
    if not members.get("startFromHead", True):
        raise group.invalid("startFromHead false is not supported by this version of Phalanx. Leave it out, or give true.")
    try:
        matches = compile_pattern(members.get("filterPattern", ""))
    except ValueError as error:
        raise group.invalid(f"Invalid filter pattern: {error}.") from error
    query = _asked(members)
    limit = members.get("limit", MOST_EVENTS)
    events: list[Members] = []
    used = searched = 0
    last: tokens.Position = []
    response: Members = {"events": events, "searchedLogStreams": []}
    with database.read() as session:
        names = set(members.get("logStreamNames", ()))
        if names - set(session.scalars(select(LogStream.name).where(LogStream.name.in_(names)))):
            raise group.not_found("log stream")
        for timestamp, stream, number, ingested, message in session.execute(query):
            found = matches(message)
            used += size(message) if found else 0
            if searched == EVENTS_SEARCHED or len(events) == limit or (events and used > PAGE_BYTES):
                response["nextToken"] = tokens.encode(last)
                break
            searched += 1
            last = [timestamp, stream, number]
            if found:
                events.append(
                    {
                        "logStreamName": stream,
                        "timestamp": timestamp,
                        "message": message,
                        "ingestionTime": ingested,
                        "eventId": _event_id(stream, number),
                    }
                )
    return response


def _asked(members: Members) -> Select[int, str, int, int, str]:
    """The events to search, in order, and one more."""
    order = (LogEvent.timestamp, LogEvent.stream, LogEvent.number)
    query = select(*order, LogEvent.ingested, LogEvent.message)
    if "logStreamNames" in members:
        query = query.where(LogEvent.stream.in_(members["logStreamNames"]))
    if "logStreamNamePrefix" in members:
        query = query.where(LogEvent.stream.in_(select(LogStream.name).where(*begins_with(members["logStreamNamePrefix"]))))
    if "startTime" in members:
        query = query.where(LogEvent.timestamp >= members["startTime"])
    if "endTime" in members:
        query = query.where(LogEvent.timestamp <= members["endTime"])
    if "nextToken" in members:
        try:
            after = tokens.decode(members["nextToken"], int, str, int)
        except ValueError as error:
            raise group.invalid("The specified nextToken is invalid.") from error
        query = query.where(tuple_(*order) > tuple_(*after))
    return query.order_by(*order).limit(EVENTS_SEARCHED + 1).execution_options(yield_per=500)


def _event_id(stream: str, number: int) -> str:
    """56 digits, as CloudWatch's, and the same each time."""
    digest = hashlib.sha256(f"{stream}\n{number}".encode()).digest()
    return str(int.from_bytes(digest) % 10**56).zfill(56)
