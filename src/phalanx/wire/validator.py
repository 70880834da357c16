"""The constraints of botocore's service models, checked on input as AWS checks them.

botocore checks `required`, types and minimal lengths in the client and leaves the rest to the service: ranges, patterns, enums.
A validator is compiled for each shape once, when the application is built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import regex
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members
from phalanx.wire.shapes import Shapes

PATTERN_SECONDS = 0.5
"""Longest time that matching one value against its pattern may take. A match takes microseconds, but some patterns of the
models backtrack exponentially on input made for it; such a value is refused as one that does not match."""

BRIEF_SECONDS = 0.002
"""How much of that a match may take before other requests are let go on meanwhile."""

REMEMBERED_LENGTH = 256
"""Characters that a value may have whose match is remembered."""

SHOWN_CHARACTERS = 1024
"""How much of a refused value an error message repeats."""

SHOWN_VIOLATIONS = 100
"""How many violations an error message tells of; all are counted."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One constraint that one value does not satisfy. `value` is None where a required member is missing."""

    path: str
    value: Any
    constraint: str
    sensitive: bool = False


Check = Callable[[Any, str, list[Violation]], None]
"""Appends the violations of a value that lies at a path."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a scalar, or the size of a list or map, has to satisfy, in AWS's words."""

    text: str
    holds: Callable[[Any], bool]
    decisive: bool = False
    """Whether the constraints after this one are not to be looked at where it is violated."""


def _constraints(shape: Shape) -> list[Constraint]:
    """The constraints of a shape itself, the bounds before the pattern: an over-long value never reaches it."""
    found = []
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if shape.type_name in ("integer", "long", "float", "double"):
        # The comparisons are written so that NaN satisfies none.
        if high is not None:
            high = _number(high, shape)
            found.append(Constraint(f"Member must have value less than or equal to {high}", lambda value: value <= high))
        if low is not None:
            low = _number(low, shape)
            found.append(Constraint(f"Member must have value greater than or equal to {low}", lambda value: value >= low))
        return found
    if shape.type_name in ("string", "blob", "list", "map"):
        if high is not None:
            high = int(high)
            text = f"Member must have length less than or equal to {high}"
            found.append(Constraint(text, lambda value: len(value) <= high, decisive=True))
        if low is not None:
            low = int(low)
            found.append(Constraint(f"Member must have length greater than or equal to {low}", lambda value: len(value) >= low))
    pattern = shape.metadata.get("pattern")
    if pattern is not None:
        compiled = compile_pattern(pattern)
        text = f"Member must satisfy regular expression pattern: {pattern}"
        found.append(Constraint(text, lambda value: matches(compiled, value)))
    if isinstance(shape, StringShape) and shape.enum:
        values = frozenset(shape.enum)
        text = f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        found.append(Constraint(text, lambda value: value in values))
    return found


def _number(bound: Any, shape: Shape) -> Any:
    return int(bound) if shape.type_name in ("integer", "long") else float(bound)


@functools.cache
def compile_pattern(pattern: str) -> regex.Pattern[str]:
    r"""A pattern of the models, which are Java's: `\w`, `\d`, `\s` and `\p{Alnum}` are ASCII, `\p{L}` and its like are not. No
    pattern mixes the two kinds."""
    # Java reads a surrogate pair in a pattern as the one character that it stands for.
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    unicode = regex.search(r"\\p\{[LMNPSZ]", pattern) is not None
    return regex.compile(pattern, regex.UNICODE if unicode else regex.ASCII)


def matches(pattern: regex.Pattern[str], value: str) -> bool:
    """Whether the whole of `value` matches; False as well where that takes longer than PATTERN_SECONDS."""
    # Clients say the same roles, images and instance types again and again. Only what matched is believed: what took too
    # long on a busy machine may be tried again.
    return (len(value) <= REMEMBERED_LENGTH and _remembered(pattern, value)) or _matches(pattern, value)


