"""Bodies of the Smithy RPC v2 CBOR protocol (RFC 8949): documents, and the scalars that CBOR writes in its own way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import cbor2

from phalanx.wire.parser import JSON_SCALARS, Parse, not_a, serialization_error
from phalanx.wire.serializer import JSON_SCALARS as TO_JSON
from phalanx.wire.serializer import ToJson, aware

CONTENT_TYPE = "application/cbor"


def cbor_document(body: bytes) -> dict[str, Any]:
    """The map that is the body of a request; an empty body is an empty one. Raises SerializationException."""
    if not body:
        return {}
    try:
        document = cbor2.loads(body)
    except (cbor2.CBORDecodeError, RecursionError):
        raise serialization_error("The request body is not a CBOR document.") from None
    if type(document) is not dict:
        raise serialization_error("The request body is not a CBOR map.")
    return document


def cbor_body(value: Any) -> bytes:
    """The body of an answer."""
    return cbor2.dumps(value, datetime_as_timestamp=True)


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int and abs(value) < 1 << 1000:
        return float(value)
    raise not_a(value, "a Double")


def _timestamp(value: Any) -> datetime:
    """Tag 1, which the library has made a time of."""
    if type(value) is not datetime or value.tzinfo is None:
        raise not_a(value, "a Timestamp")
    return value.astimezone(UTC)


def _blob(value: Any) -> bytes:
    if type(value) is not bytes:
        raise not_a(value, "a Blob")
    return value


def _to_timestamp(value: datetime) -> datetime:
    """To the millisecond, as AWS has it."""
    return datetime.fromtimestamp(round(aware(value).timestamp(), 3), UTC)


FROM_CBOR: dict[str, Parse] = {
    **JSON_SCALARS,
    "float": _float,
    "double": _float,
    "timestamp": _timestamp,
    "blob": _blob,
}
"""Parsers of scalars by type name."""

TO_CBOR: dict[str, ToJson] = {
    **TO_JSON,
    "float": float,
    "double": float,
    "timestamp": _to_timestamp,
    "blob": bytes,
}
"""Serializers of scalars by type name."""
