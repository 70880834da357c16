"""How many jobs there are, and what those that run take: the numbers of a moment (docs/operations.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import func, select

from phalanx.node.messages import Capacity
from phalanx.store.base import now_ms
from phalanx.store.database import Database
from phalanx.store.jobs import UNFINISHED, TrainingJob
from phalanx.store.tuning import TuningJob


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says: jobs by status, unfinished ones by secondary status; how many wait for room, and the longest for so
    many seconds; warm pools that may be reused."""

    training: Mapping[str, int]
    unfinished: Mapping[str, int]
    tuning: Mapping[str, int]
    waiting: int
    waited: float
    warm_pools: int


def stored(database: Database) -> Stored:
    """Count. Costs what the unfinished jobs cost, and a look along an index."""
    waits = (TrainingJob.status.in_(UNFINISHED), TrainingJob.plan.is_(None))
    with database.rows() as connection:

        def by(column: object, *where: object) -> dict[str, int]:
            statement = select(column, func.count()).where(*where).group_by(column)  # type: ignore[call-overload]
            return {str(value): int(count) for value, count in connection.execute(statement)}

        oldest = connection.scalar(select(func.min(TrainingJob.created)).where(*waits))
        return Stored(
            training=by(TrainingJob.status),
            unfinished=by(TrainingJob.secondary_status, TrainingJob.status.in_(UNFINISHED)),
            tuning=by(TuningJob.status),
            waiting=connection.scalar(select(func.count()).select_from(TrainingJob).where(*waits)) or 0,
            waited=0.0 if oldest is None else max(0.0, (now_ms() - oldest) / 1000),
            warm_pools=connection.scalar(
                select(func.count()).select_from(TrainingJob).where(TrainingJob.warm_pool == "Available")
            )
            or 0,
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """What the fleet says: what its hosts have, None where it cannot be asked; bytes of memory and GPUs that running jobs have
    reserved; instances by phase; of encrypted jobs the pairs that are established and those that are not, and the jobs of which
    not all could be measured."""

    capacity: Capacity | None = None
    reserved_memory: int = 0
    reserved_gpus: int = 0
    instances: Mapping[str, int] = field(default_factory=dict)
    established: int = 0
    missing: int = 0
    unmeasured: int = 0
