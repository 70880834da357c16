"""Which instance is on which host: kept where it outlives the control plane, since hosts may be away when that comes back."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from phalanx.fleet.base import Unreachable
from phalanx.linux import files
from phalanx.network.model import Eni
from phalanx.node.messages import Capacity, decode, encode

_VNIS = 1 << 24
"""Numbers that a VXLAN may have (RFC 7348 section 5); 0 is none of ours."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance is, what it takes there (bytes of memory, GPUs); `lost` with its host, on which it may still be.

    `vni` is its VPC's number on the network between hosts (24 bits).
    """

    host: str
    vpc_id: str
    vni: int
    eni: Eni
    memory: int
    gpus: int
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What a host has, and the MTU of instances whose packets leave it."""

    capacity: Capacity
    mtu: int


@dataclass(frozen=True, slots=True)
class _Content:
    places: dict[str, Place] = field(default_factory=dict)
    hosts: dict[str, Facts] = field(default_factory=dict)


class Shelf(Protocol):
    """Where the ledger is kept: one text."""

    def load(self) -> str | None:
        """What was saved last; None where nothing ever was. Raises FleetError."""

    def save(self, content: str) -> None:
        """Keep a text instead of the one before, for good when this returns. Raises FleetError."""


class File:
    """A shelf of a control plane that has no replicas."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> str | None:
        """See Shelf."""
        try:
            return self._path.read_text() if self._path.exists() else None
        except OSError as error:
            raise Unreachable(f"Where instances are cannot be read: {error}") from error

    def save(self, content: str) -> None:
        """See Shelf."""
        try:
            files.replace(self._path, content)
        except OSError as error:
            raise Unreachable(f"Where instances are cannot be kept: {error}") from error


class Ledger:
    """Every change is on its shelf before it returns. Holds no secret."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._content = _Content()

    def load(self) -> None:
        """Read what is on the shelf. Raises FleetError."""
        with self._lock:
            kept = self._shelf.load()
            self._content = _Content() if kept is None else decode(_Content, json.loads(kept))

    @property
    def places(self) -> Mapping[str, Place]:
        """Places of all instances, by id; those that are lost too."""
        return self._content.places

    @property
    def hosts(self) -> Mapping[str, Facts]:
        """The hosts of the fleet, by address, also while they are away."""
        return self._content.hosts

    def on(self, host: str) -> list[str]:
        """Ids of the instances on a host."""
        return [id_ for id_, place in self.places.items() if place.host == host]

    def vni(self, vpc_id: str) -> int:
        """The number that a VPC has on the network between hosts while instances of it are anywhere; else one that none has.

        Drawn, and not the first that is free: a ledger that was brought back from a backup would give that again, while a host
        that is away still has instances with it.
        """
        taken = {place.vpc_id: place.vni for place in self.places.values()}
        if vpc_id in taken:
            return taken[vpc_id]
        while (drawn := secrets.randbelow(_VNIS)) in (0, *taken.values()):
            pass
        return drawn

    def put(self, places: Mapping[str, Place]) -> None:
        """Instances are to be on hosts."""
        with self._lock:
            self._save(replace(self._content, places={**self.places, **places}))

    def remove(self, ids: Iterable[str]) -> None:
        """Instances are nowhere any more."""
        with self._lock:
            gone = set(ids)
            self._save(replace(self._content, places={id_: place for id_, place in self.places.items() if id_ not in gone}))

    def note(self, host: str, facts: Facts) -> None:
        """A host is part of the fleet."""
        with self._lock:
            if self.hosts.get(host) != facts:
                self._save(replace(self._content, hosts={**self.hosts, host: facts}))

    def lose(self, host: str) -> None:
        """A host is no part of the fleet any more, and its instances are lost."""
        with self._lock:
            places = {id_: replace(place, lost=place.lost or place.host == host) for id_, place in self.places.items()}
            self._save(_Content(places, {address: facts for address, facts in self.hosts.items() if address != host}))

    def disown(self, planned: Collection[str]) -> None:
        """Instances that are not `planned` are no job's: they are lost, wherever they are."""
        with self._lock:
            places = {id_: replace(place, lost=place.lost or id_ not in planned) for id_, place in self.places.items()}
            if places != self.places:
                self._save(replace(self._content, places=places))

    def _save(self, content: _Content) -> None:
        self._shelf.save(json.dumps(encode(_Content, content)))
        self._content = content
