"""Query strings and form bodies to members, by the shapes of botocore's service models: "AWS Query protocol" and "EC2 Query
protocol" of the Smithy specification.

A parser is compiled for each shape once, when the application is built. What botocore/serialize.py sends is what these take.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import ListShape, MapShape, Shape, StructureShape

from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members
from phalanx.wire.shapes import INTEGER_BITS, Shapes

QueryParse = Callable[["Node", str], Any]
"""Takes a node and the parameter's name on the wire, for messages."""

MAX_PARAMETERS = 20_000
"""Parameters that a query may have; EC2's own limit is not documented, this one only bounds the work."""
MAX_DEPTH = 64
"""Parts that a parameter's name may have."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PROTOCOL_PARAMETERS = frozenset({"Action", "Version", "AWSAccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp"})


class Node:
    """A parameter and what its name is a prefix of: `Tag=x` is the value of Tag, `Tag.1.Key=y` lies in its children."""

    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.value: str | None = None
        self.children: dict[str, Node] = {}


def query_parameters(text: bytes) -> dict[str, str]:
    """The parameters of a form body or query string by name. Raises AwsError MalformedQueryString or InvalidCharacter."""
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise AwsError("MalformedQueryString", "The query string is not valid UTF-8 or has too many parameters.") from None
    for _, value in pairs:
        if _NOT_XML.search(value):
            # Such a value could never be answered in XML.
            raise AwsError("InvalidCharacter", "A specified parameter contains an invalid character.")
    return dict(pairs)


def parameter_tree(parameters: dict[str, str]) -> Node:
    """The parameters of an operation as a tree by the dots in their names; the protocols' own parameters are left out.

    Raises AwsError MalformedQueryString for names nested beyond all models.
    """
    root = Node()
    for name, value in parameters.items():
        if name in _PROTOCOL_PARAMETERS or name.startswith("X-Amz-"):
            continue
        parts = name.split(".")
        if len(parts) > MAX_DEPTH:
            raise AwsError("MalformedQueryString", f"A parameter's name has more than {MAX_DEPTH} parts.")
        node = root
        for part in parts:
            child = node.children.get(part)
            if child is None:
                child = node.children[part] = Node()
            node = child
        node.value = value
    return root


class QueryParsers(Shapes[QueryParse]):
    """The AWS Query parsers of a service's shapes, each compiled once. Unknown parameters are ignored."""

    def wire_name(self, name: str, member: Shape) -> str:
        """How a member of a structure is called in a request."""
        return str(member.serialization.get("name", name))

    def unknown(self, name: str) -> None:
        """A parameter that the model does not know."""

    def invalid(self, name: str, value: str, wanted: str) -> AwsError:
        """The error for a value that is not of its type."""
        return AwsError("ValidationError", f"Value '{value[:256]}' at '{name}' is not {wanted}.")

    def elements(self, shape: ListShape, node: Node, name: str) -> Iterator[tuple[Node, str]]:
        """The elements of a list in order, each with its name."""
        tag = shape.member.serialization.get("name", "member")
        child = node.children.get(tag)
        if child is not None:
            yield from self._numbered(child, f"{name}.{tag}")

    def _numbered(self, node: Node, name: str) -> Iterator[tuple[Node, str]]:
        numbers = []
        for key in node.children:
            if key.isascii() and key.isdigit() and len(key) < 10:
                numbers.append((int(key), key))
            else:
                self.unknown(f"{name}.{key}")
        for _, key in sorted(numbers):
            yield node.children[key], f"{name}.{key}"

    def _scalar(self, shape: Shape) -> QueryParse:
        convert, wanted = _QUERY_SCALARS[shape.type_name]

        def parse(node: Node, name: str) -> Any:
            for key in node.children:
                self.unknown(f"{name}.{key}")
            if node.value is None:
                return None
            try:
                return convert(node.value)
            except (ValueError, OverflowError):
                raise self.invalid(name, node.value, wanted) from None

        return parse

    def _structure(self, shape: StructureShape) -> QueryParse:
        members: dict[str, tuple[str, QueryParse]] = {}

        def parse(node: Node, name: str) -> Members:
            if node.value:
                self.unknown(name)
            parsed = {}
            for key, child in node.children.items():
                child_name = f"{name}.{key}" if name else key
                member = members.get(key)
                if member is None:
                    self.unknown(child_name)
                    continue
                value = member[1](child, child_name)
                if value is not None:
                    parsed[member[0]] = value
            return parsed

        self._made[shape.name] = parse  # before its members: shapes may be recursive
        for name, member in shape.members.items():
            members[self.wire_name(name, member)] = (name, self.of(member))
        return parse

    def _list(self, shape: ListShape) -> QueryParse:
        def parse(node: Node, name: str) -> list[Any]:
            if node.value:
                self.unknown(name)
            return [element(child, child_name) for child, child_name in self.elements(shape, node, name)]

        self._made[shape.name] = parse
        element = self.of(shape.member)
        return parse

    def _map(self, shape: MapShape) -> QueryParse:
        def parse(node: Node, name: str) -> dict[str, Any]:
            entries = node.children.get("entry", Node())
            parsed = {}
            for entry, entry_name in self._numbered(entries, f"{name}.entry"):
                key, value = entry.children.get(key_tag, Node()), entry.children.get(value_tag)
                if key.value is not None and value is not None:
                    parsed[key.value] = element(value, f"{entry_name}.{value_tag}")
            return parsed

        self._made[shape.name] = parse
        element = self.of(shape.value)
        key_tag = shape.key.serialization.get("name", "key")
        value_tag = shape.value.serialization.get("name", "value")
        return parse


