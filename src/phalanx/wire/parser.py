"""Bodies that are documents, of JSON or its like, to members, by the shapes of botocore's service models: "AWS JSON protocol"
of the Smithy specification.

A parser is compiled for each shape once, when the application is built. What botocore/serialize.py sends is what these take.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members
from phalanx.wire.shapes import INTEGER_BITS, Shapes
from phalanx.wire.unambiguous import no_constant

Parse = Callable[[Any], Any]

_SPECIAL_FLOATS = {"NaN", "Infinity", "-Infinity"}
_SURROGATE_ESCAPE = re.compile(rb"\\[uU][dD][89a-fA-F]")


def serialization_error(message: str) -> AwsError:
    """The error that AWS's JSON services answer to a body that does not fit the model's types."""
    return AwsError("SerializationException", message)


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
    bits, wanted = INTEGER_BITS[type_name], {"integer": "an Integer", "long": "a Long"}[type_name]

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
