"""What the training jobs of tuning jobs have emitted of their objectives, each row of it read once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from phalanx.store.database import Database
from phalanx.store.tuning import ObjectiveValue


@dataclass(slots=True)
class _Host:
    """What one host has emitted, oldest first, and when the last of it."""

    values: list[float] = field(default_factory=list)
    latest: int = 0


class Curves:
    """Of training jobs, by their names."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hosts: dict[str, dict[str, _Host]] = {}
        self._whole: set[str] = set()

    def read(self, running: Collection[str], settled: Collection[str]) -> dict[str, Sequence[float]]:
        """The curve of each: that of the host which has emitted most, since each may tell of the same epochs. Those of
        settled ones do not change any more, nor may the lists be changed."""
        asked = {*running, *settled}
        with self._database.rows() as connection:
            for job in asked - self._whole:
                self._look(connection, job, self._hosts.setdefault(job, {}))
        self._whole.update(settled)
        return {job: max((host.values for host in self._hosts[job].values()), key=len, default=[]) for job in asked}

    def forget(self, jobs: Iterable[str]) -> None:
        """They are not asked for any more."""
        for job in jobs:
            self._hosts.pop(job, None)
            self._whole.discard(job)

    @staticmethod
    def _look(connection: Connection, job: str, hosts: dict[str, _Host]) -> None:
        """Bring what is known of a job up to date."""
        mine = ObjectiveValue.job == job
        names = connection.execute(select(ObjectiveValue.host).where(mine).group_by(ObjectiveValue.host)).scalars().all()
        for name in hosts.keys() - set(names):
            del hosts[name]
        for name in names:
            query = select(ObjectiveValue.timestamp, ObjectiveValue.value).where(mine, ObjectiveValue.host == name)
            query = query.order_by(ObjectiveValue.number)
            known = hosts.setdefault(name, _Host())
            if known.values:
                rows = connection.execute(query.where(ObjectiveValue.number >= len(known.values) - 1)).all()
                if rows and tuple(rows[0]) == (known.latest, known.values[-1]):
                    rows = rows[1:]
                else:
                    # A log that has begun anew took back what it had said.
                    known.values.clear()
            if not known.values:
                rows = connection.execute(query).all()
            if rows:
                known.values += [value for _, value in rows]
                known.latest = rows[-1].timestamp
