"""Which host an instance goes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phalanx.fleet.base import Room


def choose(needs: Sequence[Room], rooms: Mapping[str, Room], spread: bool) -> list[str] | None:
    """A host for each of a job's instances; None where they do not fit now.

    Packed, they are on as few hosts as can be, on the fullest that hold them; spread, each is on a host of its own.
    """
    return _spread(needs, rooms) if spread else _packed(needs, rooms)


def _spread(needs: Sequence[Room], rooms: Mapping[str, Room]) -> list[str] | None:
    chosen: list[str] = []
    for need in needs:
        left = [host for host in rooms if host not in chosen and rooms[host].holds(need)]
        if not left:
            return None
        chosen.append(max(left, key=lambda host: (rooms[host].memory, host)))
    return chosen


def _packed(needs: Sequence[Room], rooms: Mapping[str, Room]) -> list[str] | None:
    left, chosen = dict(rooms), list[str]()
    while len(chosen) < len(needs):
        rest = needs[len(chosen) :]
        counts = {host: _count(rest, room) for host, room in left.items()}
        host = max(left, key=lambda host: (counts[host], -left[host].memory, host), default=None)
        if host is None or counts[host] == 0:
            return None
        for need in rest[: counts[host]]:
            left[host] = left[host].without(need)
            chosen.append(host)
    return chosen


def _count(needs: Sequence[Room], room: Room) -> int:
    """How many of the first ones a room holds together."""
    for number, need in enumerate(needs):
        if not room.holds(need):
            return number
        room = room.without(need)
    return len(needs)
