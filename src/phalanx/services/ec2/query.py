"""What all Describe operations share: filters and pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from phalanx.services import tokens
from phalanx.services.ec2.errors import invalid_combination, invalid_parameter
from phalanx.wire.service import Members

T = TypeVar("T")
Values = Callable[[T], Iterable[str]]
"""The values that a resource has for a filter."""
Filters = Mapping[str, Values[T]]

MIN_RESULTS = 5
MAX_RESULTS = 1000


def truth(value: bool) -> tuple[str]:
    """A boolean as filters compare it."""
    return ("true" if value else "false",)


def fields(members: Mapping[str, str]) -> Filters[Members]:
    """Filters on members of what is shown, by the filters' names. What does not show a member has no value for its filter."""
    return {name: partial(_field, member) for name, member in members.items()}


def _field(member: str, shown: Members) -> list[str]:
    return [shown[member]] if member in shown else []


def matching(
    request: Members, rows: Iterable[T], filters: Filters[T], tags: Callable[[T], Mapping[str, str]] | None
) -> list[T]:
    """The rows that match every filter of the request, in at least one of its values (`*` and `?` are wildcards).

    `tags`, where the resource can have them, serves `tag:<key>`, `tag-key` and `tag-value`. Raises AwsError
    InvalidParameterValue for a filter that the operation has not.
    """
    kept = list(rows)
    for condition in request.get("Filters", []):
        name = condition.get("Name", "")
        values = _tag_values(name, tags) if tags else None
        values = values or filters.get(name)
        if values is None:
            raise invalid_parameter(f"The filter '{name}' is invalid")
        patterns = [_pattern(value) for value in condition.get("Values", [])]
        kept = [row for row in kept if any(pattern.fullmatch(value) for value in values(row) for pattern in patterns)]
    return kept


def _tag_values(name: str, tags: Callable[[T], Mapping[str, str]]) -> Values[T] | None:
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda row: [value for k, value in tags(row).items() if k == key]
    if name == "tag-key":
        return lambda row: tags(row).keys()
    if name == "tag-value":
        return lambda row: tags(row).values()
    return None


def _pattern(value: str) -> re.Pattern[str]:
    r"""A filter value as a regular expression: `*` is any text, `?` one character, `\` takes both literally."""
    parts = re.findall(r"\\.|.", value, re.DOTALL)
    wildcards = {"*": ".*", "?": "."}
    return re.compile("".join(wildcards.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL)


def page(
    request: Members, rows: Sequence[T], key: Callable[[T], str], ids: str | None = None, *, minimum: int = MIN_RESULTS
) -> tuple[list[T], Members]:
    """One page of `rows` in the order of `key`, and the response's NextToken as members (none on the last page).

    `ids` is the request member that lists ids, which excludes MaxResults; `minimum` is the least that MaxResults may be.
    Raises AwsError InvalidParameterValue or InvalidParameterCombination.
    """
    limit = request.get("MaxResults")
    if limit is not None:
        if ids and request.get(ids):
            raise invalid_combination(f"The parameter {ids} cannot be used with the parameter MaxResults")
        if limit < minimum:
            bound = f"greater than or equal to {minimum}"
            raise invalid_parameter(f"Value ( {limit} ) for parameter MaxResults is invalid. Expecting a value {bound}.")
        if limit > MAX_RESULTS:
            bound = f"smaller than or equal to {MAX_RESULTS}"
            raise invalid_parameter(f"Value ( {limit} ) for parameter MaxResults is invalid. Expecting a value {bound}.")
    ordered = sorted(rows, key=key)
    token = request.get("NextToken")
    if token:
        try:
            (last,) = tokens.decode(token, str)
        except ValueError as error:
            raise invalid_parameter("Unable to parse pagination token") from error
        ordered = [row for row in ordered if key(row) > str(last)]
    if limit is None or len(ordered) <= limit:
        return ordered, {}
    shown = ordered[:limit]
    return shown, {"NextToken": tokens.encode([key(shown[-1])])}
