"""What the engine reports of itself, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from phalanx.ipsec.model import Work

Direction = Literal["in", "out"]


class EngineError(Exception):
    """The engine cannot start or does not answer. Traffic to peers stands still then; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Association:
    """A live SA. Packets and bytes are inner ones; `sequence` is the last sent or the highest received; `age` in seconds.

    `algorithm` is the name that IKE has for it; `key_bits` are the cipher's, without the salt of RFC 4106.
    """

    spi: int
    source: str
    destination: str
    direction: Direction
    algorithm: str
    key_bits: int
    esn: bool
    packets: int
    bytes: int
    sequence: int
    age: float


@dataclass(frozen=True, slots=True)
class PairCounters:
    """What crossed between two addresses, over all SAs there ever were. Inner packets and bytes.

    `installed` counts outbound SAs since the engine started: one at first, one more with each rekey or reconnection.
    """

    local: str
    remote: str
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int
    installed: int


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The engine's state at a moment. `drops` counts dropped packets by cause (native/engine/drops.h).

    `flows` are (source, destination) of the policies that put packets into ESP, or demand that they come out of it. `started`
    is when the engine was, in nanoseconds of the host's monotonic clock: what tells it from others of the same instance.
    """

    associations: tuple[Association, ...]
    flows: frozenset[tuple[str, str]]
    pairs: tuple[PairCounters, ...]
    drops: Mapping[str, int]
    work: Work
    started: int
