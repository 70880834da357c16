"""`phalanx interrupt`: take the instances of a managed spot job away, as a cloud does that needs them elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, fail
from phalanx.cli.stored import stored, stored_job

LONGEST_SECONDS = 28 * 24 * 3600
"""For how long instances may be away: no training job of SageMaker's lasts longer."""


def interrupt(
    job: Annotated[str, typer.Argument(help="Name of a training job with EnableManagedSpotTraining.")],
    away: Annotated[float, typer.Option(min=0, max=LONGEST_SECONDS, help="Seconds until there are instances again.")] = 5.0,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Interrupt a managed spot job: SIGTERM, after 120 s SIGKILL; later it begins again, from its checkpoints."""
    with stored(data_dir) as database, database.write() as session:
        row = stored_job(session, job, data_dir)
        if not row.request["EnableManagedSpotTraining"]:
            fail(f"{job} is no managed spot job: only one with EnableManagedSpotTraining can be interrupted.")
        if row.status != "InProgress" or row.plan is None or row.stage not in ("starting", "downloading", "training"):
            state = row.status if row.status == row.secondary_status else f"{row.status}, {row.secondary_status}"
            fail(f"{job} has no instances that train now: it is {state}.")
        row.interrupt = round(1000 * away)
    typer.echo(f"{job} is being interrupted.")
