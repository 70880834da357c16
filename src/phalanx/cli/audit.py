"""`phalanx audit`: jobs whose instances spoke in the clear, and encrypted ones whose evidence does not prove it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from phalanx import __version__
from phalanx.cli.settings import ACCOUNT, DEFAULT_DATA_DIR, DataDir
from phalanx.cli.stored import stored
from phalanx.jobs.evidence import Signer, doubt, summary
from phalanx.store.base import now_ms
from phalanx.store.jobs import TrainingJob


def audit(
    since: Annotated[
        datetime | None, typer.Option(help="Only jobs created from this day on (UTC).", formats=["%Y-%m-%d"])
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a signed report over all these jobs; `phalanx evidence --verify` checks it.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List jobs that ran on several instances without encryption, or without proof of it; status 1 where there are any."""
    first = 0 if since is None else int(since.replace(tzinfo=UTC).timestamp() * 1000)
    query = select(TrainingJob).where(
        TrainingJob.instances > 1, TrainingJob.training_started.is_not(None), TrainingJob.created >= first
    )
    with stored(data_dir) as database, database.read() as session:
        jobs = [
            {
                "job": job.name,
                "created": datetime.fromtimestamp(job.created / 1000, UTC).isoformat(timespec="seconds"),
                "instances": job.instances,
                "status": job.status,
                "doubt": doubt(job),
                "evidence": summary(job.evidence) if job.evidence is not None else None,
            }
            for job in session.scalars(query.order_by(TrainingJob.created))
        ]
    found = [job for job in jobs if job["doubt"] is not None]
    if as_json:
        report = {
            "version": 2,
            "phalanx": __version__,
            "account": ACCOUNT,
            "audited_at": now_ms(),
            "since": first,
            "jobs": jobs,
        }
        typer.echo(json.dumps(Signer(data_dir / "evidence.key").sign(report), indent=2))
    else:
        # A pipe has no width of its own; a table needs some.
        console = Console() if sys.stdout.isatty() else Console(width=140)
        table = Table("job", "created", "instances", "status", "why")
        for job in found:
            table.add_row(*(str(value) for name, value in job.items() if name != "evidence"))
        if found:
            console.print(table)
        console.print(f"{len(found)} of {len(jobs)} jobs that ran on several instances cannot be shown to have been encrypted.")
    raise typer.Exit(1 if found else 0)
