"""Request bodies to members, by the shapes of botocore's service models.

A parser is compiled for each shape once, when the application is built. JSON: "AWS JSON protocol" of the Smithy
specification. Query and EC2: "AWS Query protocol" and "EC2 Query protocol" there; what botocore/serialize.py sends is what
these parsers take.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import ListShape, MapShape, Shape, StructureShape

from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members
from phalanx.wire.shapes import Shapes
from phalanx.wire.unambiguous import no_constant

Parse = Callable[[Any], Any]
QueryParse = Callable[["Node", str], Any]
"""Takes a node and the parameter's name on the wire, for messages."""

MAX_PARAMETERS = 20_000
"""Parameters that a query may have; EC2's own limit is not documented, this one only bounds the work."""
MAX_DEPTH = 64
"""Parts that a parameter's name may have."""

_INTEGER_BITS = {"integer": 31, "long": 63}
_SPECIAL_FLOATS = {"NaN", "Infinity", "-Infinity"}
_SURROGATE_ESCAPE = re.compile(rb"\\[uU][dD][89a-fA-F]")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def serialization_error(message: str) -> AwsError:
    """The error that AWS's JSON services answer to a body that does not fit the model's types."""
    return AwsError("SerializationException", message)


# ---------------------------------------------------------------------------------------------------------------- JSON


def json_document(body: bytes) -> dict[str, Any]:
    """The JSON object that is the body of an AWS JSON request; an empty body is an empty one. Raises SerializationException."""
    if not body:
        return {}
    try:
        document = _JSON.decode(body.decode())
        if _SURROGATE_ESCAPE.search(body):
            # Halves of surrogate pairs are no characters: databases and UTF-8 refuse them later on.
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise serialization_error("The request body is not a JSON document in UTF-8.") from None
    if type(document) is not dict:
        raise serialization_error("The request body is not a JSON object.")
    return document


_JSON = json.JSONDecoder(parse_constant=no_constant)


class JsonParsers(Shapes[Parse]):
    """The parsers of a service's shapes for documents of JSON, or of another notation by its `scalars`; each compiled once.
    Unknown members are ignored."""

    def __init__(self, scalars: Mapping[str, Parse] | None = None) -> None:
        """`scalars`: parsers of scalar shapes by type name; those of JSON where not given."""
        self.scalars = JSON_SCALARS if scalars is None else scalars
        super().__init__()

    def unknown(self, structure: Shape, name: str) -> None:
        """A member that the model of a structure does not know, and that is not null."""

    def _scalar(self, shape: Shape) -> Parse:
        return self.scalars[shape.type_name]

    def _structure(self, shape: StructureShape) -> Parse:
        if shape.is_document_type:
            return lambda value: value
        members: dict[str, tuple[str, Parse]] = {}

        def parse(value: Any) -> Members:
            if type(value) is not dict:
                raise not_a(value, "a structure")
            parsed = {}
            for key, raw in value.items():
                if raw is None:
                    continue
                member = members.get(key)
                if member is None:
                    self.unknown(shape, key)
                else:
                    parsed[member[0]] = member[1](raw)
            return parsed

        self._made[shape.name] = parse  # before its members: shapes may be recursive
        for name, member in shape.members.items():
            members[member.serialization.get("name", name)] = (name, self.of(member))
        return parse

    def _list(self, shape: ListShape) -> Parse:
        def parse(value: Any) -> list[Any]:
            if type(value) is not list:
                raise not_a(value, "a list")
            return [None if item is None else element(item) for item in value]

        self._made[shape.name] = parse
        element = self.of(shape.member)
        return parse

    def _map(self, shape: MapShape) -> Parse:
        def parse(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise not_a(value, "a map")
            return {key: None if item is None else element(item) for key, item in value.items()}

        self._made[shape.name] = parse
        element = self.of(shape.value)
        return parse


class StrictJsonParsers(JsonParsers):
    """The same, for requests that are not to be taken for less than they say: unknown members are refused."""

    def unknown(self, structure: Shape, name: str) -> None:
        """Raise ValidationException."""
        raise AwsError(
            "ValidationException",
            f"The member {name[:256]} of {structure.name} is not supported by this version of Phalanx. Leave it out.",
        )


def not_a(value: Any, wanted: str) -> AwsError:
    """A SerializationException in the words of AWS's JSON services."""
    if type(value) is dict:
        return serialization_error("Start of structure or map found where not expected.")
    if type(value) is list:
        return serialization_error("Start of list found where not expected.")
    kind = {str: "STRING_VALUE", bool: f"{value}_VALUE".upper()}.get(type(value), "NUMBER_VALUE")
    return serialization_error(f"{kind} can not be converted to {wanted}")


def _json_string(value: Any) -> str:
    if type(value) is not str:
        raise not_a(value, "a String")
    return value


def _json_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise not_a(value, "a Boolean")
    return value


def _json_integer(type_name: str) -> Parse:
    bits, wanted = _INTEGER_BITS[type_name], {"integer": "an Integer", "long": "a Long"}[type_name]

    def parse(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not -(1 << bits) <= value < 1 << bits:
            raise not_a(value, wanted)
        return value

    return parse


def _json_float(value: Any) -> float:
    if type(value) is str and value in _SPECIAL_FLOATS:
        return float(value)
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and abs(value) < 1 << 1000:
        return float(value)
    raise not_a(value, "a Double")


def _json_timestamp(value: Any) -> datetime:
    if type(value) not in (int, float):
        raise not_a(value, "a Timestamp")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise not_a(value, "a Timestamp") from None


def _json_blob(value: Any) -> bytes:
    if type(value) is not str:
        raise not_a(value, "a Blob")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise serialization_error("A blob is not valid base64.") from None


JSON_SCALARS: dict[str, Parse] = {
    "string": _json_string,
    "character": _json_string,
    "boolean": _json_boolean,
    "integer": _json_integer("integer"),
    "long": _json_integer("long"),
    "float": _json_float,
    "double": _json_float,
    "timestamp": _json_timestamp,
    "blob": _json_blob,
}


# --------------------------------------------------------------------------------------------------- Query and EC2 query


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


_PROTOCOL_PARAMETERS = frozenset({"Action", "Version", "AWSAccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp"})


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
    bits = _INTEGER_BITS[type_name]

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
