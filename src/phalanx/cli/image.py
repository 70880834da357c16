"""`phalanx image`: the host's image store."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from phalanx.algorithms import catalog
from phalanx.cli import terminal
from phalanx.cli.settings import IMAGES, fail
from phalanx.runtime.builder import Builder
from phalanx.runtime.images import Images
from phalanx.runtime.model import IdRange
from phalanx.runtime.podman import ImageError

image = typer.Typer(help="Training images on this host.", no_args_is_help=True, add_completion=False)

_OWN = re.compile(r"^FROM\s+(?:localhost/)?phalanx/([a-z-]+)", re.MULTILINE)


@image.command()
def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Built-in images, or directories with a Containerfile. All built-in images by default."),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Name of a directory's image; the directory's by default.")] = None,
) -> None:
    """Build images: the built-in ones, unless they are there already, or your own from a directory with a Containerfile."""
    known = {algorithm.name: algorithm for algorithm in catalog.ALGORITHMS}
    directories = [name for name in names or () if name not in known]
    for name in directories:
        if not Path(name).is_dir():
            fail(f"{name} is neither a directory nor a built-in image; there are {', '.join(sorted(known))}.")
    if tag is not None and (len(directories) != 1 or len(names or ()) != 1):
        fail("--tag names the image of one directory. Give one.")
    store = Images.of(IMAGES)
    for name in names or known:
        if name in known:
            _build_known(store, name)
            continue
        directory = Path(name).resolve()
        for file in (directory / "Containerfile", directory / "Dockerfile"):
            for parent in _OWN.findall(file.read_text()) if file.is_file() else ():
                if parent in known:
                    _build_known(store, parent)
        called = tag or directory.name.lower()
        _run(called, partial(Builder(store).build_directory, called, directory, IdRange()))


@image.command("import")
def load(
    file: Annotated[Path, typer.Argument(help="A docker-archive or oci-archive (tar), or the directory of an OCI layout.")],
    tag: Annotated[str | None, typer.Option(help="Name of the image; the one in the archive by default.")] = None,
) -> None:
    """Take an image from an archive, as `docker save`, `podman save` and `skopeo copy` write them."""
    try:
        for name in Images.of(IMAGES).load(file, tag):
            terminal.console().print(f"image {name}: ready")
    except ImageError as error:
        fail(str(error))


@image.command("list")
def listing(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: name, id, size in bytes, created (epoch, s).")] = False,
) -> None:
    """Show what images the host has."""
    try:
        found = Images.of(IMAGES).listing()
    except ImageError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    # Whole names, on several lines in a narrow terminal: `remove` takes nothing less.
    table = Table(Column("Name", overflow="fold"), "ID", "Size", "Created", box=None)
    for each in found:
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.created))
        table.add_row(each.name, each.id[:12], f"{each.size / 1e6:,.0f} MB", created)
    terminal.console().print(table)


@image.command()
def remove(name: Annotated[str, typer.Argument(help="Name of an image.")]) -> None:
    """Take a name from an image, and the image with its last name."""
    try:
        Images.of(IMAGES).remove(name)
    except ImageError as error:
        fail(str(error))


def _build_known(store: Images, name: str) -> None:
    algorithm = next(algorithm for algorithm in catalog.ALGORITHMS if algorithm.name == name)
    called = f"phalanx/{name}"
    _run(called, lambda progress: store.tag(Builder(store).build(called, algorithm.contexts, progress), called))


def _run(name: str, step: Callable[[Callable[[str], None]], None]) -> None:
    """Runs a build, showing its steps."""
    console = terminal.console()
    try:
        with console.status(f"image {name}") as status:
            step(lambda line: status.update(line[:120]))
    except ImageError as error:
        fail(str(error))
    console.print(f"image {name}: ready")
