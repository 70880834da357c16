"""Our engine as data plane, for kernels without ESP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from phalanx.ipsec import netns
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.engine.process import DEAD, Engine
from phalanx.ipsec.errors import MeshError
from phalanx.ipsec.model import Work
from phalanx.ipsec.plane import PlaneReport
from phalanx.ipsec.tally import Counts, Tally


class EnginePlane:
    """The engine process of one instance, as a data plane (plane.Plane)."""

    def __init__(self, space: str, rundir: Path, address: str, peers: Sequence[str], device: str) -> None:
        self._engine = Engine(netns.path(space), rundir)
        self._address, self._peers, self._device = address, peers, device
        self._tally = Tally(rundir)

    def start(self) -> None:
        """Start or adopt the engine: TUN, routes to the peers, XFRM server."""
        with _translated():
            self._engine.start(self._address, self._peers, device=self._device)

    def health(self) -> str | None:
        """None where the engine runs, answers and has the routes to the peers."""
        with _translated():
            fault = self._engine.fault()
        if fault == DEAD and (age := self._tally.age()) is not None:
            return f"{fault}; what it has counted since it was last read, {age:.1f} s ago, is in no total"
        if fault is not None:
            # It will be replaced, and its counters with it.
            with suppress(MeshError):
                self.measure()
        return fault

    def environment(self) -> Mapping[str, str]:
        """The shim that sends charon's XFRM messages to the engine."""
        with _translated():
            return self._engine.charon_environment()

    def clear(self) -> None:
        """Nothing to do: what a charon made in the engine goes when its connection closes."""

    def measure(self) -> PlaneReport:
        """What the engine says, and what it and all before it counted."""
        with _translated():
            started, report = self._engine.measure()
            counted = self._tally.add(started, Counts(report.totals, report.drops, report.work or Work()))
        return replace(report, totals=counted.totals, drops=counted.drops, work=counted.work)

    def stop(self) -> None:
        """End the engine, and its TUN device with the routes."""
        with _translated():
            self._engine.stop()
            self._tally.forget()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        raise MeshError(str(error)) from error
    except OSError as error:
        raise MeshError(f"the engine lacks something of its host: {error}") from error