@functools.lru_cache(maxsize=4096)
def _remembered(pattern: regex.Pattern[str], value: str) -> bool:
    return _matches(pattern, value)


def _matches(pattern: regex.Pattern[str], value: str) -> bool:
    try:
        # Letting other threads run costs far more than almost every match takes.
        return pattern.fullmatch(value, timeout=BRIEF_SECONDS) is not None
    except TimeoutError:
        pass
    try:
        return pattern.fullmatch(value, timeout=PATTERN_SECONDS, concurrent=True) is not None
    except TimeoutError:
        return False


class Validators(Shapes[Check]):
    """The validators of a service's shapes, each compiled once; messages as AWS's JSON and Query services have them."""

    def __init__(self, code: str) -> None:
        """`code`: the error code of a violation, such as ValidationException."""
        super().__init__()
        self._code = code

    def refusal(self, violations: list[Violation]) -> AwsError:
        """The one error that tells of all violations."""
        count = len(violations)
        found = f"{count} validation error{'s' if count > 1 else ''} detected: "
        return AwsError(self._code, found + "; ".join(_sentence(violation) for violation in violations[:SHOWN_VIOLATIONS]))

    def shown_name(self, name: str, member: Shape) -> str:
        """How messages call a structure's member: beginning with a small letter."""
        return name[:1].lower() + name[1:]

    def element_path(self, path: str, number: int) -> str:
        """The path of the `number`th (from 1) element of a list."""
        return f"{path}.{number}.member"

    def scalar_elements(self, shape: ListShape) -> Check:
        """The validator of a list's elements that are scalars: AWS names the list and all that its elements must satisfy."""
        constraints = _constraints(shape.member)
        texts = ", ".join(constraint.text for constraint in constraints)
        sensitive = "sensitive" in shape.member.metadata

        def check(value: Any, path: str, found: list[Violation]) -> None:
            if not all(_satisfies(constraints, item) for item in value):
                found.append(Violation(path, value, f"Member must satisfy constraint: [{texts}]", sensitive))

        return check

    def _scalar(self, shape: Shape) -> Check:
        return self._own(shape)

    def _own(self, shape: Shape) -> Check:
        constraints = _constraints(shape)
        sensitive = "sensitive" in shape.metadata

        def check(value: Any, path: str, found: list[Violation]) -> None:
            for constraint in constraints:
                if not constraint.holds(value):
                    found.append(Violation(path, value, constraint.text, sensitive))
                    if constraint.decisive:
                        return

        return check

    def _structure(self, shape: StructureShape) -> Check:
        if shape.is_document_type:
            return _nothing
        members: list[tuple[str, str, bool, Check]] = []
        choices = ", ".join(shape.members) if shape.is_tagged_union else ""

        def check(value: Any, path: str, found: list[Violation]) -> None:
            for name, shown, required, check_member in members:
                given = value.get(name)
                if given is not None:
                    check_member(given, f"{path}.{shown}" if path else shown, found)
                elif required:
                    found.append(Violation(f"{path}.{shown}" if path else shown, None, "Member must not be null"))
            if choices and len(value) != 1:
                found.append(Violation(path, value, f"Member must have exactly one of these set: [{choices}]"))

        self._made[shape.name] = check  # before its members: shapes may be recursive
        required = frozenset(shape.required_members)
        for name, member in shape.members.items():
            members.append((name, self.shown_name(name, member), name in required, self.of(member)))
        return check

    def _list(self, shape: ListShape) -> Check:
        size = self._own(shape)

        def check(value: Any, path: str, found: list[Violation]) -> None:
            before = len(found)
            size(value, path, found)
            for number, item in enumerate(value, 1):
                if item is None:
                    found.append(Violation(self.element_path(path, number), None, "Member must not be null"))
            if len(found) == before:
                elements(value, path, found)

        def each(value: Any, path: str, found: list[Violation]) -> None:
            for number, item in enumerate(value, 1):
                element(item, self.element_path(path, number), found)

        self._made[shape.name] = check
        element = self.of(shape.member)
        nested = isinstance(shape.member, StructureShape | ListShape | MapShape)
        elements = each if nested else self.scalar_elements(shape)
        return check

    def _map(self, shape: MapShape) -> Check:
        size = self._own(shape)
        keys = _constraints(shape.key)
        nested = isinstance(shape.value, StructureShape | ListShape | MapShape)
        values = [] if nested else _constraints(shape.value)
        keys_text = f"Map keys must satisfy constraint: [{', '.join(constraint.text for constraint in keys)}]"
        values_text = f"Map value must satisfy constraint: [{', '.join(constraint.text for constraint in values)}]"

        def check(value: Any, path: str, found: list[Violation]) -> None:
            before = len(found)
            size(value, path, found)
            for key, item in value.items():
                if item is None:
                    found.append(Violation(f"{path}.{_shown(key)}.member", None, "Member must not be null"))
            if len(found) > before:
                return
            if not all(_satisfies(keys, key) for key in value):
                found.append(Violation(path, value, keys_text))
            if not all(_satisfies(values, item) for item in value.values()):
                found.append(Violation(path, value, values_text))
            if nested:
                for key, item in value.items():
                    element(item, f"{path}.{_shown(key)}.member", found)

        self._made[shape.name] = check
        element = self.of(shape.value)
        return check


