"""Members to response bodies, by the shapes of botocore's service models.

A serializer is compiled for each shape once, when the application is built. Whatever it writes, botocore/parsers.py reads.
Members that are None or that the model does not know are left out.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from phalanx.wire.service import Members
from phalanx.wire.shapes import Shapes

ToJson = Callable[[Any], Any]
WriteXml = Callable[[list[str], Any], None]
"""Appends the text of a value, without the element around it."""

_TO_ESCAPE = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"}


def xml_text(text: str) -> str:
    """`text` as it stands between tags. What XML 1.0 §2.2 does not allow becomes U+FFFD."""
    return _TO_ESCAPE.sub(lambda match: _ESCAPES.get(match[0], "\ufffd"), text)


_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def json_body(value: Any) -> bytes:
    """The body of an AWS JSON answer."""
    return _JSON.encode(value).encode()


class JsonSerializers(Shapes[ToJson]):
    """The serializers of a service's shapes to JSON, or to another notation by its `scalars`; each compiled once."""

    def __init__(self, scalars: Mapping[str, ToJson] | None = None) -> None:
        """`scalars`: serializers of scalar shapes by type name; those of JSON where not given."""
        self._scalars = JSON_SCALARS if scalars is None else scalars
        super().__init__()

    def _scalar(self, shape: Shape) -> ToJson:
        return self._scalars[shape.type_name]

    def _structure(self, shape: StructureShape) -> ToJson:
        if shape.is_document_type:
            return lambda value: value
        members: dict[str, tuple[str, ToJson]] = {}

        def serialize(value: Members) -> dict[str, Any]:
            out = {}
            for name, item in value.items():
                member = members.get(name)
                if member is not None and item is not None:
                    out[member[0]] = member[1](item)
            return out

        self._made[shape.name] = serialize  # before its members: shapes may be recursive
        for name, member in shape.members.items():
            members[name] = (member.serialization.get("name", name), self.of(member))
        return serialize

    def _list(self, shape: ListShape) -> ToJson:
        def serialize(value: list[Any]) -> list[Any]:
            return [element(item) for item in value]

        self._made[shape.name] = serialize
        element = self.of(shape.member)
        return serialize

    def _map(self, shape: MapShape) -> ToJson:
        def serialize(value: dict[str, Any]) -> dict[str, Any]:
            return {key: element(item) for key, item in value.items()}

        self._made[shape.name] = serialize
        element = self.of(shape.value)
        return serialize


def _same(value: Any) -> Any:
    return value


def _json_float(value: float) -> float | str:
    return value if math.isfinite(value) else _special_float(value)


def _special_float(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json_timestamp(value: datetime) -> float:
    """Seconds since the epoch, to the millisecond as AWS has them."""
    return round(aware(value).timestamp(), 3)


def aware(value: datetime) -> datetime:
    """The time itself. Raises ValueError where it does not say in which zone it is meant."""
    if value.tzinfo is None:
        raise ValueError(f"timestamp {value} has no time zone")
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


JSON_SCALARS: dict[str, ToJson] = {
    "string": _same,
    "character": _same,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": _json_float,
    "double": _json_float,
    "timestamp": _json_timestamp,
    "blob": _base64,
}


class XmlSerializers(Shapes[WriteXml]):
    """The XML serializers of a service's shapes, each compiled once: AWS Query and EC2 answers are written alike."""

    def _scalar(self, shape: Shape) -> WriteXml:
        text = _XML_SCALARS[shape.type_name]
        return lambda out, value: out.append(text(value))

    def _structure(self, shape: StructureShape) -> WriteXml:
        members: list[tuple[str, str, str, WriteXml]] = []

        def write(out: list[str], value: Members) -> None:
            for name, opening, closing, write_member in members:
                item = value.get(name)
                if item is not None:
                    out.append(opening)
                    write_member(out, item)
                    out.append(closing)

        self._made[shape.name] = write  # before its members: shapes may be recursive
        for name, member in shape.members.items():
            tag = member.serialization.get("name", name)
            members.append((name, f"<{tag}>", f"</{tag}>", self.of(member)))
        return write

    def _list(self, shape: ListShape) -> WriteXml:
        tag = shape.member.serialization.get("name", "member")
        opening, closing = f"<{tag}>", f"</{tag}>"

        def write(out: list[str], value: list[Any]) -> None:
            for item in value:
                out.append(opening)
                element(out, item)
                out.append(closing)

        self._made[shape.name] = write
        element = self.of(shape.member)
        return write

    def _map(self, shape: MapShape) -> WriteXml:
        key_tag = shape.key.serialization.get("name", "key")
        value_tag = shape.value.serialization.get("name", "value")

        def write(out: list[str], value: dict[str, Any]) -> None:
            for key, item in value.items():
                out.append(f"<entry><{key_tag}>{xml_text(key)}</{key_tag}><{value_tag}>")
                element(out, item)
                out.append(f"</{value_tag}></entry>")

        self._made[shape.name] = write
        element = self.of(shape.value)
        return write


def _xml_boolean(value: bool) -> str:
    return "true" if value else "false"


def _xml_integer(value: int) -> str:
    return str(int(value))


def _xml_float(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else _special_float(value)


def _xml_timestamp(value: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond as AWS has it."""
    return aware(value).astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


_XML_SCALARS: dict[str, Callable[[Any], str]] = {
    "string": xml_text,
    "character": xml_text,
    "boolean": _xml_boolean,
    "integer": _xml_integer,
    "long": _xml_integer,
    "float": _xml_float,
    "double": _xml_float,
    "timestamp": _xml_timestamp,
    "blob": _base64,
}
