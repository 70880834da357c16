"""Search expressions: which records they match, by what lies at the paths that they name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from phalanx.services.sagemaker.errors import validation
from phalanx.wire.service import Members

EXPRESSIONS = 50
"""Most filters and expressions of a request, all levels together (the API reference's limit of a SearchExpression)."""
IN_VALUES = 10
"""Most values of the operator In."""

Test = Callable[[Members], bool]
"""Of a record, a resource in the shape that Search answers with."""


def matches(expression: Members, left: list[int] | None = None) -> Test:
    """A SearchExpression as a test of records; `left` counts down to EXPRESSIONS. Raises ValidationException."""
    left = [EXPRESSIONS] if left is None else left
    parts: list[Test] = []
    for each in expression.get("Filters", []):
        parts.append(partial(_filtered, _condition(each, left)))
    for each in expression.get("NestedFilters", []):
        _count(left)
        conditions = [_condition(one, left, each["NestedPropertyName"] + ".") for one in each["Filters"]]
        parts.append(partial(_nested, each["NestedPropertyName"], conditions))
    for each in expression.get("SubExpressions", []):
        _count(left)
        parts.append(matches(each, left))
    combine = any if expression.get("Operator") == "Or" else all
    return lambda record: not parts or combine(part(record) for part in parts)


def shows(conditions: list[Members]) -> Test:
    """VisibilityConditions as a test of records: one that has the tag of a condition with another value may not be seen, one
    without the tag may (API reference). Raises ValidationException for a Key that is no tag's."""
    wanted = []
    for each in conditions:
        head, _, key = each.get("Key", "").partition(".")
        if head != "Tags" or not key:
            raise validation(f"The Key {each.get('Key')!r} in VisibilityConditions must be Tags. and the key of a tag.")
        wanted.append((key, each.get("Value", "")))
    return lambda record: all(tag["Key"] != key or tag["Value"] == value for tag in record["Tags"] for key, value in wanted)


def _count(left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise validation(f"SearchExpression has more than {EXPRESSIONS} filters and expressions.")


_Condition = tuple[str, Callable[[list[Any]], bool]]
"""A path, and what the values there must satisfy."""


def _condition(filter_: Members, left: list[int], prefix: str = "") -> _Condition:
    """Compile a filter. Raises ValidationException where operator and value do not go together."""
    _count(left)
    name, operator, value = filter_["Name"], filter_.get("Operator", "Equals"), filter_.get("Value")
    if (operator in ("Exists", "NotExists")) != (value is None):
        rule = "takes no Value" if value is not None else "needs a Value"
        raise validation(f"The operator {operator} of the filter on {name} {rule}.")
    path = name.removeprefix(prefix)
    if operator == "Exists":
        return path, bool
    if operator == "NotExists":
        return path, lambda values: not values
    text = str(value)
    if operator == "In":
        wanted = text.split(",")
        if len(wanted) > IN_VALUES:
            raise validation(f"The operator In of the filter on {name} takes at most {IN_VALUES} values.")
        return path, lambda values: any(_equal(found, each) for found in values for each in wanted)
    if operator == "Equals":
        return path, lambda values: any(_equal(found, text) for found in values)
    if operator == "NotEquals":
        return path, lambda values: not any(_equal(found, text) for found in values)
    if operator == "Contains":
        return path, lambda values: any(text.lower() in str(found).lower() for found in values)
    orders: dict[str, Callable[[int], bool]] = {
        "GreaterThan": lambda order: order > 0,
        "GreaterThanOrEqualTo": lambda order: order >= 0,
        "LessThan": lambda order: order < 0,
        "LessThanOrEqualTo": lambda order: order <= 0,
    }
    holds = orders[operator]
    return path, lambda values: any((order := _compare(found, text)) is not None and holds(order) for found in values)


def _filtered(condition: _Condition, record: Members) -> bool:
    path, holds = condition
    return holds(at(record, path))


def _nested(path: str, conditions: list[_Condition], record: Members) -> bool:
    """Whether one element of the list at a path satisfies all conditions."""
    return any(all(holds(at(element, inner)) for inner, holds in conditions) for element in at(record, path))


def at(value: Any, path: str) -> list[Any]:
    """What lies at a path: nothing where that is None, which an answer leaves out. Lists are passed through to their elements.
    `Tags.KEY`, `Metrics.NAME`, `Metrics.NAME.STATISTIC` and `Parameters.NAME` are names of their own."""
    if value is None:
        return []
    if not path:
        return [value]
    if isinstance(value, list):
        return [found for element in value for found in at(element, path)]
    if not isinstance(value, dict):
        return []
    head, _, rest = path.partition(".")
    if head in ("metrics", "parameters", "tags") and head not in value:
        head = head.capitalize()  # as AWS's own examples have it
    if head == "Tags" and rest and "Tags" in value:
        return [tag["Value"] for tag in value["Tags"] if tag["Key"] == rest] or at(value["Tags"], rest)
    if head == "Metrics" and "FinalMetricDataList" in value:
        return [metric["Value"] for metric in value["FinalMetricDataList"] if metric["MetricName"] == rest]
    if head == "Metrics" and "Metrics" in value:
        name, _, statistic = rest.rpartition(".")
        return [
            found
            for metric in value["Metrics"]
            if metric["MetricName"] == name
            for key, found in metric.items()
            if key.lower() == statistic.lower()
        ]
    if head == "Parameters" and rest in value.get("Parameters", {}):
        return list(value["Parameters"][rest].values())
    if path in value:  # a hyperparameter's name may have dots
        return value[path] if isinstance(value[path], list) else at(value[path], "")
    return at(value[head], rest) if head in value else []


def _compare(found: Any, text: str) -> int | None:
    """Order of a value and a filter's text, as the value's type has it; None where they cannot be compared."""
    if isinstance(found, datetime):
        try:
            given = datetime.fromisoformat(text)
        except ValueError:
            return None
        given = given if given.tzinfo else given.replace(tzinfo=UTC)
        return (found > given) - (found < given)
    try:
        left, right = float(found), float(text)
    except (TypeError, ValueError):
        return None
    return (left > right) - (left < right)


def _equal(found: Any, text: str) -> bool:
    if isinstance(found, bool):
        return str(found).lower() == text.lower()
    return str(found) == text or (not isinstance(found, str) and _compare(found, text) == 0)
