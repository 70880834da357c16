"""`phalanx explain`: which rule of security groups and network ACLs lets traffic pass between instances, or stops it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, fail
from phalanx.cli.stored import stored, stored_job
from phalanx.jobs import acls
from phalanx.jobs.explain import ESP, IKE, Flow, Taken, Verdict, ends, rules, verdict
from phalanx.jobs.interfaces import InterfaceError
from phalanx.store.jobs import TrainingJob

PROTOCOLS = {"tcp": "6", "udp": "17", "icmp": "1", "esp": "50"}
"""Names that `--protocol` takes besides numbers."""


def explain(
    job: Annotated[str, typer.Argument(help="Name of a training job, running or ended.")],
    sender: Annotated[str, typer.Option("--from", metavar="HOST", help="Instance that sends.")] = "algo-1",
    receiver: Annotated[str, typer.Option("--to", metavar="HOST", help="Instance that receives.")] = "algo-2",
    protocol: Annotated[
        str | None, typer.Option(help="tcp, udp, icmp or a number: what a job that is not encrypted sends.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Destination port (tcp, udp) or type (icmp).", min=0, max=65535)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Say which rule of security groups and network ACLs allows or blocks traffic between two instances, as they are now."""
    try:
        with stored(data_dir) as database, database.read() as session:
            found = stored_job(session, job, data_dir)
            flows = _flows(found, protocol, port)
            there, known, borders = ends(session, found), rules(session, found), acls.of_job(session, found)
    except InterfaceError as error:
        fail(f"The network of {job} is no longer there: {error}")
    for host in (sender, receiver):
        if host not in there:
            fail(f"{job} has no instance {host}: it has {', '.join(there)}.")
    if sender == receiver:
        fail(f"{sender} needs no rule to reach itself: name two instances.")
    taken: Taken = set()
    verdicts = [verdict(flow, there[sender], there[receiver], known, borders, taken) for flow in flows]
    if as_json:
        typer.echo(
            json.dumps({"job": job, "from": sender, "to": receiver, "flows": [_as_json(each) for each in verdicts]}, indent=2)
        )
        return
    typer.echo(f"{sender} ({there[sender].address}) → {receiver} ({there[receiver].address})")
    for each in verdicts:
        typer.echo(f"{each.flow}: {'allowed' if each.allowed else 'blocked'}")
        for check in each.checks:
            place = f"  {'leaves' if check.direction == 'egress' else 'enters'} {check.host}: "
            for rule in check.allowed_by:
                typer.echo(f"{place}allowed by {rule}")
            if check.reason is not None:
                typer.echo(f"{place}blocked. {check.reason}")
            if check.command is not None:
                typer.echo(f"    {check.command}")


def _flows(job: TrainingJob, protocol: str | None, port: int | None) -> tuple[Flow, ...]:
    """What to explain: IKE and ESP for an encrypted job, else what was asked for."""
    if job.encrypted and job.instances > 1:
        if protocol is not None or port is not None:
            fail(f"{job.name} is encrypted: whatever its instances send each other travels as IKE (UDP 500) and ESP alone.")
        return IKE, ESP
    if protocol is None:
        fail(f"{job.name} is not encrypted: name what it sends, such as --protocol tcp --port 50000.")
    number = PROTOCOLS.get(protocol.lower(), protocol)
    if not number.isdecimal() or int(number) > 255:
        fail(f"{protocol} is not a protocol: name tcp, udp, icmp or a number from 0 to 255.")
    number = str(int(number))
    if number in ("6", "17") and port is None:
        fail("Name the destination port as well: --port NUMBER.")
    return (Flow(number, port if number in ("1", "6", "17") else None),)


def _as_json(found: Verdict) -> dict[str, object]:
    return {
        "protocol": found.flow.protocol,
        "port": found.flow.port,
        "traffic": str(found.flow),
        "allowed": found.allowed,
        "checks": [asdict(check) for check in found.checks],
    }
