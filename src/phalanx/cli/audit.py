"""`phalanx audit`: jobs whose instances spoke in the clear, and encrypted ones whose evidence does not prove it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import select

from phalanx import __version__
from phalanx.cli import terminal
from phalanx.cli.evidence import report_signer
from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, Endpoints, fail
from phalanx.cli.stored import stored
from phalanx.jobs.evidence import doubt, signed_summary
from phalanx.store.base import Json, now_ms
from phalanx.store.jobs import DeletedJob, TrainingJob


def audit(
    since: Annotated[
        datetime | None, typer.Option(help="Only jobs created from this day on (UTC).", formats=["%Y-%m-%d"])
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a signed report over all these jobs; `phalanx evidence --verify` checks it.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List jobs, deleted ones too, that ran on several instances without encryption or proof of it; status 1 for any."""
    first = 0 if since is None else int(since.replace(tzinfo=UTC).timestamp() * 1000)
    query = select(TrainingJob).where(
        TrainingJob.instances > 1, TrainingJob.training_started.is_not(None), TrainingJob.created >= first
    )
    signer = report_signer(data_dir)
    with stored(data_dir) as database:
        if not database.current():
            fail(f"The database of {data_dir} has another version's schema. Start the service first, with this version.")
        with database.read() as session:
            key = signer.public_key
            jobs = [_row(job, doubt(job, key), signed_summary(job, key), None) for job in session.scalars(query)]
            jobs += [
                _row(job, job.doubt, job.evidence, job.deleted)
                for job in session.scalars(select(DeletedJob).where(DeletedJob.created >= first))
            ]
    jobs.sort(key=lambda job: (job["created"], job["job"]))
    found = [job for job in jobs if job["doubt"] is not None]
    if as_json:
        report = {
            "version": 2,
            "phalanx": __version__,
            "account": Endpoints.load(data_dir).account,
            "audited_at": now_ms(),
            "since": first,
            "jobs": jobs,
        }
        typer.echo(json.dumps(signer.sign(report), indent=2))
    else:
        console = terminal.console()
        table = Table("job", "created", "instances", "status", "why")
        for job in found:
            status = job["status"] if job["deleted"] is None else f"{job['status']}, deleted {job['deleted']}"
            table.add_row(job["job"], job["created"], str(job["instances"]), status, job["doubt"])
        if found:
            console.print(table)
        console.print(f"{len(found)} of {len(jobs)} jobs that ran on several instances cannot be shown to have been encrypted.")
    raise typer.Exit(1 if found else 0)


def _row(job: TrainingJob | DeletedJob, doubted: str | None, evidence: Json | None, deleted: int | None) -> dict[str, Any]:
    return {
        "job": job.name,
        "arn": job.arn,
        "created": _text(job.created),
        "instances": job.instances,
        "status": job.status,
        "encrypted": job.encrypted,
        "doubt": doubted,
        "evidence": evidence,
        "deleted": None if deleted is None else _text(deleted),
    }


def _text(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="seconds")