class Ec2Validators(Validators):
    """Validators whose errors are EC2's: one at a time, MissingParameter or InvalidParameterValue, names as on the wire."""

    def __init__(self, wire_name: Callable[[str, Shape], str]) -> None:
        """`wire_name`: how a structure's member is called in a request."""
        super().__init__("InvalidParameterValue")
        self._wire_name = wire_name

    def refusal(self, violations: list[Violation]) -> AwsError:
        """The error of the first violation."""
        first = violations[0]
        if first.value is None:
            return AwsError("MissingParameter", f"The request must contain the parameter {first.path}")
        shown = "" if first.sensitive else f"({_shown(first.value)}) "
        wanted = first.constraint.replace("Member must have", "Expecting a")
        return AwsError(self._code, f"Value {shown}for parameter {first.path} is invalid. {wanted}.")

    def shown_name(self, name: str, member: Shape) -> str:
        """How messages call a structure's member: as the request does."""
        return self._wire_name(name, member)

    def element_path(self, path: str, number: int) -> str:
        """The path of the `number`th (from 1) element of a list."""
        return f"{path}.{number}"

    def scalar_elements(self, shape: ListShape) -> Check:
        """EC2 names the very element."""
        element = self._own(shape.member)

        def check(value: Any, path: str, found: list[Violation]) -> None:
            for number, item in enumerate(value, 1):
                element(item, self.element_path(path, number), found)

        return check


def validate(check: Check, validators: Validators, members: Members) -> None:
    """Raise the service's AwsError if `members` violate anything."""
    found: list[Violation] = []
    check(members, "", found)
    if found:
        raise validators.refusal(found)


def _nothing(value: Any, path: str, found: list[Violation]) -> None:
    """The validator of a document, which may be anything."""


def _satisfies(constraints: list[Constraint], value: Any) -> bool:
    return all(constraint.holds(value) for constraint in constraints)


def _sentence(violation: Violation) -> str:
    if violation.value is None:
        shown = "Value null at"
    elif violation.sensitive:
        shown = "Value at"
    else:
        shown = f"Value '{_shown(violation.value)}' at"
    return f"{shown} '{violation.path}' failed to satisfy constraint: {violation.constraint}"


def _shown(value: Any) -> str:
    text = _java(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _java(value: Any) -> str:
    """A value as AWS's messages print it: Java's toString()."""
    if isinstance(value, list):
        return f"[{', '.join(_java(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_java(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return "java.nio.HeapByteBuffer[pos=0 lim={0} cap={0}]".format(len(value))
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
