"""The pages of a list operation: filters, orders and tokens that SageMaker's List operations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Float, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from phalanx.services import tokens
from phalanx.services.sagemaker.errors import validation
from phalanx.services.times import milliseconds
from phalanx.store.jobs import TrainingJob
from phalanx.store.tuning import TuningJob
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members

DEFAULT_MAX_RESULTS = 10
"""Entries on a page where the request has no MaxResults."""

Orders = Mapping[str, tuple[InstrumentedAttribute[Any], ...]]
"""For each value of SortBy the columns to sort by; the last one tells rows apart. The query has them all."""


def page(session: Session, query: Any, orders: Orders, members: Members, *, descending: bool) -> tuple[list[Any], Members]:
    """A page of the rows of a select, and the response's NextToken as members (none on the last page).

    SortBy is CreationTime where the request has none; `descending` is the order where it has no SortOrder. Raises
    ValidationException for a token of another list.
    """
    sort = members.get("SortBy", "CreationTime")
    order = orders[sort]
    descending = members["SortOrder"] == "Descending" if "SortOrder" in members else descending
    if members.get("NextToken"):
        after = _position(members["NextToken"], order, sort, descending)
        query = query.where(tuple_(*order) < after if descending else tuple_(*order) > after)
    limit = members.get("MaxResults", DEFAULT_MAX_RESULTS)
    query = query.order_by(*(column.desc() if descending else column.asc() for column in order)).limit(limit + 1)
    rows = list(session.execute(query).all())
    if len(rows) <= limit:
        return rows, {}
    last = [getattr(rows[limit - 1], column.key) for column in order]
    position = [sort, int(descending), *(repr(value) if isinstance(value, float) else value for value in last)]
    return rows[:limit], {"NextToken": tokens.encode(position)}


def _position(token: str, order: Sequence[InstrumentedAttribute[Any]], sort: str, descending: bool) -> Any:
    kinds = [int if column.key in ("created", "modified") else str for column in order]
    try:
        given_sort, given_descending, *position = tokens.decode(token, str, int, *kinds)
        after = [
            float(value) if isinstance(column.type, Float) else value for column, value in zip(order, position, strict=True)
        ]
        if any(isinstance(value, int) and value < 0 for value in after):
            raise ValueError("a time before 1970")
    except ValueError as error:
        raise foreign() from error
    if (given_sort, given_descending) != (sort, descending):
        raise validation("Invalid NextToken. SortBy and SortOrder must stay the same from page to page.")
    return tuple_(*after)


def foreign() -> AwsError:
    """Of a token that the request's list did not give."""
    return validation("Invalid NextToken. Give the NextToken of the previous response to the same request.")


def between(members: Members, column: Any, name: str) -> list[ColumnElement[bool]]:
    """The filters `<name>After` and `<name>Before` on a column of milliseconds."""
    filters: list[ColumnElement[bool]] = []
    if f"{name}After" in members:
        filters.append(column > milliseconds(members[f"{name}After"]))
    if f"{name}Before" in members:
        filters.append(column < milliseconds(members[f"{name}Before"]))
    return filters


def wanted(members: Members, jobs: type[TrainingJob] | type[TuningJob]) -> list[ColumnElement[bool]]:
    """The filters by time, name and status that the lists of jobs share."""
    filters = [*between(members, jobs.created, "CreationTime"), *between(members, jobs.modified, "LastModifiedTime")]
    if members.get("NameContains"):
        filters.append(jobs.name.icontains(members["NameContains"], autoescape=True))
    if "StatusEquals" in members:
        filters.append(jobs.status == members["StatusEquals"])
    return filters
