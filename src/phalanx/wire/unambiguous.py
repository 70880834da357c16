"""JSON of which every reader makes the same: of what this takes, another program cannot see more or less."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def loads(text: str) -> Any:
    """What a JSON text says. Raises ValueError, also where readers differ: an object names a member twice, a number is none of
    JSON's (NaN), a text holds half a character (a lone surrogate). Raises RecursionError where it is nested too deeply."""
    document = json.loads(text, object_pairs_hook=_members, parse_constant=no_constant)
    json.dumps(document, ensure_ascii=False).encode()
    return document


def no_constant(name: str) -> NoReturn:
    """For json's `parse_constant`. Raises ValueError."""
    raise ValueError(f"{name} is not JSON")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names a member twice")
    return found
