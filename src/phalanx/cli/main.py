"""The `phalanx` command and its parts."""

from __future__ import annotations

import typer

from phalanx.cli.audit import audit
from phalanx.cli.backup import backup, restore
from phalanx.cli.capture import capture
from phalanx.cli.compare import compare
from phalanx.cli.decrypt import decrypt
from phalanx.cli.doctor import doctor
from phalanx.cli.env import env
from phalanx.cli.evidence import evidence
from phalanx.cli.explain import explain
from phalanx.cli.host import host
from phalanx.cli.image import image
from phalanx.cli.interrupt import interrupt
from phalanx.cli.serve import serve
from phalanx.cli.trail import trail

app = typer.Typer(
    help="Self-hosted training that speaks Amazon SageMaker's API and encrypts all traffic between a job's instances.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (serve, env, doctor, evidence, compare, audit, explain, capture, interrupt, decrypt, trail, backup, restore):
    app.command()(command)
app.add_typer(image, name="image")
app.add_typer(host, name="host")
