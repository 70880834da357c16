"""Spans of bytes of an object (RFC 9110 section 14)."""

from __future__ import annotations

import re

from phalanx.wire.errors import AwsError

_SPAN = re.compile(rb"bytes=([0-9]{0,19})-([0-9]{0,19})")


def is_span(field: bytes) -> bool:
    """Whether the value of Range asks for one span of bytes. Others are not heeded (section 14.2)."""
    found = _SPAN.fullmatch(field.strip())
    return found is not None and found[0] != b"bytes=-" and not (found[1] and found[2] and int(found[1]) > int(found[2]))


def part(field: bytes, size: int) -> tuple[int, int]:
    """The first byte, and how many, that a span means of an object of `size` bytes. Raises AwsError where there are none."""
    found = _SPAN.fullmatch(field.strip())
    assert found is not None  # noqa: S101
    if found[1]:
        first, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
    else:
        first, end = max(size - int(found[2]), 0), size
    if first >= end:
        raise AwsError("InvalidRange", "The requested range is not satisfiable", 416)
    return first, end - first
