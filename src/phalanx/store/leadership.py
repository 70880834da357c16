"""Which of a control plane's replicas leads: one, elected by an advisory lock, and known by the number of its term.

The lock only elects. It belongs to a session of the server, which ends a session of a replica that was killed at once, and one
that has not been heard of for `LEASE_SECONDS`: of a machine that is gone, or a process that is stopped. Whether a replica still
leads, and may change anything, is a matter of the term: the next leader counts it up before it does anything, under the lock
that all who write take, so that whatever an earlier one writes then is refused (`Database.fence`), and what it asks of a host
as well (`node.terms`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from prometheus_client import Gauge
from sqlalchemy import Connection, text

from phalanx.store.database import UNAVAILABLE, Database
from phalanx.store.replicas import Leader

LEASE_SECONDS = 8.0
"""After so long without a word from the leader the server lets another lead."""
TRUSTED_SECONDS = 6.0
"""For so long after the server's last word a leader takes itself for one."""
ASK_SECONDS = 1.0
START_SECONDS = 10.0
"""How long a server may take to start."""
POLL_SECONDS = 0.2
"""How often a replica that does not lead tries to."""
LEADS = Gauge("phalanx_leader", "Whether this replica of the control plane leads.")
_LEADER, _MEMBER = 0x7068616C616E79, 0x7068616C616E7A
"""PostgreSQL's advisory locks: the leader's, and one that every replica holds together with the others."""
_MEMBERS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"  # noqa: S608
    f" AND classid = {_MEMBER >> 32} AND objid = {_MEMBER & 0xFFFFFFFF}"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_END_SESSIONS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity, leader"
    " WHERE application_name = leader.sessions AND application_name <> :own AND datname = current_database()"
)

log = structlog.get_logger()


class NotLeading(Exception):
    """This replica does not lead, or cannot tell that it still does; the text says which."""


class Leadership:
    """A replica's part in the election. On SQLite, whose file has one service by the lock of its directory, it always leads."""

    def __init__(self, database: Database, place: str, deposed: Callable[[], None], cancelled: threading.Event) -> None:
        """`place`: where the data directory is; replicas have it in common. `deposed` is called, from any thread, once another
        has taken the lead from this one: it should end the process. Once `cancelled` is set no lead is waited for."""
        self._database = database
        self._place = place
        self._deposed = deposed
        self._cancelled = cancelled
        self._shared = database.shared
        self._connection: Connection | None = None
        self._locked = False
        self._term: int | None = None
        self._confirmed = -TRUSTED_SECONDS
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="leadership", daemon=True)

    def claim(self, seconds: float) -> bool:
        """Whether nobody else leads, so that this replica may: tried for so long, or until it is cancelled.

        Raises UNAVAILABLE where the server does not answer: one that is starting is waited for.
        """
        if not self._shared:
            return True
        begun = time.monotonic()
        while not self._cancelled.is_set():
            try:
                if self._try():
                    return True
                if time.monotonic() - begun > seconds:
                    return False
            except UNAVAILABLE:
                self._let_go()
                if time.monotonic() - begun > max(seconds, START_SECONDS):
                    raise
            self._cancelled.wait(POLL_SECONDS)
        return False

    def begin(self) -> None:
        """Lead, after `claim` has said so: from here on nothing that an earlier leader does is taken.

        Raises UNAVAILABLE where the database does not take it; it has to be claimed again then.
        """
        if not self._shared:
            LEADS.set(1)
            return
        asked = _now()
        try:
            self._term = self._count_up()
        except UNAVAILABLE:
            # The lock may be lost by now, with the session that held it; and another replica may be one that can lead.
            self._let_go()
            raise
        self._database.fence(self._term, self._deposed)
        self._confirmed = asked
        self._keeper.start()
        LEADS.set(1)
        log.info("this replica leads", term=self._term)

    def term(self) -> int | None:
        """The number of this replica's term, for whoever takes orders from a leader alone; None on SQLite.

        Raises NotLeading.
        """
        if not self._shared:
            return None
        if self._term is None:
            raise NotLeading("Another replica leads.")
        if _now() - self._confirmed > TRUSTED_SECONDS:
            raise NotLeading("The database does not say whether this replica still leads.")
        return self._term

    def fits(self) -> bool:
        """Whether the leader's data directory is this replica's."""
        with self._database.read() as session:
            row = session.get(Leader, 1)
        return row is None or row.place == self._place

    def others(self) -> bool:
        """Whether there are other replicas, which go on where this one ends."""
        if not self._shared:
            return False
        try:
            with self._database.rows() as connection:
                return int(connection.exec_driver_sql(_MEMBERS).scalar_one()) > (self._connection is not None)
        except UNAVAILABLE:
            return False

    def close(self) -> None:
        """Lead no more."""
        self._closing.set()
        if self._keeper.is_alive() and self._keeper is not threading.current_thread():
            self._keeper.join(LEASE_SECONDS)
        self._let_go()

    def _count_up(self) -> int:
        """The number of a new term."""
        with self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # A leader that was stopped in the midst of a statement holds its locks for as long as it has the session.
            connection.execute(_END_SESSIONS, {"own": self._database.session_name})
        with self._database.write() as session:
            row = session.get(Leader, 1)
            if row is None:
                row = Leader(id=1, term=0, place=self._place)
                session.add(row)
            row.term, row.place, row.sessions = row.term + 1, self._place, self._database.session_name
            return row.term

    def _keep(self) -> None:
        while not self._closing.wait(ASK_SECONDS):
            asked = _now()
            try:
                locked = self._try()
                assert self._connection is not None  # noqa: S101
                term = self._connection.exec_driver_sql("SELECT term FROM leader").scalar_one()
            except UNAVAILABLE as error:
                log.warning("the database does not say whether this replica still leads", reason=str(error).splitlines()[0])
                self._let_go()
                continue
            if term != self._term:
                self._deposed()
                return
            if locked:
                # Nobody has led in between, and nobody can while this session lives.
                self._confirmed = asked

    def _try(self) -> bool:
        """Hold the lock, if it is free."""
        if self._connection is None:
            # A session of its own: the locks go with it, whatever ends the process.
            self._connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.exec_driver_sql(f"SET idle_session_timeout = '{round(1000 * LEASE_SECONDS)}ms'")
            self._connection.exec_driver_sql(f"SELECT pg_try_advisory_lock_shared({_MEMBER})")
        if not self._locked:
            self._locked = bool(self._connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LEADER})").scalar_one())
        return self._locked

    def _let_go(self) -> None:
        connection, self._connection, self._locked = self._connection, None, False
        if connection is not None:
            # Not given back to the pool: it ends here, and the locks with it.
            connection.invalidate()
            connection.close()


def _now() -> float:
    """Seconds of a clock that goes on while the process, or the whole machine, is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
