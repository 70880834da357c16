"""The end of an attempt at a job: what its instances have measured is kept before they are taken down."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import update

from phalanx.fleet.base import Fleet, FleetError, Refused
from phalanx.jobs import evidence, interfaces
from phalanx.jobs.plan import Plan
from phalanx.jobs.signature import Signer
from phalanx.store.database import Database
from phalanx.store.jobs import LogStream, TrainingJob


def conclude(database: Database, fleet: Fleet, signer: Signer, job: str) -> None:
    """End the last attempt: sign what its instances have measured as the job's evidence. May be repeated. Raises FleetError."""
    row, made = _load(database, job)
    if made is None or row.evidence is not None:
        return
    fleet.stop(made.ids, 0.0)
    signed = signer.sign(evidence.measured(fleet, row, made))
    with database.write() as session:
        session.get_one(TrainingJob, job).evidence = signed


def give_up(database: Database, fleet: Fleet, job: str) -> None:
    """Take the job's instances down, where it has any: others follow, with new addresses and keys, or it has its evidence.

    May be repeated after a crash. Raises FleetError, but never Refused: that an earlier attempt cannot be taken down yet is not
    how the job ends.
    """
    row, made = _load(database, job)
    if made is None:
        return
    try:
        _take_down(database, fleet, row, made)
    except Refused as error:
        raise FleetError(str(error)) from error
    with database.write() as session:
        interfaces.release(session, job)
        session.get_one(TrainingJob, job).plan = None
        session.execute(update(LogStream).where(LogStream.job == job).values(position=0))


def _take_down(database: Database, fleet: Fleet, row: TrainingJob, made: Plan) -> None:
    if made.ran and row.encrypted and row.instances > 1 and row.evidence is None:
        fleet.stop(made.ids, 0.0)
        report = evidence.measured(fleet, row, made)
        with database.write() as session:
            stored = session.get_one(TrainingJob, row.name)
            stored.attempts = evidence.with_attempt(stored.attempts, report)
            # So that it is kept once, whenever the service is killed.
            stored.plan = replace(made, ran=False).to_json()
    fleet.destroy(made.ids)


def _load(database: Database, job: str) -> tuple[TrainingJob, Plan | None]:
    with database.read() as session:
        row = session.get_one(TrainingJob, job)
    return row, Plan.from_json(row.plan) if row.plan is not None else None
