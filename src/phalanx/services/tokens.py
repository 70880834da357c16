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
    """The position that `encode` was given. Raises ValueError unless it holds one value of each of `kinds`, in order.

    Anybody can make up a token: what it holds is such that every database takes it.
    """
    try:
        position = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
    except (binascii.Error, UnicodeError, ValueError, RecursionError) as error:
        raise ValueError("not a page token") from error
    if not isinstance(position, list) or [type(value) for value in position] != list(kinds):
        raise ValueError("not a page token of this list")
    for value in position:
        if isinstance(value, str):
            value.encode()  # halves of surrogate pairs are no characters: UnicodeEncodeError, a ValueError
        elif not -(1 << 63) <= value < 1 << 63:
            raise ValueError("not a page token: a number has more than 64 bits")
    return position
