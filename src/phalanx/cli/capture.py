"""`phalanx capture`: what crosses the network between the instances of a VPC."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from phalanx.cli import terminal
from phalanx.cli.settings import DEFAULT_DATA_DIR, DataDir, fail
from phalanx.network import namespace
from phalanx.network.capture import Capture, Flow
from phalanx.network.errors import NetworkError
from phalanx.node.names import Names

POLL_SECONDS = 0.005
"""How often a VPC without instances is looked for."""


def capture(
    vpc: Annotated[str, typer.Argument(help="VPC to watch (vpc-…). Waits until it has instances.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    pcap: Annotated[Path | None, typer.Option(help="Also write the frames to this file, for Wireshark.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Count every frame between the instances of a VPC by kind, until the last has left or Ctrl-C is pressed."""
    if os.geteuid() != 0:
        fail("Packets are root's to see: sudo phalanx capture …")
    if pcap is not None and not os.access(pcap if pcap.exists() else pcap.parent, os.W_OK):
        # Said now, and not only once the VPC has instances.
        fail(f"{pcap} cannot be written. Choose another: --pcap FILE")
    router = Names(data_dir).router_namespace(vpc)
    rows: tuple[Flow, ...] = ()
    lost = 0
    try:
        typer.echo(f"watching {vpc}", err=True)
        while not namespace.exists(router):
            time.sleep(POLL_SECONDS)
        with Capture(router, pcap) as running:
            try:
                while namespace.exists(router):
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                pass
        rows, lost = running.summary(), running.lost
    except KeyboardInterrupt:
        pass
    except NetworkError as error:
        fail(f"The VPC {vpc} cannot be watched: {error}.")
    if as_json:
        typer.echo(json.dumps({"vpc": vpc, "frames": [asdict(row) for row in rows], "lost": lost}))
        return
    table = Table("from", "to", "kind", "frames", "bytes", title=vpc)
    for row in rows:
        table.add_row(row.source, row.destination, row.kind, f"{row.frames:,}", f"{row.bytes:,}")
    terminal.console().print(table)
    if lost:
        typer.echo(f"{lost} frames came faster than they could be counted", err=True)
