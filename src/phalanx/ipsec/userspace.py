"""Our engine as data plane, for kernels without ESP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from phalanx.ipsec import netns
from phalanx.ipsec.engine.model import EngineError
from phalanx.ipsec.engine.process import Engine
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.plane import Association, PlaneReport, Totals


class EnginePlane:
    """The engine process of one instance, as a data plane (plane.Plane)."""

    def __init__(self, space: str, rundir: Path, device: str) -> None:
        self._engine = Engine(netns.path(space), rundir)
        self._device = device

    def start(self, address: str, peers: Sequence[str]) -> None:
        """Start or adopt the engine: TUN, routes to the peers, XFRM server."""
        with _translated():
            self._engine.start(address, peers, device=self._device)

    def health(self) -> str | None:
        """None where the engine runs, answers and has the routes to the peers."""
        with _translated():
            return self._engine.fault()

    def environment(self) -> Mapping[str, str]:
        """The shim that sends charon's XFRM messages to the engine."""
        with _translated():
            return self._engine.charon_environment()

    def clear(self) -> None:
        """Nothing to do: what a charon made in the engine goes when its connection closes."""

    def measure(self) -> PlaneReport:
        """What the engine counted since it started."""
        with _translated():
            report = self._engine.measure()
        return PlaneReport(
            associations=tuple(
                Association(sa.spi, sa.source, sa.destination, sa.algorithm, sa.key_bits, sa.esn) for sa in report.associations
            ),
            flows=report.flows,
            totals={
                pair.remote: Totals(pair.packets_in, pair.packets_out, pair.bytes_in, pair.bytes_out, pair.installed)
                for pair in report.pairs
            },
            drops=report.drops,
            work=report.work,
        )

    def stop(self) -> None:
        """End the engine, and its TUN device with the routes."""
        with _translated():
            self._engine.stop()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        raise MeshError(str(error)) from error
