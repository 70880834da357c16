"""`phalanx evidence`: the signed encryption report of a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from phalanx.cli import terminal
from phalanx.cli.report import moment, page
from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, fail
from phalanx.cli.stored import stored, stored_job
from phalanx.jobs.cost import estimate
from phalanx.jobs.evidence import check, first_fault
from phalanx.jobs.signature import KeyFileError, Signer, Tampered, verify
from phalanx.store.base import Json
from phalanx.wire import unambiguous


def evidence(
    job: Annotated[
        str | None, typer.Argument(help="Name of a training job that has ended; with --verify, whose report it must be.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report itself.")] = False,
    verify_file: Annotated[
        Path | None,
        typer.Option("--verify", metavar="FILE", help="Check a report's signature; status 0 only if untouched."),
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Public key (base64) that must have signed it.")] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the report as a page for auditors, signed report included."),
    ] = None,
    public_key: Annotated[
        bool, typer.Option("--public-key", help="Print the key (base64) that signs this service's reports, to publish it.")
    ] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show what was measured of a job's encryption, or verify a report offline."""
    if key is not None and verify_file is None:
        fail("--key belongs to --verify FILE: a report that this service keeps is held against its own key.")
    if verify_file is not None:
        _verify(verify_file, job, key)
    elif public_key:
        typer.echo(report_signer(data_dir).public_key)
    elif job is None:
        fail("Name a job: phalanx evidence JOB, or check a file: phalanx evidence --verify FILE")
    else:
        found = load(data_dir, job)
        if html is not None:
            try:
                html.write_text(page(found), encoding="utf-8")
            except OSError as error:
                fail(f"Cannot write {html}: {error.strerror}")
            typer.echo(f"{html}: written")
        elif as_json:
            typer.echo(json.dumps(found, indent=2))
        else:
            show(found)


def load(data_dir: Path, job: str) -> dict[str, Any]:
    """The stored report of a job; ends the command with a word where there is none, or another than the service has signed."""
    with stored(data_dir) as database, database.read() as session:
        row = stored_job(session, job, data_dir)
    if row.evidence is None:
        fail(f"The training job {job} is {row.status}: its report is made when it has ended.")
    try:
        check(row.evidence, row, report_signer(data_dir).public_key)
    except Tampered as error:
        fail(f"The stored report of {job} is not the one that this service has signed: {error}.")
    return row.evidence


def report_signer(data_dir: Path) -> Signer:
    """The key that signs a service's reports; ends the command with a word where there is none: a new one proves nothing."""
    path = data_dir / "evidence.key"
    if not path.exists():
        fail(f"No service has run with the data directory {data_dir}: {path} is missing.")
    try:
        return Signer(path)
    except KeyFileError as error:
        fail(f"{error}.")


def _verify(path: Path, job: str | None, key: str | None) -> None:
    try:
        report = unambiguous.loads(path.read_text())
        signer = verify(report, key)
        told = _in_short(report)
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    except RecursionError:
        fail(f"{path} cannot be read as a report: it is nested too deeply")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        fail(f"{path} cannot be read as a report: {error}")
    except Tampered as error:
        fail(f"{path}: {error}")
    if job is not None and report.get("job") != job:
        fail(f"{path} is no report of {job}: it is {told}")
    checked = "" if key is not None else " (key not checked: give the service's with --key)"
    typer.echo(f"{path}: untouched since it was signed by {signer}{checked}\n{told}")


def _in_short(report: Json) -> str:
    """Whose report it is, and what it says in short. Raises what a wrong shape does: anybody may sign anything."""
    if "job" not in report:
        doubted = sum(job["doubt"] is not None for job in report["jobs"])
        when = moment(report["audited_at"])
        return f"the audit of account {report['account']!a}, {when}: {doubted} of {len(report['jobs'])} jobs in doubt"
    found = first_fault(report)
    if not report["encrypted"]:
        verdict = f"not encrypted: {report['note']!a}" if found is None else f"not shown to be encrypted: {found!a}"
    elif found is not None:
        verdict = f"encrypted, but {found!a}"
    else:
        verdict = f"encrypted: {report['capture']['verdict'] if report.get('capture') else 'not captured'!a}"
    created = f" (created {moment(report['created'])})" if "created" in report else ""
    return f"the report of {report['job']!a}{created}, {moment(report['measured_at'])}: {verdict}"


def show(report: dict[str, Any]) -> None:
    """Print a report for people."""
    console = terminal.console()
    console.print(f"[bold]{report['job']}[/bold]  {report['note']}")
    console.print(f"data plane: {report['data_plane'] or 'none'}   signed by: {report['signature']['public_key']}")
    if report["pairs"]:
        table = Table("from → to", "cipher", "IKE", "SPI", "rekeys", "packets", "bytes", "received")
        for pair in report["pairs"]:
            table.add_row(
                f"{pair['local']} → {pair['remote']}",
                f"{pair['algorithm']} {pair['key_bits']}",
                pair["ike"] + (" + PPK" if pair["ppk"] else ""),
                pair["spi"],
                str(pair["rekeys"]),
                f"{pair['packets']:,}",
                f"{pair['bytes']:,}",
                f"{pair['bytes_received']:,}" if pair["bytes_received"] is not None else "not measured",
            )
        console.print(table)
    if report["router_guard"]:
        guard = report["router_guard"]
        console.print(
            f"on the wire: {guard['esp_packets']:,} ESP and {guard['ike_packets']:,} IKE packets;"
            f" plaintext packets stopped: {report['plaintext_packets_dropped']:,}"
        )
    if (capture := report.get("capture")) is not None:
        away = f", {capture['milliseconds_away'] / 1000:.1f} s unwatched" if capture["milliseconds_away"] else ""
        console.print(
            f"captured: {capture['verdict']}{away}: {capture['esp']:,} ESP, {capture['ike']:,} IKE,"
            f" {capture['neighbour']:,} ARP and neighbour discovery, {capture['clear']:,} in the clear"
        )
    if report["pairs"] and (cost := estimate(report)) is not None:
        console.print(
            f"cost: {cost.bytes / 1e6:,.1f} MB between the instances made training about {cost.likely:.1f} s longer than in the"
            f" clear, at most {cost.most:.1f} s (phalanx compare {report['job']} tries it)"
        )
    for instance in report["instances"]:
        for interruption in instance["interruptions"]:
            console.print(f"[yellow]interrupted:[/yellow] {instance['host']}: {interruption}")
    for gap in report["gaps"]:
        console.print(f"[yellow]not measured:[/yellow] {gap}")
    for number, attempt in enumerate(report.get("earlier_attempts", []), 1):
        verdict = attempt["capture"]["verdict"] if attempt["capture"] else "not captured"
        console.print(
            f"attempt {number}, before: {verdict}; {sum(pair['bytes'] for pair in attempt['pairs']):,} bytes,"
            f" plaintext packets stopped: {attempt['plaintext_packets_dropped']:,}"
        )
        for gap in attempt["gaps"]:
            console.print(f"[yellow]not measured of attempt {number}:[/yellow] {gap}")
