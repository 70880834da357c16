"""What the engines of an instance have counted, all that it had: an engine takes its counters along when it dies.

Each report that is read of an engine, by the node twice a second, is kept in the instance's directory, in memory. Once another
engine reports, what the one before had counted when it was last read goes into what is added to all reports from then on.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from phalanx.ipsec.model import Work
from phalanx.ipsec.plane import Totals
from phalanx.linux import files

FILE = "tally.json"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals by the peer's address, dropped packets by cause, and the work that it was."""

    totals: Mapping[str, Totals] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    work: Work = field(default_factory=Work)

    def __add__(self, more: Counts) -> Counts:
        return Counts(
            {
                peer: self.totals.get(peer, Totals()) + more.totals.get(peer, Totals())
                for peer in {**self.totals, **more.totals}
            },
            {cause: self.drops.get(cause, 0) + more.drops.get(cause, 0) for cause in {**self.drops, **more.drops}},
            Work(
                self.work.seconds_in + more.work.seconds_in,
                self.work.seconds_out + more.work.seconds_out,
                self.work.wakes + more.work.wakes,
            ),
        )


class Tally:
    """The counts of the engines whose directory is `rundir`. May be used from any thread."""

    def __init__(self, rundir: Path) -> None:
        self._path = rundir / FILE
        self._lock = threading.Lock()
        self._started = 0
        self._read_at: float | None = None
        self._earlier, self._last = Counts(), Counts()
        if self._path.exists():
            content = json.loads(self._path.read_text())
            self._started, self._read_at = content["started"], content["read_at"]
            self._earlier, self._last = _counts(content["earlier"]), _counts(content["last"])

    def add(self, started: int, counts: Counts) -> Counts:
        """Keep what an engine has counted, that was `started` then (Engine.measure); what all have.

        Where there is no room for the file, it is tried again with the next report: the counts are here meanwhile. What is
        handed over late, of an engine before the last one, is of no use any more.
        """
        with self._lock:
            if started > self._started:
                self._earlier, self._last, self._started = self._earlier + self._last, Counts(), started
            if started >= self._started:
                self._last, self._read_at = counts, time.monotonic()
                try:
                    self._keep()
                except OSError as error:
                    log.warning("what an engine has counted cannot be kept", path=str(self._path), reason=str(error))
            return self._earlier + self._last

    def age(self) -> float | None:
        """For how many seconds no engine has been read; None where none ever was."""
        return None if self._read_at is None else time.monotonic() - self._read_at

    def forget(self) -> None:
        """Begin from nothing. Raises OSError."""
        with self._lock:
            self._started, self._read_at, self._earlier, self._last = 0, None, Counts(), Counts()
            self._path.unlink(missing_ok=True)

    def _keep(self) -> None:
        content = {"started": self._started, "read_at": self._read_at}
        counts = {"earlier": _json(self._earlier), "last": _json(self._last)}
        files.replace(self._path, json.dumps({**content, **counts}), durable=False)


def _json(counts: Counts) -> dict[str, Any]:
    # Not asdict() of it all, which takes longer than the rest of a look at an engine with many peers.
    totals = {
        peer: (each.packets_in, each.packets_out, each.bytes_in, each.bytes_out, each.installed)
        for peer, each in counts.totals.items()
    }
    return {"totals": totals, "drops": dict(counts.drops), "work": astuple(counts.work)}


def _counts(content: dict[str, Any]) -> Counts:
    totals = {peer: Totals(*each) for peer, each in content["totals"].items()}
    return Counts(totals, content["drops"], Work(*content["work"]))
