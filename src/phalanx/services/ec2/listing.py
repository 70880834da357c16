"""How the Describe operations of resources end: those asked for, filtered, a page of them, each with its tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy.orm import Session

from phalanx.services.ec2.lookup import Row, find_all
from phalanx.services.ec2.query import MIN_RESULTS, Filters, matching, page
from phalanx.services.ec2.tags import Tags
from phalanx.wire.service import Caller, Members


def listed(
    session: Session,
    caller: Caller,
    request: Members,
    kind: type[Row],
    ids: str,
    filters: Filters[Row],
    show: Callable[[Row, Caller, Mapping[str, str]], Members],
    *,
    rows: Sequence[Row] | None = None,
    minimum: int = MIN_RESULTS,
) -> tuple[list[Members], Members]:
    """A page of the resources of a kind, each as `show` makes it of row and tags, and the response's NextToken as members.

    `ids` is the request member that lists ids; `rows` are the resources in question where it is not simply those of these ids.
    `minimum` is the least that MaxResults may be. Raises AwsError as `find_all`, `matching` and `page` do.
    """
    attached = Tags(session, kind)
    if rows is None:
        rows = find_all(session, kind, request.get(ids, []))
    shown, more = page(request, matching(request, rows, filters, attached.of), lambda row: row.id, ids, minimum=minimum)
    return [show(row, caller, attached.of(row)) for row in shown], more
