"""`phalanx image`: the host's image store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from phalanx.algorithms import catalog
from phalanx.cli.settings import IMAGES, fail
from phalanx.runtime.images import Images

image = typer.Typer(help="Training images on this host.", no_args_is_help=True)


@image.callback()
def _group() -> None:
    pass


@image.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Built-in algorithms; all of them by default.")] = None,
) -> None:
    """Build the images of built-in algorithms, unless they are there already."""
    known = {algorithm.name: algorithm for algorithm in catalog.ALGORITHMS}
    unknown = set(names or ()) - set(known)
    if unknown:
        fail(f"There is no built-in algorithm {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}.")
    console = Console()
    IMAGES.mkdir(parents=True, exist_ok=True)
    store = Images(IMAGES, Path("/run/phalanx/images"))
    for name in names or known:
        with console.status(f"image {name}") as status:
            store.build(f"phalanx/{name}", known[name].context, lambda line: status.update(line[:120]))
        console.print(f"image {name}: ready")