class Ec2Parsers(QueryParsers):
    """The EC2 query parsers of a service's shapes: lists are always flat, names capitalised, unknown parameters refused."""

    def wire_name(self, name: str, member: Shape) -> str:
        """`queryName`, else `locationName` capitalised, else the member's own name."""
        if "queryName" in member.serialization:
            return str(member.serialization["queryName"])
        given = str(member.serialization.get("name", ""))
        return given[:1].upper() + given[1:] if given else name

    def unknown(self, name: str) -> None:
        """EC2 refuses what it does not know."""
        raise AwsError("UnknownParameter", f"The parameter {name[:256]} is not recognized")

    def invalid(self, name: str, value: str, wanted: str) -> AwsError:
        """The error for a value that is not of its type."""
        return AwsError("InvalidParameterValue", f"Value ({value[:256]}) for parameter {name} is invalid. Expecting {wanted}.")

    def elements(self, shape: ListShape, node: Node, name: str) -> Iterator[tuple[Node, str]]:
        """The elements of a list in order, each with its name."""
        return self._numbered(node, name)


def _query_boolean(value: str) -> bool:
    lower = value.lower()
    if lower not in ("true", "false"):
        raise ValueError(value)
    return lower == "true"


def _query_integer(type_name: str) -> Callable[[str], int]:
    bits = INTEGER_BITS[type_name]

    def convert(value: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", value) or not -(1 << bits) <= int(value) < 1 << bits:
            raise ValueError(value)
        return int(value)

    return convert


def _query_float(value: str) -> float:
    if not re.fullmatch(r"NaN|-?Infinity|[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value):
        raise ValueError(value)
    return float(value)


def _query_timestamp(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _query_blob(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


_QUERY_SCALARS: dict[str, tuple[Callable[[str], Any], str]] = {
    "string": (str, "a string"),
    "character": (str, "a string"),
    "boolean": (_query_boolean, "true or false"),
    "integer": (_query_integer("integer"), "an integer"),
    "long": (_query_integer("long"), "an integer"),
    "float": (_query_float, "a number"),
    "double": (_query_float, "a number"),
    "timestamp": (_query_timestamp, "an ISO 8601 time"),
    "blob": (_query_blob, "base64"),
}
