"""Condition elements: operators, keys and what they compare ("IAM JSON policy elements: Condition operators")."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt

from phalanx.identity import pattern
from phalanx.identity.pattern import Test


@dataclass(frozen=True, slots=True)
class Value:
    """What a request has for a condition key. `given` is False for a default that takes effect because the request has none:
    it is compared like any other, and Null holds for it."""

    values: tuple[str, ...]
    given: bool = True


class Context:
    """The condition keys of a request. What costs something to find out is asked for when a policy asks for it."""

    def __init__(self, values: dict[str, Value], *later: Callable[[], dict[str, Value]]) -> None:
        """`values` by key in lower case; `later` are called once each, in order, until one knows the key that is asked for."""
        self._values = values
        self._later = list(later)

    def get(self, key: str) -> Value | None:
        """The value of a key (in lower case)."""
        found = self._values.get(key)
        while found is None and self._later:
            self._values = {**self._later.pop(0)(), **self._values}
            found = self._values.get(key)
        return found

    def text(self, key: str) -> str | None:
        """What a policy variable stands for: the value of a key that has just one."""
        value = self.get(key.lower())
        return value.values[0] if value is not None and len(value.values) == 1 else None


class BadCondition(Exception):
    """The condition is none; the text says why."""


Holds = Callable[[Context], bool]


def condition(operator: str, key: str, values: tuple[str, ...], variables: bool, denies: bool) -> Holds:
    """A condition of a statement, which allows or `denies`, as a function of the request. Raises BadCondition.

    `variables`: whether `${…}` are. Where the request has several values and the operator does not say how many of them have
    to hold, the stricter reading is taken: all of them to allow, one of them to deny.
    """
    qualifier, name = "", operator
    for prefix in ("ForAllValues:", "ForAnyValue:"):
        if operator.startswith(prefix):
            qualifier, name = prefix, operator[len(prefix) :]
    folded = key.lower()
    if name == "Null":
        return _null(folded, values)
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    if name not in _OPERATORS:
        raise BadCondition(f"Invalid Condition type : {operator}.")
    make, negated, wild = _OPERATORS[name]
    fixed: list[Test] = []
    dynamic: list[str] = []
    # Every region is served and all hold the same VPCs: what a statement keeps somebody from, it does in each of them.
    anywhere = folded == "ec2:vpc" and denies != negated
    for value in map(_anywhere, values) if anywhere else values:
        if variables and pattern.has_variables(value):
            if make not in _TEXTUAL:
                raise BadCondition(f"A policy variable cannot be used with the condition operator {operator}.")
            dynamic.append(value)
        else:
            fixed.append(make(value))

    def tests(context: Context) -> Iterable[Test]:
        yield from fixed
        for text in dynamic:
            parts = pattern.expand(text, context.text)
            if parts is not None:
                yield _textual(name, parts, wild)

    def holds(context: Context) -> bool:
        value = context.get(folded)
        if value is None:
            return if_exists or qualifier == "ForAllValues:" or (negated and qualifier != "ForAnyValue:")
        now = list(tests(context))

        def one(text: str) -> bool:
            compared = _anywhere(text) if anywhere else text
            return any(test(compared) for test in now) != negated

        if qualifier == "ForAllValues:":
            return all(one(text) for text in value.values)
        if qualifier or denies:
            return any(one(text) for text in value.values)
        return bool(value.values) and all(one(text) for text in value.values)

    return holds


def _anywhere(arn: str) -> str:
    """An ARN without its region, which a pattern may have as a variable."""
    return re.sub(r"^(arn:[^:]*:[^:]*:)(\$\{[^}]*\}|[^:]*)", r"\1", arn)


def _null(key: str, values: tuple[str, ...]) -> Holds:
    wanted = {value.lower() for value in values}
    if not wanted or wanted - {"true", "false"}:
        raise BadCondition("The value of a Null condition must be true or false.")

    def holds(context: Context) -> bool:
        value = context.get(key)
        return ("false" if value is not None and value.given else "true") in wanted

    return holds


def _equals(wanted: str) -> Test:
    return lambda given: given == wanted


def _equals_ignoring_case(wanted: str) -> Test:
    folded = wanted.lower()
    return lambda given: given.lower() == folded


def _like(wanted: str) -> Test:
    return pattern.glob(wanted)


def _arn(wanted: str) -> Test:
    if wanted != "*" and wanted.count(":") < 5:
        raise BadCondition(f"The value {wanted[:128]} of an ARN condition is not an ARN.")
    return pattern.arn(wanted) if wanted != "*" else lambda given: True


def _bool(wanted: str) -> Test:
    if wanted.lower() not in ("true", "false"):
        raise BadCondition(f"The value {wanted[:128]} of a Bool condition must be true or false.")
    return _equals_ignoring_case(wanted)


def _numeric(compare: Callable[[float, float], bool]) -> Callable[[str], Test]:
    def make(wanted: str) -> Test:
        if not _NUMBER.fullmatch(wanted):
            raise BadCondition(f"The value {wanted[:128]} of a Numeric condition is not a number.")
        limit = float(wanted)
        return lambda given: _NUMBER.fullmatch(given) is not None and compare(float(given), limit)

    return make


_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?")


def _date(compare: Callable[[float, float], bool]) -> Callable[[str], Test]:
    def make(wanted: str) -> Test:
        limit = _moment(wanted)
        if limit is None:
            raise BadCondition(f"The value {wanted[:128]} of a Date condition is neither ISO 8601 nor seconds since the epoch.")

        def test(given: str) -> bool:
            moment = _moment(given)
            return moment is not None and compare(moment, limit)

        return test

    return make


def _moment(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _network(wanted: str) -> Test:
    try:
        network = ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        raise BadCondition(f"The value {wanted[:128]} of an IpAddress condition is not an address or CIDR block.") from None

    def test(given: str) -> bool:
        try:
            address = ipaddress.ip_address(given)
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address) in network

    return test


def _textual(operator: str, parts: list[tuple[str, bool]], wild: bool) -> Test:
    """The test of a text operator whose value had variables."""
    if operator.startswith("Arn"):
        return pattern.glob_of(parts, "arn")
    if wild:
        return pattern.glob_of(parts)
    whole = "".join(text for text, _ in parts)
    return _equals_ignoring_case(whole) if operator.endswith("IgnoreCase") else _equals(whole)


_TEXTUAL = (_equals, _equals_ignoring_case, _like, _arn)
_ORDER: dict[str, tuple[Callable[[float, float], bool], bool]] = {
    "Equals": (eq, False),
    "NotEquals": (eq, True),
    "LessThan": (lt, False),
    "LessThanEquals": (le, False),
    "GreaterThan": (gt, False),
    "GreaterThanEquals": (ge, False),
}
_OPERATORS: dict[str, tuple[Callable[[str], Test], bool, bool]] = {
    "StringEquals": (_equals, False, False),
    "StringNotEquals": (_equals, True, False),
    "StringEqualsIgnoreCase": (_equals_ignoring_case, False, False),
    "StringNotEqualsIgnoreCase": (_equals_ignoring_case, True, False),
    "StringLike": (_like, False, True),
    "StringNotLike": (_like, True, True),
    "ArnEquals": (_arn, False, True),
    "ArnLike": (_arn, False, True),
    "ArnNotEquals": (_arn, True, True),
    "ArnNotLike": (_arn, True, True),
    "Bool": (_bool, False, False),
    "BinaryEquals": (_equals, False, False),
    "IpAddress": (_network, False, False),
    "NotIpAddress": (_network, True, False),
    **{f"Numeric{name}": (_numeric(compare), negated, False) for name, (compare, negated) in _ORDER.items()},
    **{f"Date{name}": (_date(compare), negated, False) for name, (compare, negated) in _ORDER.items()},
}
"""By operator: what makes the test of one value, whether the condition holds where none passes, whether it knows wildcards."""
