"""What carries ESP for one instance: the one interface that the kernel and our engine both have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from phalanx.ipsec.model import Work


@dataclass(frozen=True, slots=True)
class Association:
    """An SA that can carry packets now; `algorithm` is the name that IKE has for it, `key_bits` are without the salt."""

    spi: int
    source: str
    destination: str
    algorithm: str
    key_bits: int
    esn: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """Inner packets and bytes to and from one peer over all SAs there were, and how many outbound SAs there were."""

    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    installed: int = 0

    def __add__(self, more: Totals) -> Totals:
        return Totals(
            self.packets_in + more.packets_in,
            self.packets_out + more.packets_out,
            self.bytes_in + more.bytes_in,
            self.bytes_out + more.bytes_out,
            self.installed + more.installed,
        )


@dataclass(frozen=True, slots=True)
class PlaneReport:
    """The data plane at a moment: live SAs, totals by the peer's address, dropped packets by cause, since its first start.

    `flows` are (source, destination) of the policies that put packets into ESP, or demand that they come out of it. `work` is
    None where nobody counts it, as in the kernel.
    """

    associations: tuple[Association, ...]
    flows: frozenset[tuple[str, str]]
    totals: Mapping[str, Totals]
    drops: Mapping[str, int]
    work: Work | None = None


class Plane(Protocol):
    """A data plane in one instance's namespace. It outlives this process; every call finds what is really there.

    All methods raise MeshError where the plane fails.
    """

    def start(self) -> None:
        """Carry what SAs say between the instance and its peers. What runs is adopted, what hangs is replaced."""

    def health(self) -> str | None:
        """None where the plane runs; else what is wrong with it."""

    def environment(self) -> Mapping[str, str]:
        """What charon needs in its environment to reach the plane."""

    def clear(self) -> None:
        """Remove the SAs and policies that a dead charon left; guards stay."""

    def measure(self) -> PlaneReport:
        """Read SAs and counters."""

    def stop(self) -> None:
        """End the plane and remove what it made. Does nothing where it does not run."""
