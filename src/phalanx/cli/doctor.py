"""`phalanx doctor`: what this host can do."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from phalanx.cli import terminal
from phalanx.cli.settings import IMAGES, fail
from phalanx.ipsec import probe
from phalanx.node import memory, prerequisites, volume


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Try what training and its encryption need, say which data plane this host uses and why, and what to install; status
    1 where jobs would not train or not be encrypted."""
    if os.geteuid() != 0:
        fail("phalanx doctor tries things that only root may do: run it as root.")
    capabilities = probe.probe()
    here = (volume.probe(), *prerequisites.probe(IMAGES))
    tried = (*capabilities.all, memory.probe(), *here)
    try:
        plane = probe.choose(capabilities)
    except probe.Unprotected:
        plane = None
    if as_json:
        typer.echo(json.dumps({"data_plane": plane, "capabilities": [asdict(item) for item in tried]}, indent=2))
    else:
        table = Table("", "what", "needed for", "found")
        for item in tried:
            mark = "[green]✓[/green]" if item.ok else "[red]✗[/red]"
            table.add_row(mark, item.name, item.purpose, item.detail if item.ok else f"{item.detail}\n→ {item.remedy}")
        console = terminal.console()
        console.print(table)
        console.print(f"[bold]data plane:[/bold] {probe.explain(capabilities)}")
    # Without FUSE all works but FastFile channels, whose jobs say so; with swap all does.
    raise typer.Exit(0 if plane and all(item.ok or item.purpose == "FastFile" for item in here) else 1)
