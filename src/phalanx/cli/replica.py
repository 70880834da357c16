"""A service as one of several on a data directory and its database, of which one at a time leads."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from phalanx.cli import directory
from phalanx.cli.settings import fail
from phalanx.fleet.base import Unreachable
from phalanx.store.database import UNAVAILABLE, Database
from phalanx.store.leadership import Leadership, NotLeading

REPLICAS = 8
"""Services that may run on one data directory, where jobs are in PostgreSQL."""
CLAIM_SECONDS = 1.0
"""How long a start takes the lead for free that the service before, which was killed, seems to have still."""
SCHEMA_SECONDS = 60.0
"""How long a replica waits until the one that leads has brought the database to this version's schema."""
DEPOSED = os.EX_TEMPFAIL
"""Exit status of a replica from which another has taken the lead: it is to be started again."""

log = structlog.get_logger()


class Replica:
    """`leads` says whether it is this one."""

    def __init__(self, database: Database, place: str, closing: threading.Event) -> None:
        """`place`: where the data directory is, which replicas have in common. Once `closing` is set no lead is waited for."""
        self.leads = False
        self._database = database
        self._closing = closing
        self._leadership = Leadership(database, place, _end_deposed, closing)
        self._waiter: threading.Thread | None = None

    def elect(self) -> None:
        """Lead, if no other does; bring the database to this version's schema, or wait until the one that leads has.

        Ends the command with a word where another's database this is. Raises what the database does.
        """
        begun = time.monotonic()
        while not self._leadership.claim(CLAIM_SECONDS):
            if self._database.current():
                if not self._leadership.fits():
                    fail(
                        "Another phalanx serve uses this database, with another data directory, fleet or S3. Give this one its"
                        " own: --database URL"
                    )
                return
            if time.monotonic() - begun > SCHEMA_SECONDS:
                fail("Another version of Phalanx leads on this database. Stop it first, or run that version here too.")
        self._database.migrate()
        self._leadership.begin()
        self.leads = True

    def follow(self, lead: Callable[[], None]) -> None:
        """From now on wait until the replica that leads is gone, to take its place and call `lead`."""
        self._waiter = threading.Thread(target=self._follow, args=(lead,), name="replica", daemon=True)
        self._waiter.start()

    def term(self) -> int | None:
        """The term in which the fleet is given orders. Raises Unreachable while this replica does not lead."""
        try:
            return self._leadership.term()
        except NotLeading as error:
            raise Unreachable(str(error)) from error

    def hands_over(self) -> bool:
        """Whether another goes on where this one leads no more. To be asked once `closing` is set: a lead that is being taken
        is waited for, since what it has begun is stopped as a whole."""
        if self._waiter is not None:
            self._waiter.join()
        return self.leads and self._leadership.others()

    def close(self) -> None:
        """Lead no more."""
        self._leadership.close()

    def _follow(self, lead: Callable[[], None]) -> None:
        try:
            while self._leadership.claim(math.inf):
                try:
                    self._leadership.begin()
                    break
                except UNAVAILABLE as error:
                    log.warning("this replica cannot lead yet", reason=str(error).splitlines()[0])
                    # Whatever it wants, connections or a database that may be written, asking at once again would not help.
                    self._closing.wait(CLAIM_SECONDS)
            else:
                return
            self.leads = True
            lead()
        except Exception:
            # Whoever started it starts it again; meanwhile another may lead.
            log.exception("this replica cannot lead, and ends")
            os._exit(1)


def place(data_dir: Path, database: str | None) -> tuple[int, int]:
    """The number of this service among those that run on the data directory, from 1, and the lock that holds it.

    Ends the command with a word where there is none left; `database` is the one that was given, if any.
    """
    for number in range(1, REPLICAS + 1):
        lock = directory.lock(data_dir, numbered("lock", number))
        if lock is not None:
            return number, lock
        known = data_dir / "database"
        if not known.exists() or database not in (None, known.read_text()):
            fail(
                f"Another phalanx serve already uses {data_dir}. Give this one its own: --data-dir DIR. (Several share one"
                " where all keep their jobs in the same PostgreSQL.)"
            )
    fail(f"{REPLICAS} services run on {data_dir}, and no more may.")


def numbered(name: str, number: int) -> str:
    """What of a name in the data directory is this service's own."""
    return name if number == 1 else f"{name}.{number}"


def _end_deposed() -> None:
    """End at once, with nothing put in order: all there is to put in order is another replica's now."""
    log.error("another replica has taken the lead from this one, which ends, to be started again")
    os._exit(DEPOSED)
