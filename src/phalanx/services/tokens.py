"""Opaque page tokens: the position after which the next page begins."""

from __future__ import annotations

import base64
import binascii
import json

Position = list[str | int]


def encode(position: Position) -> str:
    """A token for a position."""
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode()


def decode(token: str, *kinds: type[str] | type[int]) -> Position:
    """The position that `encode` was given. Raises ValueError unless it holds one value of each of `kinds`, in order."""
    try:
        position = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise ValueError("not a page token") from error
    if not isinstance(position, list) or [type(value) for value in position] != list(kinds):
        raise ValueError("not a page token of this list")
    return position
