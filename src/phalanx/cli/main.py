"""The `phalanx` command and its parts."""

from __future__ import annotations

import gc
import io
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from phalanx import __version__
from phalanx.cli.settings import fail

COMMANDS = {
    "serve": "Run Phalanx: the AWS endpoint, the job queue, S3, and instances on this host or on others.",
    "env": 'Print `export` lines for boto3, the AWS CLI and the SageMaker SDKs: eval "$(phalanx env)".',
    "doctor": "Try what training and its encryption need, say which data plane this host uses and why, and what to install;"
    " status 1 where jobs would not train or not be encrypted.",
    "evidence": "Show what was measured of a job's encryption, or verify a report offline.",
    "compare": "Run a job again, encrypted and in the clear in turns, and hold the estimate of"
    " what encryption costs against it.",
    "audit": "List jobs, deleted ones too, that ran on several instances without encryption or proof of it; status 1 for any.",
    "explain": "Say which rule of security groups and network ACLs allows or blocks traffic between two instances,"
    " as they are now.",
    "capture": "Count every frame between the instances of a VPC by kind, until the last has left or Ctrl-C is pressed.",
    "interrupt": "Interrupt a managed spot job: SIGTERM, after 120 s SIGKILL; later it begins again, from its checkpoints.",
    "decrypt": "Decrypt what a job with a KmsKeyId wrote, as its model.tar.gz. Of what is not encrypted it says so,"
    " and copies it.",
    "trail": "Check the audit trail of a service: that no record was changed, removed or inserted. Note what it prints: with"
    " --records and --last a later check tells as well whether records were cut off at the end, or all of them made anew.",
    "backup": "Copy what a service knows into one file while it runs: jobs, networks, identities, keys, evidence and the audit"
    " trail.",
    "restore": "Make a data directory from a backup; `phalanx serve` then goes on from there, with the newest schema.",
    "image": "Training images on this host.",
    "host": "Hosts of a fleet (`phalanx serve --fleet ray`).",
}
"""Every command, and what it is for. A module of this room has it under its name."""
_MODULES = {"restore": "backup"}
"""The modules that are not called as the command."""


class Commands(TyperGroup):
    """Imports a command when it is run: all of them take two seconds, the help and a shell's `env` a fifth of one."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what it may not open is told in a sentence."""
        try:
            return super().invoke(ctx)
        except PermissionError as error:
            if error.filename is None:
                raise
            fail(f"{error.filename}: {error.strerror}. What a service keeps is for root, or for the user that runs it.")

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None where there is none."""
        return _Named(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None


class _Named(TyperCommand):
    """A command of which no more is known yet than what it is for."""

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Begin to run it."""
        return imported(self.name or "").make_context(*given, **more)


def imported(name: str) -> Any:
    """The command of that name (click.Command)."""
    # What modules are made of stays. The collector would look through it again and again: a third of a service's start.
    gc.disable()
    try:
        module = import_module(f"phalanx.cli.{_MODULES.get(name, name)}")
        gc.freeze()
    finally:
        gc.enable()
    found = getattr(module, name)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"phalanx {__version__}")
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Self-hosted training that speaks Amazon SageMaker's API and encrypts all traffic between a job's instances."""
    # cron, su and `env -i` leave out where Debian has nft, and what else the host is asked by.
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    # Where a locale is not one of UTF-8, the names of characters that it lacks are said: "✓" and "✗" are told apart still.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="namereplace")
    os.environ["PATH"] = os.pathsep.join([*path, *(place for place in ("/usr/sbin", "/sbin") if place not in path)])
