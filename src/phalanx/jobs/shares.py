"""What jobs take of the fleet, and whether it is there: sums by availability zone. Which host has it is asked later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes of memory, and GPUs."""

    memory: int = 0
    gpus: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(self.memory + other.memory, self.gpus + other.gpus)


Shares = Mapping[str | None, Share]
"""By availability zone. Under None is, of a job, what may be in any zone; of hosts, what stands for every zone."""


def added(shares: Iterable[Shares]) -> dict[str | None, Share]:
    """All of them together."""
    total: dict[str | None, Share] = {}
    for each in shares:
        for zone, share in each.items():
            total[zone] = total.get(zone, Share()) + share
    return total


def fits(need: Shares, taken: Shares, room: Shares) -> bool:
    """Whether `room` has what is needed beside what is `taken`.

    Where more is taken than there is, since a host has gone, that hinders only who needs some of the same.
    """
    after = added([taken, need])
    return all(_lack(after, room, part) <= _lack(taken, room, part) for part in (attrgetter("memory"), attrgetter("gpus")))


def contend(need: Iterable[str | None], other: Iterable[str | None], room: Shares) -> bool:
    """Whether two jobs that need something in these zones may wait for the same hosts."""
    one, two = set(need), set(other)
    return bool(one and two) and (None in one | two | room.keys() or bool(one & two))


def _lack(wanted: Shares, room: Shares, part: Callable[[Share], int]) -> int:
    """How much is missing when each zone's hosts serve their zone first, and those of every zone what is left over."""
    everywhere = part(room.get(None, Share()))
    beyond, spare = 0, 0
    for zone in (wanted.keys() | room.keys()) - {None}:
        left = part(room.get(zone, Share())) - part(wanted.get(zone, Share()))
        beyond, spare = beyond + max(0, -left), spare + max(0, left)
    free = max(0, everywhere - beyond) + spare
    return max(0, beyond - everywhere) + max(0, part(wanted.get(None, Share())) - free)
