"""Pages of KMS: a Marker is where the next one begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phalanx.services import tokens
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members


def after(members: Members, *kinds: type[str] | type[int]) -> tokens.Position | None:
    """What a Marker says the page comes after; None for the first. Raises InvalidMarkerException."""
    if "Marker" not in members:
        return None
    try:
        return tokens.decode(members["Marker"], *kinds)
    except ValueError as error:
        raise AwsError("InvalidMarkerException", "The marker is not one that this list gave.") from error


def page(name: str, found: Sequence[Any], shown: Sequence[Members], last: tokens.Position | None) -> Members:
    """The answer with `shown`, of which more were `found` where there is a next page; `last` is the position of its last."""
    more = len(found) > len(shown)
    return {name: list(shown), "Truncated": more, "NextMarker": tokens.encode(last) if more and last else None}
