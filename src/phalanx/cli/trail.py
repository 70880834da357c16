"""`phalanx trail`: is the record of who asked for what whole?"""

from __future__ import annotations

from typing import Annotated

import typer

from phalanx.cli.settings import DEFAULT_DATA_DIR, S3_TRAIL, DataDir, fail
from phalanx.identity.trail import START, Verdict, verify


def trail(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    records: Annotated[int | None, typer.Option(min=0, help="How many records there were when it was checked before.")] = None,
    last: Annotated[str | None, typer.Option(help="The hash of the last of these, as it was shown then.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Check this trail alone, where replicas keep several: audit, audit.2 and so on.")
    ] = None,
) -> None:
    """Check the audit trail of a service: that no record was changed, removed or inserted. Note what it prints: with --records
    and --last a later check tells as well whether records were cut off at the end, or all of them made anew."""
    held = data_dir.iterdir() if data_dir.is_dir() else ()
    found = sorted(path for path in held if path.name.startswith("audit") and path.is_dir())
    if not found:
        fail(f"No service has run with the data directory {data_dir}.")
    if name is not None:
        if not (data_dir / name).is_dir():
            fail(f"There is no trail {name} in {data_dir}: it has {', '.join(path.name for path in found)}.")
        found = [data_dir / name]
    if (records is None) != (last is None):
        fail("--records and --last belong together: give both.")
    if records is not None and len(found) > 1:
        fail("--records and --last are those of one trail: say by --name of which.")
    for directory in found:
        verdict = verify(directory, noted=None if records is None or last is None else (records, last))
        if verdict.fault is not None:
            fail(f"The audit trail in {directory} is not whole: {verdict.fault}.")
        # The one of S3 is a chain of its own.
        within = verify(directory / S3_TRAIL) if (directory / S3_TRAIL).is_dir() else Verdict(0, START)
        if within.fault is not None:
            fail(f"The audit trail in {directory / S3_TRAIL} is not whole: {within.fault}.")
        if len(found) > 1:
            typer.echo(f"trail   {directory.name}")
        typer.echo(f"records {verdict.records}\nlast    {verdict.last}")
        for place, first in ((directory, verdict.first), (directory / S3_TRAIL, within.first)):
            if first:
                typer.echo(f"first   {first} in {place}: the records before are not here, and were not checked")
