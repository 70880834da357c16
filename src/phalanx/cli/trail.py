"""`phalanx trail`: is the record of who asked for what whole?"""

from __future__ import annotations

from typing import Annotated

import typer

from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, fail
from phalanx.identity.trail import verify


def trail(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    records: Annotated[int | None, typer.Option(help="How many records there were when it was checked before.")] = None,
    last: Annotated[str | None, typer.Option(help="The hash of the last of these, as it was shown then.")] = None,
) -> None:
    """Check the audit trail of a service: that no record was changed, removed or inserted. Note what it prints: with --records
    and --last a later check tells as well whether records were cut off at the end, or all of them made anew."""
    directory = data_dir / "audit"
    if not directory.is_dir():
        fail(f"No service has run with the data directory {data_dir}.")
    if (records is None) != (last is None):
        fail("--records and --last belong together: give both.")
    found = verify(directory, noted=None if records is None or last is None else (records, last))
    if found.fault is not None:
        fail(f"The audit trail in {directory} is not whole: {found.fault}.")
    typer.echo(f"records {found.records}\nlast    {found.last}")
