"""`phalanx interrupt`: take the instances of a managed spot job away, as a cloud does that needs them elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, fail
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import TrainingJob


def interrupt(
    job: Annotated[str, typer.Argument(help="Name of a training job with EnableManagedSpotTraining.")],
    away: Annotated[float, typer.Option(min=0, help="Seconds until there are instances again.")] = 5.0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Interrupt a managed spot job: SIGTERM, after 120 s SIGKILL; later it begins again, from its checkpoints."""
    path = data_dir / "phalanx.db"
    if not path.exists():
        fail(f"No service has run with the data directory {data_dir}.")
    database = Database(sqlite_url(path))
    try:
        with database.write() as session:
            row = session.get(TrainingJob, job)
            if row is None:
                fail(f"There is no training job {job} in {data_dir}.")
            if not row.request["EnableManagedSpotTraining"]:
                fail(f"{job} is no managed spot job: only one with EnableManagedSpotTraining can be interrupted.")
            if row.status != "InProgress" or row.plan is None or row.stage not in ("starting", "downloading", "training"):
                fail(f"{job} has no instances that train now: it is {row.status}, {row.secondary_status}.")
            row.interrupt = round(1000 * away)
    finally:
        database.close()
    typer.echo(f"{job} is being interrupted.")
