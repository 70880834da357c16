"""The `phalanx` command and its parts."""

from __future__ import annotations

import ast
import gc
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from phalanx.cli.settings import fail

MODULES = {
    "serve": "serve",
    "env": "env",
    "doctor": "doctor",
    "evidence": "evidence",
    "compare": "compare",
    "audit": "audit",
    "explain": "explain",
    "capture": "capture",
    "interrupt": "interrupt",
    "decrypt": "decrypt",
    "trail": "trail",
    "backup": "backup",
    "restore": "backup",
    "image": "image",
    "host": "host",
}
"""Every command, and the module of this room that has it under its name."""


class Commands(TyperGroup):
    """Imports a command with its first use: all of them take two seconds, the help and a shell's `env` a fifth of one."""

    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, which wants of every command no more than what it is for."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

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
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None where there is none."""
        if cmd_name not in MODULES:
            return None
        if self._listing:
            return TyperCommand(cmd_name, help=_purpose(cmd_name))
        # What modules are made of stays. The collector would look through it again and again: a third of a service's start.
        gc.disable()
        try:
            module = import_module(f"phalanx.cli.{MODULES[cmd_name]}")
            gc.freeze()
        finally:
            gc.enable()
        found = getattr(module, cmd_name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command(cmd_name)(found)
            found = alone
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


def _purpose(name: str) -> str | None:
    """What a command says it is for, read from its module's source: a function's docstring, or the help of a Typer."""
    spec = find_spec(f"phalanx.cli.{MODULES[name]}")
    if spec is None or spec.origin is None:
        return None
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.targets[0]) == name:
            return next((ast.literal_eval(each.value) for each in node.value.keywords if each.arg == "help"), None)
    return None


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Self-hosted training that speaks Amazon SageMaker's API and encrypts all traffic between a job's instances."""
    # cron, su and `env -i` leave out where Debian has nft, and what else the host is asked by.
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*path, *(place for place in ("/usr/sbin", "/sbin") if place not in path)])
