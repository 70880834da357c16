"""The `phalanx` command and its parts."""

from __future__ import annotations

import gc
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

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
    """Imports a command with its first use: all of them together take seconds, `env` in a shell's start shall not."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help."""
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None where there is none."""
        if cmd_name not in MODULES:
            return None
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


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Self-hosted training that speaks Amazon SageMaker's API and encrypts all traffic between a job's instances."""
