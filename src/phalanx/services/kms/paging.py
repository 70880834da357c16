"""Pages of KMS: a Marker is where the next one begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from phalanx.services import tokens
from phalanx.wire.errors import AwsError
from phalanx.wire.service import Members

Row = TypeVar("Row")


def after(members: Members, *kinds: type[str] | type[int]) -> tokens.Position | None:
    """What a Marker says the page comes after; None for the first. Raises InvalidMarkerException."""
    if "Marker" not in members:
        return None
    try:
        return tokens.decode(members["Marker"], *kinds)
    except ValueError as error:
        raise AwsError("InvalidMarkerException", "The marker is not one that this list gave.") from error


def page(
    name: str, found: Sequence[Row], limit: int, show: Callable[[Row], Members], place: Callable[[Row], tokens.Position]
) -> Members:
    """The answer with `limit` of those that were `found` at most, each as `show` has it. Where there are more of them, the next
    page comes after the `place` of the last."""
    more = len(found) > limit
    marker = tokens.encode(place(found[limit - 1])) if more else None
    return {name: [show(each) for each in found[:limit]], "Truncated": more, "NextMarker": marker}
