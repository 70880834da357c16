"""DescribeLogGroups, ListTagsForResource and DescribeLogStreams."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, select, tuple_

from phalanx.services import tokens
from phalanx.services.logs import group
from phalanx.store.database import Database
from phalanx.store.jobs import LogStream
from phalanx.wire.service import Caller, Members

MOST_STREAMS = 50
"""Streams on a page, at most and by default."""


def describe_log_groups(database: Database, caller: Caller, members: Members) -> Members:
    """The group of the training jobs, if the request's filters let it through."""
    identifiers = members.get("logGroupIdentifiers", [group.GROUP])
    wanted = (
        group.GROUP.startswith(members.get("logGroupNamePrefix", ""))
        and members.get("logGroupNamePattern", "").lower() in group.GROUP.lower()
        and members.get("logGroupClass", "STANDARD") == "STANDARD"
        and any(identifier.removesuffix(":*") in (group.GROUP, group.arn(caller)) for identifier in identifiers)
    )
    if not wanted:
        return {"logGroups": []}
    with database.read() as session:
        created = session.scalar(select(func.min(LogStream.created)))
    return {
        "logGroups": [
            {
                "logGroupName": group.GROUP,
                "arn": f"{group.arn(caller)}:*",
                "logGroupArn": group.arn(caller),
                "logGroupClass": "STANDARD",
                "metricFilterCount": 0,
                "creationTime": created,
            }
        ]
    }


def list_tags_for_resource(_: Database, caller: Caller, members: Members) -> Members:
    """The tags of the group: nobody can give it any. Terraform asks for them whenever it reads a group."""
    if members["resourceArn"].removesuffix(":*") != group.arn(caller):
        raise group.not_found("resource")
    return {"tags": {}}


def begins_with(prefix: str) -> list[ColumnElement[bool]]:
    """Conditions on LogStream for a name prefix. A prefix that names a whole job finds its streams by the index."""
    conditions: list[ColumnElement[bool]] = [func.substr(LogStream.name, 1, len(prefix)) == prefix]
    if "/" in prefix:
        conditions.append(LogStream.job == prefix.partition("/")[0])
    return conditions


def describe_log_streams(database: Database, caller: Caller, members: Members) -> Members:
    """A page of streams, with `nextToken` only where more follow: SDK v2 loops for ever on a superfluous one."""
    group.check(caller, members)
    by_time = members.get("orderBy") == "LastEventTime"
    if by_time and "logStreamNamePrefix" in members:
        raise group.invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
    # A stream without events sorts as the oldest.
    order: tuple[Any, ...] = (func.coalesce(LogStream.last_event, 0), LogStream.name) if by_time else (LogStream.name,)
    descending = members.get("descending", False)
    limit = members.get("limit", MOST_STREAMS)
    query = select(LogStream, *order)
    if "logStreamNamePrefix" in members:
        query = query.where(*begins_with(members["logStreamNamePrefix"]))
    if "nextToken" in members:
        try:
            after = tokens.decode(members["nextToken"], *([int, str] if by_time else [str]))
        except ValueError as error:
            raise group.invalid("The specified nextToken is invalid.") from error
        query = query.where(tuple_(*order) < tuple_(*after) if descending else tuple_(*order) > tuple_(*after))
    query = query.order_by(*(key.desc() if descending else key.asc() for key in order)).limit(limit + 1)
    with database.read() as session:
        rows = session.execute(query).all()
    response: Members = {"logStreams": [_stream(caller, row[0]) for row in rows[:limit]]}
    if len(rows) > limit:
        response["nextToken"] = tokens.encode(list(rows[limit - 1][1:]))
    return response


def _stream(caller: Caller, stream: LogStream) -> Members:
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": f"{group.arn(caller)}:log-stream:{stream.name}",
        # CloudWatch has reported 0 for streams since 2019.
        "storedBytes": 0,
        "firstEventTimestamp": stream.first_event,
        "lastEventTimestamp": stream.last_event,
        "lastIngestionTime": stream.last_ingestion,
    }
